//! From the coordinator's URL to an open byte stream: proxy, TCP, TLS, pin.

use std::io;
use std::time::Duration;

use reeve_link::ReadAhead;
use reeve_protocol::token::Pin;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use url::{Host, Url};

use super::tls::{self, PinVerifier, Seen};

/// For the connection itself; TLS and what follows have their own limits.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// The head of a proxy's answer, bytes.
const MAX_PROXY_ANSWER: usize = 8 * 1024;

/// Label of the exporter (RFC 9266).
const EXPORTER_LABEL: &[u8] = b"EXPORTER-Channel-Binding";

/// Why a URL cannot be used, or nothing is behind it.
#[derive(Debug, thiserror::Error)]
pub enum EndpointError {
    /// The URL makes no sense.
    #[error("'{url}' is not a coordinator's URL: {reason}")]
    Url {
        /// As given.
        url: String,
        /// Why.
        reason: String,
    },
    /// The name has no address.
    #[error("{host} could not be resolved: {source}; check the name and the machine's DNS")]
    Resolve {
        /// The name.
        host: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Nobody answers there.
    #[error(
        "{address} could not be reached: {source}; check that the coordinator runs and that no firewall is in the way"
    )]
    Connect {
        /// Host and port.
        address: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The proxy does not let us through.
    #[error("the proxy {proxy} did not connect us: {reason}")]
    Proxy {
        /// Which proxy, without password.
        proxy: String,
        /// What it said.
        reason: String,
    },
    /// Somebody else answers.
    #[error(
        "{address} is not the coordinator this token or identity is for: its authority's pin is {seen}, expected {expected}; nothing was sent"
    )]
    WrongPin {
        /// Host and port.
        address: String,
        /// The pin presented.
        seen: String,
        /// The pin wanted.
        expected: Pin,
    },
    /// TLS failed otherwise.
    #[error("TLS with {address} failed: {source}")]
    Tls {
        /// Host and port.
        address: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It took too long.
    #[error("{address} did not answer within {limit:?} ({what})")]
    Timeout {
        /// Host and port.
        address: String,
        /// What was waited for.
        what: &'static str,
        /// How long.
        limit: Duration,
    },
}

/// Where the coordinator is.
#[derive(Clone, Debug)]
pub struct Endpoint {
    url: Url,
    host: String,
    port: u16,
    pin: Option<Pin>,
    proxy: Option<Proxy>,
}

/// An HTTP proxy that tunnels (RFC 9110, CONNECT).
#[derive(Clone, Debug)]
struct Proxy {
    host: String,
    port: u16,
    authorization: Option<String>,
}

/// What bytes travel on.
pub trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin + 'static {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> ByteStream for T {}

/// An open connection.
pub struct Opened {
    /// Its bytes.
    pub stream: Box<dyn ByteStream>,
    /// The TLS channel's binding, when there is TLS.
    pub exporter: Option<[u8; 32]>,
    /// The certificates' owner.
    pub seen: Seen,
}

impl Endpoint {
    /// Understands a coordinator's URL. Without TLS only loopback is allowed.
    ///
    /// # Errors
    /// When it makes no sense, or lacks a pin.
    pub fn new(text: &str, pin: Option<Pin>) -> Result<Self, EndpointError> {
        let bad = |reason: &str| EndpointError::Url { url: text.to_owned(), reason: reason.into() };
        let url = Url::parse(text).map_err(|error| bad(&error.to_string()))?;
        let host = url.host().ok_or_else(|| bad("it names no host"))?;
        let port = url.port_or_known_default().ok_or_else(|| bad("it names no port"))?;
        let loopback = match &host {
            Host::Domain(name) => *name == "localhost",
            Host::Ipv4(address) => address.is_loopback(),
            Host::Ipv6(address) => address.is_loopback(),
        };
        let host = match host {
            Host::Domain(name) => name.to_owned(),
            Host::Ipv4(address) => address.to_string(),
            Host::Ipv6(address) => address.to_string(),
        };
        match (url.scheme(), pin) {
            ("https", Some(_)) => {}
            ("https", None) => {
                return Err(bad("the token carries no CA pin, so the coordinator cannot be \
                                checked; create a new token on a coordinator with TLS"));
            }
            ("http", _) if loopback => {}
            ("http", _) => {
                return Err(bad("plain http is for loopback only; use https"));
            }
            _ => return Err(bad("it has to begin with https://")),
        }
        let proxy = if loopback { None } else { find_proxy(url.scheme(), &host)? };
        let pin = pin.filter(|_| url.scheme() == "https");
        Ok(Self { url, host, port, pin, proxy })
    }

