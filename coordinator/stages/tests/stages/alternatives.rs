use reeve_protocol::ops::Effect;
use reeve_stages::alternative::{Failed, Input, NotAlternative, Reply, ask, read};
use serde_json::{Value, json};

use super::{argv, machine, nonce, sample, step};

fn input() -> Input {
    Input {
        request: "Is nginx up?".to_owned(),
        step: step(),
        machines: vec![machine("web-1", &[], "alpine")],
        failed: vec![
            Failed {
                command: argv(&["systemctl", "is-active", "nginx"]),
                reason: "by rules: exit code 127".to_owned(),
                samples: vec![sample(1, "web-1", 127, b"", b"systemctl: not found\n")],
            },
            Failed { command: argv(&["service", "nginx", "status"]), ..Failed::default() },
        ],
        tries_left: 2,
        ..Input::default()
    }
}

fn answer(changes: &[(&str, Value)]) -> String {
    let mut answer = json!({
        "kind": "try", "argv": ["rc-service", "nginx", "status"], "shell": null, "cwd": null,
        "effect": "read", "timeout_s": null, "undo": null, "why": "OpenRC has no systemctl.",
    });
    for (key, value) in changes {
        answer[*key] = value.clone();
    }
    answer.to_string()
}

#[test]
fn another_command_is_read_like_a_planned_one() {
    let input = Input { user: Some("deploy".to_owned()), ..input() };
    let Ok(Reply::Try { command, why, claimed, long, .. }) = read(&input, &answer(&[])) else {
        panic!("no command")
    };
    assert_eq!(command.argv.unwrap()[0], "rc-service");
    assert_eq!((command.user.as_deref(), command.timeout_ms), (Some("deploy"), Some(60_000)));
    assert_eq!((why.as_str(), claimed, long), ("OpenRC has no systemctl.", Effect::Read, false));
    let asked = ask(&input, &nonce());
    let text = &asked.messages[0].1;
    assert!(text.contains("systemctl: not found") && text.contains("Tries left: 2."), "{text}");
    let none = read(&input, &answer(&[("kind", json!("none"))]));
    assert_eq!(none, Ok(Reply::None { why: "OpenRC has no systemctl.".to_owned() }));
}

#[test]
fn what_failed_is_not_tried_again() {
    for changes in [
        vec![("argv", json!(["systemctl", "is-active", "nginx"]))],
        vec![("argv", json!(["service", "nginx", "status"]))],
        vec![("argv", Value::Null), ("shell", json!("service   nginx\tstatus"))],
    ] {
        assert!(
            matches!(read(&input(), &answer(&changes)), Err(NotAlternative::Tried(_))),
            "{changes:?}"
        );
    }
    let elsewhere = [("argv", json!(["service", "nginx", "status"])), ("cwd", json!("/srv"))];
    assert!(read(&input(), &answer(&elsewhere)).is_ok());
}

#[test]
fn the_rules_of_plans_hold() {
    for changes in [
        vec![("machines", json!(["db-1"]))],
        vec![("user", json!("root"))],
        vec![("shell", json!("x"))],
        vec![("argv", json!([]))],
        vec![("timeout_s", json!(100_000))],
        vec![("argv", json!(["echo", "\u{1b}[8m"]))],
    ] {
        assert!(
            matches!(read(&input(), &answer(&changes)), Err(NotAlternative::Invalid(_))),
            "{changes:?}"
        );
    }
    let sudo = [("argv", json!(["sudo", "rc-service", "nginx", "status"]))];
    let Ok(Reply::Try { claimed, notes, .. }) = read(&input(), &answer(&sudo)) else { panic!() };
    assert_eq!((claimed, notes.len()), (Effect::Change, 1));
    let spent = Input { tries_left: 0, ..input() };
    assert_eq!(read(&spent, &answer(&[])), Err(NotAlternative::NoTryLeft));
}
