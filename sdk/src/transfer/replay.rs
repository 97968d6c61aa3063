//! The stream of something here, made again whenever it is needed instead of being kept: the same
//! source makes the same bytes.

use std::future::Future;
use std::io::{self, SeekFrom, Write};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncSeek, ReadBuf};
use tokio::task::JoinHandle;

use super::local_source::{self, Plan};
use super::pipes::{self, PipeWriter, UpReader};
use super::{Progress, TransferError, Unwatched};

/// What makes a stream.
#[derive(Clone, Debug)]
pub struct Recipe {
    pub path: PathBuf,
    pub recursive: bool,
    pub compress: bool,
    /// Entries alone, for a dry run.
    pub listing: bool,
}

/// What a stream is, without its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Measure {
    pub length: u64,
    /// BLAKE3, hexadecimal.
    pub hash: String,
}

impl Recipe {
    /// Makes the stream. Blocks.
    fn write(&self, to: impl Write, progress: &dyn Progress) -> Result<(), TransferError> {
        let plan = Plan {
            from: 0,
            after: None,
            compress: self.compress,
            listing: self.listing,
            live: false,
            progress,
        };
        if self.recursive {
            return local_source::send_tree(&self.path, to, &plan).map(drop);
        }
        let (file, about) = local_source::open_file(&self.path)?;
        progress.total(about.len());
        let hasher = blake3::Hasher::new();
        local_source::send_file(&self.path, &file, &about, hasher, to, &plan).map(drop)
    }

    /// Makes the stream only to see what it is.
    pub async fn measure(&self, progress: Arc<dyn Progress>) -> Result<Measure, TransferError> {
        let recipe = self.clone();
        // Gone when nobody waits any more, and then the thread ends, too.
        let waiting = Arc::new(());
        let is_waited_for = Arc::downgrade(&waiting);
        let measured = tokio::task::spawn_blocking(move || {
            let mut gauge = Gauge { length: 0, hasher: blake3::Hasher::new(), is_waited_for };
            recipe.write(&mut gauge, &*progress)?;
            let hash = gauge.hasher.finalize().to_hex().to_string();
            Ok(Measure { length: gauge.length, hash })
        });
        let measured = measured.await.map_err(thread_failed)?;
        drop(waiting);
        measured
    }
}

fn thread_failed(error: tokio::task::JoinError) -> TransferError {
    TransferError::Refused(format!("reading what is to be sent failed: {error}"))
}

/// Counts and hashes.
struct Gauge {
    length: u64,
    hasher: blake3::Hasher,
    is_waited_for: Weak<()>,
}

impl Write for Gauge {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.is_waited_for.strong_count() == 0 {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        self.length += bytes.len() as u64;
        self.hasher.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Leaves out the beginning.
struct Behind {
    skip: u64,
    to: PipeWriter,
}

impl Write for Behind {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let skip = usize::try_from(self.skip).unwrap_or(usize::MAX).min(bytes.len());
        self.skip -= skip as u64;
        match bytes.get(skip..) {
            // Also while nothing is passed on it is noticed that nobody listens any more.
            None | Some([]) if self.to.is_closed() => Err(io::ErrorKind::BrokenPipe.into()),
            None | Some([]) => Ok(bytes.len()),
            Some(rest) => self.to.write_all(rest).map(|()| bytes.len()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

/// Reads a stream as if it were a file.
pub struct Replay {
    recipe: Recipe,
    from: UpReader,
    making: Option<JoinHandle<Result<(), TransferError>>>,
}

impl Replay {
    /// From its start.
    pub fn new(recipe: Recipe) -> Self {
        let (from, making) = make(&recipe, 0);
        Self { recipe, from, making }
    }
}

fn make(recipe: &Recipe, skip: u64) -> (UpReader, Option<JoinHandle<Result<(), TransferError>>>) {
    let (to, from) = pipes::up();
    let recipe = recipe.clone();
    let making = tokio::task::spawn_blocking(move || recipe.write(Behind { skip, to }, &Unwatched));
    (from, Some(making))
}

impl AsyncRead for Replay {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        ready!(Pin::new(&mut self.from).poll_read(context, into))?;
        if into.filled().len() > before || into.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        // The end, unless it could not be read any further.
        let Some(making) = &mut self.making else { return Poll::Ready(Ok(())) };
        let made = ready!(Pin::new(making).poll(context));
        self.making = None;
        Poll::Ready(made.map_err(thread_failed).and_then(|made| made).map_err(io::Error::other))
    }
}

impl AsyncSeek for Replay {
    fn start_seek(mut self: Pin<&mut Self>, position: SeekFrom) -> io::Result<()> {
        let SeekFrom::Start(skip) = position else {
            return Err(io::ErrorKind::Unsupported.into());
        };
        // The former pipe goes, so its thread ends.
        let (from, making) = make(&self.recipe, skip);
        (self.from, self.making) = (from, making);
        Ok(())
    }

    /// Ready when what lies before was made and left out: no request is open meanwhile.
    fn poll_complete(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<u64>> {
        self.from.poll_ready(context).map(|()| Ok(0))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncSeekExt};

    use super::*;

    async fn read(replay: &mut Replay, at: u64) -> Vec<u8> {
        replay.seek(SeekFrom::Start(at)).await.expect("a place");
        let mut bytes = Vec::new();
        replay.read_to_end(&mut bytes).await.expect("a stream");
        bytes
    }

    #[tokio::test]
    async fn the_same_source_makes_the_same_stream_from_wherever_it_is_read() {
        let folder = std::env::temp_dir().join(format!("reeve-replay-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir(&folder).expect("a folder");
        let mut content: Vec<u8> = (0..700_000_u32).flat_map(u32::to_le_bytes).collect();
        content.extend(vec![0; 1_000_000]);
        std::fs::write(folder.join("a"), &content).expect("a file");
        std::fs::write(folder.join("b"), b"b").expect("a file");
        for (path, recursive, compress) in
            [(folder.join("a"), false, false), (folder.clone(), true, true)]
        {
            let recipe = Recipe { path, recursive, compress, listing: false };
            let measure = recipe.measure(Arc::new(Unwatched)).await.expect("measured");
            let mut replay = Replay::new(recipe.clone());
            let whole = read(&mut replay, 0).await;
            assert_eq!(whole.len() as u64, measure.length);
            assert_eq!(blake3::hash(&whole).to_hex().as_str(), measure.hash);
            for at in [1, 5, 1_000_000, whole.len() - 1, whole.len()] {
                let rest = read(&mut replay, at as u64).await;
                assert!(rest == whole[at..], "from {at}: {} bytes", rest.len());
            }
            std::fs::write(folder.join("a"), &content[1..]).expect("a file");
            assert_ne!(recipe.measure(Arc::new(Unwatched)).await.expect("measured"), measure);
            std::fs::write(folder.join("a"), &content).expect("a file");
        }
        std::fs::remove_dir_all(&folder).expect("removed");
        let recipe =
            Recipe { path: folder.join("a"), recursive: false, compress: false, listing: false };
        let error = Replay::new(recipe).read_u8().await.expect_err("it is gone");
        assert!(error.get_ref().is_some_and(|inner| inner.is::<TransferError>()), "{error:?}");
    }
}
