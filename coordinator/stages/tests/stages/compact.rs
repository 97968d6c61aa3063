use proptest::prelude::*;
use reeve_stages::compact::{Compactor, Excerpt, Kind, MAX_BYTES, MAX_LINES};

fn fed(bytes: &[u8], piece: usize, max: usize) -> Excerpt {
    let mut compactor = Compactor::new(max);
    bytes.chunks(piece).for_each(|piece| compactor.push(piece));
    compactor.finish()
}

#[test]
fn short_output_stays_whole() {
    let excerpt = Excerpt::of(b"one\ntwo");
    assert_eq!((excerpt.total, excerpt.lines, excerpt.parts.len()), (7, 1, 1));
    assert_eq!(excerpt.parts[0].bytes, b"one\ntwo");
    assert_eq!(excerpt.last_line(), Some((4, &b"two"[..])));
    assert!(Excerpt::of(b"").is_empty() && Excerpt::of(b"").last_line().is_none());
    assert_eq!(Excerpt::of(&[b'x'; MAX_BYTES]).parts.len(), 1, "exactly what fits");
}

#[test]
fn long_output_keeps_beginning_end_and_troubled_lines_with_their_numbers() {
    let mut text = String::new();
    for number in 1..=20_000 {
        match number {
            7_000 => text.push_str("write failed: No space left on device\n"),
            9_000 => text.push_str("kernel: Out of memory: Killed process 4711\n"),
            _ => text.push_str(&format!("line {number} is fine\n")),
        }
    }
    let excerpt = Excerpt::of(text.as_bytes());
    assert_eq!((excerpt.total, excerpt.lines), (text.len() as u64, 20_000));
    let [head, first, second, tail] = excerpt.parts.as_slice() else {
        panic!("{:?}", excerpt.parts.len())
    };
    assert_eq!((head.kind, head.bytes.len()), (Kind::Head, 4_000));
    assert_eq!((tail.kind, tail.bytes.len()), (Kind::Tail, 6_000));
    assert_eq!((first.line, second.line), (7_000, 9_000));
    assert_eq!(second.bytes, b"kernel: Out of memory: Killed process 4711");
    let before_tail = text[..usize::try_from(tail.from).unwrap()].matches('\n').count() as u64;
    assert_eq!(tail.line, before_tail + 1);
    assert_eq!(excerpt.first_notable().unwrap().0, first.from);
}

#[test]
fn many_troubled_lines_are_bounded_and_said_once() {
    let mut text = "fine\n".repeat(2_000);
    for number in 0..5_000 {
        text.push_str(&format!("error {number}: the same again\n"));
    }
    for number in 0..500 {
        let letters: String =
            [number / 26 % 26, number % 26].iter().map(|n| char::from(b'a' + *n as u8)).collect();
        text.push_str(&format!("error of kind {letters}\n"));
    }
    text.push_str(&"fine\n".repeat(2_000));
    let excerpt = Excerpt::of(text.as_bytes());
    let lines: Vec<_> = excerpt.parts.iter().filter(|part| part.kind == Kind::Line).collect();
    assert_eq!(lines.len(), MAX_LINES);
    let same = lines.iter().filter(|part| part.bytes.ends_with(b"again")).count();
    assert_eq!(same, 1);
    assert!(lines.is_sorted_by_key(|part| part.from));
    assert!(excerpt.kept() <= MAX_BYTES + MAX_LINES * 240);
}

#[test]
fn a_gap_is_never_inside_a_part() {
    let mut compactor = Compactor::new(100);
    compactor.push(b"beginning\nerr");
    compactor.skip(1_000_000);
    compactor.push(b"behind the gap\n");
    let excerpt = compactor.finish();
    assert_eq!(excerpt.total, 1_000_028);
    let [head, tail] = excerpt.parts.as_slice() else { panic!("{excerpt:?}") };
    assert_eq!((head.from, head.bytes.as_slice()), (0, &b"beginning\nerr"[..]));
    assert_eq!((tail.from, tail.bytes.as_slice()), (1_000_013, &b"behind the gap\n"[..]));
}

