//! Whatever an output says, it stays data; and an answer that obeys it yields nothing that runs by
//! itself.

use std::collections::HashSet;

use reeve_protocol::ops::{Mode, Network};
use reeve_sdk::api::VerdictOutcome;
use reeve_stages::injection::{Case, FOREIGN, INVENTED, Place, Wants, cases};
use reeve_stages::plan::{Explored, Reply};
use reeve_stages::{Ask, Nonce, Sample, Stage, alternative, plan, summary, validate};

use super::{argv, machine, nonce, sample, step};

/// The same inputs for every case, the hostile text at its place.
struct Inputs {
    plan: plan::Input,
    validate: validate::Input,
    alternative: alternative::Input,
    summary: summary::Input,
}

fn inputs(place: Place, text: &str, stderr: &str) -> Inputs {
    let mut machines =
        vec![machine("web-1", &[("role", "web")], "debian"), machine("web-2", &[], "alpine")];
    let mut result = sample(1, "web-1", 1, b"inactive\n", b"");
    let mut judged = step();
    let mut finding = "nothing yet".to_owned();
    let text = text.to_owned();
    match place {
        Place::Output => result = sample(1, "web-1", 1, text.as_bytes(), stderr.as_bytes()),
        Place::Machine => {
            result.machine.clone_from(&text);
            result.machines = vec![text.clone()];
            machines[1].name = text;
        }
        Place::Label => drop(machines[0].labels.insert("role".to_owned(), text)),
        Place::OsName => machines[0].os_name = text,
        Place::OsId => machines[0].os_id = text,
        Place::Kernel => machines[0].kernel = text,
        Place::Disk => machines[0].disks = vec![(text, 1 << 30)],
        Place::Reason => result.reason = Some(text),
        Place::Expected => judged.expected = text,
        Place::Finding => finding = text,
    }
    let samples: Vec<Sample> = vec![result];
    Inputs {
        plan: plan::Input {
            request: "Is nginx up?".to_owned(),
            user: Some("deploy".to_owned()),
            machines: machines.clone(),
            explored: vec![Explored {
                number: 1,
                machines: samples[0].machines.clone(),
                command: argv(&["systemctl", "status", "nginx"]),
                samples: samples.clone(),
                finding: finding.clone(),
                ..Explored::default()
            }],
            rounds_left: 1,
            ..plan::Input::default()
        },
        validate: validate::Input {
            request: "Is nginx up?".to_owned(),
            step: judged.clone(),
            samples: samples.clone(),
            ..validate::Input::default()
        },
        alternative: alternative::Input {
            request: "Is nginx up?".to_owned(),
            user: Some("deploy".to_owned()),
            step: judged,
            machines,
            failed: vec![alternative::Failed {
                command: argv(&["systemctl", "is-active", "nginx"]),
                reason: finding,
                samples: samples.clone(),
            }],
            tries_left: 3,
            ..alternative::Input::default()
        },
        summary: summary::Input {
            request: "Is nginx up?".to_owned(),
            samples,
            ..summary::Input::default()
        },
    }
}

fn of_case(case: &Case, nonce: &Nonce) -> Inputs {
    inputs(case.place, &case.text(nonce), &case.stderr(nonce))
}

fn asks(inputs: &Inputs, nonce: &Nonce) -> Vec<Ask> {
    vec![
        plan::ask(&inputs.plan, nonce),
        validate::ask(&inputs.validate, nonce),
        alternative::ask(&inputs.alternative, nonce),
        summary::ask(&inputs.summary, nonce),
    ]
}

/// What of a message is ours, and what is data.
fn split(message: &str, nonce: &Nonce) -> (String, Vec<String>) {
    let (mut ours, mut data) = (String::new(), Vec::new());
    // The first pair is where the markers are told.
    let told = message.find("# Request").unwrap();
    let mut rest = &message[told..];
    while let Some((before, behind)) = rest.split_once(&nonce.opening()) {
        let (inside, after) = behind.split_once(&nonce.closing()).expect("a closing marker");
        ours.push_str(before);
        data.push(inside.to_owned());
        rest = after;
    }
    ours.push_str(rest);
    (ours, data)
}

#[test]
fn the_corpus_is_large_and_many_sided() {
    let cases = cases();
    assert!(cases.len() >= 100, "{}", cases.len());
    let names: HashSet<&str> = cases.iter().map(|case| case.name.as_str()).collect();
    assert_eq!(names.len(), cases.len(), "names are different");
    let wants: HashSet<Wants> = cases.iter().map(|case| case.wants).collect();
    assert_eq!(wants.len(), 8);
    for case in &cases {
        assert!(!case.text(&nonce()).contains(INVENTED), "{}", case.name);
        let needs = matches!(case.wants, Wants::Run | Wants::Widen);
        assert!(case.command.is_some() || !needs, "{} names no command", case.name);
    }
}

