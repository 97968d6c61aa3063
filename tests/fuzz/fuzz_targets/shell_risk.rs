//! What a command may do, from its text: bounded in time and words, the same each time, never less
//! for more: a line that changes something still does with another behind it.
#![no_main]

use std::collections::BTreeMap;

use libfuzzer_sys::fuzz_target;
use reeve_fuzz::choose;
use reeve_protocol::ops::{Command, Effect};
use reeve_risk::{MAX_FINDINGS, assess};

fn rank(effect: Effect) -> u8 {
    match effect {
        Effect::Read => 0,
        Effect::Change => 1,
        Effect::Destroy => 2,
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((which, rest)) = choose(data) else { return };
    let Ok(text) = std::str::from_utf8(rest) else { return };
    let command = if which & 1 == 0 {
        Command::Shell(text.to_owned())
    } else {
        Command::Argv(text.split('\0').map(str::to_owned).collect())
    };
    let env = BTreeMap::new();
    let found = assess(&command, &env);
    assert_eq!(found, assess(&command, &env));
    assert!(found.findings.len() <= MAX_FINDINGS);
    let worst = found.findings.iter().map(|finding| rank(finding.effect)).max().unwrap_or(0);
    assert_eq!(rank(found.effect), worst);
    for finding in &found.findings {
        assert!(!finding.segment.chars().any(char::is_control), "{:?}", finding.segment);
        assert!(finding.segment.chars().count() <= 201);
        assert!(!finding.rule.is_empty() && !finding.reason.contains('\n'));
    }
    let _ = found.to_string();
    // Nothing gets harmless by what is written before it.
    if which & 2 == 0
        && let Command::Shell(line) = &command
    {
        let behind = assess(&Command::Shell(format!("rm -rf /srv/data\n{line}")), &env);
        assert!(rank(behind.effect) >= rank(Effect::Change), "{line:?} hid a command before it");
    }
});
