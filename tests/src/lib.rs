//! The harness of the end-to-end tests: it starts the real programs on this machine, speaks to them
//! as users, machines and attackers would, kills and cuts, and leaves nothing behind.
//!
//! A story reads like this:
//!
//! ```no_run
//! # use reeve_tests::Cluster;
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
pub mod cgroups;
mod clock;
mod cluster;
mod coordinator;
mod database;
mod disk;
mod gate;
mod injector;
mod network;
mod person;
pub mod processes;
pub mod proxy;
mod reeve;
pub mod scripted_agent;
mod sshd;
pub mod swarm;
pub mod systemd;
mod wait;

pub use agent::{Agent, AgentBuilder, Containment};
pub use api::{Answer, Api};
pub use cgroups::ProcessLimit;
pub use cluster::{Cluster, ClusterBuilder};
pub use coordinator::Coordinator;
pub use database::{Database, Lock};
pub use disk::SmallDisk;
pub use gate::Gate;
pub use injector::{Injected, Injector, SyscallFault};
pub use network::Network;
pub use person::Person;
pub use reeve::{Finished, Running};
pub use sshd::Sshd;
pub use wait::{eventually, eventually_some};

/// Tells each story twice: once with SQLite, once with PostgreSQL. The story gets the builder.
#[macro_export]
macro_rules! on_each_database {
    ($($(#[$attribute:meta])* fn $name:ident($builder:ident) $body:block)*) => { $(
        $(#[$attribute])*
        mod $name {
            #[allow(unused_imports)]
            use super::*;
            fn story($builder: $crate::ClusterBuilder) $body
            #[test]
            fn on_sqlite() {
                story($crate::Cluster::builder().database($crate::Database::Sqlite));
            }
            #[test]
            fn on_postgres() {
                story($crate::Cluster::builder().database($crate::Database::Postgres));
            }
        }
    )* };
}

/// Tells each story twice: once where commands have a cgroup of their own, once where the agent
/// has to do without. The story gets the containment.
#[macro_export]
macro_rules! on_each_containment {
    ($($(#[$attribute:meta])* fn $name:ident($containment:ident) $body:block)*) => { $(
        $(#[$attribute])*
        mod $name {
            #[allow(unused_imports)]
            use super::*;
            fn story($containment: $crate::Containment) $body
            #[test]
            fn on_cgroup_v2() {
                $crate::require_root("cgroups can be made by root or in a delegated subtree only");
                story($crate::Containment::CgroupV2);
            }
            #[test]
            fn on_fallback() {
                story($crate::Containment::Fallback);
            }
        }
    )* };
}

/// Fails, with the remedy, where a story needs root and has not got it.
///
/// # Panics
/// When this is not root.
pub fn require_root(why: &str) {
    assert!(
        nix::unistd::geteuid().is_root(),
        "this story needs root ({why}). Run `sudo -E make test`, or in a container."
    );
}
