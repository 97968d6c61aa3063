//! One exchange: what is sent, and what an answer means.

use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER};
use reqwest::{Body, Method, RequestBuilder, Response, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Client, Paging};
use crate::Error;
use crate::api::Problem;
use crate::retry::Attempts;

/// Until the head of an answer has to be there. A fan-out to tens of thousands of machines is
/// recorded well within it.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// The longest error body worth reading, bytes.
const MAX_PROBLEM_BYTES: usize = 64 * 1024;

/// A request that can be sent more than once.
#[derive(Clone)]
pub(crate) struct Call {
    client: Client,
    method: Method,
    url: url::Url,
    body: Option<(Bytes, &'static str)>,
    accept: Option<&'static str>,
    idempotency_key: Option<String>,
    last_event_id: Option<u64>,
    /// Sending it twice does what sending it once does.
    repeatable: bool,
}

impl Client {
    pub(crate) fn call(&self, method: Method, path: &[&str]) -> Call {
        let mut url = self.inner.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        let repeatable = method == Method::GET;
        Call {
            client: self.clone(),
            method,
            url,
            body: None,
            accept: None,
            idempotency_key: None,
            last_event_id: None,
            repeatable,
        }
    }

    pub(crate) fn get(&self, path: &[&str]) -> Call {
        self.call(Method::GET, path)
    }

    pub(crate) fn post(&self, path: &[&str]) -> Call {
        self.call(Method::POST, path)
    }
}

impl Call {
    pub(crate) fn query(mut self, name: &str, value: Option<impl ToString>) -> Self {
        if let Some(value) = value {
            self.url.query_pairs_mut().append_pair(name, &value.to_string());
        }
        self
    }

    pub(crate) fn page(self, paging: &Paging) -> Self {
        self.query("cursor", paging.cursor.as_ref()).query("limit", paging.limit)
    }

    pub(crate) fn json(mut self, body: &impl Serialize) -> Result<Self, Error> {
        let body = serde_json::to_vec(body)
            .map_err(|error| Error::Setup(format!("the request cannot be written: {error}")))?;
        self.body = Some((body.into(), "application/json"));
        Ok(self)
    }

    pub(crate) fn bytes(mut self, body: Bytes) -> Self {
        self.body = Some((body, "application/octet-stream"));
        self
    }

    pub(crate) fn accept(mut self, media_type: &'static str) -> Self {
        self.accept = Some(media_type);
        self
    }

    /// Asks for events behind this one.
    pub(crate) fn last_event_id(mut self, id: u64) -> Self {
        self.last_event_id = Some(id);
        self
    }

    /// How long a stream of this client may be without contact.
    pub(crate) fn follow_limit(&self) -> Duration {
        self.client.inner.retry.follow
    }

    /// The coordinator recognises the repetition of a request with this key.
    pub(crate) fn idempotency_key(mut self, key: String) -> Self {
        self.idempotency_key = Some(key);
        self.repeatable = true;
        self
    }

    /// Whether it records something when it is first sent.
    pub(crate) fn is_submission(&self) -> bool {
        self.idempotency_key.is_some()
    }

    pub(crate) fn repeatable(mut self) -> Self {
        self.repeatable = true;
        self
    }

    /// One attempt, up to the head of the answer.
    pub(crate) async fn attempt(&self) -> Result<Response, Error> {
        let response = self.exchange(&[]).await?;
        if response.status().is_success() {
            return Ok(response);
        }
        Err(problem(response).await)
    }

    /// One attempt to turn the connection into a WebSocket.
    pub(crate) async fn upgrade(&self) -> Result<reqwest::Upgraded, Error> {
        let key = tokio_tungstenite::tungstenite::handshake::client::generate_key();
        let response = self
            .exchange(&[
                ("connection", "Upgrade"),
                ("upgrade", "websocket"),
                ("sec-websocket-version", "13"),
                ("sec-websocket-key", &key),
            ])
            .await?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Err(problem(response).await);
        }
        let accept = response.headers().get("sec-websocket-accept");
        let expected = tokio_tungstenite::tungstenite::handshake::derive_accept_key(key.as_bytes());
        if accept.is_none_or(|accept| accept.as_bytes() != expected.as_bytes()) {
            return Err(Error::protocol(
                "the address answered with something else than a WebSocket",
            ));
        }
        response.upgrade().await.map_err(|error| self.transport_error(error))
    }