#[test]
fn what_came_before_a_gap_is_no_end() {
    let mut compactor = Compactor::new(20);
    compactor.push(b"12345678 error: this is in between\n");
    compactor.skip(100);
    compactor.push(b"end");
    let excerpt = compactor.finish();
    let bytes: Vec<&[u8]> = excerpt.parts.iter().map(|part| part.bytes.as_slice()).collect();
    assert_eq!(bytes, [&b"12345678"[..], b"12345678 error: this is in between", b"end"]);
    assert_eq!((excerpt.parts[2].from, excerpt.parts[2].line), (135, 2));
}

#[test]
fn when_nothing_comes_behind_a_gap_the_end_of_what_is_known_is_kept() {
    let text: String = (0..100).map(|n| format!("line {n}\n")).collect();
    let mut compactor = Compactor::new(100);
    compactor.push(text.as_bytes());
    compactor.skip(1_000_000);
    compactor.push(b"");
    let mut excerpt = compactor.finish();
    assert_eq!(excerpt.total, text.len() as u64 + 1_000_000);
    let [head, tail] = excerpt.parts.as_slice() else { panic!("{excerpt:?}") };
    assert!(head.bytes.starts_with(b"line 0\n") && tail.bytes.ends_with(b"line 99\n"));
    assert_eq!(tail.to(), text.len() as u64);
    excerpt.shrink(20);
    assert!(excerpt.kept() <= 20 && excerpt.parts.len() == 2);
    let mut short = Compactor::new(100);
    short.push(b"all that is known\n");
    short.skip(5);
    let short = short.finish();
    assert_eq!((short.total, short.parts.len()), (23, 1));
}

#[test]
fn records_stay_readable_and_lose_no_byte() {
    for bytes in [&b"text\n"[..], b"\xff\x00binary\xc3"] {
        let excerpt = Excerpt::of(bytes);
        let record = serde_json::to_string(&excerpt).unwrap();
        assert_eq!(serde_json::from_str::<Excerpt>(&record).unwrap(), excerpt);
    }
    assert!(serde_json::to_string(&Excerpt::of(b"text")).unwrap().contains("\"text\""));
}

proptest! {
    #[test]
    fn every_part_stands_where_it_says(
        text in "(error: x{0,9}\n|ok é日\n|[a-z ]{0,40}|\n){0,60}",
        noise in proptest::collection::vec(any::<u8>(), 0..80),
        piece in 1..50usize,
        max in 10..400usize,
        smaller in 1..200usize,
    ) {
        let mut bytes = text.into_bytes();
        bytes.extend(noise);
        let mut excerpt = fed(&bytes, piece, max);
        for round in 0..2 {
            prop_assert_eq!(excerpt.total, bytes.len() as u64);
            for part in &excerpt.parts {
                let (from, to) = (part.from as usize, part.to() as usize);
                prop_assert_eq!(&bytes[from..to], part.bytes.as_slice(), "round {}", round);
                let before = bytes[..from].iter().filter(|b| **b == b'\n').count() as u64;
                prop_assert_eq!(part.line, before + 1);
            }
            if round == 1 {
                prop_assert!(excerpt.kept() <= smaller, "{} > {}", excerpt.kept(), smaller);
            }
            excerpt.shrink(smaller);
        }
        prop_assert_eq!(&fed(&bytes, piece, max), &fed(&bytes, bytes.len().max(1), max));
    }

    #[test]
    fn characters_are_not_cut(text in "[a-zé日😀]{0,200}", max in 10..300usize) {
        let mut excerpt = fed(text.as_bytes(), 7, max);
        excerpt.shrink(max / 2);
        for part in &excerpt.parts {
            prop_assert!(std::str::from_utf8(&part.bytes).is_ok(), "{:?}", part);
        }
    }
}
