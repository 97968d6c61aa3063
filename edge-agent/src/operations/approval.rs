//! What was approved is what runs: the body is hashed again, by the machine that will run it.

use reeve_protocol::{ApprovalStamp, Refusal, approval_message};
use sha2::{Digest, Sha256};

use super::refusal;

/// Whether the yes was given to this body. The machines' hash and the expiry are part of what was
/// hashed; which machines they are, and what time it is, the coordinator knows.
pub fn check(stamp: &ApprovalStamp, body: &[u8]) -> Result<(), Refusal> {
    let fits = <&[u8; 32]>::try_from(stamp.machines.as_slice()).is_ok_and(|machines| {
        let body: [u8; 32] = Sha256::digest(body).into();
        let message = approval_message(&body, machines, stamp.expires_us);
        Sha256::digest(message).as_slice() == stamp.digest
    });
    if fits {
        return Ok(());
    }
    Err(refusal(
        "approval_mismatch",
        "this is not what was approved, so it was not started; ask for it again, and find out \
         what changed it",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vector(name: &str) -> &'static str {
        include_str!("../../../protocol/tests/golden/v1/approval-digest.txt")
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
            .expect(name)
    }

    fn bytes(name: &str) -> Vec<u8> {
        let digits = vector(name);
        (0..digits.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&digits[at..at + 2], 16).expect("hex"))
            .collect()
    }

    #[test]
    fn the_digest_is_the_one_coordinators_compute() {
        let stamp = ApprovalStamp {
            digest: bytes("digest"),
            machines: bytes("ids-sha256"),
            expires_us: vector("expires_us").parse().expect("a number"),
        };
        let body = bytes("body");
        assert_eq!(check(&stamp, &body), Ok(()));
        let mut other = body.clone();
        *other.last_mut().expect("a byte") ^= 1;
        let short = ApprovalStamp { machines: vec![0; 31], ..stamp.clone() };
        let later = ApprovalStamp { expires_us: stamp.expires_us + 1, ..stamp.clone() };
        for (stamp, body) in [(&stamp, &other), (&short, &body), (&later, &body)] {
            let refused = check(stamp, body).expect_err("refused");
            assert_eq!(refused.code, "approval_mismatch");
        }
    }
}
