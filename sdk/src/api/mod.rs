//! The shapes of the public API: what goes over HTTP as JSON. The coordinator answers with these
//! same types, so client and server cannot drift apart.

mod auth;
pub mod follow;
mod jobs;
mod machines;
mod status;
mod time;
mod users;

pub use auth::{
    ApiKey, ApiKeyCreated, LoginRequest, LoginResponse, NewApiKey, SetupRequest, Ticket, WhoAmI,
};
pub use jobs::{
    CancelRequest, ExecuteCommandRequest, InputAccepted, Job, JobCounts, JobPreview, JobRequest,
    JobState, Operation, OperationRequest, OperationState, OutputInfo, Reason, Rollout,
    SignalRequest, Target,
};
pub use machines::{
    EnrolmentToken, EnrolmentTokenCreated, Machine, MachineChange, MachineState, NewEnrolmentToken,
};
pub use status::{AuditEntry, AuditVerdict, Info, MachineCounts, Page, Problem, Status};
pub use time::Time;
pub use users::{NewUser, Role, User, UserChange, UserCreated};
