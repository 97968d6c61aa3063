//! Typed ids: ids of different things cannot be mixed up. All are UUIDs; those that name rows are
//! version 7 (RFC 9562), so they sort by the time they were made.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

macro_rules! define_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl $name {
            /// A new id, unique everywhere, ordered by time.
            #[must_use]
            #[allow(clippy::new_without_default)]
            pub fn new() -> Self {
                Self(Uuid::now_v7())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.hyphenated().fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0.hyphenated())
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Uuid::parse_str(text).map(Self)
            }
        }
    };
}

define_id!(
    /// An enrolled machine. Made on the machine at enrolment.
    MachineId
);
define_id!(
    /// A coordinator installation: it outlives restarts, and agents sign it.
    CoordinatorId
);
define_id!(
    /// One thing asked of one machine.
    OperationId
);
define_id!(
    /// One request fanned out to operations.
    JobId
);
define_id!(
    /// One life of an agent's journal. It changes when the state folder is made anew, which tells
    /// the coordinator that the agent's memory of what it started is gone.
    JournalId
);
define_id!(
    /// A person who may log in.
    UserId
);
define_id!(
    /// An API key or the token of a logged-in session.
    ApiKeyId
);
define_id!(
    /// A join token.
    EnrolmentTokenId
);
define_id!(
    /// A file kept at the coordinator, for stdin of operations.
    UploadId
);
define_id!(
    /// A request in words.
    TaskId
);
define_id!(
    /// A yes that is waited for, or was given.
    ApprovalId
);
