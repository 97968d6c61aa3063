//! A TCP proxy that does on purpose what networks do by accident. Counters say how many bytes went
//! through, so that a story can show that the cut happened in the middle and not before or after.

mod frames;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use frames::{Frames, Twice};

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From whoever dialled to the target.
    Up,
    /// Back.
    Down,
}

/// What happens at the byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Both ends get a reset: the connection is gone and both know.
    Reset,
    /// Both ends see an orderly end of stream.
    Close,
    /// Only this direction ends; the other goes on.
    HalfClose,
    /// Nothing passes any more in either direction, and nobody is told. Later connections pass.
    BlackHole,
}

/// Where a fault waits, counted over all connections in its direction.
#[derive(Clone, Copy, Debug)]
enum At {
    /// Bytes before it pass, this one does not.
    Byte(u64),
    /// So many whole WebSocket frames pass, and nothing behind them.
    Frame(u64),
}

/// A fault that waits for its place.
#[derive(Clone, Copy, Debug)]
struct Trap {
    direction: Direction,
    at: At,
    fault: Fault,
}

/// What can be changed while connections live.
#[derive(Clone, Debug, Default)]
struct Weather {
    /// By direction.
    frozen: [bool; 2],
    refusing: bool,
    delay: Duration,
    bytes_per_second: Option<u64>,
    /// By direction: every so many whole WebSocket frames, one comes twice.
    twice: [Option<u64>; 2],
}

#[derive(Default)]
struct Counters {
    /// By direction.
    bytes: [AtomicU64; 2],
    /// By direction; whole WebSocket frames on connections that are not encrypted.
    frames: [AtomicU64; 2],
    connections: AtomicU64,
    faults: AtomicU64,
    held: AtomicU64,
    /// By direction.
    doubled: [AtomicU64; 2],
}

struct Shared {
    target: SocketAddr,
    counters: Counters,
    /// Bytes are counted and traps checked under this lock, so a trap catches exactly its byte.
    traps: Mutex<Vec<Trap>>,
    weather: watch::Sender<Weather>,
    /// By the number of the connection.
    live: Mutex<HashMap<u64, CancellationToken>>,
}

/// A running proxy; it ends, with its connections, when dropped.
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    /// Dropped last; ends every task.
    _runtime: Runtime,
}

impl Proxy {
    /// Listens on a free port of the loopback and passes everything to `target`.
    ///
    /// # Panics
    /// When no port can be had or `target` is no address.
    #[must_use]
    pub fn to(target: &str) -> Self {
        Self::listen("127.0.0.1:0", target)
    }

    /// The same on a given address.
    ///
    /// # Panics
    /// When the address cannot be had or `target` is no address.
    #[must_use]
    pub fn listen(address: &str, target: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("a runtime");
        let listener = runtime
            .block_on(TcpListener::bind(address))
            .unwrap_or_else(|error| panic!("cannot listen on {address}: {error}"));
        let shared = Arc::new(Shared {
            target: target.parse().expect("an address with a port"),
            counters: Counters::default(),
            traps: Mutex::default(),
            weather: watch::Sender::new(Weather::default()),
            live: Mutex::default(),
        });
        let address = listener.local_addr().expect("a bound address");
        runtime.spawn(accept(listener, shared.clone()));
        Self { address, shared, _runtime: runtime }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its address as a coordinator's.
    #[must_use]
    pub fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// Bytes that have passed in a direction, over all connections.
    #[must_use]
    pub fn passed(&self, direction: Direction) -> u64 {
        self.shared.counters.bytes[direction as usize].load(Ordering::SeqCst)
    }

    /// Whole WebSocket frames that have passed in a direction, over all connections that are not
    /// encrypted.
    #[must_use]
    pub fn passed_frames(&self, direction: Direction) -> u64 {
        self.shared.counters.frames[direction as usize].load(Ordering::SeqCst)
    }

    /// Connections so far.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.shared.counters.connections.load(Ordering::SeqCst)
    }

    /// Faults that have happened.
    #[must_use]
    pub fn faults(&self) -> u64 {
        self.shared.counters.faults.load(Ordering::SeqCst)
    }

    /// Pieces that a freeze has held back.
    #[must_use]
    pub fn held(&self) -> u64 {
        self.shared.counters.held.load(Ordering::SeqCst)
    }

