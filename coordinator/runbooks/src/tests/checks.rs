//! Results against expectations.

use crate::{Checked, Level, Outcome, catalogue, check, compose};
use crate::{Expect, FineExit, Rule, Stream};

/// Checks a step of the catalogue, from 1, with its samples.
fn step(id: &str, number: usize, exit: Option<i32>, stdout: &str, stderr: &str) -> Checked {
    let runbook = catalogue().find(id).unwrap();
    let values = super::samples::values(runbook);
    let expect = compose::expectation(&runbook.step[number - 1], &values);
    let checked = check(&expect, exit, stdout.as_bytes(), stderr.as_bytes());
    for found in &checked.findings {
        let stream = if found.stream == Stream::Stdout { stdout } else { stderr };
        assert!(found.from <= found.to && found.to as usize <= stream.len(), "{found:?}");
    }
    checked
}

fn ids(checked: &Checked) -> Vec<&str> {
    checked.findings.iter().map(|found| found.id.as_str()).collect()
}

#[test]
fn a_full_file_system_is_found_at_its_bytes() {
    let head = "Filesystem Type Size Used Avail Use% Mounted on\n";
    let line = "/dev/sda1 ext4 50G 47G 3.0G 94% /var";
    let output = format!("{head}/dev/sda2 ext4 9G 1G 8G 12% /\n{line}\n");
    let checked = step("disk.usage", 1, Some(0), &output, "");
    assert_eq!(checked.outcome, Outcome::Met);
    assert_eq!(ids(&checked), ["disk_full"]);
    let found = &checked.findings[0];
    assert_eq!(
        (found.level, &output[found.from as usize..found.to as usize]),
        (Level::Problem, line)
    );
    assert_eq!(found.message, "/var is 94 % full: 47G of 50G used, 3.0G free.");
    let well = step("disk.usage", 1, Some(0), &output.replace("94%", "89%"), "");
    assert_eq!(ids(&well), ["disk_full.none"]);
}

#[test]
fn values_are_computed_and_compared() {
    let memory =
        |available| format!("MemTotal: 8000000 kB\nMemFree: 1 kB\nMemAvailable: {available} kB\n");
    assert_eq!(ids(&step("memory.usage", 1, Some(0), &memory(799_999), "")), ["memory_low"]);
    assert_eq!(ids(&step("memory.usage", 1, Some(0), &memory(800_001), "")), ["memory_fine"]);
    let load = step("cpu.usage", 2, Some(0), "5.00 4.10 3.00 2/100 77\n4\n", "");
    assert_eq!(ids(&load), ["load_high"]);
    assert_eq!(
        ids(&step("cpu.usage", 2, Some(0), "5.00 3.90 3.00 2/100 77\n4\n", "")),
        ["load_fine"]
    );
}

#[test]
fn exit_codes_that_are_no_failure_say_what_they_mean() {
    let nobody = step("network.port", 1, Some(0), "", "");
    assert_eq!((nobody.outcome, ids(&nobody)), (Outcome::Met, vec!["nothing"]));
    let none = step("logs.oom", 1, Some(1), "", "");
    assert_eq!((none.outcome, ids(&none)), (Outcome::Met, vec!["nothing"]));
    let broken = step("logs.oom", 1, Some(2), "", "grep: bad option");
    assert_eq!(broken.outcome, Outcome::NotMet);
    assert!(broken.findings.is_empty(), "a command that failed shows nothing: {broken:?}");
}

#[test]
fn output_and_exit_code_that_disagree_are_flagged() {
    let state = "Id=x.service\nActiveState=failed\nSubState=failed\n";
    let restarted = step("service.restart", 2, Some(0), state, "");
    assert_eq!(restarted.outcome, Outcome::NotMet);
    assert!(restarted.disagreement.is_some());
    let unreadable = step("system.os", 1, Some(0), "", "cat: /etc/os-release: Permission denied\n");
    assert_eq!(unreadable.outcome, Outcome::Inconclusive);
    assert!(unreadable.disagreement.unwrap().contains("Permission denied"));
    let killed = step("system.os", 1, None, "Linux", "");
    assert_eq!(killed.outcome, Outcome::NotMet);
}

#[test]
fn what_was_asked_for_decides_whether_enough_was_freed() {
    let df = |free| {
        format!(
            "Filesystem 1024-blocks Used Available Capacity Mounted on\n/dev/sda1 9000000 5 {free} 40% /\n"
        )
    };
    let number = catalogue().find("disk.free").unwrap().step.len();
    assert_eq!(step("disk.free", number, Some(0), &df(1_048_576), "").outcome, Outcome::Met);
    let short = step("disk.free", number, Some(0), &df(1_048_575), "");
    assert_eq!(short.outcome, Outcome::NotMet);
    assert!(short.reason.starts_with("Only "), "{}", short.reason);
}

#[test]
fn long_and_binary_output_ends_and_claims_no_absence() {
    let rule = Rule {
        id: "x".to_owned(),
        level: Level::Problem,
        stream: Stream::Stdout,
        pattern: "needle".to_owned(),
        values: Vec::new(),
        when: Vec::new(),
        message: "There are {count}.".to_owned(),
        once: true,
        none: Some("There is none.".to_owned()),
        none_level: None,
    };
    let expect = Expect { rules: vec![rule], ..Expect::default() };
    let mut long = vec![0xff_u8; 2 * 1024 * 1024];
    assert!(check(&expect, Some(0), &long, b"").findings.is_empty());
    long.truncate(1000);
    long.extend_from_slice(b"needle\0needle");
    let checked = check(&expect, Some(0), &long, b"");
    assert_eq!((checked.findings[0].from, checked.findings[0].to), (1000, 1006));
    assert_eq!(checked.findings[0].message, "There are 2.");
}

#[test]
fn expectations_survive_the_database() {
    for runbook in &catalogue().runbooks {
        let values = super::samples::values(runbook);
        for step in &runbook.step {
            let expect = compose::expectation(step, &values);
            let text = serde_json::to_string(&expect).unwrap();
            assert_eq!(serde_json::from_str::<Expect>(&text).unwrap(), expect);
        }
    }
    let fine =
        Expect { fine: vec![FineExit { code: 1, means: "x".to_owned() }], ..Expect::default() };
    assert_eq!(check(&fine, Some(1), b"", b"").reason, "It went well: x.");
}
