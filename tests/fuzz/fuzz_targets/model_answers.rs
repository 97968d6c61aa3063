//! What models answer in each stage: a reply that holds what the stage promises, or words on what is
//! wrong. Machines come from the list alone, quotes stand where they are said to, text has no
//! control characters.
#![no_main]

use libfuzzer_sys::fuzz_target;
use reeve_fuzz::choose;
use reeve_stages::plan::{self, Caps, Reply};
use reeve_stages::{Machine, alternative, summary, validate};

fn machines() -> Vec<Machine> {
    ["web-1", "web-2", "db"]
        .into_iter()
        .map(|name| Machine {
            name: name.to_owned(),
            online: true,
            ..serde_json::from_value(serde_json::json!({"name": name})).unwrap_or_default()
        })
        .collect()
}

fuzz_target!(|data: &[u8]| {
    let Some((which, rest)) = choose(data) else { return };
    let Ok(answer) = std::str::from_utf8(rest) else { return };
    match which % 4 {
        0 => {
            let input =
                plan::Input { machines: machines(), rounds_left: 1, ..plan::Input::default() };
            match plan::read(&input, answer) {
                Ok(reply) => check(&reply),
                Err(error) => {
                    let _ = (error.code(), error.to_string());
                }
            }
            let mut deltas = plan::Deltas::default();
            for piece in answer.split_inclusive(',') {
                let _ = deltas.push(piece);
            }
        }
        1 => {
            let input = validate::Input::default();
            if let Ok(judged) = validate::read(&input, answer, "model") {
                // Without output there is no evidence, hence no verdict.
                assert!(judged.verdict.evidence.is_empty());
                clean(&judged.verdict.reason);
            }
        }
        2 => {
            let input =
                alternative::Input { machines: machines(), tries_left: 1, ..Default::default() };
            if let Ok(reply) = alternative::read(&input, answer) {
                let _ = format!("{reply:?}");
            }
        }
        _ => {
            let input = summary::Input::default();
            if let Ok(summed) = summary::read(&input, answer, "model") {
                let _ = format!("{summed:?}");
            }
        }
    }
});

fn clean(text: &str) {
    assert!(!text.chars().any(|c| c.is_control() && c != '\n' && c != '\t'), "{text:?}");
}

fn check(reply: &Reply) {
    let caps = Caps::default();
    let known = machines();
    let text = format!("{reply:?}");
    assert!(!text.is_empty());
    let (Reply::Plan { steps, .. } | Reply::Explore { steps, .. }) = reply else { return };
    for step in steps {
        assert!(!step.machines.is_empty());
        for name in &step.machines {
            assert!(known.iter().any(|machine| machine.name == *name), "{name} is made up");
        }
        clean(&step.purpose);
        let seconds = step.command.timeout_ms.unwrap_or(0) / 1000;
        assert!(seconds <= caps.most_timeout_s);
    }
}
