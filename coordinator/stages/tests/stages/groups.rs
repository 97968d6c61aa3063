use reeve_protocol::Stream;
use reeve_sdk::api::OperationState;
use reeve_stages::Excerpt;
use reeve_stages::group::{Class, Grouper, MAX_COMPARED, Normaliser, Volatile};

use super::operation;

fn classes(outputs: &[(&str, i32, &str)]) -> Vec<Class> {
    let mut grouper = Grouper::default();
    for (at, (machine, exit, text)) in outputs.iter().enumerate() {
        let mut output = grouper.output(&[machine, &format!("{machine}.example.org")]);
        output.push(Stream::Stdout, text.as_bytes());
        let state = if *exit == 0 { OperationState::Succeeded } else { OperationState::Failed };
        grouper.add(machine, operation(at as u128), state, Some(*exit), output);
    }
    grouper.finish()
}

fn are_alike(left: &str, right: &str) -> bool {
    classes(&[("web-1", 0, left), ("db-2", 0, right)]).len() == 1
}

#[test]
fn times_pids_names_and_the_like_make_no_difference() {
    for (left, right) in [
        ("2026-11-21T05:34:17.123Z started", "2026-11-21T05:34:18Z started"),
        ("2026-11-21 05:34:17 UTC", "2026-11-20 23:59:59 UTC"),
        ("Sat Nov 21 05:34:17 UTC 2026", "Sun Nov 22 05:34:17 UTC 2026"),
        ("Nov  2 15:04:05 web-1 sshd[812]: ok", "Nov 21 05:00:00 db-2 sshd[11]: ok"),
        ("at 05:34:17 it ended", "at 15:00:01 it ended"),
        ("active since 3 days ago", "active since 11 hours ago"),
        ("Main PID: 4711 (nginx)", "Main PID: 12 (nginx)"),
        ("pid=4711 state S", "pid=9 state S"),
        ("hello from web-1", "hello from db-2"),
        ("hello from WEB-1.example.org!", "hello from db-2.example.org!"),
        ("id 550e8400-e29b-41d4-a716-446655440000", "id 123e4567-e89b-12d3-a456-426614174000"),
        ("boot 550e8400e29b41d4a716446655440000", "boot 123e4567e89b12d3a456426614174000"),
        ("at 0x7ffd1234 in main", "at 0x55aa in main"),
        ("made /tmp/tmp.Xa83kQ11ab", "made /tmp/tmp.000Zyqw1aB"),
        ("done in 0.31s", "done in 12ms"),
        ("[   12.345678] usb 1-1", "[99999.000001] usb 1-1"),
        ("epoch 1763703257", "epoch 1763700000"),
        ("token=[redacted:bearer:3f9a]", "token=[redacted:bearer:0c11]"),
    ] {
        assert!(are_alike(left, right), "{left:?} and {right:?}");
    }
}

#[test]
fn what_matters_makes_a_difference() {
    for (left, right) in [
        ("disk 91%", "disk 19%"),
        ("listens on 0.0.0.0:80", "listens on 0.0.0.0:8080"),
        ("address 192.0.2.1", "address 192.0.2.2"),
        ("nginx 1.24.0", "nginx 1.26.1"),
        ("load 0.50", "load 9.50"),
        ("active", "inactive"),
        ("token=[redacted:bearer:3f9a]", "token=[redacted:password:3f9a] x"),
        ("port 4711", "port 4712"),
        ("web-10 is up", "web-11 is up"),
        ("web-10 is up", "db-20 is up"),
        ("xweb-1 is up", "xdb-2 is up"),
        ("a\nb", "b\na"),
        ("", "\n"),
        ("12 files", "13 files"),
        ("reply in 5 packets", "reply in 50 packets"),
    ] {
        assert!(!are_alike(left, right), "{left:?} and {right:?}");
    }
    assert_eq!(classes(&[("a-1", 0, "x"), ("b-1", 1, "x")]).len(), 2, "states");
    assert_eq!(classes(&[("a-1", 2, "x"), ("b-1", 1, "x")]).len(), 2, "exit codes");
}

