//! What a machine is and does: its processes, signals to them, how busy it is, what it is like.

mod describe;
mod proc;
mod process_list;
mod process_signal;
mod system_watch;
