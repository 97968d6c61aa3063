//! The operations: one file each. An agent says in `hello` which of them it can do.

pub mod copy_stream;
mod effect;
mod execute_command;
pub mod explain_operation;
pub mod file_find;
pub mod file_grep;
mod file_history;
mod file_list;
mod file_mkdir;
mod file_mode;
mod file_move;
mod file_read;
mod file_remove;
mod file_restore;
mod file_stat;
mod file_write;
mod hash;
mod log_read;
pub mod machine_describe;
mod open_terminal;
pub mod open_tunnel;
mod path;
pub mod process_list;
pub mod process_signal;
pub mod service_control;
pub mod service_list;
pub mod service_status;
pub mod system_watch;
mod work;

pub use effect::Effect;
pub use execute_command::{
    Command, ExecuteCommand, InvalidCommand, Leftovers, Mode, Network, SpoolFull, Stdin,
};
pub use explain_operation::{ExplainOperation, Findings};
pub use file_find::FileFind;
pub use file_grep::{FileGrep, GrepBinary, GrepFound, GrepLine, GrepReport, GrepText};
pub use file_history::{FileDeed, FileHistory, FileVersion};
pub use file_list::{
    DEFAULT_LIST_ENTRIES, FileList, FileListLine, FileListMore, MAX_LIST_DEPTH, MAX_LIST_ENTRIES,
};
pub use file_mkdir::FileMkdir;
pub use file_mode::{FileMode, FileModeChanged};
pub use file_move::FileMove;
pub use file_read::{FileIdentity, FileRead};
pub use file_remove::{FileRemove, FileRemoved};
pub use file_restore::FileRestore;
pub use file_stat::{FileEntry, FileKind, FileStat};
pub use file_write::{
    Existing, FileWrite, LinkRule, PARTIAL_PREFIX, WriteAnswer, WriteDeed, WriteDone, WriteReady,
    Written,
};
pub use hash::check_hash;
pub use log_read::{LogRead, LogRecord, TimeFrom};
pub use machine_describe::{
    FileSystem, Interface, LoggedIn, MachineDescribe, MachineDescription, RebootNeed, Route,
    Update, Updates,
};
pub use open_terminal::{
    DEFAULT_IDLE_LIMIT_MS, MAX_IDLE_LIMIT_MS, MAX_TERM_BYTES, MAX_TERMINAL_SIDE, OpenTerminal,
    check_terminal_size,
};
pub use open_tunnel::OpenTunnel;
pub use path::{InvalidPath, MAX_PATH_BYTES, RemotePath};
pub use process_list::{Process, ProcessList, ProcessSort, Processes};
pub use process_signal::{ProcessSignal, ProcessTarget, Signalled, SignalledTarget};
pub use service_control::{ServiceAction, ServiceChange, ServiceControl};
pub use service_list::{Service, ServiceList, Services};
pub use service_status::{ServiceStatus, UnitStatus};
pub use system_watch::{
    CpuShare, DiskActivity, MemoryUse, NetworkActivity, Pressures, SpaceUse, SystemWatch,
    WatchSample,
};
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
            FileFind: "List what there is beneath a path.",
            FileGrep: "Search files for a pattern.",
            FileStat: "Look at what is at a path.",
            ProcessList: "List the processes of a machine.",
            ProcessSignal: "Send a signal to processes, named so that no other is hit.",
            LogRead: "Read or follow logs.",
            OpenTunnel: "Open a connection from the machine.",
            FileList: "List what is in a folder.",
            FileMkdir: "Make a folder.",
            FileMode: "Change permission bits and owners.",
            FileMove: "Give something another name.",
            FileRemove: "Remove a file or folder.",
            FileHistory: "List the versions of a file that were kept before it was changed or removed.",
            FileRestore: "Put back a version of a file.",
            FileRead: "Read a file or a folder.",
            FileWrite: "Write a file or a folder.",
            ServiceList: "List the units that a machine's systemd manages.",
            ServiceStatus: "Look at a unit of systemd.",
            ServiceControl: "Start or stop a unit of systemd, or do something else with it.",
            MachineDescribe: "Describe a machine as it is now.",
            SystemWatch: "Watch how busy a machine is.",
        }
    };
}

macro_rules! names {
    ($($name:ident: $about:literal,)*) => {
        /// Everything this build knows, for `hello` and for refusing what nobody can do.
        pub const NAMES: &[&str] =
            &[
            ExecuteCommand::NAME,
            ExplainOperation::NAME,
            OpenTerminal::NAME,
            $($name::NAME,)*
        ];
    };
}
for_each_work!(names);
