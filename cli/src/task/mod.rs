//! A task in the terminal: its plan as it is written, questions for a yes, live output, verdicts,
//! the summary.

mod decide;
mod follow;
mod live;
pub mod text;

pub use decide::decide_all;
pub use follow::{Options, follow};
