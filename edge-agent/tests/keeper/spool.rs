//! Output on disk: full spools, gaps, torn files.

use reeve_agent::keeper::spool::{Piece, SpoolReader};
use reeve_agent::keeper::wire::ToKeeper;
use reeve_protocol::Outcome;
use reeve_protocol::ops::SpoolFull;

use crate::kept::{Setup, shell};

const MIB: u64 = 1024 * 1024;

fn small(line: &str) -> Setup {
    let mut setup = Setup::of(shell(line));
    setup.spool_bytes = MIB;
    setup.segment_bytes = MIB / 8;
    setup
}

fn disk_use(folder: &std::path::Path) -> u64 {
    std::fs::read_dir(folder)
        .expect("a folder")
        .filter_map(|entry| entry.ok()?.metadata().ok())
        .map(|data| data.len())
        .sum()
}

#[tokio::test]
async fn full_spool_blocks_the_command_until_output_is_released() {
    let mut kept = small("seq 1 1000000").start();
    // Nothing is released: the spool fills and the command waits.
    kept.hear_until(|kept| kept.to > MIB * 3 / 4);
    let mut expected = Vec::new();
    for number in 1..=1_000_000 {
        expected.extend_from_slice(format!("{number}\n").as_bytes());
    }
    let mut reader = SpoolReader::open(kept.fd(), 0).expect("opens");
    let mut got = Vec::new();
    loop {
        while let Some(piece) = reader.next(kept.to, 64 * 1024).expect("whole") {
            let Piece::Bytes { bytes, .. } = piece else { panic!("a gap in {piece:?}") };
            got.extend_from_slice(&bytes);
        }
        assert!(disk_use(&kept.folder) < MIB + MIB / 4, "the spool outgrew its limit");
        if got.len() == expected.len() {
            break;
        }
        kept.say(&ToKeeper::Release { upto: reader.position() });
        let before = kept.to;
        kept.hear_until(|kept| kept.to > before);
    }
    assert!(got == expected, "bytes differ");
    assert_eq!(kept.finish().outcome, Outcome::Exited { code: 0 });
}

#[tokio::test]
async fn blocked_command_can_be_cancelled_and_keeps_what_it_wrote() {
    let mut kept = small("yes").start();
    kept.hear_until(|kept| kept.to > MIB * 3 / 4);
    kept.say(&ToKeeper::Cancel { reason: "test".to_owned() });
    // What the pipe holds is output too: the keeper stays until there is room for it.
    let mut reader = SpoolReader::open(kept.fd(), 0).expect("opens");
    while !kept.exited {
        while let Some(Piece::Bytes { bytes, .. }) = reader.next(kept.to, 65536).expect("whole") {
            assert!(bytes.iter().all(|byte| matches!(byte, b'y' | b'\n')));
        }
        kept.say(&ToKeeper::Release { upto: reader.position() });
        if kept.hear().is_none() {
            break;
        }
    }
    let result = kept.finish();
    assert!(matches!(result.outcome, Outcome::Cancelled { .. }));
    assert_eq!(kept.list_marked(), Vec::<u32>::new());
}

#[tokio::test]
async fn dropped_middle_is_a_gap_with_exact_offsets() {
    let mut setup = small("seq 1 1000000; seq 1 1000 >&2");
    setup.command.spool_full = SpoolFull::DropMiddle;
    let mut kept = setup.start();
    let result = kept.finish();
    let mut whole = String::new();
    for number in 1..=1_000_000 {
        whole.push_str(&format!("{number}\n"));
    }
    assert_eq!(result.totals.stdout, whole.len() as u64, "the command waited or bytes vanished");
    let mut gaps = 0;
    let mut at = 0;
    let mut stdout = 0;
    for piece in kept.read(0).pieces {
        match piece {
            Piece::Gap { at: before, gap } => {
                assert_eq!((gap.from, before.all), (at, at));
                assert_eq!(gap.to - gap.from, gap.stdout + gap.stderr);
                at = gap.to;
                stdout += gap.stdout;
                gaps += 1;
            }
            Piece::Bytes { stream: reeve_protocol::Stream::Stdout, at: before, bytes } => {
                assert_eq!((before.all, before.stdout), (at, stdout));
                let start = usize::try_from(stdout).expect("small");
                assert!(bytes == whole.as_bytes()[start..start + bytes.len()], "shifted bytes");
                at += bytes.len() as u64;
                stdout += bytes.len() as u64;
            }
            Piece::Bytes { bytes, .. } => at += bytes.len() as u64,
        }
    }
    assert_eq!(gaps, 1);
    assert_eq!(at, result.totals.all);
}

#[tokio::test]
async fn what_a_reader_took_is_never_dropped() {
    let mut setup = small("seq 1 100000; read go; seq 1 1000000");
    setup.command.spool_full = SpoolFull::DropMiddle;
    setup.command.stdin = reeve_protocol::ops::Stdin::Stream;
    let mut kept = setup.start();
    kept.hear_until(|kept| kept.to == 588_895);
    let mut reader = SpoolReader::open(kept.fd(), 0).expect("opens");
    while reader.next(400_000, 65536).expect("whole").is_some() {}
    kept.say(&ToKeeper::Input { offset: 0, bytes: b"go\n".to_vec() });
    kept.finish();
    // A new agent may go on from anything that was sent, also where nothing was released.
    for offset in [0, 1, 262_144, 399_999, 400_000] {
        let read = kept.read(offset);
        let Some(Piece::Bytes { at, .. }) = read.pieces.first() else { panic!("no bytes") };
        assert_eq!(at.all, offset);
    }
}

#[tokio::test]
async fn torn_tail_ends_the_readable_part() {
    let mut kept = small("printf 0123456789; sleep 0.1; printf abcdefghij >&2").start();
    kept.finish();
    let segment = std::fs::read_dir(&kept.folder)
        .expect("a folder")
        .filter_map(Result::ok)
        .find(|entry| entry.file_name().to_string_lossy().contains(".0000"))
        .expect("a segment")
        .path();
    let whole = std::fs::read(&segment).expect("bytes");
    for length in 0..whole.len() {
        std::fs::write(&segment, &whole[..length]).expect("written");
        let read = SpoolReader::open(kept.fd(), 0).and_then(|mut reader| reader.find_end());
        let expected = if length < 32 {
            None
        } else if length < 50 {
            Some(0)
        } else {
            Some(10)
        };
        assert_eq!(read.ok().map(|end| end.all), expected, "cut at {length}");
    }
}

#[tokio::test]
async fn any_bytes_arrive_unchanged() {
    let mut kept = Setup::of(shell("head -c 3000000 /dev/urandom | tee /dev/stderr")).start();
    kept.finish();
    let read = kept.read(0);
    assert_eq!(read.stdout.len(), 3_000_000);
    assert!(read.stdout == read.stderr);
}
