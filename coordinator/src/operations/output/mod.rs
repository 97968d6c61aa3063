//! What commands wrote: how it is stored, in which order it becomes durable, and how it is read.
//!
//! Bytes arrive as records in the merged order of both streams. Records that become durable
//! together are one *piece*, one row of `output_pieces`: inline when it is small, else a range of a
//! segment file, written and synced before the row is committed. A hole between two pieces is a
//! gap. Offsets are never renumbered. Whoever follows gets what has just become durable from memory
//! (`recent`).

pub(in crate::operations) mod incoming;
mod reader;
mod recent;
pub mod record;
mod segments;
mod store;
mod writer;

pub use reader::{Part, Reader, StreamChoice};
pub use recent::Recent;
pub use segments::Segments;
pub use store::{find_gaps, list_segments, total_bytes};
pub use writer::{Closing, Command, HealthFlag, Opening, Writer, WriterHealth};
