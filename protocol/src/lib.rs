//! What an agent and a coordinator say to each other: types, codec, limits and version. No I/O.
//!
//! Every message is one [`Envelope`] (kind, operation id, operation name) whose body stays opaque
//! bytes until the code that understands it decodes it. Encoding is MessagePack with named fields,
//! so a field can be added without breaking a peer that does not know it.
//! The full description is in `docs/protocol.md`.

mod approval;
mod codec;
pub mod enrol;
mod envelope;
mod facts;
mod frames;
mod handshake;
mod ids;
pub mod limits;
pub mod ops;
pub mod sample;
pub mod token;
mod version;

pub use approval::{approval_message, machine_bytes};
pub use codec::{CodecError, decode, encode, encode_into};
pub use envelope::{Body, Envelope, Kind};
pub use facts::{DiskFact, Facts, InspectFact, NetworkFact};
pub use frames::{
    Accepted, Acknowledge, ApprovalStamp, ClientLog, Containment, Control, Credit, Evidence, Gap,
    Goodbye, GoodbyeReason, Heartbeat, Metrics, OperationReport, OperationResult, Outcome, Output,
    OutputRef, Refusal, Report, ReportedState, Request, SignalName, Stream, Totals, Usage,
};
pub use handshake::{
    Challenge, Hello, Proof, Reject, RejectCode, VersionRange, Welcome, proof_message,
};
pub use ids::{
    ApiKeyId, ApprovalId, CoordinatorId, EnrolmentTokenId, JobId, JournalId, MachineId,
    OperationId, TaskId, UploadId, UserId,
};
pub use sample::Sample;
pub use version::{MINIMUM_VERSION, SUBPROTOCOL, VERSION};