    /// Lets `bytes` more pass in a direction, then does `fault` before the next one.
    pub fn after(&self, direction: Direction, bytes: u64, fault: Fault) {
        let mut traps = lock(&self.shared.traps);
        let at = At::Byte(self.passed(direction) + bytes);
        traps.push(Trap { direction, at, fault });
    }

    /// Lets `frames` more whole WebSocket frames pass in a direction, at least one, then does `fault`.
    /// Frames are seen on plain connections only.
    pub fn after_frames(&self, direction: Direction, frames: u64, fault: Fault) {
        let mut traps = lock(&self.shared.traps);
        let at = At::Frame(self.passed_frames(direction) + frames.max(1));
        traps.push(Trap { direction, at, fault });
    }

    /// Sends every so many whole WebSocket frames of a connection, one twice:
    /// a transport may not do that, a peer or a proxy that goes mad may. Frames are seen on plain
    /// connections only.
    pub fn double(&self, direction: Direction, every: Option<u64>) {
        self.shared.weather.send_modify(|weather| weather.twice[direction as usize] = every);
    }

    /// Frames that were sent twice in a direction.
    #[must_use]
    pub fn doubled(&self, direction: Direction) -> u64 {
        self.shared.counters.doubled[direction as usize].load(Ordering::SeqCst)
    }

