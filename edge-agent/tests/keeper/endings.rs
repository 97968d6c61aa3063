//! Timeouts, cancels, leftovers: nothing stays behind, with a control group and without.

use std::time::{Duration, Instant};

use reeve_agent::keeper::files;
use reeve_agent::keeper::wire::{FromKeeper, Incoming, ToKeeper};
use reeve_protocol::ops::Leftovers;
use reeve_protocol::{Containment, Outcome};

use crate::kept::{Kept, Setup, shell, wait_until};

#[test]
fn keeper_that_cannot_be_made_is_a_refusal_and_no_loss() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut ours, theirs) = std::os::unix::net::UnixStream::pair().expect("a pair");
    let error = std::io::Error::from_raw_os_error(11);
    reeve_agent::keeper::refuse(folder.path().as_os_str(), theirs, &error);
    let fd = reeve_agent::host::unix::open_folder(folder.path()).expect("opens");
    let result: reeve_protocol::OperationResult = files::load(&fd).expect("an exit file");
    assert!(
        matches!(&result.outcome, Outcome::Refused(refusal) if refusal.code == "start_failed"),
        "{result:?}"
    );
    let mut incoming = Incoming::default();
    incoming.read(&mut ours).expect("something was said");
    assert_eq!(incoming.take::<FromKeeper>().expect("it makes sense"), Some(FromKeeper::Exited));
}

fn start(grouped: bool, mut command: reeve_protocol::ops::ExecuteCommand) -> Kept {
    command.grace_ms = command.grace_ms.min(300);
    let mut setup = Setup::of(command);
    setup.grouped = grouped;
    setup.start()
}

fn cancel(kept: &mut Kept) -> reeve_protocol::OperationResult {
    kept.say(&ToKeeper::Cancel { reason: "test".to_owned() });
    kept.finish()
}

#[tokio::test]
async fn cancelled_command_leaves_no_process() {
    for grouped in [true, false] {
        let mut kept = start(grouped, shell("sleep 1000 & sleep 1000 & echo up; wait"));
        kept.hear_until(|kept| kept.to >= 3);
        let result = cancel(&mut kept);
        assert_eq!(result.outcome, Outcome::Cancelled { exit_code: None, signal: Some(15) });
        let expected = if grouped { Containment::CgroupV2 } else { Containment::ProcessGroup };
        assert_eq!(result.containment, expected);
        assert_eq!(kept.list_marked(), Vec::<u32>::new(), "grouped: {grouped}");
    }
}

#[tokio::test]
async fn command_that_ignores_term_is_killed_after_the_grace() {
    for grouped in [true, false] {
        let mut kept = start(grouped, shell("trap '' TERM; echo up; while :; do sleep 1; done"));
        kept.hear_until(|kept| kept.to >= 3);
        let asked = Instant::now();
        let result = cancel(&mut kept);
        assert_eq!(result.outcome, Outcome::Cancelled { exit_code: None, signal: Some(9) });
        assert!(asked.elapsed() >= Duration::from_millis(300), "no grace was given");
        assert_eq!(kept.list_marked(), Vec::<u32>::new());
    }
}

#[tokio::test]
async fn stopped_command_can_be_cancelled() {
    let mut kept = start(true, shell("echo up; kill -STOP $$; sleep 1000"));
    kept.hear_until(|kept| kept.to >= 3);
    let result = cancel(&mut kept);
    assert!(matches!(result.outcome, Outcome::Cancelled { .. }), "{result:?}");
    assert_eq!(kept.list_marked(), Vec::<u32>::new());
}

#[tokio::test]
async fn double_fork_with_own_session_is_killed_and_counted() {
    for grouped in [true, false] {
        // The daemon gives up the pipes, its session and its parent.
        let line = "setsid sh -c 'sleep 1000 & sleep 1000 &' </dev/null >/dev/null 2>&1; echo done";
        let mut kept = start(grouped, shell(line));
        let result = kept.finish();
        assert_eq!(result.outcome, Outcome::Exited { code: 0 });
        assert_eq!(result.leftovers_killed, 2, "grouped: {grouped}");
        assert_eq!(kept.list_marked(), Vec::<u32>::new());
    }
}

#[tokio::test]
async fn leftovers_stay_when_asked_for() {
    let mut command = shell("setsid sleep 1000 </dev/null >/dev/null 2>&1 & echo done");
    command.leftovers = Leftovers::Keep;
    let mut kept = start(true, command);
    let result = kept.finish();
    assert_eq!((result.outcome, result.leftovers_killed), (Outcome::Exited { code: 0 }, 0));
    wait_until("the sleeper sleeps", || kept.list_marked().len() == 1);
    for pid in kept.list_marked() {
        reeve_agent::host::process::kill(pid);
    }
}

#[tokio::test]
async fn timeout_ends_the_command_without_any_agent() {
    let mut command = shell("echo up; sleep 1000");
    command.timeout_ms = Some(200);
    let mut kept = start(true, command);
    kept.stream = None;
    wait_until("the exit file is there", || kept.result().is_some());
    let outcome = kept.result().map(|result| result.outcome);
    assert_eq!(outcome, Some(Outcome::TimedOut { exit_code: None, signal: Some(15) }));
    assert_eq!(kept.read(0).stdout, b"up\n");
}

#[tokio::test]
async fn own_exit_code_survives_a_cancel() {
    let mut kept = start(true, shell("trap 'exit 3' TERM; echo up; while :; do sleep 0.02; done"));
    kept.hear_until(|kept| kept.to >= 3);
    let outcome = cancel(&mut kept).outcome;
    assert_eq!(outcome, Outcome::Cancelled { exit_code: Some(3), signal: None });
}

#[tokio::test]
async fn child_that_holds_the_pipes_is_waited_for_and_its_output_kept() {
    let mut kept = start(true, shell("(sleep 0.3; echo late) & echo early"));
    let result = kept.finish();
    assert_eq!(result.outcome, Outcome::Exited { code: 0 });
    assert_eq!(result.leftovers_killed, 0);
    assert_eq!(kept.read(0).stdout, b"early\nlate\n");
}

#[tokio::test]
async fn keeper_ignores_the_signals_that_stop_an_agent() {
    let mut kept = start(true, shell("echo up; sleep 0.3; echo still; exit 5"));
    kept.hear_until(|kept| kept.to >= 3);
    let keeper = kept.process.id().expect("a keeper");
    let pid = rustix::process::Pid::from_raw(i32::try_from(keeper).expect("small")).expect("pid");
    for signal in [rustix::process::Signal::TERM, rustix::process::Signal::HUP] {
        rustix::process::kill_process(pid, signal).expect("the keeper is there");
    }
    assert_eq!(kept.finish().outcome, Outcome::Exited { code: 5 });
    assert_eq!(kept.read(0).stdout, b"up\nstill\n");
}
