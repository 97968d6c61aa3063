//! How a client is set up.

use std::sync::Arc;
use std::time::Duration;

use reeve_protocol::token::Pin;
use reqwest::header::HeaderValue;
use url::{Host, Url};

use super::{Client, Inner};
use crate::tls::{Trust, client_config};
use crate::{Error, RetryLimits};

/// Until a connection, TLS included, stands.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Describes a [`Client`].
pub struct Builder {
    url: String,
    token: Option<String>,
    trust: Trust,
    retry: RetryLimits,
    connect_timeout: Duration,
}

impl Builder {
    pub(super) fn new(url: &str) -> Self {
        Self {
            url: url.to_owned(),
            token: None,
            trust: Trust::System,
            retry: RetryLimits::default(),
            connect_timeout: CONNECT_TIMEOUT,
        }
    }

    /// The key or session token to show.
    #[must_use]
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.token = Some(token.into());
        self
    }

    /// Trust only the authority with this key.
    #[must_use]
    pub fn pin(mut self, pin: Pin) -> Self {
        self.trust = Trust::Pin(pin);
        self
    }

    /// Trust only these authorities (PEM).
    #[must_use]
    pub fn ca_pem(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.trust = Trust::Authorities(pem.into());
        self
    }

    /// For how long to go on trying.
    #[must_use]
    pub fn retry(mut self, limits: RetryLimits) -> Self {
        self.retry = limits;
        self
    }

    /// How long a connection may take to stand; 10 seconds when left out.
    #[must_use]
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// Makes the client. Nothing is sent yet.
    ///
    /// # Errors
    /// When the address is none, is plain HTTP to another machine, or the CA is unusable.
    pub fn build(self) -> Result<Client, Error> {
        let mut base = Url::parse(&self.url).map_err(|error| {
            Error::Setup(format!(
                "'{}' is no address ({error}); it has to look like https://host:7717",
                self.url
            ))
        })?;
        let plain = match base.scheme() {
            "https" => false,
            "http" if is_loopback(&base) => true,
            "http" => {
                return Err(Error::Setup(format!(
                    "plain HTTP to '{}' would show your key to the network; use https://",
                    base.host_str().unwrap_or_default()
                )));
            }
            other => {
                return Err(Error::Setup(format!(
                    "'{other}' is no way to reach a coordinator; use https://"
                )));
            }
        };
        if base.host_str().is_none_or(str::is_empty) {
            return Err(Error::Setup(format!(
                "'{}' names no host; use https://host:7717",
                self.url
            )));
        }
        base.set_fragment(None);
        base.set_query(None);
        let path = base.path().trim_end_matches('/').to_owned();
        base.set_path(&path);
        let pin = match &self.trust {
            Trust::Pin(pin) if !plain => Some(*pin),
            _ => None,
        };
        let tls = client_config(if plain { &Trust::Nobody } else { &self.trust })?;
        let mut http = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            // One exchange at a time per connection: no flow-control window between a gigabyte of
            // output and its reader, and nothing to negotiate when a short-lived program starts.
            .http1_only()
            .tcp_nodelay(true)
            .connect_timeout(self.connect_timeout)
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("reeve/", env!("CARGO_PKG_VERSION")));
        if is_loopback(&base) {
            http = http.no_proxy();
        }
        let http =
            http.build().map_err(|error| Error::Setup(format!("cannot set up HTTP: {error}")))?;
        let authorization = self
            .token
            .map(|token| {
                let mut value = HeaderValue::try_from(format!("Bearer {}", token.trim()))
                    .map_err(|_| Error::Setup("the key has characters no key has".to_owned()))?;
                value.set_sensitive(true);
                Ok::<_, Error>(value)
            })
            .transpose()?;
        Ok(Client { inner: Arc::new(Inner { http, base, authorization, pin, retry: self.retry }) })
    }
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(url: &str) -> String {
        Client::builder(url).build().expect_err(url).to_string()
    }

    #[test]
    fn addresses_that_would_leak_or_lead_nowhere_are_refused() {
        assert!(refused("http://192.0.2.1:7717").contains("plain HTTP"));
        assert!(refused("ftp://host").contains("'ftp'"));
        assert!(refused("host").contains("https://host:7717"));
        assert!(Client::builder("http://127.0.0.1:1").build().is_ok());
        assert!(Client::builder("http://[::1]:1").build().is_ok());
    }

    #[test]
    fn the_key_is_not_shown_by_debug() {
        let client = Client::builder("http://localhost:1").token("rv_secret").build().expect("ok");
        assert!(!format!("{client:?}").contains("rv_secret"));
    }
}
