//! What is said before a session is open, and at enrolment: read, written and read again it is the
//! same, versions that agree are in both ranges, and what is signed is told apart by all it holds.
#![no_main]

use libfuzzer_sys::fuzz_target;
use reeve_fuzz::{choose, holds, read, read_json};
use reeve_protocol::enrol::{Register, Registered};
use reeve_protocol::{
    Body, Challenge, Envelope, Hello, Proof, Reject, VersionRange, Welcome, limits,
};

fn open<B: Body>(envelope: &Envelope) {
    if let Ok(body) = envelope.open::<B>() {
        holds(&body);
    }
}

fuzz_target!(|data: &[u8]| {
    if let Ok(envelope) = reeve_protocol::decode::<Envelope>(data) {
        open::<Hello>(&envelope);
        open::<Challenge>(&envelope);
        open::<Proof>(&envelope);
        open::<Welcome>(&envelope);
        open::<Reject>(&envelope);
    }
    let Some((which, bytes)) = choose(data) else { return };
    // What comes before `welcome` is no longer.
    let bytes = &bytes[..bytes.len().min(limits::MAX_HANDSHAKE_BYTES)];
    match which % 6 {
        0 => {
            if let Some(hello) = read::<Hello>(bytes) {
                agree(hello.versions, VersionRange::ours());
            }
        }
        1 => {
            let _ = read::<Challenge>(bytes);
        }
        2 => {
            let _ = read::<Proof>(bytes);
        }
        3 => {
            let _ = read::<Welcome>(bytes);
        }
        4 => {
            let _ = read::<Reject>(bytes);
        }
        _ => {
            if let Ok(text) = std::str::from_utf8(bytes) {
                {
                    let _ = read_json::<Register>(text);
                };
                {
                    let _ = read_json::<Registered>(text);
                };
            }
        }
    }
});

fn agree(one: VersionRange, other: VersionRange) {
    let agreed = one.agree(other);
    assert_eq!(agreed, other.agree(one));
    if let Some(version) = agreed {
        for range in [one, other] {
            assert!(range.min <= version && version <= range.max);
        }
    }
}
