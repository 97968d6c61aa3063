//! What machines say, on its way to a person's terminal: nothing in it drives the terminal, and what is
//! shown again of a terminal asks it nothing, however it was cut.
#![no_main]

use libfuzzer_sys::fuzz_target;
use reeve_cli::shell::Filter;
use reeve_cli::terminal::{escape, escape_bytes};
use reeve_fuzz::{choose, pieces};

fuzz_target!(|data: &[u8]| {
    let Some((which, rest)) = choose(data) else { return };
    let shown = escape_bytes(rest);
    for c in shown.chars() {
        assert!(!c.is_control() || c == '\n' || c == '\t', "{c:?} got through");
        assert!(!('\u{202a}'..='\u{202e}').contains(&c) && !('\u{2066}'..='\u{2069}').contains(&c));
    }
    assert!(shown.len() <= rest.len() * 8);
    // What was made visible stays as it is.
    assert_eq!(escape(&shown), shown);
    let (cuts, rest) = rest.split_at(rest.len().min(3));
    let cut_before = which & 1 == 1;
    let whole = Filter::new(cut_before).pass(rest);
    let mut filter = Filter::new(cut_before);
    let mut out = Vec::new();
    for piece in pieces(rest, cuts) {
        out.extend(filter.pass(piece));
    }
    assert!(whole == out, "cut:\n{}\nwhole:\n{}", out.escape_ascii(), whole.escape_ascii());
    assert!(whole.len() <= rest.len());
    for question in
        [&b"\x1b[6n"[..], b"\x1b[c", b"\x1b[0c", b"\x1b[>c", b"\x1bZ", b"\x05", b"\x1b]11;?"]
    {
        assert!(
            !whole.windows(question.len()).any(|found| found == question),
            "{} is asked in {}",
            question.escape_ascii(),
            whole.escape_ascii()
        );
    }
});
