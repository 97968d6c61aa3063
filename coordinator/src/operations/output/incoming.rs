//! A frame of output held against what has come before it: what of it is new, and whether it may
//! have come at all.

use reeve_link::credit::Window;
use reeve_protocol::{Gap, OutputRef, Stream, Totals, limits};

/// Why a frame is a breach of the protocol.
#[derive(Debug, thiserror::Error)]
pub(in crate::operations) enum Breach {
    #[error(transparent)]
    Frame(#[from] reeve_protocol::CodecError),
    #[error("output at offset {0} where {1} was to come")]
    Hole(u64, u64),
    #[error("output beyond the credit")]
    NoCredit,
    #[error("output whose gap makes no sense")]
    BadGap,
    #[error("a result of {0} bytes of output after {1} have come")]
    Short(u64, u64),
}

/// What of a frame is new.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::operations) enum Fresh {
    /// All of it has come before.
    Nothing,
    /// Its bytes, but for the first ones.
    Bytes {
        /// This many are known.
        known: usize,
    },
    /// What was dropped on the machine.
    Gap(Gap),
}

/// What of `output` is new behind `received`. Does not move anything.
pub(in crate::operations) fn check(
    received: Totals,
    window: &Window,
    output: OutputRef<'_>,
) -> Result<Fresh, Breach> {
    if output.bytes.len() > limits::MAX_DATA_BYTES {
        return Err(Breach::NoCredit);
    }
    if let Some(gap) = output.gap {
        return check_gap(received, output, gap);
    }
    let end = output.all.saturating_add(output.bytes.len() as u64);
    if end <= received.all {
        return Ok(Fresh::Nothing);
    }
    if output.all > received.all {
        return Err(Breach::Hole(output.all, received.all));
    }
    if !window.allows(end) {
        return Err(Breach::NoCredit);
    }
    // Sent again after a reconnect, in other pieces than before.
    let known = usize::try_from(received.all - output.all).unwrap_or(usize::MAX);
    let own = match output.stream {
        Stream::Stdout => received.stdout,
        Stream::Stderr => received.stderr,
    };
    if output.offset.saturating_add(known as u64) != own {
        return Err(Breach::Hole(output.offset, own));
    }
    Ok(Fresh::Bytes { known })
}

fn check_gap(received: Totals, output: OutputRef<'_>, gap: Gap) -> Result<Fresh, Breach> {
    if gap.to <= received.all {
        return Ok(Fresh::Nothing);
    }
    if gap.from > received.all || gap.from != output.all {
        return Err(Breach::Hole(gap.from, received.all));
    }
    let lengths = gap.stdout.checked_add(gap.stderr);
    if gap.from < received.all || lengths != gap.to.checked_sub(gap.from) {
        return Err(Breach::BadGap);
    }
    Ok(Fresh::Gap(gap))
}

/// Moves `at` behind this many bytes of a stream.
pub(in crate::operations) fn advance(at: &mut Totals, stream: Stream, count: u64) {
    at.all += count;
    match stream {
        Stream::Stdout => at.stdout += count,
        Stream::Stderr => at.stderr += count,
    }
}

/// Moves `at` behind a gap.
pub(in crate::operations) fn skip(at: &mut Totals, gap: Gap) {
    at.all = gap.to;
    at.stdout += gap.stdout;
    at.stderr += gap.stderr;
}