    /// Host and port, for messages and the `host` header.
    #[must_use]
    pub fn address(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    /// The authority's pin, when TLS is used.
    #[must_use]
    pub fn pin(&self) -> Option<Pin> {
        self.pin
    }

    /// Whether TLS is used.
    #[must_use]
    pub fn has_tls(&self) -> bool {
        self.pin.is_some()
    }

    /// Whether a proxy is used, and which.
    #[must_use]
    pub fn proxy(&self) -> Option<String> {
        self.proxy.as_ref().map(|proxy| format!("{}:{}", proxy.host, proxy.port))
    }

    /// The URL without path.
    #[must_use]
    pub fn base_url(&self) -> String {
        format!("{}://{}", self.url.scheme(), self.address())
    }

    /// The URL of the agents' WebSocket.
    #[must_use]
    pub fn websocket_url(&self) -> String {
        let scheme = if self.has_tls() { "wss" } else { "ws" };
        format!("{scheme}://{}/ws/client", self.address())
    }

    /// Addresses of the coordinator, for the doctor.
    ///
    /// # Errors
    /// When the name has none.
    pub async fn resolve(&self) -> Result<Vec<std::net::SocketAddr>, EndpointError> {
        let found = tokio::net::lookup_host((self.host.as_str(), self.port)).await;
        found
            .map(Iterator::collect)
            .map_err(|source| EndpointError::Resolve { host: self.host.clone(), source })
    }

    /// Connects, through the proxy if there is one, without TLS.
    ///
    /// # Errors
    /// When nobody answers.
    pub async fn connect_tcp(&self) -> Result<TcpStream, EndpointError> {
        let (host, port) = match &self.proxy {
            Some(proxy) => (proxy.host.as_str(), proxy.port),
            None => (self.host.as_str(), self.port),
        };
        let address = format!("{host}:{port}");
        let connect = timeout(CONNECT_LIMIT, TcpStream::connect((host, port)));
        let stream = match connect.await {
            Err(_) => {
                let what = "TCP connection";
                return Err(EndpointError::Timeout { address, what, limit: CONNECT_LIMIT });
            }
            Ok(Err(source)) if is_resolve_error(&source) => {
                return Err(EndpointError::Resolve { host: host.to_owned(), source });
            }
            Ok(Err(source)) => return Err(EndpointError::Connect { address, source }),
            Ok(Ok(stream)) => stream,
        };
        // Small frames must not wait for company.
        let _ = stream.set_nodelay(true);
        match &self.proxy {
            None => Ok(stream),
            Some(proxy) => self.tunnel(proxy, stream).await,
        }
    }

    async fn tunnel(
        &self,
        proxy: &Proxy,
        mut stream: TcpStream,
    ) -> Result<TcpStream, EndpointError> {
        let name = format!("{}:{}", proxy.host, proxy.port);
        let failed = |reason: String| EndpointError::Proxy { proxy: name.clone(), reason };
        let target = self.address();
        let mut request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n");
        if let Some(authorization) = &proxy.authorization {
            request.push_str(&format!("Proxy-Authorization: {authorization}\r\n"));
        }
        request.push_str("\r\n");
        let exchange = async {
            stream.write_all(request.as_bytes()).await?;
            let mut answer = Vec::new();
            // Byte by byte: what follows the head belongs to the tunnel.
            while !answer.ends_with(b"\r\n\r\n") && answer.len() < MAX_PROXY_ANSWER {
                answer.push(stream.read_u8().await?);
            }
            Ok::<_, io::Error>(answer)
        };
        let answer = timeout(CONNECT_LIMIT, exchange)
            .await
            .map_err(|_| failed("it did not answer in time".to_owned()))?
            .map_err(|error| failed(error.to_string()))?;
        let line = String::from_utf8_lossy(&answer);
        let line = line.lines().next().unwrap_or_default();
        if line.split(' ').nth(1) == Some("200") {
            Ok(stream)
        } else {
            Err(failed(format!("it answered '{line}'")))
        }
    }

    /// Connects all the way.
    ///
    /// # Errors
    /// When nobody answers, or somebody else does.
    pub async fn open(&self) -> Result<Opened, EndpointError> {
        let tcp = self.connect_tcp().await?;
        let Some(pin) = self.pin else {
            return Ok(Opened { stream: Box::new(tcp), exporter: None, seen: Seen::default() });
        };
        let address = self.address();
        let failed = |source: io::Error| EndpointError::Tls { address: address.clone(), source };
        let verifier = PinVerifier::new(pin);
        let config = tls::client_config(verifier.clone())
            .map_err(|error| failed(io::Error::other(error)))?;
        let name = ServerName::try_from(self.host.clone())
            .map_err(|error| failed(io::Error::other(error)))?;
        let connector = tokio_rustls::TlsConnector::from(config);
        let connected = timeout(CONNECT_LIMIT, connector.connect(name, ReadAhead::new(tcp))).await;
        let seen = verifier.seen();
        let stream = match connected {
            Err(_) => {
                let what = "TLS";
                return Err(EndpointError::Timeout { address, what, limit: CONNECT_LIMIT });
            }
            Ok(Err(_)) if seen.last.is_some() && seen.authority.is_none() => {
                return Err(EndpointError::WrongPin {
                    address,
                    seen: seen.last.map_or_else(|| "unreadable".to_owned(), |pin| pin.to_string()),
                    expected: pin,
                });
            }
            Ok(Err(source)) => return Err(failed(source)),
            Ok(Ok(stream)) => stream,
        };
        let exporter = stream
            .get_ref()
            .1
            .export_keying_material([0; 32], EXPORTER_LABEL, None)
            .map_err(|error| failed(io::Error::other(error)))?;
        Ok(Opened { stream: Box::new(stream), exporter: Some(exporter), seen })
    }
}

/// The standard library has no kind of its own for names that do not resolve.
fn is_resolve_error(error: &io::Error) -> bool {
    error.raw_os_error().is_none() && error.to_string().contains("lookup")
}

fn find_proxy(scheme: &str, host: &str) -> Result<Option<Proxy>, EndpointError> {
    let read = |names: &[&str]| {
        names.iter().find_map(|name| std::env::var(name).ok().filter(|text| !text.is_empty()))
    };
    if scheme != "https" || read(&["NO_PROXY", "no_proxy"]).is_some_and(|list| skips(&list, host)) {
        return Ok(None);
    }
    read(&["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"])
        .map(|text| parse_proxy(&text))
        .transpose()
}

fn parse_proxy(text: &str) -> Result<Proxy, EndpointError> {
    let whole = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    let bad = |reason: &str| EndpointError::Proxy {
        // A proxy's URL may hold a password.
        proxy: "in HTTPS_PROXY".to_owned(),
        reason: reason.to_owned(),
    };
    let url = Url::parse(&whole).map_err(|error| bad(&error.to_string()))?;
    if url.scheme() != "http" {
        return Err(bad("only http:// proxies can be used"));
    }
    let host = url.host_str().ok_or_else(|| bad("it names no host"))?.to_owned();
    let authorization = (!url.username().is_empty()).then(|| {
        use base64::Engine;
        let password = url.password().unwrap_or_default();
        let plain = format!("{}:{password}", url.username());
        format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(plain))
    });
    Ok(Proxy { host, port: url.port().unwrap_or(80), authorization })
}

