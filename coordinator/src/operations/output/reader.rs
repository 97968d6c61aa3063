//! Reading output back: by range, in either order, with its gaps.

use bytes::Bytes;
use reeve_protocol::{Gap, OperationId, Stream, Totals};

use super::recent::Recent;
use super::record::{self, Damaged};
use super::segments::Segments;
use super::store::{self, Order, Piece, PieceBody, gap_between};
use crate::db::{Db, DbError};

/// Which bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamChoice {
    /// Both streams, merged.
    All,
    /// One stream.
    Only(Stream),
}

/// A part of the output, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// Bytes of one stream.
    Bytes {
        /// Whose.
        stream: Stream,
        /// Offset in the merged order.
        all: u64,
        /// Offset in its own stream.
        offset: u64,
        /// The bytes.
        bytes: Bytes,
    },
    /// Something that is not kept.
    Gap(Gap),
}

/// Why output cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The database does not answer.
    #[error(transparent)]
    Database(#[from] DbError),
    /// The disk does not give it.
    #[error("a segment of output could not be read")]
    Disk(#[from] std::io::Error),
    /// It is not what was written.
    #[error(transparent)]
    Damaged(#[from] Damaged),
}

/// Reads one operation's output from an offset on. Holds at most one piece in memory.
pub struct Reader {
    db: Db,
    segments: Segments,
    recent: Recent,
    operation: OperationId,
    choice: StreamChoice,
    /// The first offset wanted, in the chosen order.
    from: u64,
    /// Behind everything looked at so far.
    reached: Totals,
    /// Whether `reached` says anything yet, so that a hole before the next piece is a gap.
    started: bool,
    /// The rest of the piece that is being read.
    piece: Bytes,
    /// It has never left memory.
    is_fresh: bool,
    /// When that became durable.
    piece_at_us: Option<i64>,
}

impl Reader {
    /// A reader that starts at an offset of the chosen order.
    #[must_use]
    pub fn new(
        db: Db,
        segments: Segments,
        recent: Recent,
        operation: OperationId,
        choice: StreamChoice,
        from: u64,
    ) -> Self {
        let started = from == 0;
        Self {
            db,
            segments,
            recent,
            operation,
            choice,
            from,
            reached: Totals::default(),
            started,
            piece: Bytes::new(),
            is_fresh: false,
            piece_at_us: None,
        }
    }

    /// The next parts, about `budget` bytes of them; none when nothing more is durable up to
    /// `durable`.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn next(&mut self, durable: Totals, budget: usize) -> Result<Vec<Part>, ReadError> {
        let mut parts = Vec::new();
        let mut taken = 0;
        while taken < budget {
            if self.piece.is_empty() && !self.open_next(durable, &mut parts).await? {
                break;
            }
            while taken < budget
                && let Some(part) = self.take_record()?
            {
                if let Part::Bytes { bytes, .. } = &part {
                    taken += bytes.len();
                }
                parts.push(part);
            }
        }
        Ok(parts)
    }

    /// Goes on to the next piece. `false` when there is none.
    async fn open_next(
        &mut self,
        durable: Totals,
        parts: &mut Vec<Part>,
    ) -> Result<bool, ReadError> {
        if self.started && self.reached.all >= durable.all {
            return Ok(false);
        }
        if self.started
            && let Some(fresh) = self.recent.find(self.operation, self.reached.all)
        {
            self.reached = fresh.from;
            self.piece_at_us = Some(fresh.at_us);
            self.piece = fresh.records;
            self.is_fresh = true;
            return Ok(true);
        }
        // A viewer that goes on in the merged order has to hear of a gap it stands before or in.
        if !self.started && self.choice == StreamChoice::All {
            let mut conn = self.db.reader().await?;
            self.reached = store::find_end_before(&mut conn, self.operation, self.from).await?;
            self.started = true;
            if self.from >= durable.all {
                self.reached = durable;
            }
        }
        // Before the first piece only `from` says where to look; afterwards the merged offset does,
        // whatever the order, so that no piece of the other stream alone is looked at twice.
        let (order, from) = match self.choice {
            _ if self.started => (Order::All, self.reached.all),
            StreamChoice::All => (Order::All, self.from),
            StreamChoice::Only(Stream::Stdout) => (Order::Stdout, self.from),
            StreamChoice::Only(Stream::Stderr) => (Order::Stderr, self.from),
        };
        let found = {
            let mut conn = self.db.reader().await?;
            store::list_from(&mut conn, self.operation, order, from, 1).await?.into_iter().next()
        };
        let Some(piece) = found else {
            // Dropped at the end: a gap up to what is durable, if that is known to be all.
            if self.started {
                parts.extend(self.gap_to(durable));
                self.reached = durable;
            }
            return Ok(false);
        };
        if self.started {
            parts.extend(self.gap_to(piece.from));
        }
        self.started = true;
        self.reached = piece.from;
        self.piece_at_us = piece.at_us;
        self.piece = self.load(piece).await?;
        self.is_fresh = false;
        Ok(true)
    }

    /// When the bytes handed out last became durable, microseconds since 1970.
    #[must_use]
    pub fn piece_time(&self) -> Option<i64> {
        self.piece_at_us
    }

    /// What is missing from here on, unless the viewer knows that already.
    fn gap_to(&self, to: Totals) -> Option<Part> {
        let known = self.choice == StreamChoice::All && to.all <= self.from;
        gap_between(self.reached, to).filter(|_| !known).map(Part::Gap)
    }

    async fn load(&self, piece: Piece) -> Result<Bytes, ReadError> {
        match piece.body {
            PieceBody::Inline(bytes) => Ok(bytes.into()),
            PieceBody::Placed(place) => {
                let segments = self.segments.clone();
                let length = usize::try_from(piece.length).map_err(|_| Damaged)?;
                let read = tokio::task::spawn_blocking(move || segments.read(place, length));
                Ok(read.await.map_err(std::io::Error::other)??.into())
            }
        }
    }

    /// The next record that is wanted, cut to what is wanted of it.
    fn take_record(&mut self) -> Result<Option<Part>, ReadError> {
        loop {
            let whole = self.piece.clone();
            let mut rest: &[u8] = &whole;
            let found = if self.is_fresh {
                record::take_unchecked(&mut rest)?.map(|(record, _)| record)
            } else {
                record::take(&mut rest)?
            };
            let Some(found) = found else { return Ok(None) };
            let bytes = whole.slice_ref(found.bytes);
            self.piece = whole.slice_ref(rest);
            let at = self.reached;
            let length = bytes.len() as u64;
            self.reached.all += length;
            let own = match found.stream {
                Stream::Stdout => {
                    self.reached.stdout += length;
                    at.stdout
                }
                Stream::Stderr => {
                    self.reached.stderr += length;
                    at.stderr
                }
            };
            let position = match self.choice {
                StreamChoice::All => at.all,
                StreamChoice::Only(stream) if stream == found.stream => own,
                StreamChoice::Only(_) => continue,
            };
            let skip = self.from.saturating_sub(position).min(length);
            if skip == length {
                continue;
            }
            return Ok(Some(Part::Bytes {
                stream: found.stream,
                all: at.all + skip,
                offset: own + skip,
                bytes: bytes.slice(usize::try_from(skip).map_err(|_| Damaged)?..),
            }));
        }
    }
}
