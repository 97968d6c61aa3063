//! Tasks: requests in words, what happens to them, and what people say to them.

use reeve_protocol::{ApprovalId, JobId, TaskId};
use serde::{Deserialize, Serialize};

use super::{Quote, Reason, Stall, Subtask, Time};

/// What somebody wants, in words.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct TaskRequest {
    /// The words; at most 16 KiB.
    pub prompt: String,
    /// The machines it may touch. Left out: those the words name, by name or label; never more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<String>,
    /// As whom commands run; left out: the agent's own user. The plan cannot choose another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Stop when the plan is there.
    #[serde(default)]
    pub plan_only: bool,
    /// What the asker says yes to in advance. Policy may still ask for more.
    #[serde(default)]
    pub yes: Yes,
    /// Plan with this `provider/model` instead of what the role planner has; `builtin` for runbooks only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Most that models may cost, in the currency of the price table; left out: the setting's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<f64>,
}

/// How far somebody says yes in advance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Yes {
    /// To what cannot change anything, run in inspect mode.
    #[default]
    Read,
    /// Also to changes.
    Change,
    /// Also to what destroys.
    All,
}

/// Where a task stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum TaskState {
    /// Recorded.
    Pending,
    /// A plan is being made.
    Planning,
    /// Nothing can go on without a yes.
    AwaitingApproval,
    /// Steps run, or are judged.
    Running,
    /// Every step met what was expected, and there is a summary. With `plan_only`: the plan is there.
    Completed,
    /// It ended otherwise; `reason` says why.
    Failed,
    /// Somebody cancelled or rejected it.
    Cancelled,
    /// It cannot go on without something from a person; `reason` says what. It can be answered
    /// (see `question`), or asked anew when the cause is gone.
    NeedsAnswer,
}

impl TaskState {
    /// Whether nothing more will happen.
    #[must_use]
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled)
    }

    /// The word in API and database.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Planning => "planning",
            Self::AwaitingApproval => "awaiting_approval",
            Self::Running => "running",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::NeedsAnswer => "needs_answer",
        }
    }
}

/// A request in words and what became of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Task {
    /// Its id.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = "uuid"))]
    pub id: TaskId,
    /// As asked.
    pub prompt: String,
    /// As asked.
    pub selector: Option<String>,
    /// As asked.
    pub user: Option<String>,
    /// As asked.
    pub yes: Yes,
    /// As asked.
    pub plan_only: bool,
    /// Where it stands.
    pub state: TaskState,
    /// Why, when it failed or needs an answer: `no_machine`, `prompt_empty`, `prompt_too_long`,
    /// `unknown_intent`, `model_unreachable`, `model_key`, `vault_sealed`, `budget_reached`,
    /// `plan_refused`, `plan_unknown_machine`, `plan_invalid`, `approval_rejected`,
    /// `approval_expired`, `step_failed`, `time_limit`, …
    pub reason: Option<Reason>,
    /// What it asks, in `needs_answer`.
    pub question: Option<String>,
    /// Who asked.
    pub created_by: String,
    /// When.
    pub created: Time,
    /// When it ended.
    pub finished: Option<Time>,
    /// Names of the machines it may touch, resolved once.
    pub machines: Vec<String>,
    /// Who planned: `builtin`, or `provider/model`.
    pub planner: Option<String>,
    /// What the plan is to do, in a sentence.
    pub plan_summary: Option<String>,
    /// The steps, in the order they were planned.
    pub subtasks: Vec<Subtask>,
    /// At the end.
    pub summary: Option<Summary>,
    /// What models used for it.
    pub usage: TaskUsage,
    /// The sequence number of its newest event.
    pub last_event: u64,
}

/// What it came to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Summary {
    /// For people; `[1]` refers to the first quote.
    pub text: String,
    /// Output it rests on, each verified.
    pub quotes: Vec<Quote>,
    /// `rules`, or `provider/model`.
    pub by: String,
}

