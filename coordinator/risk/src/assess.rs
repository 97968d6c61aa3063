//! One command, from its text to its assessment.

use std::collections::BTreeMap;

use reeve_protocol::ops::{Command, Effect};

use crate::rule::Rules;
use crate::text::{deceiving, shown};
use crate::walk::Walk;
use crate::word::Arg;
use crate::{Assessment, reasons, surroundings};

pub(crate) fn assess(
    rules: &Rules,
    command: &Command,
    env: &BTreeMap<String, String>,
) -> Assessment {
    let whole = match command {
        Command::Argv(argv) => argv.join(" "),
        Command::Shell(line) => line.clone(),
    };
    let mut walk = Walk::new(rules, env);
    let all = std::iter::once(whole.as_str()).chain(env.iter().flat_map(|(k, v)| [k.as_str(), v]));
    for text in all {
        if let Some(c) = deceiving(text) {
            let reason = format!(
                "U+{:04X} hides or reorders text: what you read is not what runs",
                u32::from(c)
            );
            walk.find(Effect::Change, text, reasons::HIDDEN_CHARACTERS, reason);
        }
    }
    for (name, value) in env {
        if !surroundings::is_tame(name, value) {
            let segment = format!("{name}={value}");
            walk.find(Effect::Change, &segment, reasons::ENVIRONMENT, surroundings::reason(name));
        }
    }
    match command {
        Command::Argv(argv) => {
            let args: Vec<Arg> = argv.iter().map(Arg::literal).collect();
            if args.first().is_none_or(|program| program.text.is_empty()) {
                walk.opaque("", "it names no program".to_owned());
            }
            walk.run(&args, &shown(&whole), None);
        }
        Command::Shell(line) => walk.shell_text(line),
    }
    walk.finish()
}
