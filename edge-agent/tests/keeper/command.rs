//! Starting, stdin, output, exit codes.

use reeve_agent::keeper::wire::ToKeeper;
use reeve_protocol::ops::Stdin;
use reeve_protocol::{Containment, Outcome, SignalName};

use crate::kept::{Setup, argv, shell};

#[tokio::test]
async fn exit_code_and_both_streams_arrive() {
    let mut kept = Setup::of(shell("printf out; printf err >&2; exit 7")).start();
    let result = kept.finish();
    assert_eq!(result.outcome, Outcome::Exited { code: 7 });
    assert_eq!(result.containment, Containment::CgroupV2);
    assert_eq!((result.totals.stdout, result.totals.stderr, result.totals.all), (3, 3, 6));
    let read = kept.read(0);
    assert_eq!((read.stdout.as_slice(), read.stderr.as_slice()), (&b"out"[..], &b"err"[..]));
    assert_eq!(result.leftovers_killed, 0);
    assert!(kept.exited);
}

#[tokio::test]
async fn command_not_found_names_the_path_searched() {
    let mut kept = Setup::of(argv(&["no-such-program"])).start();
    let Outcome::NotStarted { exit_code: 127, code, message } = kept.finish().outcome else {
        panic!("it started")
    };
    assert_eq!(code, "command_not_found");
    assert!(message.contains("no-such-program") && message.contains("/usr/bin"), "{message}");
}

#[tokio::test]
async fn file_that_is_no_program_is_not_executable() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("text");
    std::fs::write(&file, "hello").expect("written");
    let path = file.to_str().expect("utf-8");
    let mut plain = Setup::of(argv(&[path])).start();
    let outcome = plain.finish().outcome;
    assert!(
        matches!(&outcome, Outcome::NotStarted { exit_code: 126, code, .. } if code == "not_executable"),
        "{outcome:?}"
    );
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).expect("chmod");
    let mut marked = Setup::of(argv(&[path])).start();
    let outcome = marked.finish().outcome;
    assert!(
        matches!(&outcome, Outcome::NotStarted { exit_code: 126, code, .. } if code == "not_executable"),
        "{outcome:?}"
    );
}

#[tokio::test]
async fn missing_directory_is_named() {
    let mut command = argv(&["true"]);
    command.cwd = Some("/no/such/place".to_owned());
    let outcome = Setup::of(command).start().finish().outcome;
    let Outcome::NotStarted { code, message, .. } = outcome else { panic!("it started") };
    assert_eq!(code, "bad_directory");
    assert!(message.contains("/no/such/place"), "{message}");
}

#[tokio::test]
async fn environment_is_small_and_clean() {
    let mut command = argv(&["env"]);
    command.env.insert("COLOUR".to_owned(), "green".to_owned());
    let mut kept = Setup::of(command).start();
    kept.finish();
    let text = String::from_utf8(kept.read(0).stdout).expect("utf-8");
    let mut names: Vec<&str> = text.lines().filter_map(|line| line.split('=').next()).collect();
    names.sort_unstable();
    let expected =
        ["COLOUR", "HOME", "LANG", "LOGNAME", "PATH", "REEVE_OPERATION", "SHELL", "USER"];
    assert_eq!(names, expected);
}

#[tokio::test]
async fn command_inherits_no_descriptors_and_no_signal_settings() {
    let line = "ls /proc/self/fd | wc -l; grep -E 'Sig(Blk|Ign)' /proc/self/status; \
                cat /proc/self/oom_score_adj; umask";
    let mut kept = Setup::of(shell(line)).start();
    kept.finish();
    let text = String::from_utf8(kept.read(0).stdout).expect("utf-8");
    let before = std::fs::read_to_string("/proc/self/oom_score_adj").expect("proc");
    let expected = format!(
        "4\nSigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n{}\n0022\n",
        before.trim()
    );
    assert_eq!(text, expected);
}

#[tokio::test]
async fn signal_from_a_user_reaches_the_command() {
    let mut kept =
        Setup::of(shell("trap 'exit 42' USR1; echo ready; while :; do sleep 0.02; done")).start();
    kept.hear_until(|kept| kept.to >= 6);
    kept.say(&ToKeeper::Signal { signal: SignalName::Usr1 });
    assert_eq!(kept.finish().outcome, Outcome::Exited { code: 42 });
}

#[tokio::test]
async fn death_by_a_signal_is_told_apart() {
    let outcome = Setup::of(shell("kill -SEGV $$")).start().finish().outcome;
    assert_eq!(outcome, Outcome::Signaled { signal: 11 });
    // A real-time signal has no name; its number must arrive all the same.
    let outcome = Setup::of(shell("kill -40 $$")).start().finish().outcome;
    assert_eq!(outcome, Outcome::Signaled { signal: 40 });
}

#[tokio::test]
async fn stdin_of_many_megabytes_arrives_whole_across_a_reconnect() {
    const WHOLE: u64 = 64 * 1024 * 1024;
    let mut command = argv(&["wc", "-c"]);
    command.stdin = Stdin::Stream;
    let mut kept = Setup::of(command).start();
    kept.hear_until(|kept| kept.accepted.is_some());
    let mut sent = 0;
    let mut reconnected = false;
    while kept.stdin.received < WHOLE {
        while sent < kept.stdin.until.min(WHOLE) {
            let count = (kept.stdin.until.min(WHOLE) - sent).min(64 * 1024);
            let bytes = vec![b'x'; usize::try_from(count).expect("small")];
            kept.say(&ToKeeper::Input { offset: sent, bytes });
            sent += count;
        }
        if sent > WHOLE / 2 && !reconnected {
            reconnected = true;
            kept.reconnect();
            kept.hear_until(|kept| kept.accepted.is_some());
            // What was on its way is lost with the connection; the keeper says where to go on.
            sent = kept.stdin.received;
        } else if kept.stdin.received < WHOLE && sent >= kept.stdin.until.min(WHOLE) {
            kept.hear().expect("the keeper is there");
        }
    }
    kept.say(&ToKeeper::CloseInput { offset: WHOLE });
    kept.finish();
    assert_eq!(kept.read(0).stdout, format!("{WHOLE}\n").into_bytes());
}

#[tokio::test]
async fn stdin_that_nobody_reads_is_reported_closed() {
    let mut command = shell("exec <&-; echo ready; sleep 30");
    command.stdin = Stdin::Stream;
    let mut kept = Setup::of(command).start();
    kept.hear_until(|kept| kept.stdin.closed);
    kept.say(&ToKeeper::Cancel { reason: "test".to_owned() });
    kept.finish();
}
