//! Reeve's public API: its shapes ([`api`]) and, with the `client` feature, a typed async client.
//!
//! ```no_run
//! # async fn example() -> Result<(), reeve_sdk::Error> {
//! use reeve_sdk::{Client, Event};
//!
//! let client = Client::builder("https://reeve.example:7717").token("rv_key_…").build()?;
//! let mut follow = client.run(&reeve_sdk::command("web-1", ["df", "-h"]))?;
//! while let Some(event) = follow.next().await? {
//!     if let Event::Output(output) = event {
//!         println!("{}", String::from_utf8_lossy(&output.bytes));
//!     }
//! }
//! # Ok(())
//! # }
//! ```

pub mod api;

#[cfg(feature = "client")]
mod channel;
#[cfg(feature = "client")]
mod client;
#[cfg(feature = "client")]
mod error;
#[cfg(feature = "client")]
mod follow;
#[cfg(feature = "client")]
mod frames;
#[cfg(all(fuzzing, feature = "client"))]
pub mod fuzzing;
#[cfg(feature = "client")]
mod input;
#[cfg(feature = "client")]
mod logs;
#[cfg(feature = "client")]
mod output;
#[cfg(feature = "client")]
mod retry;
#[cfg(feature = "client")]
mod task_events;
#[cfg(feature = "client")]
mod tls;
#[cfg(feature = "client")]
pub mod transfer;
#[cfg(feature = "client")]
mod tunnel;

#[cfg(feature = "client")]
pub use channel::{Channel, ChannelEvent, ChannelFrom, ChannelInput, ChannelMode};
#[cfg(feature = "client")]
pub use client::{Answered, Builder, Client, Paging, RecordingStream, command};
#[cfg(feature = "client")]
pub use error::Error;
#[cfg(feature = "client")]
pub use follow::{Event, Follow, Output};
#[cfg(feature = "client")]
pub use input::InputSummary;
#[cfg(feature = "client")]
pub use logs::{LogEntry, LogEvent, LogFollow};
#[cfg(feature = "client")]
pub use output::{OutputStream, Which};
#[cfg(feature = "client")]
pub use reeve_protocol::token::Pin;
#[cfg(feature = "client")]
pub use retry::RetryLimits;
#[cfg(feature = "client")]
pub use task_events::TaskEvents;
#[cfg(feature = "client")]
pub use tls::{Presented, probe};
#[cfg(feature = "client")]
pub use tunnel::TunnelError;
