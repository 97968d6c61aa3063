use reeve_stages::replay::{ReplayError, Replayed, ask};
use reeve_stages::{Record, Stage, plan, replay, validate};

use super::{machine, nonce, sample, step};

fn record(stage: Stage, input: &impl serde::Serialize, answer: &str) -> Record {
    Record {
        stage,
        input: serde_json::to_value(input).unwrap(),
        nonce: nonce(),
        answer: answer.to_owned(),
        by: "local/judge".to_owned(),
    }
}

#[test]
fn a_record_gives_the_same_question_and_the_same_result() {
    let input = validate::Input {
        request: "Is it up?".to_owned(),
        step: step(),
        samples: vec![sample(1, "web-1", 0, b"active \xff\n", b"")],
        ..validate::Input::default()
    };
    let answer = r#"{"outcome":"met","evidence":[{"result":"R1","stream":"stdout","quote":"active","from":null,"to":null}],"reason":"It runs."}"#;
    let record = record(Stage::Validate, &input, answer);
    let text = serde_json::to_string(&record).unwrap();
    let record: Record = serde_json::from_str(&text).unwrap();
    assert_eq!(ask(&record).unwrap(), validate::ask(&input, &nonce()));
    let Replayed::Validate(Ok(judged)) = replay(&record).unwrap() else { panic!("no verdict") };
    assert_eq!(Ok(judged.clone()), validate::read(&input, answer, "local/judge"));
    let again = serde_json::to_string(&replay(&record).unwrap()).unwrap();
    let back: Replayed = serde_json::from_str(&again).unwrap();
    assert_eq!(back, Replayed::Validate(Ok(judged)));
}

#[test]
fn refusals_replay_too() {
    let input =
        plan::Input { machines: vec![machine("web-1", &[], "debian")], ..plan::Input::default() };
    let record = record(Stage::Plan, &input, "no JSON");
    let Replayed::Plan(Err(error)) = replay(&record).unwrap() else { panic!("a plan") };
    assert_eq!(error.code(), "plan_invalid");
    let text = serde_json::to_string(&replay(&record).unwrap()).unwrap();
    assert_eq!(serde_json::from_str::<Replayed>(&text).unwrap(), Replayed::Plan(Err(error)));
}

#[test]
fn a_record_that_is_none_is_an_error() {
    let mut record = record(Stage::Plan, &serde_json::json!({"machines": 7}), "");
    assert!(matches!(replay(&record), Err(ReplayError::Input { .. })));
    record.stage = Stage::Stall;
    assert!(replay(&record).is_err());
}