#[test]
fn hostile_text_stays_between_its_markers_and_changes_nothing_outside() {
    let nonce = nonce();
    let honest = asks(&inputs(Place::Output, "inactive\n", ""), &nonce);
    for case in cases() {
        for (ask, honest) in asks(&of_case(&case, &nonce), &nonce).iter().zip(&honest) {
            let place = format!("{} of {}, {:?}", case.name, case.family, ask.stage);
            assert_eq!(ask.system, honest.system, "{place}");
            let (ours, data) = split(&ask.messages[0].1, &nonce);
            let (expected, _) = split(&honest.messages[0].1, &nonce);
            assert_eq!(ours, expected, "{place}");
            for text in data {
                assert!(
                    !text.to_lowercase().contains(nonce.as_str()),
                    "{place}: the number is inside"
                );
                let folded = text.to_lowercase().replace(' ', "");
                assert!(
                    !folded.contains("[reeve:end") && !folded.contains("[reeve:data"),
                    "{place}: {text}"
                );
                let unseen = text.chars().find(|c| {
                    (c.is_control() && !"\n\t".contains(*c))
                        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
                            | '\u{2060}'..='\u{206f}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}'
                            | '\u{e000}'..='\u{f8ff}' | '\u{e0000}'..='\u{10ffff}' | '\u{ad}')
                });
                assert_eq!(unseen, None, "{place}");
                assert!(text.len() < 32 * 1024, "{place}: {}", text.len());
            }
        }
    }
}

#[test]
fn what_was_hidden_from_people_is_shown_as_data_or_gone_but_hides_nothing() {
    let nonce = nonce();
    let case =
        cases().into_iter().find(|case| case.name == "an escape string without an end").unwrap();
    let text = validate::ask(&of_case(&case, &nonce).validate, &nonce).messages[0].1.clone();
    assert!(text.contains("failed to start\nexit 1"), "{text}");
}

#[test]
fn an_answer_that_obeys_widens_nothing_and_proves_nothing() {
    let nonce = nonce();
    let mut answers = 0;
    for case in cases() {
        let inputs = of_case(&case, &nonce);
        let allowed: Vec<&str> = inputs.plan.machines.iter().map(|m| m.name.as_str()).collect();
        for obedient in case.answers("web-1") {
            answers += 1;
            let place = format!("{} of {}: {}", case.name, case.family, obedient.how);
            let answer = &obedient.answer;
            match obedient.stage {
                Stage::Plan => match plan::read(&inputs.plan, answer) {
                    Ok(Reply::Plan { steps, .. } | Reply::Explore { steps, .. }) => {
                        assert!(
                            !["other machines", "another user", "a yes"].contains(&obedient.how),
                            "{place}"
                        );
                        for step in steps {
                            assert!(
                                step.machines.iter().all(|m| allowed.contains(&m.as_str())),
                                "{place}"
                            );
                            assert!(!step.machines.iter().any(|m| m == FOREIGN), "{place}");
                            assert_eq!(step.command.user.as_deref(), Some("deploy"), "{place}");
                            // What it may do is for the risk to say; nothing here is a yes.
                            assert_eq!(step.command.mode, Mode::Normal, "{place}");
                            assert_eq!(step.command.network, Network::None, "{place}");
                        }
                    }
                    Ok(Reply::Question { .. } | Reply::GiveUp { .. }) => panic!("{place}"),
                    Err(error) => assert!(!error.to_string().is_empty()),
                },
                Stage::Alternative => {
                    if let Ok(reply) = alternative::read(&inputs.alternative, answer) {
                        assert_eq!(obedient.how, "its command", "{place}");
                        let alternative::Reply::Try { command, .. } = reply else {
                            panic!("{place}")
                        };
                        assert_eq!(command.user.as_deref(), Some("deploy"), "{place}");
                    }
                }
                Stage::Validate => {
                    if let Ok(judged) = validate::read(&inputs.validate, answer, "m") {
                        let finished =
                            case.name == "a finished verdict" && obedient.how == "the text itself";
                        // It quotes what it wrote itself: that does not stand at the place, or it is
                        // flagged against the exit code.
                        if finished && judged.verdict.outcome != VerdictOutcome::Inconclusive {
                            assert!(judged.verdict.disagreement.is_some(), "{place}");
                            continue;
                        }
                        assert_eq!(judged.verdict.outcome, VerdictOutcome::Inconclusive, "{place}");
                        assert!(judged.verdict.evidence.is_empty(), "{place}");
                    }
                }
                Stage::Summary => {
                    if let Ok(summed) = summary::read(&inputs.summary, answer, "m") {
                        let text = summed.summary.text;
                        assert!(summed.summary.quotes.is_empty(), "{place}: {text}");
                        assert!(
                            !text.contains("](")
                                && !text.contains("![")
                                && !text.contains('\u{1b}'),
                            "{place}: {text}"
                        );
                        assert!(text.contains("citations could not be found"), "{place}: {text}");
                    }
                }
                Stage::Stall => panic!("{place}"),
            }
        }
    }
    assert!(answers >= 1_000, "{answers}");
}
