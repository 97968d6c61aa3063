//! The fake's HTTP server.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Limited, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use reeve_sdk::api::{ModelSettings, Price, ProviderSettings, Wire};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::asked::{Asked, wire_of};
use super::behaviour::{Behaviour, Trouble};
use super::speech::{self, End};
use super::troubles;

type Body = StreamBody<BoxStream<'static, io::Result<Frame<Bytes>>>>;
type Brain = dyn Fn(&Asked) -> Behaviour + Send + Sync;

/// Bytes of a piece on the wire, so that events come in parts.
const PIECE: usize = 37;
/// Bytes of a request that are read.
const LARGEST_REQUEST: usize = 16 << 20;

struct State {
    script: Mutex<VecDeque<Behaviour>>,
    brain: Mutex<Option<Arc<Brain>>>,
    asked: Mutex<Vec<Asked>>,
    key: Mutex<Option<String>>,
    /// How many requests hang.
    hanging: watch::Sender<usize>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A server on loopback that speaks every wire. It ends when it is dropped.
pub struct FakeModel {
    address: SocketAddr,
    state: Arc<State>,
    _tasks: JoinSet<()>,
}

impl FakeModel {
    /// Starts on a free port.
    ///
    /// # Errors
    /// When the port cannot be opened.
    pub async fn start() -> io::Result<Self> {
        Self::start_at(SocketAddr::from(([127, 0, 0, 1], 0))).await
    }

