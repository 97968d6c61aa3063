//! Commands as operators write them, and as somebody would who wants to get past the assessment.

use std::collections::BTreeMap;

use reeve_protocol::ops::{Command, Effect, Network};
use reeve_risk::{Assessment, assess, reasons};
use serde::Deserialize;

#[derive(Deserialize)]
struct Corpus {
    group: Vec<Group>,
}

#[derive(Deserialize)]
struct Group {
    about: String,
    effect: Effect,
    lines: Vec<String>,
}

#[allow(clippy::panic)] // tests may; this is called by several
fn groups() -> Vec<Group> {
    [
        include_str!("corpus/read.toml"),
        include_str!("corpus/change.toml"),
        include_str!("corpus/destroy.toml"),
    ]
    .iter()
    .flat_map(|text| match toml::from_str::<Corpus>(text) {
        Ok(corpus) => corpus.group,
        Err(error) => panic!("{error}"),
    })
    .collect()
}

fn shell(line: &str) -> Assessment {
    assess(&Command::Shell(line.to_owned()), &BTreeMap::new())
}

#[test]
fn every_command_of_the_corpus_has_the_effect_that_is_written_beside_it() {
    let mut wrong = Vec::new();
    let mut counts = BTreeMap::new();
    for group in groups() {
        for line in &group.lines {
            *counts.entry(group.effect).or_insert(0) += 1;
            let assessment = shell(line);
            if assessment.effect != group.effect {
                wrong.push(format!(
                    "{}: `{line}` should be {}\n{assessment}",
                    group.about,
                    group.effect.as_str()
                ));
            }
            assert_eq!(assessment.findings.is_empty(), assessment.effect == Effect::Read, "{line}");
            assert_eq!(
                assessment.findings.first().map_or(Effect::Read, |finding| finding.effect),
                assessment.effect,
                "{line}"
            );
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n\n"));
    assert!(counts[&Effect::Read] >= 250, "{counts:?}");
    assert!(counts[&Effect::Change] >= 200, "{counts:?}");
    assert!(counts[&Effect::Destroy] >= 150, "{counts:?}");
}

/// What is put around a command never makes it look more harmless than it is alone.
#[test]
fn wrapping_a_command_never_lowers_its_effect() {
    let wrappers: [fn(&str) -> String; 11] = [
        |line| format!("ls; {line}"),
        |line| format!("{line}\nls"),
        |line| format!("( {line}\n)"),
        |line| format!("if true; then\n{line}\nfi"),
        |line| format!("echo \"$(\n{line}\n)\""),
        |line| format!("f() {{\n{line}\n}}; f"),
        |line| format!("for i in 1 2; do\n{line}\ndone"),
        |line| format!("sh -c '{}'", line.replace('\'', "'\\''")),
        |line| format!("eval '{}'", line.replace('\'', "'\\''")),
        |line| format!("timeout 5 bash -c '{}'", line.replace('\'', "'\\''")),
        |line| format!("cat <(\n{line}\n)"),
    ];
    let mut wrong = Vec::new();
    for group in groups() {
        for line in &group.lines {
            for wrap in wrappers {
                let wrapped = wrap(line);
                let effect = shell(&wrapped).effect;
                if effect < group.effect {
                    wrong.push(format!(
                        "`{wrapped}` is {}, alone {}",
                        effect.as_str(),
                        group.effect.as_str()
                    ));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn arguments_without_a_shell_are_one_command() {
    let argv = |words: &[&str]| {
        let words = words.iter().map(|word| (*word).to_owned()).collect();
        assess(&Command::Argv(words), &BTreeMap::new())
    };
    assert_eq!(argv(&["ls", "; rm -rf /", "$(reboot)", "*"]).effect, Effect::Read);
    assert_eq!(argv(&["sort", "*"]).effect, Effect::Read);
    assert_eq!(argv(&["rm", "x"]).effect, Effect::Destroy);
    assert_eq!(argv(&["sh", "-c", "rm x"]).effect, Effect::Destroy);
    assert_eq!(argv(&["journalctl", "--vacuum-size=1M"]).effect, Effect::Destroy);
    assert_eq!(argv(&["A=b", "ls"]).effect, Effect::Change);
    assert_eq!(argv(&["/tmp/ls"]).effect, Effect::Change);
    assert_eq!(argv(&[]).effect, Effect::Change);
    assert_eq!(argv(&[""]).effect, Effect::Change);
}

#[test]
fn the_environment_given_with_a_command_counts() {
    let with = |name: &str, value: &str, line: &str| {
        let env = BTreeMap::from([(name.to_owned(), value.to_owned())]);
        assess(&Command::Shell(line.to_owned()), &env).effect
    };
    assert_eq!(with("LC_ALL", "C", "ls"), Effect::Read);
    assert_eq!(with("PAGER", "cat", "systemctl status"), Effect::Read);
    for name in ["PATH", "LD_PRELOAD", "PAGER", "GIT_SSH", "BASH_ENV", "EDITOR", "IFS", "FOO"] {
        assert_eq!(with(name, "/tmp/x", "ls"), Effect::Change, "{name}");
    }
    assert_eq!(with("LANG", "$(rm x)", "ls"), Effect::Change);
    // It is also what the variable is worth in the line.
    assert_eq!(with("X", "rm", "$X y"), Effect::Destroy);
}

#[test]
fn the_network_that_inspect_mode_needs_comes_from_the_rules() {
    for (line, network) in [
        ("df -h", Network::None),
        ("systemctl status nginx", Network::None),
        ("journalctl -n 5", Network::None),
        ("ss -tulpn", Network::View),
        ("ip a", Network::View),
        ("netstat -rn", Network::View),
        ("lsof -i :80", Network::View),
        ("dig example.org", Network::Use),
        ("ping -c1 192.0.2.1", Network::Use),
        ("curl http://localhost/", Network::Use),
        ("getent hosts example.org", Network::Use),
        ("ss -s; dig example.org", Network::Use),
        ("df -h; ip a", Network::View),
    ] {
        assert_eq!(shell(line).network, network, "{line}");
    }
}

#[test]
fn findings_can_be_understood() {
    let first =
        |line: &str| shell(line).findings.first().map(ToString::to_string).unwrap_or_default();
    assert_eq!(
        first("journalctl --vacuum-size=1G"),
        "destroy: `journalctl --vacuum-size` deletes archived journals (in `journalctl --vacuum-size=1G`)"
    );
    assert_eq!(first("ls; rm -rf /srv"), "destroy: `remove` deletes files (in `rm -rf /srv`)");
    assert!(first("frobnicate").contains("nothing is known of `frobnicate`"));
    assert!(first("echo x > /etc/motd").contains("overwrites `/etc/motd`"));
    let hidden = shell("ls \u{202e}x");
    assert_eq!(hidden.findings[0].rule, reasons::HIDDEN_CHARACTERS);
    assert!(!hidden.findings[0].segment.contains('\u{202e}'));
}

#[test]
fn characters_that_deceive_are_never_read_only() {
    for c in [
        '\u{1b}',
        '\r',
        '\u{8}',
        '\u{200b}',
        '\u{202e}',
        '\u{2066}',
        '\u{feff}',
        '\u{ad}',
        '\u{a0}',
        '\u{e0041}',
        '\u{7f}',
        '\u{fffc}',
    ] {
        assert_ne!(shell(&format!("echo a{c}b")).effect, Effect::Read, "{c:?}");
        let argv = Command::Argv(vec!["ls".to_owned(), format!("a{c}b")]);
        assert_ne!(assess(&argv, &BTreeMap::new()).effect, Effect::Read, "{c:?}");
    }
    assert_eq!(shell("grep -r 'größe' /srv").effect, Effect::Read);
}
