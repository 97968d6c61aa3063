//! Following a job over any number of connections: what was seen is never shown twice, what was
//! missed is asked for again.

use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::pin::Pin;
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes};
use reeve_protocol::{Gap, JobId, OperationId, Stream};
use reqwest::Response;
use reqwest::header::CONTENT_TYPE;

use crate::api::follow::{Attach, FollowRequest, MEDIA_TYPE};
use crate::api::{Job, Operation};
use crate::client::Call;
use crate::frames::{Decoder, Piece};
use crate::retry::Backoff;
use crate::{Client, Error};

/// A connection that says nothing for this long, not even that nothing happens, is dead. Three
/// times what a coordinator lets pass between two signs of life.
const SILENCE_LIMIT: Duration = Duration::from_secs(45);

/// Bytes of output.
#[derive(Clone, Debug)]
pub struct Output {
    /// Whose.
    pub operation: OperationId,
    /// stdout or stderr.
    pub stream: Stream,
    /// Offset of the first byte in its stream.
    pub offset: u64,
    /// Offset of the first byte in the merged order of both streams.
    pub all: u64,
    /// Never empty.
    pub bytes: Bytes,
}

/// Something that happened.
#[derive(Debug)]
pub enum Event {
    /// The job; first, and again after a connection was lost and at the end.
    Job(Box<Job>),
    /// An operation whose state may have changed; after a lost connection all of them come again.
    Operation(Box<Operation>),
    /// Bytes, in order, each exactly once.
    Output(Output),
    /// Bytes that are not kept any more.
    Gap {
        /// Whose.
        operation: OperationId,
        /// Which.
        gap: Gap,
    },
    /// The connection was lost; it is being resumed. Once per outage.
    Interrupted {
        /// In words.
        why: String,
    },
    /// Contact again, after [`Event::Interrupted`].
    Resumed,
}

/// What an attempt to connect came to.
enum Opened {
    Stream(Response),
    /// A coordinator may answer the repetition of a submission with the recorded job.
    Recorded(Box<Job>),
}

type Connecting = Pin<Box<dyn Future<Output = Result<Opened, Error>> + Send>>;

enum Road {
    /// Nothing before then.
    Waiting(Instant),
    /// Kept here and not in a stack frame, so that dropping [`Follow::next`] loses nothing.
    Connecting(Connecting),
    Open {
        response: Response,
        decoder: Box<Decoder>,
    },
    Ended,
}

/// A job being followed. Ask [`Self::next`] until it says `None`.
pub struct Follow {
    client: Client,
    /// What submits the job; `None` once it is known to be recorded.
    submit: Option<Call>,
    job: Option<JobId>,
    states_only: bool,
    /// The terminal it is a connection to.
    attach: Option<Attach>,
    /// Its output comes once: what is cut off cannot be gone on with.
    relay: bool,
    /// Merged offset reached, by operation.
    reached: HashMap<OperationId, u64>,
    road: Road,
    backoff: Backoff,
    /// The last byte from the coordinator, or the start.
    last_contact: Instant,
    /// Whether anything ever came.
    began: bool,
    interrupted: bool,
    /// What came together with the end of an outage, told after it.
    pending: Option<Event>,
    /// A hole was seen in an operation's output; a second one in a row is an error.
    hole_seen: bool,
}

impl Follow {
    pub(crate) fn submit(client: Client, call: Call, relay: bool) -> Self {
        Self { relay, ..Self::new(client, Some(call), None, false) }
    }

    pub(crate) fn existing(client: Client, job: JobId, states_only: bool) -> Self {
        Self::new(client, None, Some(job), states_only)
    }

    /// A connection to a terminal, from a merged offset on.
    pub(crate) fn attached(client: Client, job: JobId, attach: Attach, from: u64) -> Self {
        let mut follow = Self::new(client, None, Some(job), false);
        follow.attach = Some(attach);
        follow.reached.insert(attach.operation, from);
        follow
    }