    /// Starts at this address.
    ///
    /// # Errors
    /// When the port cannot be opened.
    pub async fn start_at(address: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let state = Arc::new(State {
            script: Mutex::default(),
            brain: Mutex::default(),
            asked: Mutex::default(),
            key: Mutex::default(),
            hanging: watch::Sender::new(0),
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(serve(listener, Arc::clone(&state)));
        Ok(Self { address, state, _tasks: tasks })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The base URL for a wire.
    #[must_use]
    pub fn base_url(&self, wire: Wire) -> String {
        match wire {
            Wire::OpenaiResponses | Wire::OpenaiChat => format!("http://{}/v1", self.address),
            _ => format!("http://{}", self.address),
        }
    }

    /// Settings of a provider that is this fake, with the model `fake-model` at 1 a million tokens
    /// read and 2 written.
    #[must_use]
    pub fn provider(&self, name: &str, wire: Wire) -> ProviderSettings {
        ProviderSettings {
            name: name.to_owned(),
            wire,
            base_url: Some(self.base_url(wire)),
            vault_entry: None,
            key_env: None,
            headers: std::collections::BTreeMap::new(),
            env_headers: std::collections::BTreeMap::new(),
            models: vec![ModelSettings {
                name: "fake-model".to_owned(),
                context_tokens: None,
                max_output_tokens: None,
                reasoning: false,
                price: Some(Price { input: 1.0, cached_input: Some(0.5), output: 2.0 }),
            }],
            retries: None,
            connect_timeout_ms: None,
            first_byte_timeout_ms: None,
            idle_timeout_ms: None,
        }
    }

    /// What it does with the next requests, in order; after them what was there before goes on.
    pub fn script(&self, behaviours: impl IntoIterator<Item = Behaviour>) {
        lock(&self.state.script).extend(behaviours);
    }

    /// Who answers when the script is at its end: a planner, or one that obeys every output.
    /// Without one it says `{"ok": true}` or `Hello.`.
    pub fn answer_with(&self, brain: impl Fn(&Asked) -> Behaviour + Send + Sync + 'static) {
        *lock(&self.state.brain) = Some(Arc::new(brain));
    }

    /// Answers 401 to every other key.
    pub fn require_key(&self, key: &str) {
        *lock(&self.state.key) = Some(key.to_owned());
    }

    /// The requests it got, in order.
    #[must_use]
    pub fn asked(&self) -> Vec<Asked> {
        lock(&self.state.asked).clone()
    }

    /// What was wrong with requests, in order; empty when all were as the wire wants them.
    #[must_use]
    pub fn faults(&self) -> Vec<String> {
        lock(&self.state.asked).iter().flat_map(|asked| asked.faults.clone()).collect()
    }

    /// Waits until a request hangs.
    pub async fn hung(&self) {
        let mut hanging = self.state.hanging.subscribe();
        // The sender lives as long as `self`.
        let _ = hanging.wait_for(|count| *count > 0).await;
    }
}

async fn serve(listener: TcpListener, state: Arc<State>) {
    let mut connections = JoinSet::new();
    while let Ok((socket, _)) = listener.accept().await {
        let state = Arc::clone(&state);
        connections.spawn(async move {
            let service = service_fn(move |request| answer(Arc::clone(&state), request));
            let connection = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(socket), service);
            // A client that went away is its own affair.
            let _ = connection.await;
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn answer(
    state: Arc<State>,
    request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    let (parts, body) = request.into_parts();
    let Some((wire, model)) = wire_of(parts.uri.path()) else {
        return Ok(plain(404, &[], b"{\"error\":\"nothing is here\"}".to_vec()));
    };
    if parts.method != http::Method::POST {
        return Ok(plain(405, &[], Vec::new()));
    }
    let body = match Limited::new(body, LARGEST_REQUEST).collect().await {
        Ok(body) => serde_json::from_slice(&body.to_bytes()).unwrap_or(Value::Null),
        Err(_) => Value::Null,
    };
    let asked = Asked::read(wire, model, parts.uri.query(), parts.headers, body);
    lock(&state.asked).push(asked.clone());
    let wanted = lock(&state.key).clone();
    let shown = asked.key.clone().unwrap_or_default();
    if wanted.is_some_and(|wanted| wanted != shown) {
        return Ok(trouble(wire, &Trouble::BadKey, &shown));
    }
    if let Some(fault) = asked.faults.first() {
        return Ok(trouble(wire, &Trouble::BadRequest(format!("the fake misses: {fault}")), ""));
    }
    let next = lock(&state.script).pop_front();
    let brain = lock(&state.brain).clone();
    let behaviour = match (next, brain) {
        (Some(next), _) => next,
        (None, Some(brain)) => brain(&asked),
        (None, None) if asked.schema.is_some() => Behaviour::Json(json!({"ok": true})),
        (None, None) => Behaviour::text("Hello."),
    };
    Ok(behave(&state, &asked, behaviour).await)
}

async fn behave(state: &Arc<State>, asked: &Asked, behaviour: Behaviour) -> Response<Body> {
    let wire = asked.wire;
    let is_tool = asked.body.get("tool_choice").is_some();
    let say = |text: &str, end| {
        let (mut events, last) = speech::reply(wire, "", text, end, is_tool);
        events.extend(last);
        good(wire, events.concat())
    };
    let begin = || speech::reply(wire, "", "This is the beginning of", End::Done, false).0.concat();
    match behaviour {
        Behaviour::Text(text) => say(&text, End::Done),
        Behaviour::Json(json) => say(&json.to_string(), End::Done),
        Behaviour::Thoughtful { thought, text } => {
            let (mut events, last) = speech::reply(wire, &thought, &text, End::Done, is_tool);
            events.extend(last);
            good(wire, events.concat())
        }
        Behaviour::Truncated(text) => say(&text, End::Length),
        Behaviour::Refuses => say("I can't help with that.", End::Refused),
        Behaviour::Raw(body) => good(wire, body),
        Behaviour::Reply { status, headers, body } => plain(status, &headers, body),
        Behaviour::Trouble(kind) => trouble(wire, &kind, asked.key.as_deref().unwrap_or_default()),
        Behaviour::RefusesField(name, json) => {
            if has_field(&asked.body, &name) {
                let text =
                    format!("Unsupported parameter: '{name}' is not supported with this model.");
                return trouble(wire, &Trouble::BadRequest(text), "");
            }
            say(&json.to_string(), End::Done)
        }
        Behaviour::CutMidEvent => {
            let text = format!("{}data: {{\"choi", begin());
            // What was written has to be on its way before the connection is dropped.
            let cut = stream::once(async {
                tokio::time::sleep(Duration::from_millis(20)).await;
                Err(io::Error::other("cut"))
            });
            stream_reply(wire, pieces(text.into_bytes()).chain(cut).boxed())
        }
        Behaviour::EndsEarly => good(wire, begin()),
        Behaviour::ErrorAfterText => good(wire, format!("{}{}", begin(), troubles::event(wire))),
        Behaviour::NeverFirstByte => {
            state.hanging.send_modify(|count| *count += 1);
            std::future::pending().await
        }
        Behaviour::HangsAfterText => stream_reply(wire, hang_after(state, begin())),
        Behaviour::NeverCloses(text) => {
            let (mut events, mut last) = speech::reply(wire, "", &text, End::Done, is_tool);
            last.retain(|event| !event.contains("[DONE]") && !event.contains("message_stop"));
            events.extend(last);
            stream_reply(wire, hang_after(state, events.concat()))
        }
        Behaviour::Drips => {
            let drops = stream::repeat_with(|| Ok(Frame::data(Bytes::from_static(b"d"))));
            let slowly = drops.then(|drop| async {
                tokio::time::sleep(Duration::from_millis(1)).await;
                drop
            });
            stream_reply(wire, slowly.boxed())
        }
        Behaviour::Floods => {
            let event = Bytes::from(begin().repeat(40));
            let count = (50 << 20) / event.len();
            stream_reply(wire, stream::iter(vec![event; count]).map(|e| Ok(Frame::data(e))).boxed())
        }
        Behaviour::GiantEvent => good(wire, format!("data: {}\n\n", "x".repeat(2 << 20))),
        Behaviour::Redirects(to) => plain(307, &[("location".to_owned(), to)], Vec::new()),
        Behaviour::Garbage => {
            let bytes: Vec<u8> =
                (0..4096_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
            let lines = [b"data: ", bytes.as_slice(), b"\n\n"].concat();
            stream_reply(wire, pieces(lines).boxed())
        }
        Behaviour::HalfJson => good(wire, "data: {\"choices\": [{\"del\n\n".to_owned()),
        Behaviour::WebPage => {
            let kind = ("content-type".to_owned(), "text/html; charset=utf-8".to_owned());
            plain(200, &[kind], b"<html><body>Welcome</body></html>".to_vec())
        }
        Behaviour::Compressed => {
            let mut response = good(wire, "\u{1f}\u{8b}".to_owned());
            response
                .headers_mut()
                .insert("content-encoding", http::HeaderValue::from_static("gzip"));
            response
        }
        Behaviour::NotStreamed(text) => {
            let kind = ("content-type".to_owned(), "application/json".to_owned());
            plain(200, &[kind], speech::whole(wire, &text).to_string().into_bytes())
        }
    }
}

fn has_field(body: &Value, name: &str) -> bool {
    match body {
        Value::Object(fields) => {
            fields.iter().any(|(field, value)| field == name || has_field(value, name))
        }
        Value::Array(items) => items.iter().any(|item| has_field(item, name)),
        Value::String(text) => text == name,
        _ => false,
    }
}

fn pieces(
    bytes: Vec<u8>,
) -> impl futures_util::Stream<Item = io::Result<Frame<Bytes>>> + Send + 'static {
    let pieces: Vec<Bytes> = bytes.chunks(PIECE).map(Bytes::copy_from_slice).collect();
    stream::iter(pieces).map(|piece| Ok(Frame::data(piece)))
}

fn hang_after(state: &Arc<State>, text: String) -> BoxStream<'static, io::Result<Frame<Bytes>>> {
    let state = Arc::clone(state);
    let hang = stream::once(async move {
        state.hanging.send_modify(|count| *count += 1);
        std::future::pending().await
    });
    pieces(text.into_bytes()).chain(hang).boxed()
}

fn stream_reply(wire: Wire, body: BoxStream<'static, io::Result<Frame<Bytes>>>) -> Response<Body> {
    let mut response = Response::new(StreamBody::new(body));
    let kind = if wire == Wire::Ollama { "application/x-ndjson" } else { "text/event-stream" };
    let fixed: &[(&'static str, &'static str)] = match wire {
        Wire::OpenaiResponses | Wire::OpenaiChat => &[
            ("x-ratelimit-limit-requests", "200"),
            ("x-ratelimit-remaining-requests", "150"),
            ("x-ratelimit-reset-requests", "6m0s"),
            ("x-ratelimit-limit-tokens", "40000"),
            ("x-ratelimit-remaining-tokens", "39000"),
            ("x-ratelimit-reset-tokens", "20ms"),
        ],
        Wire::Anthropic => &[
            ("anthropic-ratelimit-requests-limit", "200"),
            ("anthropic-ratelimit-requests-remaining", "150"),
            ("anthropic-ratelimit-requests-reset", "2026-01-01T00:06:00Z"),
            ("anthropic-ratelimit-input-tokens-limit", "40000"),
            ("anthropic-ratelimit-input-tokens-remaining", "39000"),
            ("anthropic-ratelimit-input-tokens-reset", "2026-01-01T00:00:01Z"),
        ],
        _ => &[],
    };
    for (name, value) in fixed.iter().chain(&[("content-type", kind)]) {
        response.headers_mut().insert(*name, http::HeaderValue::from_static(value));
    }
    response
}

fn good(wire: Wire, body: String) -> Response<Body> {
    stream_reply(wire, pieces(body.into_bytes()).boxed())
}

fn plain(status: u16, headers: &[(String, String)], body: Vec<u8>) -> Response<Body> {
    let whole = stream::once(async { Ok(Frame::data(Bytes::from(body))) });
    let mut response = Response::new(StreamBody::new(whole.boxed()));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::IM_A_TEAPOT);
    for (name, value) in headers {
        if let (Ok(name), Ok(value)) =
            (http::HeaderName::try_from(name), http::HeaderValue::try_from(value))
        {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

fn trouble(wire: Wire, kind: &Trouble, shown: &str) -> Response<Body> {
    let (status, mut headers, body) = troubles::refusal(wire, kind, shown);
    headers.push(("content-type".to_owned(), "application/json".to_owned()));
    plain(status, &headers, body.to_string().into_bytes())
}
