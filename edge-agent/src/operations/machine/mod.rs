//! What a machine is doing: its processes, signals to them.

mod proc;
mod process_list;
mod process_signal;
