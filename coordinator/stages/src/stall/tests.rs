//! One table row for each cause.

use reeve_protocol::ops::Findings;
use reeve_protocol::ops::explain_operation::ProcessFinding;

use super::*;

#[test]
fn nothing_found_is_unknown_and_not_sure() {
    let diagnosis = diagnose(&Findings::default());
    assert_eq!((diagnosis.cause, diagnosis.confident), (Cause::Unknown, false));
    assert_eq!(diagnosis.advice, StallAdvice::Wait);
}

#[test]
fn process_that_says_nothing_is_unknown() {
    let process = ProcessFinding { pid: 7, state: "S".to_owned(), ..ProcessFinding::default() };
    let diagnosis = diagnose(&Findings { processes: vec![process], ..Findings::default() });
    assert_eq!((diagnosis.cause, diagnosis.confident), (Cause::Unknown, false));
}
