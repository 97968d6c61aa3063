//! Providers of language models: one file per wire behind one small trait, one stream of events for
//! all of them.
//!
//! [`Models::ask`] asks the models of a role in order until one answers. It tries again where that
//! makes sense, waits as long as the provider asks, leaves a provider alone that failed too often,
//! asks a budget before each call, and gives a record of every call. The numbers are in
//! [`Options`]. `docs/models.md` tells people how to set it up.
//!
//! What this crate never does: run anything, know of machines, keep anything on disk, follow a
//! redirect, or show a key anywhere but in a request header.

#![warn(missing_docs)]

mod allowance;
mod ask;
mod body;
mod clock;
mod credential;
mod endpoint;
mod error;
mod event;
#[cfg(feature = "fakes")]
pub mod fakes;
mod faults;
#[cfg(fuzzing)]
pub mod fuzzing;
mod headers;
mod health;
mod models;
mod options;
mod prompt;
mod schema;
mod send;
mod sign_of_life;
mod wires;

pub use allowance::{Allowance, Unlimited};
pub use ask::{Answer, Ask, CallRecord, Urgency};
pub use clock::{Clock, SystemClock};
pub use credential::{Credential, Credentials};
pub use endpoint::{check_settings, token_client};
pub use error::{AskError, ErrorCode, ModelError};
pub use event::{Completed, Event, Stop, TokenUsage};
pub use health::ProviderStatus;
pub use models::Models;
pub use options::Options;
pub use prompt::{Message, Prompt, Schema, Speaker};
pub use schema::{check_value, read_reply};
pub use sign_of_life::Tested;
