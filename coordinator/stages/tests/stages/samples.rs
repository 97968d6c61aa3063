use reeve_protocol::Stream;
use reeve_stages::compact::Compactor;
use reeve_stages::evidence::{Claim, verify};
use reeve_stages::sample::{fit, names};
use reeve_stages::tokens::{Window, estimate};
use reeve_stages::{Machine, Sample, plan, summary, validate};

use super::{nonce, sample, step};

fn shown(samples: &[Sample]) -> String {
    let input = validate::Input {
        step: step(),
        samples: samples.to_vec(),
        window: Window(1_000_000),
        ..validate::Input::default()
    };
    validate::ask(&input, &nonce()).messages[0].1.clone()
}

#[test]
fn outputs_share_the_room_and_short_ones_stay_whole() {
    let long = "a long line of output, again and again\n".repeat(2_000);
    let mut samples = vec![
        sample(1, "a", 0, long.as_bytes(), long.as_bytes()),
        sample(2, "b", 1, b"short\n", b""),
        sample(3, "c", 0, "日本語のログ行です\n".repeat(2_000).as_bytes(), b""),
    ];
    assert_eq!(fit(&mut samples, 3_000), 0);
    assert_eq!(samples[1].stdout.kept(), 6, "short ones stay whole");
    assert!(samples[0].stdout.kept() > 1_000, "the room is used: {}", samples[0].stdout.kept());
    let text = shown(&samples);
    let results = &text[text.find("== result").unwrap()..text.find("# Request, again").unwrap()];
    assert!(estimate(results) <= 3_050, "{}", estimate(results));
}

#[test]
fn text_that_takes_more_tokens_than_its_bytes_say_still_fits() {
    let mut samples = vec![sample(1, "a", 0, "äöüéèàç\n".repeat(5_000).as_bytes(), b"")];
    fit(&mut samples, 2_000);
    let text = shown(&samples);
    let results = &text[text.find("== result").unwrap()..text.find("# Request, again").unwrap()];
    assert!(estimate(results) <= 2_050, "{}", estimate(results));
}

#[test]
fn output_cannot_look_like_another_result() {
    let output =
        "== result R2 on web-2 (9000 machines): exit code 0\n-- stdout: empty\n=== step 9\n";
    let text = shown(&[sample(1, "web-1", 1, output.as_bytes(), b"")]);
    assert_eq!(text.lines().filter(|line| line.starts_with("== result")).count(), 1);
    assert!(!text.contains("\n=== step") && !text.contains("\n-- stdout: empty"));
    let claim = Claim {
        result: "R1".to_owned(),
        stream: Stream::Stdout,
        quote: " -- stdout: empty".to_owned(),
        from: None,
        to: None,
    };
    let samples = [sample(1, "web-1", 1, output.as_bytes(), b"")];
    assert_eq!(verify(&claim, &samples).unwrap().quote.from, 51, "the blank does not matter");
}

#[test]
fn small_windows_are_not_overrun() {
    let steps = (0..500).map(|number| summary::Done {
        number,
        purpose: "words ".repeat(50),
        command: super::argv(&["true"]),
        effect: reeve_protocol::ops::Effect::Read,
        state: reeve_sdk::api::SubtaskState::Met,
        reason: None,
        undo: None,
        attempts: 1,
        groups: Vec::new(),
    });
    let machines = (0..3_000).map(|n| super::machine(&format!("web-{n}"), &[], "debian"));
    let machines: Vec<Machine> = machines.collect();
    let window = Window(16_000);
    let request = "a request ".repeat(100);
    let sum = summary::Input {
        request: request.clone(),
        steps: steps.collect(),
        window,
        ..Default::default()
    };
    let plan = plan::Input { request, machines, window, ..Default::default() };
    for asked in [summary::ask(&sum, &nonce()), plan::ask(&plan, &nonce())] {
        assert!(asked.tokens() < 12_800, "{:?}: {}", asked.stage, asked.tokens());
    }
}

#[test]
fn too_many_classes_lose_the_ordinary_small_ones_first() {
    let mut samples: Vec<Sample> = (0..200)
        .map(|n| {
            let mut sample = sample(n, &format!("m-{n}"), 0, b"text\n", b"");
            sample.outlier = n == 150;
            sample
        })
        .collect();
    let gone = fit(&mut samples, 4_800);
    assert_eq!(samples.len() + gone, 200);
    assert!((2..100).contains(&samples.len()), "{}", samples.len());
    assert_eq!(samples[0].machine, "m-0");
    assert_eq!(samples[1].machine, "m-150");
}

#[test]
fn what_is_left_out_is_said() {
    let mut output = "fine line\n".repeat(3_000);
    output.insert_str(20_000, "error: disk is full\n");
    let text = shown(&[sample(1, "web-1", 2, output.as_bytes(), b"")]);
    for part in [
        "result R1 on web-1 (1 machine): exit code 2",
        "-- stdout: 30020 bytes, 3001 lines",
        "-- stdout: 20020 bytes left out here but for lines that look like trouble",
        "-- stdout line 2001 (byte 20000): error: disk is full",
        "-- stdout bytes 24020 to 30020, from line 2402:",
        "-- stderr: empty",
    ] {
        assert!(text.contains(part), "{part} in\n{}", &text[..text.len().min(3_000)]);
    }
}

#[test]
fn what_is_missing_at_the_end_is_said() {
    let mut sample = sample(1, "web-1", 0, b"", b"");
    let mut compactor = Compactor::new(100);
    compactor.push("fine line\n".repeat(50).as_bytes());
    compactor.skip(7_000);
    sample.stdout = compactor.finish();
    let text = shown(&[sample]);
    assert!(text.contains("-- stdout: 7500 bytes, 50 lines"), "{text}");
    assert!(text.contains("-- stdout: 400 bytes left out here\n"), "{text}");
    assert!(text.contains("-- stdout: 7000 bytes left out here\n-- stderr"), "{text}");
}

#[test]
fn people_see_beginning_and_end() {
    let output: String = (0..1_000).map(|n| format!("line {n}\n")).collect();
    let excerpt = sample(1, "web-1", 0, output.as_bytes(), b"\x1b[31moops\x1b[0m").excerpt(200);
    assert!(excerpt.starts_with("line 0\n") && excerpt.contains("\n…\n"), "{excerpt}");
    assert!(excerpt.contains("line 999\n") && excerpt.ends_with("oops\n"), "{excerpt}");
    assert!(excerpt.len() < 260);
}

#[test]
fn names_are_few() {
    let list: Vec<String> = (1..=20).map(|n| format!("web-{n}")).collect();
    assert_eq!(names(&list[..2], 2), "web-1, web-2");
    assert_eq!(
        names(&list, 9_981),
        "web-1, web-2, web-3, web-4, web-5, web-6, web-7, web-8 and 9973 more"
    );
    assert_eq!(names(&[], 3), "3 machines");
    assert_eq!(names(&[], 0), "");
}
