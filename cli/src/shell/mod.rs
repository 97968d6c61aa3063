//! Being at a terminal of a machine: what it shows goes to ours, what is typed at ours goes to it.

mod escape;
mod keys;
mod local;
mod replay;

use std::future::{Future, pending};
use std::io::Write;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use reeve_protocol::{JobId, OperationId};
use reeve_sdk::api::{Operation, OperationState, ResizeRequest, Typed, TypedPiece};
use reeve_sdk::{Client, Error, Event, Follow};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::exit;
use crate::failure::Failure;
use crate::terminal::{escape, note};
use escape::{Escapes, Wish};
use keys::Keys;
pub use local::{LocalTerminal, find_size, is_terminal};
pub use replay::Filter;

/// What is shown again of a terminal that one comes back to, bytes.
pub const WINDOW_BYTES: u64 = 1024 * 1024;

/// Typed and not on its way yet. More waits in the local terminal.
const MAX_WAITING: usize = 256 * 1024;

/// Bytes of one piece.
const PIECE_BYTES: usize = 32 * 1024;

/// After a piece could not be sent.
const RETRY: Duration = Duration::from_millis(500);

/// How long the end of a terminal that was closed is waited for.
const CLOSE_LIMIT: Duration = Duration::from_secs(15);

/// Keys that leave a terminal that is only looked at: Ctrl-C, Ctrl-D, q.
const LEAVE_KEYS: &[u8] = b"\x03\x04q";

/// Which terminal, and how.
pub struct Seat {
    pub job: JobId,
    /// `None`: that of the job, which is known once it is followed.
    pub operation: OperationId,
    /// From which byte on.
    pub from: u64,
    /// Bytes from here on are new; those before are shown again.
    pub replay_until: u64,
    pub types: bool,
}

type Boxed<T> = Pin<Box<dyn Future<Output = T>>>;

/// Waits for a future that may not be there.
async fn when<T>(slot: &mut Option<Boxed<T>>) -> T {
    match slot {
        Some(future) => {
            let value = future.await;
            *slot = None;
            value
        }
        None => pending().await,
    }
}

/// Stays at a terminal until it ends or is left; the exit code.
pub async fn sit(client: Client, seat: Seat) -> Result<u8, Failure> {
    let follow = client.attach(seat.job, seat.operation, seat.from, seat.types);
    let filter = (seat.replay_until > seat.from).then(|| Filter::new(seat.from > 0));
    let mut sitting = Sitting {
        escapes: Escapes::default(),
        typist: uuid::Uuid::new_v4(),
        taken: 0,
        seen: None,
        waiting: Vec::new(),
        sending: None,
        retry_at: None,
        resizing: None,
        next_size: None,
        size: None,
        operation: None,
        local: None,
        filter,
        status_shown: false,
        closing: None,
        input_over: !is_terminal(),
        client,
        seat,
        follow,
    };
    let ended = sitting.stay().await;
    sitting.clear_status();
    let had_modes = sitting.local.take().is_some_and(LocalTerminal::leave);
    let operation = sitting.operation.take();
    let id = sitting.seat.operation;
    match ended? {
        Leaving::Ended => conclude(operation.as_deref()),
        Leaving::Detached => {
            if had_modes {
                let _ = std::io::stdout().flush();
            }
            note(&format!("\nreeve: left; the terminal goes on: reeve shell --attach {id}"));
            Ok(exit::OK)
        }
        Leaving::Interrupted => {
            note(&format!("\nreeve: left; the terminal goes on: reeve shell --attach {id}"));
            Ok(exit::INTERRUPTED)
        }
    }
}

fn conclude(operation: Option<&Operation>) -> Result<u8, Failure> {
    let Some(operation) = operation else {
        return Err(Failure::new("the coordinator did not say how the terminal ended"));
    };
    match (&operation.state, &operation.reason) {
        (OperationState::Cancelled, _) => note("reeve: the terminal was closed"),
        (OperationState::Succeeded | OperationState::TimedOut, _) => {}
        (_, Some(reason)) => {
            return Err(Failure::with_code(
                format!("{}: {}", operation.machine, reason.message),
                exit::of_operation(operation),
            ));
        }
        _ => {}
    }
    Ok(exit::of_operation(operation))
}

enum Leaving {
    /// It is over.
    Ended,
    /// Whoever sits here left.
    Detached,
    /// A signal ended us.
    Interrupted,
}