    fn request(&self) -> RequestBuilder {
        let inner = &self.client.inner;
        let mut request = inner.http.request(self.method.clone(), self.url.clone());
        if let Some(authorization) = &inner.authorization {
            request = request.header(AUTHORIZATION, authorization.clone());
        }
        if let Some(accept) = self.accept {
            request = request.header(ACCEPT, accept);
        }
        if let Some(key) = &self.idempotency_key {
            request = request.header("idempotency-key", key);
        }
        if let Some(id) = self.last_event_id.filter(|id| *id > 0) {
            request = request.header("last-event-id", id);
        }
        if let Some((body, kind)) = &self.body {
            request = request.header(CONTENT_TYPE, *kind).body(body.clone());
        }
        request
    }

    /// One attempt with a body that is made as it is sent; it takes as long as it takes.
    pub(crate) async fn attempt_stream(&self, body: Body) -> Result<Response, Error> {
        let request = self.request().header(CONTENT_TYPE, "application/octet-stream").body(body);
        let response = request.send().await.map_err(|error| self.transport_error(error))?;
        if response.status().is_success() {
            return Ok(response);
        }
        Err(problem(response).await)
    }

    async fn exchange(&self, headers: &[(&str, &str)]) -> Result<Response, Error> {
        let mut request = self.request();
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = tokio::time::timeout(ANSWER_TIMEOUT, request.send()).await;
        match answer {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => Err(self.transport_error(error)),
            Err(_) => Err(Error::Connect {
                url: self.client.url().to_owned(),
                why: format!("no answer within {} s", ANSWER_TIMEOUT.as_secs()),
                transient: true,
                sent: true,
                source: None,
            }),
        }
    }

    /// Attempts until one succeeds, is refused for good, or time is up.
    pub(crate) async fn send(&self) -> Result<Response, Error> {
        let mut attempts = Attempts::new(self.client.inner.retry.total);
        loop {
            let error = match self.attempt().await {
                Ok(response) => return Ok(response),
                Err(error) => error,
            };
            let again = error.is_transient() && (self.repeatable || error.is_unsent());
            if !again || !attempts.wait(error.retry_after()).await {
                return Err(error);
            }
            tracing::debug!(%error, url = %self.url, "trying again");
        }
    }

    /// The answer's body as JSON. When the connection breaks within the body, what can be repeated
    /// is asked again, once.
    pub(crate) async fn fetch<T: DeserializeOwned>(self) -> Result<T, Error> {
        let body = match self.send().await?.bytes().await {
            Ok(body) => body,
            Err(_) if self.repeatable => {
                let response = self.send().await?;
                response.bytes().await.map_err(|error| self.transport_error(error))?
            }
            Err(error) => return Err(self.transport_error(error)),
        };
        serde_json::from_slice(&body).map_err(|error| {
            Error::protocol(format!(
                "the answer of {} is not understood ({error})",
                self.url.path()
            ))
        })
    }

    pub(crate) fn transport_error(&self, error: reqwest::Error) -> Error {
        Error::from_transport(self.client.url(), self.client.inner.pin, error.without_url())
    }
}

/// Reads an error answer.
async fn problem(mut response: Response) -> Error {
    let status = response.status();
    let after = response
        .headers()
        .get(RETRY_AFTER)
        .and_then(|value| value.to_str().ok()?.trim().parse().ok())
        .map(Duration::from_secs);
    let request_id = response
        .headers()
        .get("x-request-id")
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
        .to_owned();
    let mut body = Vec::new();
    while let Ok(Some(chunk)) = response.chunk().await {
        if body.len() + chunk.len() > MAX_PROBLEM_BYTES {
            break;
        }
        body.extend_from_slice(&chunk);
    }
    let mut problem =
        serde_json::from_slice::<Problem>(&body).unwrap_or_else(|_| unspoken_problem(status));
    if problem.request_id.is_empty() {
        problem.request_id = request_id;
    }
    Error::Problem(Box::new(problem), after)
}

/// For an answer that some other program on the way gave.
fn unspoken_problem(status: StatusCode) -> Problem {
    let title = status.canonical_reason().unwrap_or("error").to_owned();
    Problem {
        kind: "about:blank".to_owned(),
        detail: format!(
            "the address answered {status} without saying why; is it a Reeve coordinator?"
        ),
        title,
        status: status.as_u16(),
        code: format!("http_{}", status.as_u16()),
        request_id: String::new(),
        nearest: Vec::new(),
        approval: None,
        received: None,
    }
}
