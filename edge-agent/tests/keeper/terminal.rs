//! Commands on a terminal.

use reeve_agent::keeper::files::Terminal;
use reeve_agent::keeper::wire::ToKeeper;
use reeve_protocol::ops::{OpenTerminal, Stdin};
use reeve_protocol::{Outcome, SignalName};

use crate::kept::{Kept, Setup, wait_until};

fn on_terminal(line: &str) -> Setup {
    let words = ["/bin/sh", "-c", line];
    let asked = OpenTerminal {
        command: Some(words.iter().map(|word| (*word).to_owned()).collect()),
        ..OpenTerminal::default()
    };
    let mut setup = Setup::of(asked.to_command("/bin/sh"));
    setup.terminal = Some(Terminal { columns: 100, rows: 30, login: false, idle_limit_ms: None });
    setup
}

/// Listens until `text` has been shown.
#[track_caller]
fn wait_for(kept: &mut Kept, text: &str) {
    let shows = |kept: &Kept| String::from_utf8_lossy(&kept.read(0).stdout).contains(text);
    kept.hear_until(|kept| kept.to > 0 && shows(kept));
}

fn type_in(kept: &mut Kept, bytes: &[u8]) {
    let offset = kept.stdin.received;
    kept.say(&ToKeeper::Input { offset, bytes: bytes.to_vec() });
    let until = offset + bytes.len() as u64;
    kept.hear_until(|kept| kept.stdin.received >= until);
}

fn shown(kept: &Kept) -> String {
    String::from_utf8_lossy(&kept.read(0).stdout).into_owned()
}

#[tokio::test]
async fn all_three_descriptors_are_a_terminal_of_the_size_asked_for() {
    let line = "test -t 0 && test -t 1 && test -t 2 && stty size && echo $TERM && \
                : </dev/tty && ps -o tpgid= -p $$ | tr -d ' ' && echo $$";
    let mut kept = on_terminal(line).start();
    assert_eq!(kept.finish().outcome, Outcome::Exited { code: 0 });
    let text = shown(&kept);
    let lines: Vec<&str> = text.split("\r\n").collect();
    assert_eq!(lines[..2], ["30 100", "xterm-256color"], "{text}");
    assert_eq!(lines[2], lines[3], "it leads the group in front");
    assert!(kept.read(0).stderr.is_empty());
}

#[tokio::test]
async fn what_is_typed_is_echoed_and_read() {
    let mut kept = on_terminal("read line; echo \"got $line\"").start();
    kept.hear_until(|kept| kept.accepted.is_some());
    type_in(&mut kept, b"hellp\x7fo\r");
    kept.finish();
    assert_eq!(shown(&kept), "hellp\x08 \x08o\r\ngot hello\r\n");
}

#[tokio::test]
async fn new_size_is_told_to_the_program() {
    let line = "trap 'stty size' WINCH; echo ready; while :; do sleep 0.02; done";
    let mut kept = on_terminal(line).start();
    wait_for(&mut kept, "ready");
    kept.say(&ToKeeper::Resize { columns: 0, rows: 0 });
    kept.say(&ToKeeper::Resize { columns: 65_535, rows: 24 });
    kept.say(&ToKeeper::Resize { columns: 132, rows: 50 });
    wait_for(&mut kept, "50 132");
    assert!(!shown(&kept).contains("65535"), "{}", shown(&kept));
    kept.say(&ToKeeper::Cancel { reason: "test".to_owned() });
    kept.finish();
}

#[tokio::test]
async fn control_c_interrupts_the_program_in_front_and_not_the_shell() {
    let line = "set -m; (trap 'echo caught; exit' INT; echo ready; while :; do sleep 0.02; done); \
                echo behind";
    let mut kept = on_terminal(line).start();
    wait_for(&mut kept, "ready");
    type_in(&mut kept, b"\x03");
    assert_eq!(kept.finish().outcome, Outcome::Exited { code: 0 });
    assert!(shown(&kept).contains("behind"), "{}", shown(&kept));
}

#[tokio::test]
async fn signal_from_a_user_reaches_the_program_in_front() {
    let line = "set -m; sh -c 'trap \"echo caught; exit\" USR1; echo ready; \
                while :; do sleep 0.02; done'; echo behind";
    let mut kept = on_terminal(line).start();
    wait_for(&mut kept, "ready");
    kept.say(&ToKeeper::Signal { signal: SignalName::Usr1 });
    kept.finish();
    assert!(shown(&kept).contains("caught\r\nbehind"), "{}", shown(&kept));
}

#[tokio::test]
async fn end_of_input_is_a_key() {
    let mut kept = on_terminal("cat; echo over").start();
    kept.hear_until(|kept| kept.accepted.is_some());
    type_in(&mut kept, b"words\r");
    kept.say(&ToKeeper::CloseInput { offset: 6 });
    assert_eq!(kept.finish().outcome, Outcome::Exited { code: 0 });
    assert!(shown(&kept).ends_with("words\r\nover\r\n"), "{}", shown(&kept));
}

