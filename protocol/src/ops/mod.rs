//! The operations: one file each. An agent says in `hello` which of them it can do.

mod effect;
mod execute_command;
pub mod explain_operation;

pub use effect::Effect;
pub use execute_command::{
    Command, ExecuteCommand, InvalidCommand, Leftovers, Mode, Network, SpoolFull, Stdin,
};
pub use explain_operation::{ExplainOperation, Findings};

/// The name of an operation on the wire, in the API and in the audit.
pub trait Operation: serde::Serialize + serde::de::DeserializeOwned {
    /// Such as `execute_command`.
    const NAME: &'static str;
}

/// Everything this build knows, for `hello` and for refusing what nobody can do.
pub const NAMES: &[&str] = &[ExecuteCommand::NAME, ExplainOperation::NAME];
