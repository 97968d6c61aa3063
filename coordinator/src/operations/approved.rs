//! What a job was approved as. It is kept with the job, so that what waits for its machine over a
//! restart is still held against it.

use reeve_protocol::{ApprovalId, ApprovalStamp, MachineId, approval_message, machine_bytes};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::row::Ending;
use reeve_sdk::api::OperationState;

/// SHA-256 of the machines' sorted ids.
#[must_use]
pub fn hash_machines(machines: impl IntoIterator<Item = MachineId>) -> [u8; 32] {
    Sha256::digest(machine_bytes(machines)).into()
}

/// What a yes to this body on these machines until then is bound to.
#[must_use]
pub fn stamp(
    body: &[u8],
    machines: impl IntoIterator<Item = MachineId>,
    expires_us: i64,
) -> ApprovalStamp {
    let machines = hash_machines(machines);
    let body: [u8; 32] = Sha256::digest(body).into();
    let digest = Sha256::digest(approval_message(&body, &machines, expires_us));
    ApprovalStamp { digest: digest.to_vec(), machines: machines.to_vec(), expires_us }
}

/// A job's yes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Approved {
    /// Which approval it was.
    pub id: ApprovalId,
    /// What the agents are shown.
    pub stamp: ApprovalStamp,
}

/// As the database keeps it.
#[derive(Serialize, Deserialize)]
struct Stored {
    id: ApprovalId,
    digest: String,
    machines: String,
    expires_us: i64,
}

impl Approved {
    /// Whether it was given to exactly this body on exactly these machines.
    #[must_use]
    pub fn fits(&self, body: &[u8], machines: impl IntoIterator<Item = MachineId>) -> bool {
        stamp(body, machines, self.stamp.expires_us) == self.stamp
    }

    /// For the job's row.
    #[must_use]
    pub fn to_text(&self) -> String {
        let stored = Stored {
            id: self.id,
            digest: crate::hex(&self.stamp.digest),
            machines: crate::hex(&self.stamp.machines),
            expires_us: self.stamp.expires_us,
        };
        serde_json::to_string(&stored).unwrap_or_default()
    }

    /// From the job's row. A text that is none is a stamp that fits nothing: the job must not run
    /// as if nobody had had to approve it.
    #[must_use]
    pub fn from_text(text: &str) -> Self {
        let stored = serde_json::from_str(text).unwrap_or(Stored {
            id: ApprovalId(uuid::Uuid::nil()),
            digest: String::new(),
            machines: String::new(),
            expires_us: i64::MAX,
        });
        let stamp = ApprovalStamp {
            digest: unhex(&stored.digest),
            machines: unhex(&stored.machines),
            expires_us: stored.expires_us,
        };
        Self { id: stored.id, stamp }
    }

    /// Why an operation that has not started may not any more, if that is so. `fits` was computed
    /// from what would be sent.
    #[must_use]
    pub fn bar(&self, fits: bool, now_us: i64, machine: &str) -> Option<Ending> {
        if !fits {
            return Some(Ending::decided(
                OperationState::Refused,
                "approval_mismatch",
                format!(
                    "what would have run on '{machine}' is not what approval {} was given for; it \
                     was not started. Somebody changed it in the database",
                    self.id
                ),
            ));
        }
        (self.stamp.expires_us <= now_us).then(|| {
            Ending::decided(
                OperationState::Expired,
                "approval_expired",
                format!("approval {} ended before '{machine}' took it; it never started", self.id),
            )
        })
    }
}

fn unhex(text: &str) -> Vec<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    text.as_bytes()
        .chunks(2)
        .map_while(|pair| match pair {
            [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
            _ => None,
        })
        .collect()
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

    #[test]
    fn the_digest_is_the_one_agents_compute() {
        let machines: Vec<MachineId> =
            vector("machines").split(' ').map(|id| id.parse().expect("an id")).collect();
        let expires_us = vector("expires_us").parse().expect("a number");
        let made = stamp(&unhex(vector("body")), machines.clone(), expires_us);
        assert_eq!(crate::hex(&made.machines), vector("ids-sha256"));
        assert_eq!(crate::hex(&made.digest), vector("digest"));
        // The order of the machines is not part of it.
        let turned = stamp(&unhex(vector("body")), machines.into_iter().rev(), expires_us);
        assert_eq!(turned, made);
    }

    #[test]
    fn stored_and_read_back_it_is_the_same_and_nonsense_fits_nothing() {
        let machine = MachineId::new();
        let approved = Approved { id: ApprovalId::new(), stamp: stamp(b"body", [machine], 7) };
        let again = Approved::from_text(&approved.to_text());
        assert_eq!(again, approved);
        assert!(again.fits(b"body", [machine]));
        assert!(!again.fits(b"bodx", [machine]));
        assert!(!again.fits(b"body", [machine, MachineId::new()]));
        for text in ["", "{}", "null", "{\"id\":1}"] {
            assert!(!Approved::from_text(text).fits(b"body", [machine]), "{text}");
        }
        assert!(approved.bar(true, 6, "web-1").is_none());
        assert_eq!(approved.bar(true, 7, "web-1").expect("over").state, OperationState::Expired);
        assert_eq!(approved.bar(false, 6, "web-1").expect("no").state, OperationState::Refused);
    }
}
