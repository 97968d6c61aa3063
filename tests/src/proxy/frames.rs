//! Where the frames of a WebSocket end (RFC 6455, 5.2), in bytes as they come by.

use super::Direction;

/// A request or answer that has not ended its head by then is none.
const LONGEST_HEAD: usize = 64 * 1024;

/// One direction of one connection.
pub(super) struct Frames {
    direction: Direction,
    state: State,
}

enum State {
    /// In the HTTP request or its answer; what has come of it.
    Head(Vec<u8>),
    /// In the first bytes of a frame.
    Start(Vec<u8>),
    /// So much of it is still to come.
    Rest(u64),
    /// No WebSocket, or encrypted.
    Other,
}

impl Frames {
    pub(super) fn new(direction: Direction) -> Self {
        Self { direction, state: State::Head(Vec::new()) }
    }

    /// The places in `bytes`, which follow what came before, at which a frame is whole.
    pub(super) fn find_ends(&mut self, bytes: &[u8]) -> Vec<usize> {
        let mut ends = Vec::new();
        let mut at = 0;
        while at < bytes.len() {
            match &mut self.state {
                State::Other => break,
                State::Head(head) => {
                    head.push(bytes[at]);
                    at += 1;
                    if head.ends_with(b"\r\n\r\n") {
                        let text = String::from_utf8_lossy(head).to_lowercase();
                        let upgraded = match self.direction {
                            Direction::Up => text.contains("upgrade: websocket"),
                            Direction::Down => text.starts_with("http/1.1 101 "),
                        };
                        self.state = if upgraded { State::Start(Vec::new()) } else { State::Other };
                    } else if head.len() > LONGEST_HEAD {
                        self.state = State::Other;
                    }
                }
                State::Start(start) => {
                    start.push(bytes[at]);
                    at += 1;
                    if let Some(rest) = rest_of(start) {
                        self.state = State::Rest(rest);
                        if rest == 0 {
                            ends.push(at);
                            self.state = State::Start(Vec::new());
                        }
                    }
                }
                State::Rest(rest) => {
                    let here = usize::try_from(*rest).unwrap_or(usize::MAX).min(bytes.len() - at);
                    at += here;
                    *rest -= here as u64;
                    if *rest == 0 {
                        ends.push(at);
                        self.state = State::Start(Vec::new());
                    }
                }
            }
        }
        ends
    }
}

/// Sends whole frames twice.
#[derive(Default)]
pub(super) struct Twice {
    /// The frame under way, when it was seen from its beginning on; nothing before the first has ended,
    /// so that what is no WebSocket is not kept.
    frame: Option<Vec<u8>>,
    /// Whole ones so far. The first two each way are the handshake's, which is not for doubling: whoever
    /// speaks twice there is turned away, and nothing else is ever shown.
    whole: u64,
}

/// Frames of a handshake in each direction: `hello`, `proof`; `challenge`, `welcome`.
const HANDSHAKE: u64 = 2;

impl Twice {
    /// What goes out for `bytes`, in which frames end at `ends`; and how many frames go twice.
    pub(super) fn take(
        &mut self,
        bytes: &[u8],
        ends: &[usize],
        every: Option<u64>,
    ) -> (u64, Vec<u8>) {
        let (mut out, mut doubled, mut from) = (Vec::with_capacity(bytes.len()), 0, 0);
        for end in ends.iter().copied().filter(|end| *end <= bytes.len()) {
            let piece = &bytes[from..end];
            out.extend_from_slice(piece);
            self.whole += 1;
            let is_due = every.is_some_and(|every| self.whole.is_multiple_of(every.max(1)));
            if let Some(begun) = self.frame.take().filter(|_| is_due && self.whole > HANDSHAKE) {
                out.extend_from_slice(&begun);
                out.extend_from_slice(piece);
                doubled += 1;
            }
            self.frame = Some(Vec::new());
            from = end;
        }
        out.extend_from_slice(&bytes[from..]);
        if let Some(begun) = &mut self.frame {
            begun.extend_from_slice(&bytes[from..]);
        }
        (doubled, out)
    }
}

/// How much of a frame follows its first bytes, once these say so.
fn rest_of(start: &[u8]) -> Option<u64> {
    let second = *start.get(1)?;
    let mask = if second & 0x80 == 0 { 0 } else { 4 };
    let (bytes_of_length, short) = match second & 0x7f {
        126 => (2, None),
        127 => (8, None),
        length => (0, Some(u64::from(length))),
    };
    let length = start.get(2..2 + bytes_of_length)?;
    let long = length.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
    Some(mask + short.unwrap_or(long))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(payload: usize, masked: bool) -> Vec<u8> {
        let mask = if masked { 0x80 } else { 0 };
        let mut frame = vec![0x82];
        match payload {
            0..=125 => frame.push(mask | u8::try_from(payload).expect("short")),
            126..=65_535 => {
                frame.push(mask | 126);
                frame.extend(u16::try_from(payload).expect("fits").to_be_bytes());
            }
            _ => {
                frame.push(mask | 127);
                frame.extend((payload as u64).to_be_bytes());
            }
        }
        frame.resize(frame.len() + payload + if masked { 4 } else { 0 }, 7);
        frame
    }

    #[test]
    fn ends_of_frames_are_found_however_the_bytes_come() {
        for (direction, head, masked) in [
            (Direction::Up, "GET /ws HTTP/1.1\r\nUpgrade: websocket\r\n\r\n", true),
            (Direction::Down, "HTTP/1.1 101 Switching Protocols\r\n\r\n", false),
        ] {
            let mut bytes = head.as_bytes().to_vec();
            let mut expected = Vec::new();
            for payload in [0, 1, 125, 126, 65_535, 65_536, 3] {
                bytes.extend(frame(payload, masked));
                expected.push(bytes.len());
            }
            for step in [1, 2, 7, 4096, bytes.len()] {
                let mut frames = Frames::new(direction);
                let mut ends = Vec::new();
                for (number, piece) in bytes.chunks(step).enumerate() {
                    ends.extend(frames.find_ends(piece).iter().map(|end| number * step + end));
                }
                assert_eq!(ends, expected, "{direction:?} in steps of {step}");
            }
        }
    }

    #[test]
    fn frames_go_twice_whole_and_in_order_however_the_bytes_come() {
        let head = "GET /ws HTTP/1.1\r\nUpgrade: websocket\r\n\r\n".as_bytes();
        let all: Vec<Vec<u8>> = (0..6).map(|number| frame(200 * number, true)).collect();
        let bytes = [head, &all.concat()].concat();
        // Behind the handshake's two, every second one.
        let expected =
            [head, &all[0], &all[1], &all[2], &all[3], &all[3], &all[4], &all[5], &all[5]].concat();
        for step in [1, 3, 100, bytes.len()] {
            let (mut frames, mut twice) = (Frames::new(Direction::Up), Twice::default());
            let (mut out, mut doubled) = (Vec::new(), 0);
            for piece in bytes.chunks(step) {
                let ends = frames.find_ends(piece);
                let (more, passed) = twice.take(piece, &ends, Some(2));
                doubled += more;
                out.extend(passed);
            }
            assert_eq!((doubled, out), (2, expected.clone()), "in steps of {step}");
        }
    }

    #[test]
    fn what_is_no_websocket_has_no_frames() {
        let mut frames = Frames::new(Direction::Up);
        assert!(frames.find_ends(b"POST / HTTP/1.1\r\n\r\n\x82\x01a\x82\x01b").is_empty());
    }
}
