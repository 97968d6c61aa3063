//! The operations: one file each. An agent says in `hello` which of them it can do.

mod effect;
mod execute_command;
pub mod explain_operation;
mod file_stat;
mod path;
mod work;

pub use effect::Effect;
pub use execute_command::{
    Command, ExecuteCommand, InvalidCommand, Leftovers, Mode, Network, SpoolFull, Stdin,
};
pub use explain_operation::{ExplainOperation, Findings};
pub use file_stat::{FileEntry, FileKind, FileStat};
pub use path::{InvalidPath, MAX_PATH_BYTES, RemotePath};
pub use work::{AnyWork, Failure, InvalidWork, Work};

/// The name of an operation on the wire, in the API and in the audit.
pub trait Operation: serde::Serialize + serde::de::DeserializeOwned {
    /// Such as `execute_command`.
    const NAME: &'static str;
}

/// Hands the list of everything that workers do to another macro, as type names with what the API
/// says of each: the one place that has to be told of a new one.
#[macro_export]
macro_rules! for_each_work {
    ($then:ident) => {
        $then! {
            FileStat: "Look at what is at a path.",
        }
    };
}

macro_rules! names {
    ($($name:ident: $about:literal,)*) => {
        /// Everything this build knows, for `hello` and for refusing what nobody can do.
        pub const NAMES: &[&str] =
            &[ExecuteCommand::NAME, ExplainOperation::NAME, $($name::NAME,)*];
    };
}
for_each_work!(names);