#[test]
fn the_largest_class_comes_first_and_the_odd_ones_are_told() {
    let mut outputs = Vec::new();
    let names: Vec<String> = (0..10_000).map(|n| format!("web-{n:05}")).collect();
    for (at, name) in names.iter().enumerate() {
        outputs.push((name.as_str(), 0, if at % 526 == 525 { "broken" } else { "fine" }));
    }
    let found = classes(&outputs);
    let sizes: Vec<usize> = found.iter().map(|class| class.machines.len()).collect();
    assert_eq!(sizes, [9_981, 19]);
    assert_eq!((found[0].outlier, found[1].outlier), (false, true));
    assert_eq!(found[0].representative().unwrap().1, "web-00000");
    let shown = found[1].sample(None, Excerpt::of(b"broken"), Excerpt::default()).unwrap();
    assert_eq!((shown.count, shown.outlier, shown.machine.as_str()), (19, true, "web-00525"));
    let half = classes(&[("a-1", 0, "x"), ("b-1", 0, "x"), ("c-1", 0, "y"), ("d-1", 0, "y")]);
    assert!(half.iter().all(|class| !class.outlier), "halves are no outliers");
    let one = classes(&[("a-1", 0, "x"), ("b-1", 0, "x"), ("c-1", 0, "y")]);
    assert_eq!(one.iter().map(|class| class.outlier).collect::<Vec<_>>(), [false, true]);
}

#[test]
fn pieces_make_no_difference_and_streams_do() {
    let text = "Nov 21 05:00:00 web-1 sshd[11]: ok\npid 4711 ".repeat(3_000);
    let mut found = Vec::new();
    for piece in [1, 7, 4096, text.len()] {
        let mut grouper = Grouper::default();
        for (at, size) in [piece, text.len()].into_iter().enumerate() {
            let mut output = grouper.output(&["web-1"]);
            text.as_bytes().chunks(size).for_each(|piece| output.push(Stream::Stdout, piece));
            grouper.add("m", operation(at as u128), OperationState::Succeeded, Some(0), output);
        }
        found.push(grouper.finish().len());
    }
    assert_eq!(found, [1, 1, 1, 1]);
    let mut grouper = Grouper::default();
    for (at, stream) in [Stream::Stdout, Stream::Stderr].into_iter().enumerate() {
        let mut output = grouper.output(&[]);
        output.push(stream, b"x");
        grouper.add("m", operation(at as u128), OperationState::Succeeded, Some(0), output);
    }
    assert_eq!(grouper.finish().len(), 2);
}

#[test]
fn what_is_too_long_is_compared_at_its_beginning_and_by_its_length() {
    let megabyte = vec![b'x'; 1 << 20];
    let mut grouper = Grouper::default();
    for (at, (megabytes, last)) in [(6, b'a'), (6, b'b'), (7, b'a')].into_iter().enumerate() {
        let mut output = grouper.output(&[]);
        for _ in 0..megabytes {
            output.push(Stream::Stdout, &megabyte);
        }
        output.push(Stream::Stdout, &[last]);
        grouper.add("m", operation(at as u128), OperationState::Succeeded, Some(0), output);
    }
    let found = grouper.finish();
    assert_eq!(found.iter().map(|class| class.machines.len()).collect::<Vec<_>>(), [2, 1]);
    assert!(found.iter().all(|class| class.truncated));
    assert_eq!(MAX_COMPARED, 4 << 20);
}

#[test]
fn what_may_differ_can_be_chosen() {
    let mut grouper = Grouper::new(Normaliser::new([Volatile::Pid]));
    for (at, text) in
        ["pid 1 at 05:00:00", "pid 2 at 05:00:00", "pid 3 at 05:00:01"].iter().enumerate()
    {
        let mut output = grouper.output(&[]);
        output.push(Stream::Stdout, text.as_bytes());
        grouper.add("m", operation(at as u128), OperationState::Succeeded, Some(0), output);
    }
    assert_eq!(grouper.finish().len(), 2);
}