    /// Resets every connection now. New ones pass.
    pub fn cut(&self) {
        for (_, connection) in lock(&self.shared.live).drain() {
            connection.cancel();
            self.shared.counters.faults.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Holds everything back, until [`Proxy::thaw`].
    pub fn freeze(&self) {
        self.shared.weather.send_modify(|weather| weather.frozen = [true; 2]);
    }

    /// Holds back what goes in one direction, until [`Proxy::thaw`].
    pub fn hold(&self, direction: Direction) {
        self.shared.weather.send_modify(|weather| weather.frozen[direction as usize] = true);
    }

    /// Ends a freeze.
    pub fn thaw(&self) {
        self.shared.weather.send_modify(|weather| weather.frozen = [false; 2]);
    }

    /// Good weather again: no trap waits any more, nothing is held, slowed or turned away. What a
    /// black hole has swallowed stays swallowed; [`Proxy::cut`] ends such connections.
    pub fn calm(&self) {
        lock(&self.shared.traps).clear();
        self.shared.weather.send_modify(|weather| *weather = Weather::default());
    }

    /// Whether new connections are turned away.
    pub fn refuse(&self, refusing: bool) {
        self.shared.weather.send_modify(|weather| weather.refusing = refusing);
    }

    /// Holds each piece back for so long.
    pub fn delay(&self, by: Duration) {
        self.shared.weather.send_modify(|weather| weather.delay = by);
    }

    /// Lets so many bytes per second pass in each direction of each connection.
    pub fn throttle(&self, bytes_per_second: Option<u64>) {
        self.shared.weather.send_modify(|weather| weather.bytes_per_second = bytes_per_second);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.refuse(true);
        self.cut();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((near, _)) = listener.accept().await {
        if shared.weather.borrow().refusing {
            let _gone = near.set_zero_linger();
            continue;
        }
        let number = shared.counters.connections.fetch_add(1, Ordering::SeqCst);
        let shared = shared.clone();
        tokio::spawn(async move {
            connect(near, number, &shared).await;
            lock(&shared.live).remove(&number);
        });
    }
}

async fn connect(near: TcpStream, number: u64, shared: &Arc<Shared>) {
    let Ok(far) = TcpStream::connect(shared.target).await else {
        let _gone = near.set_zero_linger();
        return;
    };
    // Small pieces must not wait for each other: the proxy is not there to add delays by itself.
    let _best_effort = (near.set_nodelay(true), far.set_nodelay(true));
    let cut = CancellationToken::new();
    lock(&shared.live).insert(number, cut.clone());
    let (near_read, near_write) = near.into_split();
    let (far_read, far_write) = far.into_split();
    let up = tokio::spawn(pump(near_read, far_write, Direction::Up, shared.clone(), cut.clone()));
    let down = pump(far_read, near_write, Direction::Down, shared.clone(), cut.clone()).await;
    let Ok(up) = up.await else { return };
    if cut.is_cancelled() {
        // What is dropped with a zero linger time is reset, not closed (socket(7), SO_LINGER).
        for (read, write) in [(up.0, down.1), (down.0, up.1)] {
            if let Ok(stream) = read.reunite(write) {
                let _gone = stream.set_zero_linger();
            }
        }
    }
}

async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    direction: Direction,
    shared: Arc<Shared>,
    cut: CancellationToken,
) -> (OwnedReadHalf, OwnedWriteHalf) {
    let work = async {
        let mut buffer = vec![0; 64 * 1024];
        let mut weather = shared.weather.subscribe();
        let mut frames = Frames::new(direction);
        let mut twice = Twice::default();
        loop {
            let read = match from.read(&mut buffer).await {
                Ok(0) | Err(_) => break,
                Ok(read) => read,
            };
            if weather.borrow().frozen[direction as usize] {
                shared.counters.held.fetch_add(1, Ordering::SeqCst);
            }
            let Ok(now) = weather
                .wait_for(|weather| !weather.frozen[direction as usize])
                .await
                .map(|w| w.clone())
            else {
                break;
            };
            if !now.delay.is_zero() {
                tokio::time::sleep(now.delay).await;
            }
            if let Some(rate) = now.bytes_per_second {
                tokio::time::sleep(Duration::from_secs_f64(read as f64 / rate.max(1) as f64)).await;
            }
            let (pass, ends, fault) = count(&shared, direction, &buffer[..read], &mut frames);
            let every = now.twice[direction as usize];
            let (doubled, out) = twice.take(&buffer[..pass], &ends, every);
            shared.counters.doubled[direction as usize].fetch_add(doubled, Ordering::SeqCst);
            let sent = to.write_all(&out).await;
            match fault {
                None if sent.is_ok() => {}
                None => break,
                Some(Fault::Reset) => {
                    cut.cancel();
                    return;
                }
                Some(Fault::Close) => {
                    // Ends this direction here and the other one by its next piece or end.
                    let _gone = to.shutdown().await;
                    drop(from.read(&mut buffer).await);
                    cut.cancel();
                    return;
                }
                Some(Fault::HalfClose) => break,
                Some(Fault::BlackHole) => std::future::pending().await,
            }
        }
        let _gone = to.shutdown().await;
    };
    tokio::select! {
        () = work => {}
        () = cut.cancelled() => {}
    }
    (from, to)
}

/// Counts what passes; how much of what was read may pass, where frames end in it, and the fault
/// behind it.
fn count(
    shared: &Shared,
    direction: Direction,
    read: &[u8],
    frames: &mut Frames,
) -> (usize, Vec<usize>, Option<Fault>) {
    let mut traps = lock(&shared.traps);
    let (bytes, whole) =
        (&shared.counters.bytes[direction as usize], &shared.counters.frames[direction as usize]);
    let (bytes_before, frames_before) =
        (bytes.load(Ordering::SeqCst), whole.load(Ordering::SeqCst));
    let ends = frames.find_ends(read);
    let place = |trap: &Trap| -> Option<usize> {
        let place = match trap.at {
            At::Byte(at) => usize::try_from(at.saturating_sub(bytes_before)).ok()?,
            At::Frame(at) => {
                let nth = usize::try_from(at.checked_sub(frames_before + 1)?).ok()?;
                return ends.get(nth).copied();
            }
        };
        (place < read.len()).then_some(place)
    };
    let caught = traps
        .iter()
        .enumerate()
        .filter(|(_, trap)| trap.direction == direction)
        .filter_map(|(index, trap)| Some((place(trap)?, index)))
        .min()
        .map(|(place, index)| (place, traps.swap_remove(index).fault));
    let pass = caught.map_or(read.len(), |(place, _)| place);
    bytes.fetch_add(pass as u64, Ordering::SeqCst);
    whole.fetch_add(ends.iter().filter(|end| **end <= pass).count() as u64, Ordering::SeqCst);
    if caught.is_some() {
        shared.counters.faults.fetch_add(1, Ordering::SeqCst);
    }
    (pass, ends, caught.map(|(_, fault)| fault))
}

#[cfg(test)]
mod tests;