#[tokio::test]
async fn nothing_is_left_of_a_closed_terminal() {
    for grouped in [true, false] {
        // A shell that takes no notice of TERM, something in the background, a double fork with a
        // session of its own that takes no notice of anything.
        let line = "trap '' TERM; (setsid sh -c \"trap '' HUP TERM INT; echo deep; sleep 1000\" &); \
                    sleep 1000 & echo ready; while :; do sleep 0.02; done";
        let mut setup = on_terminal(line);
        setup.grouped = grouped;
        let mut kept = setup.start();
        wait_for(&mut kept, "ready");
        wait_for(&mut kept, "deep");
        let before = std::time::Instant::now();
        kept.say(&ToKeeper::Cancel { reason: "test".to_owned() });
        let result = kept.finish();
        assert!(matches!(result.outcome, Outcome::Cancelled { signal: Some(1), .. }), "{result:?}");
        assert!(before.elapsed() < std::time::Duration::from_secs(4), "HUP was not enough");
        wait_until("nothing is left", || kept.list_marked().is_empty());
    }
}

#[tokio::test]
async fn shell_that_exits_ends_what_it_left_behind() {
    let mut kept =
        on_terminal("trap '' HUP; (trap '' HUP; sleep 1000) & echo last; exit 3").start();
    let before = std::time::Instant::now();
    let result = kept.finish();
    assert_eq!(result.outcome, Outcome::Exited { code: 3 });
    assert!(result.leftovers_killed > 0);
    assert!(before.elapsed() < std::time::Duration::from_secs(4));
    assert_eq!(shown(&kept), "last\r\n");
}

#[tokio::test]
async fn all_that_was_written_before_the_end_arrives() {
    let mut kept = on_terminal("stty -opost; seq 1 200000").start();
    kept.finish();
    let expected: String = (1..=200_000).map(|number| format!("{number}\n")).collect();
    assert!(shown(&kept) == expected, "{} bytes of {}", shown(&kept).len(), expected.len());
}

#[tokio::test]
async fn unused_terminal_closes_with_a_word() {
    let mut setup = on_terminal("echo ready; sleep 1000");
    setup.terminal =
        Some(Terminal { columns: 80, rows: 24, login: false, idle_limit_ms: Some(1000) });
    let before = std::time::Instant::now();
    let mut kept = setup.start();
    let result = kept.finish();
    assert!(matches!(result.outcome, Outcome::TimedOut { .. }), "{result:?}");
    assert!(shown(&kept).contains("closed, because nothing was typed"), "{}", shown(&kept));
    assert!(before.elapsed() >= std::time::Duration::from_secs(1));
    assert!(kept.list_marked().is_empty());
}

#[tokio::test]
async fn used_terminal_stays_open() {
    let line = "n=0; while [ $n -lt 15 ]; do sleep 0.1; n=$((n+1)); echo $n; done";
    let mut setup = on_terminal(line);
    setup.terminal =
        Some(Terminal { columns: 80, rows: 24, login: false, idle_limit_ms: Some(1000) });
    assert_eq!(setup.start().finish().outcome, Outcome::Exited { code: 0 });
}

#[tokio::test]
async fn shell_knows_that_it_is_a_login() {
    let mut setup = on_terminal("unused");
    setup.command = OpenTerminal::default().to_command("/bin/sh");
    setup.terminal = Some(Terminal { columns: 80, rows: 24, login: true, idle_limit_ms: None });
    assert_eq!(setup.command.stdin, Stdin::Stream);
    let mut kept = setup.start();
    kept.hear_until(|kept| kept.accepted.is_some());
    type_in(&mut kept, b"echo \"name: $0\"; exit 4\r");
    assert_eq!(kept.finish().outcome, Outcome::Exited { code: 4 });
    assert!(shown(&kept).contains("name: -sh"), "{}", shown(&kept));
}

#[tokio::test]
async fn full_spool_drops_the_middle_and_keeps_the_terminal_going() {
    let mut setup = on_terminal("stty -opost; seq 1 100000; echo end");
    setup.spool_bytes = 64 * 1024;
    setup.segment_bytes = 8 * 1024;
    let mut kept = setup.start();
    // Nothing is ever released, as when the link is away.
    assert_eq!(kept.finish().outcome, Outcome::Exited { code: 0 });
    let read = kept.read(0);
    let text = String::from_utf8_lossy(&read.stdout).into_owned();
    assert!(text.starts_with("1\n2\n") && text.ends_with("100000\nend\n"));
    assert!(
        read.pieces
            .iter()
            .any(|piece| matches!(piece, reeve_agent::keeper::spool::Piece::Gap { .. }))
    );
}