struct Sitting {
    client: Client,
    seat: Seat,
    follow: Follow,
    escapes: Escapes,
    typist: uuid::Uuid,
    /// Our bytes that have arrived.
    taken: u64,
    seen: Option<u64>,
    waiting: Vec<u8>,
    sending: Option<Boxed<Result<Typed, Error>>>,
    /// Nothing typed is sent before then.
    retry_at: Option<tokio::time::Instant>,
    resizing: Option<Boxed<Result<(), Error>>>,
    next_size: Option<ResizeRequest>,
    /// The size the terminal was told last.
    size: Option<(u16, u16)>,
    operation: Option<Box<Operation>>,
    local: Option<LocalTerminal>,
    /// While it shows again what it showed before.
    filter: Option<Filter>,
    status_shown: bool,
    closing: Option<Boxed<Result<Operation, Error>>>,
    input_over: bool,
}

/// Those that end us, and not the terminal.
struct LeaveSignals([Signal; 3]);

fn catch(kind: SignalKind) -> Result<Signal, Failure> {
    signal(kind).map_err(|error| Failure::new(format!("cannot catch signals: {error}")))
}

impl LeaveSignals {
    fn catch() -> Result<Self, Failure> {
        Ok(Self([
            catch(SignalKind::terminate())?,
            catch(SignalKind::hangup())?,
            catch(SignalKind::interrupt())?,
        ]))
    }

    async fn next(&mut self) {
        let [terminate, hangup, interrupt] = &mut self.0;
        tokio::select! {
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
            _ = interrupt.recv() => {}
        }
    }
}

impl Sitting {
    async fn stay(&mut self) -> Result<Leaving, Failure> {
        let mut leave = LeaveSignals::catch()?;
        let mut window = catch(SignalKind::window_change())?;
        let mut keyboard = Keys::open();
        let mut keys = vec![0; 16 * 1024];
        let mut close_by: Option<tokio::time::Instant> = None;
        loop {
            self.send_waiting();
            self.send_size();
            let can_read =
                self.local.is_some() && !self.input_over && self.waiting.len() < MAX_WAITING;
            tokio::select! {
                biased;
                () = leave.next() => return Ok(Leaving::Interrupted),
                event = self.follow.next() => match event? {
                    Some(event) => self.take(event)?,
                    None => return Ok(Leaving::Ended),
                },
                typed = when(&mut self.sending) => self.note_typed(typed)?,
                resized = when(&mut self.resizing) => drop(resized),
                closed = when(&mut self.closing) => if let Err(error) = closed {
                    self.status(&format!("cannot close it: {error}"));
                },
                _ = window.recv() => self.note_size(),
                read = keyboard.read(&mut keys), if can_read => match read {
                    Ok(count @ 1..) => {
                        let pressed = keys.get(..count).unwrap_or_default().to_vec();
                        if self.press(&pressed) {
                            return Ok(Leaving::Detached);
                        }
                        if self.closing.is_some() && close_by.is_none() {
                            close_by = Some(tokio::time::Instant::now() + CLOSE_LIMIT);
                        }
                    }
                    // Our own terminal is gone.
                    _ => return Ok(Leaving::Interrupted),
                },
                () = sleep_until(self.retry_at) => self.retry_at = None,
                () = sleep_until(close_by) => return Ok(Leaving::Detached),
            }
        }
    }

    fn take(&mut self, event: Event) -> Result<(), Failure> {
        match event {
            Event::Job(job) => {
                if let Some(operation) = job.single {
                    self.note_operation(operation)?;
                }
            }
            Event::Operation(operation) => self.note_operation(operation)?,
            Event::Output(output) => self.show(output.all, &output.bytes)?,
            Event::Gap { gap, .. } => {
                if gap.to > self.seat.from {
                    self.status(&format!("{} bytes were dropped", gap.to - gap.from));
                }
            }
            Event::Interrupted { why } => {
                self.status(&format!("connection lost, reconnecting… ({why})"));
            }
            Event::Resumed => {
                self.clear_status();
                // Whoever sat here before may have had another size meanwhile.
                self.size = None;
                self.note_size();
            }
        }
        Ok(())
    }

    fn note_operation(&mut self, operation: Box<Operation>) -> Result<(), Failure> {
        if operation.state == OperationState::Running && self.local.is_none() && !self.input_over {
            let local = LocalTerminal::enter()
                .map_err(|error| Failure::new(format!("cannot use this terminal: {error}")))?;
            self.local = Some(local);
            self.note_size();
        }
        self.operation = Some(operation);
        Ok(())
    }

    /// What it shows goes out as it is, as with ssh. What is shown again may not ask our terminal
    /// anything: the answers would be typed.
    fn show(&mut self, at: u64, bytes: &[u8]) -> Result<(), Failure> {
        let mut bytes = bytes;
        let old = self.seat.replay_until.saturating_sub(at);
        let mut shown = Vec::new();
        if let Some(filter) = &mut self.filter {
            let cut = usize::try_from(old).unwrap_or(usize::MAX).min(bytes.len());
            let (before, fresh) = bytes.split_at(cut);
            shown = filter.pass(before);
            bytes = fresh;
            if !fresh.is_empty() || at + cut as u64 >= self.seat.replay_until {
                self.filter = None;
            }
        }
        let mut out = std::io::stdout().lock();
        let written =
            out.write_all(&shown).and_then(|()| out.write_all(bytes)).and_then(|()| out.flush());
        if let Some(local) = &mut self.local {
            local.note_shown(&shown);
            local.note_shown(bytes);
        }
        written.map_err(|_| Failure::silent(exit::BROKEN_PIPE))
    }