/// Whether a `NO_PROXY` list names the host: itself, a domain above it, or `*`.
fn skips(list: &str, host: &str) -> bool {
    list.split(',').map(str::trim).filter(|entry| !entry.is_empty()).any(|entry| {
        let domain = entry.trim_start_matches('.');
        entry == "*"
            || host.eq_ignore_ascii_case(domain)
            || host.to_ascii_lowercase().ends_with(&format!(".{}", domain.to_ascii_lowercase()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_is_for_loopback_only() {
        for good in ["http://127.0.0.1:7717", "http://localhost:1", "http://[::1]:5"] {
            assert!(Endpoint::new(good, None).is_ok(), "{good}");
        }
        for bad in ["http://example.com", "ftp://localhost:1", "https://example.com", "nonsense"] {
            assert!(Endpoint::new(bad, None).is_err(), "{bad}");
        }
        let endpoint = Endpoint::new("https://[::1]:7717/x", Some(Pin([1; 32]))).expect("valid");
        assert_eq!(endpoint.websocket_url(), "wss://[::1]:7717/ws/client");
    }

    #[test]
    fn proxy_exceptions_cover_subdomains_only() {
        assert!(skips("localhost, .example.com", "a.example.com"));
        assert!(skips("example.com", "EXAMPLE.com"));
        assert!(!skips("example.com", "badexample.com"));
        assert!(skips("*", "anything"));
        assert!(!skips("", "anything"));
    }

    #[test]
    fn proxy_takes_port_and_password() {
        let proxy = parse_proxy("http://me:secret@proxy:3128").expect("valid");
        assert_eq!((proxy.host.as_str(), proxy.port), ("proxy", 3128));
        assert_eq!(proxy.authorization.as_deref(), Some("Basic bWU6c2VjcmV0"));
        assert!(parse_proxy("socks5://proxy").is_err());
    }
}
