use reeve_protocol::Stream;
use reeve_sdk::api::{OperationState, VerdictOutcome};
use reeve_stages::Sample;
use reeve_stages::validate::{Input, Judged, by_rules, read};
use serde_json::{Value, json};

use super::{sample, step};

fn judged(samples: Vec<Sample>, outcome: &str, quotes: &[&str]) -> Judged {
    let evidence: Vec<Value> = quotes
        .iter()
        .map(|quote| json!({"result": "R1", "stream": "stdout", "quote": quote, "from": null, "to": null}))
        .collect();
    let answer =
        json!({"outcome": outcome, "evidence": evidence, "reason": "Because."}).to_string();
    read(&Input { step: step(), samples, ..Input::default() }, &answer, "local/judge").unwrap()
}

fn ok() -> Vec<Sample> {
    vec![sample(1, "web-1", 0, b"active\n", b"")]
}

#[test]
fn a_verdict_with_evidence_counts() {
    let found = judged(ok(), "met", &["active", "invented"]);
    assert_eq!(found.verdict.outcome, VerdictOutcome::Met);
    assert_eq!(found.verdict.evidence.len(), 1);
    assert_eq!((found.verdict.evidence[0].from, found.verdict.evidence[0].to), (0, 6));
    assert_eq!((found.verdict.by.as_str(), found.verdict.disagreement), ("local/judge", None));
    assert_eq!(found.evidence.dropped.len(), 1);
}

#[test]
fn a_verdict_without_evidence_that_stands_there_is_inconclusive() {
    for (outcome, quotes) in
        [("met", vec![]), ("met", vec!["invented"]), ("not_met", vec!["failed"])]
    {
        let found = judged(ok(), outcome, &quotes);
        assert_eq!(found.verdict.outcome, VerdictOutcome::Inconclusive, "{outcome} {quotes:?}");
        assert!(found.verdict.evidence.is_empty());
        assert!(found.verdict.reason.contains("Because."), "{}", found.verdict.reason);
    }
    assert_eq!(judged(ok(), "inconclusive", &[]).verdict.reason, "Because.");
}

#[test]
fn exit_code_and_verdict_that_do_not_agree_are_flagged() {
    let failed = vec![sample(1, "web-1", 3, b"active\n", b"")];
    let found = judged(failed, "met", &["active"]).verdict;
    assert_eq!(found.outcome, VerdictOutcome::Met);
    assert_eq!(
        found.disagreement.as_deref(),
        Some("said to be met, but it ended with exit code 3 on web-1")
    );
    let found = judged(ok(), "not_met", &["active"]).verdict;
    assert!(found.disagreement.unwrap().contains("exit code 0"));
    let mut lost = ok();
    lost[0].state = OperationState::Lost;
    lost[0].exit_code = None;
    assert!(judged(lost, "met", &["active"]).verdict.disagreement.unwrap().contains("lost"));
}

#[test]
fn an_answer_with_anything_else_in_it_is_no_verdict() {
    let input = Input { samples: ok(), ..Input::default() };
    for answer in [
        r#"{"outcome":"met","evidence":[],"reason":"","command":"rm -rf /"}"#,
        r#"{"outcome":"met","evidence":[{"result":"R1","stream":"stdout","quote":"active","from":0,"to":6,"run":"x"}],"reason":""}"#,
        r#"{"outcome":"approved","evidence":[],"reason":""}"#,
        r#"{"outcome":"met","evidence":[],"reason":""} {"outcome":"met"}"#,
        "met",
        "",
    ] {
        assert!(read(&input, answer, "m").is_err(), "{answer}");
    }
}

#[test]
fn rules_judge_by_the_exit_code_and_say_so() {
    let met = by_rules(&sample(1, "web-1", 0, b"first\nlast line\n\n", b""));
    assert_eq!((met.outcome, met.by.as_str()), (VerdictOutcome::Met, "rules"));
    assert_eq!(met.reason, "by rules: exit code 0");
    assert_eq!(met.evidence[0].quote, "last line");
    assert_eq!((met.evidence[0].from, met.evidence[0].to), (6, 15));

    let silent = by_rules(&sample(1, "web-1", 0, b"", b""));
    assert_eq!((silent.outcome, silent.evidence.len()), (VerdictOutcome::Met, 0));
    assert_eq!(silent.reason, "by rules: exit code 0, no output");

    let failed =
        by_rules(&sample(1, "web-1", 2, b"working\n", b"hint\nerror: no such unit\nbye\n"));
    assert_eq!(failed.outcome, VerdictOutcome::NotMet);
    assert_eq!(failed.evidence[0].quote, "error: no such unit");
    assert_eq!((failed.evidence[0].stream, failed.evidence[0].from), (Stream::Stderr, 5));

    for (state, outcome) in [
        (OperationState::TimedOut, VerdictOutcome::NotMet),
        (OperationState::Refused, VerdictOutcome::NotMet),
        (OperationState::Expired, VerdictOutcome::NotMet),
        (OperationState::Lost, VerdictOutcome::Inconclusive),
        (OperationState::Cancelled, VerdictOutcome::Inconclusive),
    ] {
        let mut sample = sample(1, "web-1", 1, b"x\n", b"");
        sample.state = state;
        sample.exit_code = None;
        assert_eq!(by_rules(&sample).outcome, outcome, "{state:?}");
    }
    let long = by_rules(&sample(1, "web-1", 0, "é".repeat(3_000).as_bytes(), b""));
    assert_eq!(long.evidence[0].quote.len(), 200);
}
