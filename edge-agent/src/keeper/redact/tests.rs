//! Examples as data, and that the pieces in which output comes make no difference.

use super::find::find_secrets;
use super::salt::Salt;
use super::stream::Filter;

const SECRET: &str = include_str!("examples/secret.txt");
const HARMLESS: &str = include_str!("examples/harmless.txt");

/// A line of the examples without its marks, and where the marked places are.
fn parse(line: &str) -> (Vec<u8>, Vec<(usize, usize)>) {
    let mut bytes = Vec::new();
    let mut marked = Vec::new();
    for part in line.split_inclusive(['«', '»']) {
        let text = part.trim_end_matches(['«', '»']);
        let from = bytes.len();
        bytes.extend_from_slice(text.as_bytes());
        if part.ends_with('»') {
            marked.push((from, bytes.len()));
        }
    }
    (bytes, marked)
}

#[test]
fn every_secret_of_the_examples_is_found_and_nothing_else() {
    let mut wrong = Vec::new();
    let mut count = 0;
    for example in SECRET.lines() {
        let (line, marked) = parse(example);
        assert!(!marked.is_empty(), "{example}");
        let found: Vec<_> =
            find_secrets(&line).into_iter().map(|span| (span.start, span.end)).collect();
        if found != marked {
            let found: Vec<_> =
                found.iter().map(|(a, b)| String::from_utf8_lossy(&line[*a..*b])).collect();
            wrong.push(format!("{example}\n    found {found:?}"));
        }
        count += 1;
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
    assert!(count >= 80, "{count}");
}

#[test]
fn nothing_of_the_harmless_examples_is_taken_for_a_secret() {
    let mut wrong = Vec::new();
    for line in HARMLESS.lines() {
        for span in find_secrets(line.as_bytes()) {
            wrong.push(format!("{line}\n    found {} {}", span.kind, &line[span.start..span.end]));
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
    assert!(HARMLESS.lines().count() >= 60);
}

/// What comes out of these pieces.
fn run(salt: &Salt, pieces: &[&[u8]]) -> Vec<u8> {
    let (mut filter, mut out) = (Filter::default(), Vec::new());
    for piece in pieces {
        filter.push(piece, salt, &mut out);
    }
    filter.finish(salt, &mut out);
    out
}

fn run_whole(bytes: &[u8]) -> Vec<u8> {
    run(&Salt::new(), &[bytes])
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Numbers that look random and are the same in every run (xorshift).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % limit.max(1) as u64).expect("small")
    }
}

/// All examples, a private key, and lines longer than the window.
fn everything() -> Vec<u8> {
    let mut all: Vec<u8> = Vec::new();
    for line in SECRET.lines().chain(HARMLESS.lines()) {
        all.extend_from_slice(&parse(line).0);
        all.push(b'\n');
    }
    all.extend_from_slice(KEY);
    for _ in 0..3000 {
        all.extend_from_slice(b"some words=and numbers: 12, ");
    }
    all.extend_from_slice(b"password=hunter2 ");
    all.extend_from_slice(&[b'x'; 40_000]);
    all.extend_from_slice(b" token=");
    all.extend_from_slice("a1".repeat(30_000).as_bytes());
    all.extend_from_slice(b" end\n");
    all
}

const KEY: &[u8] = b"before\n-----BEGIN OPENSSH PRIVATE KEY-----\n\
b3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQAAAAAAAAABAAAAMwAAAAtzc2gtZW\n\
QyNTUxOQAAACDabcdefgh=\n-----END OPENSSH PRIVATE KEY-----\nafter\n";

#[test]
fn cut_anywhere_the_same_comes_out() {
    let (salt, all) = (Salt::new(), everything());
    let expected = run(&salt, &[&all]);
    let mut numbers = Numbers(0x5EED);
    for round in 0..60 {
        let longest = [1, 7, 300, 5_000, 70_000][round % 5];
        let mut pieces = Vec::new();
        let mut rest: &[u8] = &all;
        while !rest.is_empty() {
            let (piece, behind) = rest.split_at((1 + numbers.below(longest)).min(rest.len()));
            pieces.push(piece);
            rest = behind;
        }
        assert!(run(&salt, &pieces) == expected, "round {round}");
    }
}

#[test]
fn pauses_anywhere_give_no_secret_away() {
    let salt = Salt::new();
    for example in SECRET.lines() {
        let (line, marked) = parse(example);
        for cut in 0..=line.len() {
            let (mut filter, mut out) = (Filter::default(), Vec::new());
            filter.push(&line[..cut], &salt, &mut out);
            filter.rest(&salt, &mut out);
            filter.push(&line[cut..], &salt, &mut out);
            filter.rest(&salt, &mut out);
            filter.finish(&salt, &mut out);
            for &(from, to) in &marked {
                // What is cut off so that it is no secret any more says at most how it begins.
                let secret = &line[from..to];
                let least = secret.len().min(10);
                let shown =
                    secret.windows(least).any(|part| super::find::find(&out, part).is_some());
                assert!(!shown, "{example} cut at {cut}: {}", text(&out));
            }
        }
    }
}

#[test]
fn what_holds_no_secret_passes_unchanged() {
    let mut numbers = Numbers(0xFEED);
    for round in 0..40 {
        let length = [0, 1, 1000, 100_000][round % 4];
        // Without the marks by which something could be taken for a secret.
        let noise: Vec<u8> = (0..length)
            .map(|_| match u8::try_from(numbers.below(256)).expect("a byte") {
                b'=' | b':' | b'$' | b'>' | b'-' => 0,
                byte if byte.is_ascii_alphabetic() => byte | 0x80,
                byte => byte,
            })
            .collect();
        assert!(run_whole(&noise) == noise, "round {round}");
    }
    let harmless = HARMLESS.as_bytes();
    assert_eq!(text(&run_whole(harmless)), HARMLESS);
}

#[test]
fn private_key_over_several_lines_is_one_placeholder() {
    let out = text(&run_whole(KEY));
    let (before, rest) = out.split_once("\n[redacted:private-key:").expect("a placeholder");
    assert_eq!(before, "before");
    assert!(rest.ends_with("]\nafter\n") && rest.len() == "0123]\nafter\n".len(), "{out}");
    // Cut off, it is hidden all the same; what is no key is shown again.
    let cut = text(&run_whole(&KEY[..90]));
    assert!(cut.starts_with("before\n[redacted:private-key:") && cut.len() < 60, "{cut}");
    let broken =
        text(&run_whole(b"-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKCAQEA\nlogin: x y z\n"));
    assert!(broken.ends_with("]login: x y z\n"), "{broken}");
}

#[test]
fn same_secret_has_the_same_placeholder_in_one_operation_only() {
    let out =
        text(&run_whole(b"password=hunter2\ntoken: x\nDB_PASSWORD=\"hunter2\"\npassword=other1\n"));
    let places: Vec<&str> =
        out.split("[redacted:password:").skip(1).map(|part| &part[..4]).collect();
    assert_eq!((places.len(), places[0]), (3, places[1]), "{out}");
    // Of sixteen bits, one in 65,536 is the same by chance: five operations all alike are none.
    let first = run_whole(b"password=hunter2");
    assert!((0..5).any(|_| run_whole(b"password=hunter2") != first));
}

#[test]
fn prompt_is_shown_while_it_waits() {
    for prompt in ["Password: ", "Continue? [y/N] ", "login: ", "Downloading 41%", "Press any key"]
    {
        let (salt, mut filter, mut out) = (Salt::new(), Filter::default(), Vec::new());
        filter.push(prompt.as_bytes(), &salt, &mut out);
        assert!(out.is_empty() && filter.is_holding());
        filter.rest(&salt, &mut out);
        assert_eq!(text(&out), prompt);
    }
}

#[test]
fn secret_longer_than_any_window_is_swallowed() {
    let mut line = b"begin token=".to_vec();
    line.extend_from_slice("Ab1".repeat(100_000).as_bytes());
    line.extend_from_slice(b" end\n");
    let out = text(&run_whole(&line));
    assert!(
        out.starts_with("begin token=[redacted:token:") && out.ends_with("] end\n"),
        "{}",
        out.len()
    );
    assert!(out.len() < 60);
}

/// Not a limit: prints what a machine does. `cargo test --release -- --nocapture throughput`
#[test]
fn throughput_is_told() {
    let mut log = Vec::new();
    while log.len() < 4 << 20 {
        log.extend_from_slice(b"Nov 21 05:34:16 web-1 app[4711]: GET /api/items?page=2 status=200 bytes=5120 took=12ms user=deploy\n");
    }
    let (salt, mut filter, mut out) =
        (Salt::new(), Filter::default(), Vec::with_capacity(log.len()));
    let began = std::time::Instant::now();
    for piece in log.chunks(64 * 1024) {
        filter.push(piece, &salt, &mut out);
    }
    filter.finish(&salt, &mut out);
    let seconds = began.elapsed().as_secs_f64();
    println!("redaction: {:.0} MiB/s", log.len() as f64 / f64::from(1 << 20) / seconds);
    assert!(out == log);
}
