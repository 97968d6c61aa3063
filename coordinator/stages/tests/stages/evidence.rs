use proptest::prelude::*;
use reeve_protocol::Stream;
use reeve_stages::evidence::{Claim, MAX_QUOTE, Unverified, verify, verify_all};

use super::{operation, sample};

fn claim(quote: &str, from: Option<u64>, to: Option<u64>) -> Claim {
    Claim { result: "R1".to_owned(), stream: Stream::Stdout, quote: quote.to_owned(), from, to }
}

#[test]
fn a_quote_counts_where_it_stands_and_nowhere_else() {
    let samples =
        [sample(1, "web-1", 0, b"disk / 91%\ndisk /var 40%\ndisk / 91%\n0\n", b"warn: x\n")];
    let check = |quote: &str, from: Option<u64>| {
        verify(&claim(quote, from, None), &samples)
            .map(|found| (found.quote.from, found.quote.to, found.corrected))
    };
    assert_eq!(check("disk /var 40%", None), Ok((11, 24, false)));
    assert_eq!(check("disk /var 40%", Some(11)), Ok((11, 24, false)));
    assert_eq!(check("disk /var 40%", Some(3)), Ok((11, 24, true)), "corrected");
    assert_eq!(check("disk / 91%", Some(25)), Ok((25, 35, false)), "the place that was meant");
    assert_eq!(check("disk / 91%", None), Ok((0, 10, false)), "the first place");
    assert_eq!(check("disk / 91%", Some(7)), Err(Unverified::Ambiguous));
    assert_eq!(check("disk / 99%", None), Err(Unverified::Absent));
    assert_eq!(check("warn: x", None), Err(Unverified::Absent), "another stream");
    assert_eq!(check("0", None), Ok((36, 37, false)), "a whole line may be short");
    assert_eq!(check("9", None), Err(Unverified::TooShort));
    assert_eq!(check("  ", None), Err(Unverified::TooShort));
    assert_eq!(check(&"x".repeat(MAX_QUOTE + 1), None), Err(Unverified::TooLong));
    let whole = verify(&claim("disk /var 40%", None, None), &samples).unwrap().quote;
    assert_eq!((whole.operation, whole.machine.as_str()), (operation(1), "web-1"));
}

#[test]
fn a_result_is_named_by_label_or_operation() {
    let samples = [sample(1, "a", 0, b"first\n", b""), sample(2, "b", 0, b"second\n", b"")];
    for (name, quote, found) in [
        ("R2", "second", true),
        ("r2", "second", true),
        ("R1", "second", false),
        ("R3", "second", false),
        (&operation(2).to_string(), "second", true),
        (&operation(9).to_string(), "second", false),
        ("", "second", false),
    ] {
        let claim = Claim { result: name.to_owned(), ..claim(quote, None, None) };
        assert_eq!(verify(&claim, &samples).is_ok(), found, "{name}");
    }
}

#[test]
fn a_quote_of_clean_text_is_the_bytes_it_came_from() {
    let raw = b"\x1b[31mFAILED\x1b[0m unit\r\nnext \xff line\n";
    let samples = [sample(1, "web-1", 1, raw, b"")];
    let found = verify(&claim("FAILED unit\nnext", None, None), &samples).unwrap().quote;
    assert_eq!((found.from, found.to), (5, 26));
    assert_eq!(found.quote.as_bytes(), &raw[5..26]);
    assert!(verify(&claim("next \u{fffd} line", None, None), &samples).is_ok());
}

#[test]
fn a_quote_of_what_was_left_out_does_not_count() {
    let mut output = "a fine line\n".repeat(3_000);
    output.insert_str(18_000, "a secret line\n");
    let samples = [sample(1, "web-1", 0, output.as_bytes(), b"")];
    assert_eq!(verify(&claim("a secret line", None, None), &samples), Err(Unverified::Absent));
}

#[test]
fn lists_are_bounded_and_tell_what_was_dropped() {
    let samples = [sample(1, "web-1", 0, b"there it is\n", b"")];
    let mut claims = vec![claim("there it is", None, None), claim("there it is", None, None)];
    claims.extend((0..100).map(|_| claim("not there", None, None)));
    let checked = verify_all(&claims, &samples);
    assert_eq!(checked.verified.len(), 1, "the same quote once");
    assert_eq!(checked.dropped.len(), 18);
}

proptest! {
    #[test]
    fn what_is_verified_really_stands_there(
        output in "[ab \n\t\u{1b}\\[mé]{0,120}",
        quote in "[ab \né]{0,6}",
        from in proptest::option::of(0..130u64),
    ) {
        let samples = [sample(1, "web-1", 0, output.as_bytes(), b"")];
        if let Ok(found) = verify(&claim(&quote, from, None), &samples) {
            let (from, to) = (found.quote.from as usize, found.quote.to as usize);
            prop_assert_eq!(&output.as_bytes()[from..to], found.quote.quote.as_bytes());
        }
    }
}
