//! Output whose secrets are replaced before it is stored.

use reeve_agent::keeper::spool::Piece;
use reeve_agent::keeper::wire::ToKeeper;
use reeve_protocol::ops::{ExecuteCommand, Stdin};
use reeve_protocol::{Outcome, Stream};

use crate::kept::{Kept, Setup, shell};

fn redacted(line: &str) -> ExecuteCommand {
    ExecuteCommand { redact: true, ..shell(line) }
}

/// No file of the operation but the one that says what to run holds the text.
fn is_nowhere(kept: &Kept, text: &str) {
    for entry in std::fs::read_dir(&kept.folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.ends_with("spec") || path.ends_with("sock") {
            continue;
        }
        let bytes = std::fs::read(&path).expect("read");
        let found = bytes.windows(text.len()).any(|part| part == text.as_bytes());
        assert!(!found, "{} holds it", path.display());
    }
}

#[tokio::test]
async fn secret_never_reaches_the_spool_and_offsets_count_what_does() {
    let line = "printf 'user=deploy\\npassword=hunt'; sleep 0.3; printf 'er2\\nend\\n'; \
                printf 'token: 0123abcd4567' >&2; exit 3";
    let mut kept = Setup::of(redacted(line)).start();
    let result = kept.finish();
    assert_eq!(result.outcome, Outcome::Exited { code: 3 });
    let read = kept.read(0);
    let stdout = String::from_utf8(read.stdout).expect("text");
    let stderr = String::from_utf8(read.stderr).expect("text");
    assert!(stdout.starts_with("user=deploy\npassword=[redacted:password:"), "{stdout}");
    assert!(stdout.ends_with("]\nend\n"), "{stdout}");
    assert!(stderr.starts_with("token: [redacted:token:") && stderr.ends_with(']'), "{stderr}");
    assert_eq!(result.totals.stdout, stdout.len() as u64);
    assert_eq!(result.totals.stderr, stderr.len() as u64);
    assert_eq!(result.totals.all, result.totals.stdout + result.totals.stderr);
    is_nowhere(&kept, "er2\n");
    is_nowhere(&kept, "0123abcd4567");
}

#[tokio::test]
async fn prompt_without_a_newline_is_shown_while_the_command_waits() {
    let command = ExecuteCommand {
        stdin: Stdin::Stream,
        ..redacted("printf 'Password: '; read -r secret; echo; echo thanks")
    };
    let mut kept = Setup::of(command).start();
    kept.hear_until(|kept| kept.to == 10);
    kept.say(&ToKeeper::Input { offset: 0, bytes: b"hunter2\n".to_vec() });
    assert_eq!(kept.finish().outcome, Outcome::Exited { code: 0 });
    assert_eq!(kept.read(0).stdout, b"Password: \nthanks\n");
}

#[tokio::test]
async fn both_streams_keep_their_order() {
    let line = "for i in 1 2 3 4 5; do printf \"out$i \"; sleep 0.02; echo \"err$i\" >&2; sleep 0.02; done";
    let mut kept = Setup::of(redacted(line)).start();
    kept.finish();
    let mut merged = Vec::new();
    for piece in kept.read(0).pieces {
        let Piece::Bytes { stream, bytes, .. } = piece else { panic!("a gap") };
        merged.push((stream, String::from_utf8(bytes).expect("text")));
    }
    let expected: Vec<(Stream, String)> = (1..=5)
        .flat_map(|i| [(Stream::Stdout, format!("out{i} ")), (Stream::Stderr, format!("err{i}\n"))])
        .collect();
    assert_eq!(merged, expected);
}

/// Memory of its own that a process has written to, KiB.
fn measure_private(kept: &Kept) -> u64 {
    let keeper = kept.process.id().expect("it lives");
    let maps = std::fs::read_to_string(format!("/proc/{keeper}/smaps_rollup")).expect("maps");
    maps.lines()
        .filter(|line| line.starts_with("Anonymous:"))
        .filter_map(|line| line.split_ascii_whitespace().nth(1)?.parse::<u64>().ok())
        .sum()
}

#[tokio::test]
async fn much_output_is_whole_and_the_keeper_stays_small() {
    // Three of four lines hold a secret whose placeholder is longer than it is.
    let line = "i=0; while [ $i -lt 2000 ]; do i=$((i+1)); echo plain; echo pwd=abc; echo a pwd=abc; \
                echo token=abc; done | tee /dev/null; read -r x";
    let mut private = Vec::new();
    for (redact, expected) in [(false, 6 + 8 + 10 + 10), (true, 6 + 29 + 31 + 28)] {
        let command = ExecuteCommand { stdin: Stdin::Stream, redact, ..shell(line) };
        let mut kept = Setup::of(command).start();
        kept.hear_until(|kept| kept.to >= 2000 * expected);
        assert_eq!(kept.to, 2000 * expected);
        private.push(measure_private(&kept));
        kept.say(&ToKeeper::CloseInput { offset: 0 });
        kept.finish();
    }
    println!("KiB of its own, plain and redacted: {private:?}");
    assert!(private[1] <= private[0] + 256, "KiB of its own, plain and redacted: {private:?}");
}
