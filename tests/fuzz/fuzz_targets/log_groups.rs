//! Groups of similar lines: never more than there may be, every line in at most one, each group's
//! words as many as its lines', and the same lines in the same groups.
#![no_main]

use libfuzzer_sys::fuzz_target;
use reeve_cli::logs::drain::Drain;

const MOST: usize = 16;

fuzz_target!(|data: &[u8]| {
    let text = String::from_utf8_lossy(data);
    let groups = || {
        let mut drain = Drain::new(MOST);
        let found: Vec<Option<usize>> = text.lines().map(|line| drain.add(line)).collect();
        for (line, group) in text.lines().zip(&found) {
            let Some(group) = group else { continue };
            assert!(*group < MOST);
            let words = line.split_whitespace().count().min(64);
            assert_eq!(drain.template(*group).split_whitespace().count(), words);
        }
        found
    };
    assert_eq!(groups(), groups());
});
