//! The harness of the end-to-end tests: it starts the real programs on this machine, speaks to them
//! as users, machines and attackers would, kills and cuts, and leaves nothing behind.
//!
//! A story reads like this:
//!
//! ```ignore
//! let cluster = Cluster::start();
//! let web = cluster.agent("web-1").label("role", "web").start();
//! let run = cluster.reeve(["run", "web-1", "--", "echo", "hello"]);
//! run.expect_code(0).expect_stdout("hello\n");
//! ```
//!
//! Nothing here waits for time to pass: [`eventually`] waits for a condition and says what it saw
//! last when the deadline comes first.

mod agent;
mod api;
pub mod binaries;
mod cluster;
mod coordinator;
mod database;
pub mod processes;
pub mod proxy;
mod reeve;
pub mod scripted_agent;
mod wait;

pub use agent::{Agent, AgentBuilder, Containment};
pub use api::{Answer, Api};
pub use cluster::{Cluster, ClusterBuilder};
pub use coordinator::Coordinator;
pub use database::Database;
pub use reeve::{Finished, Running};
pub use wait::{eventually, eventually_some};
