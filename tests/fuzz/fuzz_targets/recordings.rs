//! What a terminal showed, as lines of its recording (asciicast): however its bytes came, each line is
//! JSON with a time that does not go back, and together they are the same text.
#![no_main]

use libfuzzer_sys::fuzz_target;
use reeve_coordinator::operations::terminals::recording::fuzzing::lines;
use reeve_fuzz::pieces;

fn text(lines: &str) -> String {
    let mut text = String::new();
    let mut last = 0.0;
    for line in lines.lines() {
        let (time, kind, data): (f64, String, String) =
            serde_json::from_str(line).expect("a line of a recording");
        assert!(time >= last && kind == "o", "{line}");
        assert!(!data.is_empty());
        last = time;
        text.push_str(&data);
    }
    text
}

fuzz_target!(|data: &[u8]| {
    let (cuts, bytes) = data.split_at(data.len().min(3));
    let whole = text(&lines(&[bytes]));
    assert_eq!(whole, String::from_utf8_lossy(bytes));
    assert_eq!(whole, text(&lines(&pieces(bytes, cuts))), "cut, it shows something else");
});