    fn new(client: Client, submit: Option<Call>, job: Option<JobId>, states_only: bool) -> Self {
        Self {
            client,
            submit,
            job,
            states_only,
            attach: None,
            relay: false,
            reached: HashMap::new(),
            road: Road::Waiting(Instant::now()),
            backoff: Backoff::new(),
            last_contact: Instant::now(),
            began: false,
            interrupted: false,
            pending: None,
            hole_seen: false,
        }
    }

    /// The job's id, once known.
    #[must_use]
    pub fn job_id(&self) -> Option<JobId> {
        self.job
    }

    /// The next thing that happened; `None` when everything has ended and all of it was handed
    /// out. Dropping the future before it is ready loses nothing, so it fits into `select!`.
    ///
    /// # Errors
    /// When the coordinator refuses, or there was no contact for longer than
    /// [`crate::RetryLimits::follow`]. After an error nothing more comes.
    pub async fn next(&mut self) -> Result<Option<Event>, Error> {
        if let Some(event) = self.pending.take() {
            return Ok(Some(event));
        }
        loop {
            let outcome = match &mut self.road {
                Road::Ended => return Ok(None),
                Road::Waiting(until) => {
                    if *until > Instant::now() {
                        tokio::time::sleep_until((*until).into()).await;
                    }
                    let call = self.next_call()?;
                    self.road = Road::Connecting(Box::pin(open(call)));
                    continue;
                }
                Road::Connecting(connecting) => match connecting.await {
                    Ok(Opened::Stream(response)) => {
                        self.road = Road::Open { response, decoder: Box::default() };
                        continue;
                    }
                    Ok(Opened::Recorded(job)) => {
                        self.road = Road::Waiting(Instant::now());
                        self.heard(Piece::Job(job))
                    }
                    Err(error) => Err(error),
                },
                Road::Open { response, decoder } => {
                    match read_piece(response, decoder, &self.client).await {
                        Ok(piece) => self.heard(piece),
                        Err(error) => Err(error),
                    }
                }
            };
            match outcome {
                Ok(Some(event)) => return Ok(Some(event)),
                Ok(None) => {}
                Err(error) => {
                    if let Some(event) = self.broken(error)? {
                        return Ok(Some(event));
                    }
                }
            }
        }
    }

    fn next_call(&self) -> Result<Call, Error> {
        if let Some(call) = &self.submit {
            return Ok(call.clone());
        }
        let job = self.job.ok_or_else(|| Error::Setup("no job to follow".to_owned()))?;
        let offsets: BTreeMap<String, u64> =
            self.reached.iter().map(|(id, offset)| (id.to_string(), *offset)).collect();
        let request = FollowRequest { offsets, states_only: self.states_only, attach: self.attach };
        self.client
            .post(&["api", "jobs", &job.to_string(), "follow"])
            .accept(MEDIA_TYPE)
            .json(&request)
    }

    /// Takes what came. The first that comes after an outage ends it.
    fn heard(&mut self, piece: Piece) -> Result<Option<Event>, Error> {
        self.last_contact = Instant::now();
        self.began = true;
        let event = self.accept(piece)?;
        if !std::mem::take(&mut self.interrupted) {
            return Ok(event);
        }
        self.backoff = Backoff::new();
        self.pending = event;
        Ok(Some(Event::Resumed))
    }

    fn accept(&mut self, piece: Piece) -> Result<Option<Event>, Error> {
        Ok(match piece {
            Piece::Job(job) => {
                self.job = Some(job.id);
                self.submit = None;
                Some(Event::Job(job))
            }
            Piece::Operation(operation) => Some(Event::Operation(operation)),
            Piece::KeepAlive => None,
            Piece::End => {
                self.road = Road::Ended;
                None
            }
            Piece::Gap { operation, gap } => {
                let reached = self.reached.entry(operation).or_default();
                if gap.to <= *reached {
                    return Ok(None);
                }
                if gap.from > *reached {
                    return Err(self.hole(operation, gap.from));
                }
                *reached = gap.to;
                Some(Event::Gap { operation, gap })
            }
            Piece::Output { operation, stream, mut all, mut offset, mut bytes } => {
                let reached = self.reached.entry(operation).or_default();
                if all > *reached {
                    return Err(self.hole(operation, all));
                }
                let seen = usize::try_from(*reached - all).unwrap_or(usize::MAX);
                if seen >= bytes.len() {
                    return Ok(None);
                }
                bytes.advance(seen);
                all += seen as u64;
                offset += seen as u64;
                *reached += bytes.len() as u64;
                self.hole_seen = false;
                Some(Event::Output(Output { operation, stream, offset, all, bytes }))
            }
        })
    }

