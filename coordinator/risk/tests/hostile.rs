//! Text that is meant to break the assessment: it always comes back, soon, and with an honest answer.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use reeve_protocol::ops::{Command, Effect};
use reeve_risk::{MAX_FINDINGS, assess};

fn shell(line: &str) -> reeve_risk::Assessment {
    assess(&Command::Shell(line.to_owned()), &BTreeMap::new())
}

#[test]
fn deep_and_long_text_comes_back_in_time() {
    let deep = |open: &str, inner: &str, close: &str, times: usize| {
        format!("{}{inner}{}", open.repeat(times), close.repeat(times))
    };
    let mut lines = vec![
        "a".repeat(1_000_000),
        "ls;".repeat(5_000),
        "ls|".repeat(5_000) + "ls",
        "ls && ".repeat(2_000) + "ls",
        "echo ".to_owned() + &"x ".repeat(8_000),
        "{a,b}".repeat(3_000),
        "echo ".to_owned() + &"{a,b}".repeat(12),
        "echo {1..99999999}".to_owned(),
        "\"".repeat(10_001),
        "'".repeat(10_001),
        "`".repeat(10_000),
        "$".repeat(10_000),
        "$(".repeat(5_000),
        "((".repeat(5_000),
        "<<a ".repeat(2_000),
        "<(".repeat(3_000),
        "! ".repeat(4_000) + "ls",
        "case x in ".repeat(500),
        "f() ".repeat(1_000),
        "\\".repeat(9_999),
        "x=".repeat(5_000),
        "[[ ".repeat(3_000),
        "[[ ! ".to_owned() + &"! ".repeat(6_000) + "x ]]",
        "[[ ".to_owned() + &"x && ".repeat(3_000) + "y ]]",
        "echo ${x:-".repeat(1_000),
        "a=$a$a; ".repeat(1_000) + "$a",
        (0..200).map(|i| format!("v{i}=$v{}$v{}; ", i + 1, i + 1)).collect::<String>() + "echo $v0",
        "sudo ".repeat(3_000) + "rm x",
        "env ".repeat(3_000) + "ls",
        "timeout 1 ".repeat(1_000) + "rm x",
        "echo $((".to_owned() + &"(".repeat(1_000) + "1" + &")".repeat(1_000) + "))",
        "echo $((".to_owned() + &"1+".repeat(4_000) + "1))",
        "sed '".to_owned() + &"s/a/b/;".repeat(1_500) + "'",
        "awk '".to_owned() + &"{print}".repeat(1_500) + "'",
        "ls >a ".repeat(1_500),
        "cat <<X\n".to_owned() + &"y\n".repeat(6_000) + "X\n",
    ];
    for times in [5, 10, 11, 12, 13, 50, 1_000, 5_000] {
        lines.push(deep("(", "ls", ")", times));
        lines.push(deep("( ", "rm x", " )", times));
        lines.push(deep("$(", "ls", ")", times));
        lines.push(deep("\"$(", "ls", ")\"", times));
        lines.push(deep("{ ", "ls;", " }", times));
        lines.push(deep("if ls; then ", "ls", "; fi", times));
        lines.push(deep("while ls; do ", "ls", "; done", times));
        lines.push(deep("for i in a; do ", "ls", "; done", times));
        lines.push(deep("case a in a) ", "ls", ";; esac", times));
        lines.push(deep("f() { ", "ls;", " }", times));
        lines.push(deep("eval ", "ls", "", times));
        lines.push(deep("$((", "1", "))", times));
        lines.push(deep("[[ ( ", "x", " ) ]]", times));
        lines.push(deep("${x:-", "y", "}", times));
        lines.push(deep("{a,", "b", "}", times));
        lines.push(deep("<(", "ls", ")", times));
        lines.push(deep("`", "ls", "`", times));
    }
    for line in &lines {
        let begin = Instant::now();
        let assessment = shell(line);
        let took = begin.elapsed();
        let start: String = line.chars().take(60).collect();
        assert!(took < Duration::from_secs(5), "{took:?} for {start}");
        assert!(assessment.findings.len() <= MAX_FINDINGS);
        assert!(assessment.findings.iter().all(|finding| finding.segment.chars().count() <= 201));
    }
}

#[test]
fn what_is_too_long_or_deep_is_never_read_only_and_still_destroys() {
    assert_eq!(shell(&("ls; ".repeat(10_000) + "ls")).effect, Effect::Change);
    assert_eq!(shell(&("ls; ".repeat(10_000) + "rm x")).effect, Effect::Destroy);
    assert_eq!(shell(&("(".repeat(500) + "rm x")).effect, Effect::Destroy);
    assert_eq!(shell(&("sudo ".repeat(500) + "reboot")).effect, Effect::Destroy);
    assert_eq!(shell("echo \"unclosed; rm x").effect, Effect::Destroy);
}

/// Pieces that mean something to a shell, put together at random.
fn shellish() -> impl Strategy<Value = String> {
    let words = prop::sample::select(vec![
        "ls",
        "rm",
        " ",
        " ",
        "\n",
        "; ",
        "if ",
        "then ",
        "fi ",
        "for ",
        " in ",
        "do ",
        "done ",
        "case ",
        "esac",
        "while ",
        "function ",
        "$(",
        "$((",
        "))",
        "${x",
        "<<EOF\n",
        "\nEOF\n",
        "[[ ",
        " ]]",
        "<(",
        "$'",
        "2>&1",
        "find",
        "xargs",
        "sudo",
        "env",
        "sed",
        "awk",
        "sh -c",
        "eval",
        "kill",
        "git",
        "ip",
        "tar",
        "curl",
        " -",
        " --",
        " -exec",
        " -o",
        " -c ",
        " {} ",
        " --output=",
        " x",
        " $x",
        " 1",
    ]);
    let piece = prop_oneof![
        4 => words.prop_map(str::to_owned),
        2 => "[|&;()<>{}$`\"'\\\\#!*?\\[\\]~=%^+:@,-]{1,3}",
        1 => "\\PC{1,4}",
    ];
    prop::collection::vec(piece, 0..30).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_has_an_assessment(line in shellish()) {
        let assessment = shell(&line);
        prop_assert_eq!(assessment.findings.is_empty(), assessment.effect == Effect::Read);
    }

    #[test]
    fn any_bytes_have_an_assessment(line in "(?s).{0,80}", name in "[A-Z_]{1,6}", value in "(?s).{0,10}") {
        let env = BTreeMap::from([(name, value)]);
        let _ = assess(&Command::Shell(line.clone()), &env);
        let _ = assess(&Command::Argv(line.split(' ').map(str::to_owned).collect()), &env);
    }

    /// Whatever stands before it: a line of its own that removes is never taken for reading.
    #[test]
    fn a_last_line_that_removes_is_seen(line in shellish()) {
        prop_assert_ne!(shell(&format!("{line}\nrm -rf /srv\n")).effect, Effect::Read);
    }
}