/// What models used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct TaskUsage {
    /// Calls made, failed ones included.
    pub calls: u32,
    /// Tokens read, cached ones included.
    pub input_tokens: u64,
    /// Tokens written.
    pub output_tokens: u64,
    /// In the currency of the price table.
    pub cost: f64,
}

/// Something that happened to a task. `GET /api/tasks/{id}/events` sends them as SSE with
/// `id: sequence`, `event: kind`; `/ws/frontend` as `task_status_update`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TaskEvent {
    /// Whose.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = "uuid"))]
    pub task_id: TaskId,
    /// Counts from 1 within the task. 0: not kept (`plan_delta`).
    pub sequence: u64,
    /// When.
    pub at: Time,
    /// What.
    #[serde(flatten)]
    pub what: TaskEventKind,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(tag = "kind", content = "data", rename_all = "snake_case")]
pub enum TaskEventKind {
    /// Another state.
    State {
        /// Which.
        state: TaskState,
        /// Why.
        reason: Option<Reason>,
    },
    /// The plan as it is being written: a piece of text to show behind the last. Not kept.
    PlanDelta {
        /// The piece.
        text: String,
    },
    /// The plan is there.
    Plan {
        /// In a sentence.
        summary: String,
        /// Who planned.
        planner: String,
        /// The steps.
        subtasks: Vec<Subtask>,
    },
    /// A step is another; this is how it is now.
    Subtask(Box<Subtask>),
    /// A job was started for a step: follow it for its output.
    Job {
        /// Which step.
        subtask: u32,
        /// Which try.
        attempt: u32,
        /// Which job.
        #[cfg_attr(feature = "openapi", schema(value_type = String, format = "uuid"))]
        job: JobId,
    },
    /// A yes is needed.
    Approval(Box<super::Approval>),
    /// A command hangs.
    Stall(Box<Stall>),
    /// The end.
    Summary(Box<Summary>),
    /// Something worth knowing: another model was taken, the budget is half used, …
    Note {
        /// Stable, for programs.
        code: String,
        /// For people.
        message: String,
    },
}

/// Say yes or no to what a task waits for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct TaskDecision {
    /// The approvals meant, each with the hash that was shown; empty is refused.
    #[serde(default)]
    pub approvals: Vec<ApprovalChoice>,
    /// The password, where the policy wants it again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
    /// For the record.
    #[serde(default)]
    pub reason: String,
}

/// An approval and what was seen of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ApprovalChoice {
    /// Which.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = "uuid"))]
    pub id: ApprovalId,
    /// Its digest as shown.
    pub digest: String,
}

/// Answer a task that needs one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct TaskAnswer {
    /// In words. Added to the request; a new plan is made.
    pub answer: String,
}

/// One call of a model for a task, as recorded: with it the stage can be done again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ModelCall {
    /// Which call of its task, such as `plan-0-1` or `validate-2-1-0-1`.
    pub name: String,
    /// `plan`, `validate`, `alternative`, `stall`, `summary`.
    pub stage: String,
    /// Which role was asked: `planner`, `validator`, `analyst`, `summariser`.
    pub role: String,
    /// When.
    pub at: Time,
    /// `provider/model`.
    pub model: String,
    /// SHA-256 of the request, hexadecimal.
    pub prompt_sha256: String,
    /// System text, messages and schema. What machines wrote was redacted there.
    #[cfg_attr(feature = "openapi", schema(value_type = Object))]
    pub request: serde_json::Value,
    /// What came back.
    pub response: Option<String>,
    /// `ok`, or the code of what went wrong.
    pub outcome: String,
    /// Tokens read, cached ones included.
    pub input_tokens: u64,
    /// Of these, from the provider's cache.
    pub cached_tokens: u64,
    /// Tokens written.
    pub output_tokens: u64,
    /// In the currency of the price table.
    pub cost: f64,
    /// Milliseconds.
    pub latency_ms: u64,
}
