//! One attempt: a request goes out, a reply is read to its end or to its trouble.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{Either, select};
use futures_util::stream::StreamExt;
use http::{HeaderMap, HeaderName, HeaderValue};
use reeve_sdk::api::{ProviderSettings, RateLimitWindow};
use reqwest::Response;
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

use crate::body::{self, Framing};
use crate::clock::Clock;
use crate::credential::{Credential, Credentials};
use crate::endpoint::Endpoint;
use crate::error::{ErrorCode, ModelError};
use crate::event::{Completed, Event, Stop, TokenUsage};
use crate::options::Limits;
use crate::wires::{Call, Reader, Spoken, Trouble};
use crate::{faults, headers};

/// What an attempt gave, whether it went well or not.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    pub(crate) text: String,
    pub(crate) stop: Option<Stop>,
    pub(crate) usage: TokenUsage,
    pub(crate) http_status: Option<u16>,
    /// From the request to the first piece of text.
    pub(crate) first_text: Option<Duration>,
    pub(crate) limits: Vec<RateLimitWindow>,
    /// Any event was told.
    pub(crate) told: bool,
}

/// All that an attempt needs.
pub(crate) struct Attempt<'a> {
    pub(crate) call: Call<'a>,
    pub(crate) wire: &'static dyn Spoken,
    pub(crate) endpoint: &'a Endpoint,
    pub(crate) credentials: &'a dyn Credentials,
    pub(crate) credential: &'a Credential,
    pub(crate) limits: Limits,
    pub(crate) clock: Arc<dyn Clock>,
}

/// The innermost cause: reqwest's own text holds the address and little else.
pub(crate) fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    faults::one_line(&cause.to_string())
}

/// The values that must not appear in any text of ours.
pub(crate) struct Secrets(Vec<SecretString>);

impl Secrets {
    /// Takes them out of a text: a server may repeat what it was shown.
    pub(crate) fn scrub(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for secret in &self.0 {
            let secret = secret.expose_secret();
            if secret.len() >= 4 && text.contains(secret) {
                text = text.replace(secret, "[key]");
            }
        }
        text
    }
}

fn sensitive(value: &str, name: &HeaderName) -> Result<HeaderValue, ModelError> {
    let mut value = HeaderValue::try_from(value).map_err(|_| {
        ModelError::new(
            ErrorCode::Key,
            format!("what goes into the header {name} has characters no header has; is there a line end in the key?"),
        )
    })?;
    value.set_sensitive(true);
    Ok(value)
}