    /// Keys were pressed. Whether that means to leave.
    fn press(&mut self, keys: &[u8]) -> bool {
        if !self.seat.types {
            return keys.iter().any(|key| LEAVE_KEYS.contains(key));
        }
        for wish in self.escapes.take(keys) {
            match wish {
                Wish::Type(bytes) => self.waiting.extend_from_slice(&bytes),
                Wish::Detach => return true,
                Wish::Close => {
                    let (client, id) = (self.client.clone(), self.seat.operation);
                    self.status("closing it");
                    self.closing = Some(Box::pin(async move {
                        client.cancel_operation(id, "closed at the terminal").await
                    }));
                }
                Wish::Help => self.status(
                    "~. closes it with all that runs in it   ~d leaves it open   ~~ types ~",
                ),
            }
        }
        false
    }

    fn send_waiting(&mut self) {
        let is_pausing = self.sending.is_some() || self.retry_at.is_some();
        if is_pausing || self.waiting.is_empty() || !self.seat.types {
            return;
        }
        let length = self.waiting.len().min(PIECE_BYTES);
        let bytes = Bytes::copy_from_slice(self.waiting.get(..length).unwrap_or_default());
        let piece = TypedPiece { typist: self.typist, offset: self.taken, seen: self.seen };
        let (client, id) = (self.client.clone(), self.seat.operation);
        self.sending = Some(Box::pin(async move { client.type_in(id, piece, bytes).await }));
    }

    fn note_typed(&mut self, typed: Result<Typed, Error>) -> Result<(), Failure> {
        match typed {
            Ok(typed) => {
                let arrived = typed.taken.saturating_sub(self.taken);
                let arrived = usize::try_from(arrived).unwrap_or(usize::MAX);
                self.waiting.drain(..arrived.min(self.waiting.len()));
                self.taken = self.taken.max(typed.taken);
                self.seen = typed.seen.or(self.seen);
                if typed.closed {
                    self.waiting.clear();
                    self.input_over = true;
                } else if arrived == 0 {
                    self.status("the machine does not answer; what you type waits");
                    self.retry_at = Some(tokio::time::Instant::now() + RETRY);
                } else if self.status_shown {
                    self.clear_status();
                }
                Ok(())
            }
            Err(error) if error.is_transient() => {
                self.status(&format!("what you type waits: {error}"));
                self.retry_at = Some(tokio::time::Instant::now() + RETRY);
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    fn note_size(&mut self) {
        if self.local.is_none() || !self.seat.types {
            return;
        }
        let (columns, rows) = find_size();
        if self.size != Some((columns, rows)) {
            self.size = Some((columns, rows));
            self.next_size = Some(ResizeRequest { columns, rows });
        }
    }

    /// One at a time; of many changes the last one counts.
    fn send_size(&mut self) {
        if self.resizing.is_none()
            && let Some(size) = self.next_size.take()
        {
            let (client, id) = (self.client.clone(), self.seat.operation);
            self.resizing = Some(Box::pin(async move { client.resize(id, size).await }));
        }
    }

    /// On the last line of our terminal, without moving what is on it.
    fn status(&mut self, text: &str) {
        let text = escape(text).replace('\n', " ");
        match &self.local {
            Some(_) => {
                let (columns, rows) = find_size();
                let text: String =
                    text.chars().take(usize::from(columns).saturating_sub(9)).collect();
                let mut out = std::io::stdout().lock();
                let line = format!("\x1b7\x1b[{rows};1H\x1b[7m reeve: {text} \x1b[0m\x1b[K\x1b8");
                let _ = out.write_all(line.as_bytes()).and_then(|()| out.flush());
                self.status_shown = true;
            }
            None => note(&format!("reeve: {text}")),
        }
    }

    fn clear_status(&mut self) {
        if std::mem::take(&mut self.status_shown) {
            let (_, rows) = find_size();
            let mut out = std::io::stdout().lock();
            let line = format!("\x1b7\x1b[{rows};1H\x1b[2K\x1b8");
            let _ = out.write_all(line.as_bytes()).and_then(|()| out.flush());
        }
    }
}

async fn sleep_until(end: Option<tokio::time::Instant>) {
    match end {
        Some(end) => tokio::time::sleep_until(end).await,
        None => pending().await,
    }
}