    /// Output that should be there is not. Asking again may help, once.
    fn hole(&mut self, operation: OperationId, found: u64) -> Error {
        let reached = self.reached.get(&operation).copied().unwrap_or_default();
        let what = format!("the output of operation {operation} jumps from {reached} to {found}");
        if std::mem::replace(&mut self.hole_seen, true) {
            return Error::protocol(what);
        }
        Error::Connect {
            url: self.client.url().to_owned(),
            why: what,
            transient: true,
            sent: true,
            source: None,
        }
    }

    /// Decides what becomes of a failed attempt or a broken connection.
    fn broken(&mut self, error: Error) -> Result<Option<Event>, Error> {
        self.road = Road::Ended;
        // Once it may have been submitted, nobody else gets what was relayed.
        if self.relay && (self.began || !error.is_unsent()) && error.problem().is_none() {
            return Err(Error::RelayBroken { job: self.job, last: Box::new(error) });
        }
        if !error.is_transient() {
            return Err(error);
        }
        let limits = self.client.retry_limits();
        let patience = if self.began { limits.follow } else { limits.total };
        let pause = self.backoff.pause(error.retry_after());
        let silent = self.last_contact.elapsed();
        if silent + pause > patience {
            return Err(if self.began {
                Error::LostContact { after: silent, last: Box::new(error) }
            } else {
                error
            });
        }
        self.road = Road::Waiting(Instant::now() + pause);
        tracing::debug!(%error, "the stream broke");
        if self.began && !std::mem::replace(&mut self.interrupted, true) {
            return Ok(Some(Event::Interrupted { why: error.to_string() }));
        }
        Ok(None)
    }
}

/// One attempt to get a stream.
async fn open(call: Call) -> Result<Opened, Error> {
    let response = call.attempt().await?;
    let kind = response
        .headers()
        .get(CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok())
        .unwrap_or_default()
        .to_owned();
    if kind.starts_with(MEDIA_TYPE) {
        return Ok(Opened::Stream(response));
    }
    if !call.is_submission() || !kind.starts_with("application/json") {
        return Err(Error::protocol(format!("instead of a stream came '{kind}'")));
    }
    let body = response.bytes().await.map_err(|error| call.transport_error(error))?;
    serde_json::from_slice(&body)
        .map(|job| Opened::Recorded(Box::new(job)))
        .map_err(|error| Error::protocol(format!("the job is not understood ({error})")))
}

/// The next piece. Does not lose anything when dropped: what has arrived is in the decoder, what
/// has not is in the response.
async fn read_piece(
    response: &mut Response,
    decoder: &mut Decoder,
    client: &Client,
) -> Result<Piece, Error> {
    loop {
        if let Some(piece) = decoder.next()? {
            return Ok(piece);
        }
        let broken = |why: &str| Error::Connect {
            url: client.url().to_owned(),
            why: why.to_owned(),
            transient: true,
            sent: true,
            source: None,
        };
        match tokio::time::timeout(SILENCE_LIMIT, response.chunk()).await {
            Ok(Ok(Some(chunk))) => decoder.push(chunk),
            Ok(Ok(None)) => return Err(broken("the stream ended in the middle")),
            Ok(Err(error)) => return Err(Error::from_transport(client.url(), None, error)),
            Err(_) => return Err(broken("the connection fell silent")),
        }
    }
}