impl Attempt<'_> {
    fn provider(&self) -> &ProviderSettings {
        self.call.provider
    }

    /// Headers of the request, and the secrets in them.
    fn headers(&self, own: Vec<(HeaderName, String)>) -> Result<(HeaderMap, Secrets), ModelError> {
        let mut all = HeaderMap::new();
        let mut secrets = Vec::new();
        for (name, value) in own {
            let value = sensitive(&value, &name)?;
            all.insert(name, value);
        }
        let shown = match self.credential {
            Credential::None => None,
            Credential::Key(key) => Some((self.wire.key_header(), key)),
            Credential::Bearer(token) => Some(((http::header::AUTHORIZATION, "Bearer "), token)),
        };
        if let Some(((name, before), secret)) = shown {
            let secret = SecretString::from(secret.expose_secret().trim().to_owned());
            all.insert(
                name.clone(),
                sensitive(&format!("{before}{}", secret.expose_secret()), &name)?,
            );
            secrets.push(secret);
        }
        let unknown = |_| ModelError::new(ErrorCode::Settings, "a header has no valid name");
        for (name, value) in &self.provider().headers {
            let name = HeaderName::try_from(name.as_str()).map_err(unknown)?;
            let value = sensitive(value, &name)?;
            all.insert(name, value);
        }
        for (name, variable) in &self.provider().env_headers {
            let name = HeaderName::try_from(name.as_str()).map_err(unknown)?;
            let Some(secret) = self.credentials.variable(variable) else {
                return Err(ModelError::new(
                    ErrorCode::Key,
                    format!(
                        "{}: the header {name} comes from {}, which is not set in the coordinator's environment",
                        self.provider().name,
                        faults::one_line(variable)
                    ),
                ));
            };
            all.insert(name.clone(), sensitive(secret.expose_secret().trim(), &name)?);
            secrets.push(SecretString::from(secret.expose_secret().trim().to_owned()));
        }
        Ok((all, Secrets(secrets)))
    }

    /// Makes the attempt. `heard` holds what came, however it ends.
    pub(crate) async fn make(
        &self,
        heard: &mut Heard,
        events: &mut (dyn FnMut(Event) + Send),
    ) -> Result<Completed, ModelError> {
        let request = self.wire.request(&self.call)?;
        let (headers, secrets) = self.headers(request.headers)?;
        let result = self.exchange(request.url, headers, &request.body, heard, events).await;
        result.map_err(|mut error| {
            error.message = secrets.scrub(&error.message);
            error
        })
    }

    async fn exchange(
        &self,
        url: url::Url,
        headers: HeaderMap,
        body: &Value,
        heard: &mut Heard,
        events: &mut (dyn FnMut(Event) + Send),
    ) -> Result<Completed, ModelError> {
        let started = self.clock.elapsed();
        let due = started + self.limits.first_byte;
        let send = self.endpoint.http.post(url).headers(headers).json(body).send();
        let limit = self.clock.limit(self.limits.first_byte);
        let response = match select(Box::pin(send), limit).await {
            Either::Left((Ok(response), _)) => response,
            Either::Left((Err(error), _)) => return Err(self.not_sent(&error)),
            Either::Right(((), _)) => {
                let seconds = self.limits.first_byte.as_secs_f64();
                return Err(ModelError::new(
                    ErrorCode::Timeout,
                    format!("{}: no reply within {seconds} s", self.provider().name),
                )
                .again());
            }
        };
        heard.http_status = Some(response.status().as_u16());
        heard.limits = headers::rate_limits(response.headers(), self.clock.now());
        if !heard.limits.is_empty() {
            events(Event::RateLimits(heard.limits.clone()));
        }
        if response.status() != http::StatusCode::OK {
            return Err(self.refusal(response, due).await);
        }
        self.check_encoding(response.headers())?;
        let kind = response
            .headers()
            .get(http::header::CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .map(|kind| kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase());
        let is_whole = match kind.as_deref() {
            Some("text/html" | "application/xhtml+xml") => {
                return Err(ModelError::new(
                    ErrorCode::Settings,
                    format!(
                        "{} answers with a web page; correct base_url with `reeve models add {0}`",
                        self.provider().name
                    ),
                ));
            }
            // Asked for a stream, it does not stream: one event, then.
            Some("application/json") => self.wire.framing() == Framing::Events,
            _ => false,
        };
        let completed = self.read(response, is_whole, started, due, heard, events).await;
        completed.map_err(|error| ModelError {
            http_status: heard.http_status,
            message: self.named(&error.message),
            ..error
        })
    }

    /// With the provider's name in front.
    fn named(&self, message: &str) -> String {
        let name = &self.provider().name;
        if message.contains(name.as_str()) {
            message.to_owned()
        } else {
            format!("{name}: {message}")
        }
    }

    fn not_sent(&self, error: &reqwest::Error) -> ModelError {
        let host = self.endpoint.base.host_str().unwrap_or_default();
        let cause = root_cause(error);
        let name = &self.provider().name;
        if error.is_connect() || error.is_timeout() {
            let message =
                format!("cannot reach {name} at {host}: {cause}; is base_url right, and is it up?");
            let error = ModelError::new(ErrorCode::Unreachable, message);
            // A certificate that is wrong now is wrong in ten seconds.
            return if cause.contains("certificate") { error } else { error.again() };
        }
        ModelError::broken(format!("{name}: the connection broke before a reply: {cause}"))
    }

    async fn refusal(&self, response: Response, due: Duration) -> ModelError {
        let (status, headers) = (response.status(), response.headers().clone());
        let mut body = response.bytes_stream().boxed();
        let read = Box::pin(body::read_some(&mut body, self.limits.error_bytes));
        let limit = self.clock.limit(due.saturating_sub(self.clock.elapsed()));
        let (bytes, _) = match select(read, limit).await {
            Either::Left((read, _)) => read,
            // What it says in the status is enough.
            Either::Right(_) => (Vec::new(), false),
        };
        let model = &self.call.model.name;
        if status.is_success() {
            return ModelError::broken(format!(
                "{} answers with HTTP {status}",
                self.provider().name
            ))
            .with_status(status.as_u16());
        }
        faults::from_reply(self.provider(), model, status, &headers, &bytes, self.clock.now())
    }

    fn check_encoding(&self, headers: &HeaderMap) -> Result<(), ModelError> {
        match headers.get(http::header::CONTENT_ENCODING) {
            Some(encoding) if encoding != "identity" => Err(ModelError::new(
                ErrorCode::Broken,
                format!("{} sends a compressed reply, unasked", self.provider().name),
            )
            .with_status(200)),
            _ => Ok(()),
        }
    }

    async fn read(
        &self,
        response: Response,
        is_whole: bool,
        started: Duration,
        due: Duration,
        heard: &mut Heard,
        events: &mut (dyn FnMut(Event) + Send),
    ) -> Result<Completed, ModelError> {
        let mut reader = self.wire.reader();
        let mut stream = response.bytes_stream().boxed();
        if is_whole {
            let read = Box::pin(body::read_some(&mut stream, self.limits.reply_bytes));
            let limit = self.clock.limit(self.limits.idle);
            let Either::Left(((bytes, true), _)) = select(read, limit).await else {
                return Err(ModelError::broken("the reply does not come to its end"));
            };
            let data = serde_json::from_slice(&bytes)
                .map_err(|_| ModelError::broken("the reply is no JSON"))?;
            self.take(&mut *reader, &data, started, heard, events)?;
        } else {
            let framing = self.wire.framing();
            let clock = Arc::clone(&self.clock);
            let mut frames = body::frames(stream, framing, self.limits, clock, due);
            while !reader.progress().is_over {
                let next = if reader.progress().stop.is_some() {
                    // The model is done; what may follow is usage. Some servers never close.
                    match select(frames.next(), self.clock.limit(self.limits.tail)).await {
                        Either::Left((next, _)) => next,
                        Either::Right(_) => None,
                    }
                } else {
                    frames.next().await
                };
                let Some(frame) = next else { break };
                let frame = match frame {
                    Ok(frame) => frame,
                    Err(_) if reader.progress().stop.is_some() => break,
                    Err(error) => return Err(error),
                };
                let data = match frame.data.trim() {
                    "[DONE]" => Value::String("[DONE]".to_owned()),
                    text => serde_json::from_str(text).map_err(|_| {
                        tracing::debug!(event = frame.name, "an event of a model is no JSON");
                        ModelError::broken("an event of the reply is no JSON")
                    })?,
                };
                self.take(&mut *reader, &data, started, heard, events)?;
            }
        }
        let Some(completed) = reader.progress().completed() else {
            return Err(ModelError::broken("the reply broke off before its end"));
        };
        heard.stop = Some(completed.stop.clone());
        Ok(completed)
    }

    fn take(
        &self,
        reader: &mut dyn Reader,
        data: &Value,
        started: Duration,
        heard: &mut Heard,
        events: &mut (dyn FnMut(Event) + Send),
    ) -> Result<(), ModelError> {
        let mut new = Vec::new();
        let result = reader.read(data, &mut new);
        heard.usage = reader.progress().usage;
        for event in new {
            if let Event::Text(text) = &event {
                heard.text.push_str(text);
                if heard.first_text.is_none() {
                    heard.first_text = Some(self.clock.elapsed().saturating_sub(started));
                }
            }
            heard.told = true;
            events(event);
        }
        result.map_err(|trouble| match trouble {
            Trouble::Said(event) => {
                faults::in_stream(self.provider(), &self.call.model.name, &event)
            }
            Trouble::Broken(why) => ModelError::broken(why),
        })
    }
}
