//! Prompts that are shell commands already.

use reeve_protocol::ops::{Command, Effect};

use super::examples::machine;
use crate::{Reply, Request, plan};

fn ask(prompt: &str) -> Reply {
    plan(&Request { prompt, machines: &[machine("web-1", "web")], named: false })
}

#[test]
fn a_shell_line_is_offered_as_it_is_with_its_effect() {
    for (prompt, line, effect) in [
        ("df -h", "df -h", Effect::Read),
        ("systemctl restart nginx", "systemctl restart nginx", Effect::Change),
        ("ls -la /var | head", "ls -la /var | head", Effect::Read),
        ("$ journalctl -u nginx -n 5", "journalctl -u nginx -n 5", Effect::Read),
        ("run `uptime -p`", "uptime -p", Effect::Read),
        ("rm -rf /srv/old", "rm -rf /srv/old", Effect::Destroy),
        ("LC_ALL=C ls -l", "LC_ALL=C ls -l", Effect::Read),
        ("find /var -size +1G", "find /var -size +1G", Effect::Read),
        ("cat /etc/hosts", "cat /etc/hosts", Effect::Read),
        ("du -sh /var/* | sort -h", "du -sh /var/* | sort -h", Effect::Read),
    ] {
        let Reply::ShellLine { line: offered, plan } = ask(prompt) else {
            panic!("'{prompt}' gives {:?}", ask(prompt));
        };
        assert_eq!(offered, line);
        assert_eq!(plan.steps[0].command, Command::Shell(line.to_owned()));
        assert_eq!(plan.steps[0].effect, effect, "{prompt}");
    }
}

#[test]
fn sentences_that_begin_with_the_name_of_a_program_are_sentences() {
    for prompt in [
        "find the largest files",
        "who is logged in",
        "free some disk space",
        "kill process 1234",
        "top processes by memory",
        "ping db.example.org",
        "nginx errors",
        "apt updates available?",
        "docker containers that are running",
        "last logins",
        "mount points",
        "reboot web-1",
        "which services failed",
    ] {
        assert!(!matches!(ask(prompt), Reply::ShellLine { .. }), "{prompt}");
    }
}
