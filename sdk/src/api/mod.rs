//! The shapes of the public API: what goes over HTTP as JSON. The coordinator answers with these
//! same types, so client and server cannot drift apart.

mod approvals;
mod auth;
pub mod channel;
pub mod follow;
mod history;
mod jobs;
mod machines;
mod models;
mod sessions;
mod status;
mod subtasks;
mod tasks;
mod time;
mod uploads;
mod users;
mod vault;

pub use approvals::{
    Approval, ApprovalDecision, ApprovalMachine, ApprovalNeeded, ApprovalState, Decide,
    PolicyRuleView, PolicyView, Withdraw,
};
pub use auth::{
    ApiKey, ApiKeyCreated, LoginRequest, LoginResponse, NewApiKey, SetupRequest, Ticket, WhoAmI,
};
pub use history::{History, HistorySeries, Resolution};
pub use jobs::{
    CancelRequest, ExecuteCommandRequest, ExplainOperationRequest, InputAccepted, Job, JobCounts,
    JobPreview, JobRequest, JobState, Operation, OperationRequest, OperationState, OutputInfo,
    Reason, ResizeRequest, Rollout, SignalRequest, Target,
};
pub use machines::{
    EnrolmentToken, EnrolmentTokenCreated, Machine, MachineChange, MachineState, NewEnrolmentToken,
};
pub use models::{
    ModelRole, ModelSettings, ModelTest, ModelTestRequest, Models, Price, Provider,
    ProviderSettings, RateLimitWindow, RoleModels, Usage, UsageRow, Wire,
};
pub use sessions::{SessionViewer, TerminalSession, Typed, TypedPiece};
pub use status::{AuditEntry, AuditVerdict, Info, MachineCounts, Page, Problem, Status};
pub use subtasks::{
    Attempt, Explained, Group, PlannedCommand, Quote, Stall, StallAdvice, Subtask, SubtaskState,
    Verdict, VerdictOutcome,
};
pub use tasks::{
    ApprovalChoice, ModelCall, Summary, Task, TaskAnswer, TaskDecision, TaskEvent, TaskEventKind,
    TaskRequest, TaskState, TaskUsage, Yes,
};
pub use time::Time;
pub use uploads::{JobInput, NewUpload, OutputTo, Upload, UploadState};
pub use users::{NewUser, Role, User, UserChange, UserCreated};
pub use vault::{NewVaultEntry, VaultEntry, VaultPassphrase, VaultSecret, VaultState, VaultStatus};
