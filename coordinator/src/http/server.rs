//! Listening: from a TCP connection to requests with a peer, a scheme and a channel.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use reeve_link::ReadAhead;
use rustls::ServerConfig;
use rustls::server::{Acceptor, ClientHello};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;
use tokio_rustls::LazyConfigAcceptor;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use super::{Peer, Scheme, TlsExporter};
use crate::tasks::Tasks;

/// From the first byte to the end of the TLS handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// For the head of a request, and for silence between two of them.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// Headers of a request, bytes.
const MAX_HEAD_BYTES: usize = 32 * 1024;

/// Requests at the same time on one HTTP/2 connection.
const MAX_STREAMS: u32 = 256;

/// TLS handshakes of agents that are computed at the same time. After a restart thousands of them come
/// at once; beyond this many they wait their turn.
const AGENTS_AT_ONCE: usize = 64;

/// The same of others, who so are not behind thousands of agents.
const OTHERS_AT_ONCE: usize = 64;

/// For so long a handshake has its turn: one whose peer is far away or silent holds nobody up.
const HANDSHAKE_TURN: Duration = Duration::from_millis(20);

/// After an error of `accept(2)` such as too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// RFC 9266.
const EXPORTER_LABEL: &[u8] = b"EXPORTER-Channel-Binding";

/// What agents offer to speak, and nothing else (ALPN, RFC 7301). Who claims to be one waits behind all
/// of them; who claims not to be one waits behind those who do so.
const AGENTS_OFFER: &[u8] = b"http/1.1";

/// The first byte of a TLS record that begins a handshake (RFC 8446, 5.1).
const TLS_HANDSHAKE: u8 = 0x16;

/// What every connection needs.
#[derive(Clone)]
pub struct Server {
    /// Who answers.
    pub router: Router,
    /// `None`: plain HTTP.
    pub tls: Option<Arc<ServerConfig>>,
    /// Where connections are spawned.
    pub tasks: Tasks,
    /// Connections at the same time, upgraded ones included. Beyond, the kernel keeps them waiting.
    pub max_connections: usize,
}

/// A listener at work.
pub struct Listening {
    stop: CancellationToken,
    accepting: JoinHandle<GracefulShutdown>,
}

impl Server {
    /// Takes connections until [`Listening::stop`].
    #[must_use]
    pub fn listen(self, listener: TcpListener) -> Listening {
        let stop = CancellationToken::new();
        let tasks = self.tasks.clone();
        let accepting = tasks.spawn_vital("listener", accept(self, listener, stop.clone()));
        Listening { stop, accepting }
    }
}

impl Listening {
    /// Takes no more connections and waits until the requests under way have been answered, at most
    /// `limit`. Upgraded connections are their handlers' business.
    pub async fn stop(self, limit: Duration) {
        self.stop.cancel();
        let Ok(graceful) = self.accepting.await else { return };
        let open = graceful.count();
        if tokio::time::timeout(limit, graceful.shutdown()).await.is_err() {
            tracing::warn!(open, "some requests were not answered in time");
        }
    }
}

async fn accept(
    server: Server,
    listener: TcpListener,
    stop: CancellationToken,
) -> GracefulShutdown {
    let graceful = GracefulShutdown::new();
    let places = Arc::new(Semaphore::new(server.max_connections.min(Semaphore::MAX_PERMITS)));
    let tasks = server.tasks.clone();
    let shared = Arc::new(Shared {
        server,
        agents: Semaphore::new(AGENTS_AT_ONCE),
        others: Semaphore::new(OTHERS_AT_ONCE),
    });
    loop {
        let place = tokio::select! {
            () = stop.cancelled() => return graceful,
            place = Arc::clone(&places).acquire_owned() => place,
        };
        // The semaphore is never closed.
        let Ok(place) = place else { return graceful };
        let accepted = tokio::select! {
            () = stop.cancelled() => return graceful,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                metrics::counter!("reeve_http_connections_total").increment(1);
                let (shared, watcher) = (Arc::clone(&shared), graceful.watcher());
                tasks.spawn("connection", async move {
                    if let Err(error) = serve(&shared, stream, peer, watcher, place).await {
                        tracing::debug!(%peer, %error, "connection ended");
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be taken");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// What all connections of a listener share.
struct Shared {
    server: Server,
    /// Turns of handshakes.
    agents: Semaphore,
    others: Semaphore,
}

impl Shared {
    fn turns(&self, hello: &ClientHello<'_>) -> &Semaphore {
        let is_agent =
            hello.alpn().is_some_and(|mut offered| offered.all(|each| each == AGENTS_OFFER));
        if is_agent { &self.agents } else { &self.others }
    }
}

async fn serve(
    shared: &Shared,
    mut stream: TcpStream,
    peer: SocketAddr,
    watcher: Watcher,
    place: OwnedSemaphorePermit,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let server = &shared.server;
    let Some(tls) = &server.tls else {
        let facts = Facts { peer, scheme: Scheme::Http, exporter: None };
        return serve_http(server, Placed { stream, _place: place }, facts, watcher).await;
    };
    let handshake = async {
        let mut first = [0];
        if stream.peek(&mut first).await? == 0 {
            return Ok(None);
        }
        if first != [TLS_HANDSHAKE] {
            refuse_plain(&mut stream).await?;
            return Ok(None);
        }
        // The first message costs little; all that is dear comes behind it.
        let hello = LazyConfigAcceptor::new(Acceptor::default(), ReadAhead::new(stream)).await?;
        let turn = shared.turns(&hello.client_hello()).acquire().await.map_err(io::Error::other)?;
        let mut accepting = std::pin::pin!(hello.into_stream(Arc::clone(tls)));
        let in_time = tokio::time::timeout(HANDSHAKE_TURN, &mut accepting).await;
        drop(turn);
        match in_time {
            Ok(accepted) => accepted.map(Some),
            Err(_) => accepting.await.map(Some),
        }
    };
    let stream = tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake)
        .await
        .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "no TLS handshake in time"))??;
    let Some(stream) = stream else { return Ok(()) };
    let exporter = stream
        .get_ref()
        .1
        .export_keying_material([0; 32], EXPORTER_LABEL, Some(&[]))
        .map(TlsExporter)
        .map_err(io::Error::other)?;
    let facts = Facts { peer, scheme: Scheme::Https, exporter: Some(exporter) };
    serve_http(server, Placed { stream, _place: place }, facts, watcher).await
}

/// What is known of a connection and told to its requests.
#[derive(Clone, Copy)]
struct Facts {
    peer: SocketAddr,
    scheme: Scheme,
    exporter: Option<TlsExporter>,
}

async fn serve_http<S>(server: &Server, stream: S, facts: Facts, watcher: Watcher) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let router = server.router.clone();
    let service = hyper::service::service_fn(move |request: hyper::Request<Incoming>| {
        let mut request = request.map(Body::new);
        let extensions = request.extensions_mut();
        extensions.insert(Peer(facts.peer));
        extensions.insert(facts.scheme);
        if let Some(exporter) = facts.exporter {
            extensions.insert(exporter);
        }
        let router = router.clone();
        async move { Ok::<_, Infallible>(router.oneshot(request).await.unwrap_or_else(|e| match e {})) }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MAX_HEAD_BYTES);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(Duration::from_secs(20))
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HEAD_BYTES as u32);
    let connection =
        builder.serve_connection_with_upgrades(TokioIo::new(stream), service).into_owned();
    watcher.watch(connection).await.map_err(io::Error::other)
}

/// Somebody speaks plain HTTP to the TLS port: they get an answer they can read.
async fn refuse_plain(stream: &mut TcpStream) -> io::Result<()> {
    const BODY: &str = r#"{"type":"about:blank","title":"Bad Request","status":400,"detail":"this port speaks HTTPS: write https:// instead of http://","code":"https_required","request_id":""}"#;
    let answer = format!(
        "HTTP/1.1 400 Bad Request\r\nContent-Type: application/problem+json\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{BODY}",
        BODY.len()
    );
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await?;
    // Closing with unread bytes would reset the connection before the answer was read.
    let mut rest = stream.take(MAX_HEAD_BYTES as u64);
    tokio::io::copy(&mut rest, &mut tokio::io::sink()).await?;
    Ok(())
}

/// A connection with its place, which it keeps when it is upgraded.
struct Placed<S> {
    stream: S,
    _place: OwnedSemaphorePermit,
}

impl<S: AsyncRead + Unpin> AsyncRead for Placed<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Placed<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buffer)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use rustls::pki_types::ServerName;
    use rustls::{ClientConfig, ClientConnection, RootCertStore};

    use super::*;

    /// The first message of a client that offers these.
    fn hello(offers: &[&str]) -> rustls::server::Accepted {
        let mut config = ClientConfig::builder()
            .with_root_certificates(RootCertStore::empty())
            .with_no_client_auth();
        config.alpn_protocols = offers.iter().map(|each| each.as_bytes().to_vec()).collect();
        let name = ServerName::try_from("localhost").expect("a name");
        let mut client = ClientConnection::new(config.into(), name).expect("a client");
        let mut bytes = Vec::new();
        client.write_tls(&mut bytes).expect("written");
        let mut acceptor = Acceptor::default();
        acceptor.read_tls(&mut bytes.as_slice()).expect("read");
        acceptor.accept().expect("no error").expect("a whole message")
    }

    #[tokio::test]
    async fn who_is_no_agent_has_turns_that_agents_cannot_take() {
        let (router, tasks) = (Router::new(), Tasks::new());
        let server = Server { router, tls: None, tasks, max_connections: 1 };
        let (agents, others) = (Semaphore::new(1), Semaphore::new(1));
        let shared = Shared { server, agents, others };
        for (offers, is_agent) in [
            (&["http/1.1"][..], true),
            (&["h2", "http/1.1"], false),
            (&["h2"], false),
            (&[], false),
        ] {
            let hello = hello(offers);
            let turns = shared.turns(&hello.client_hello());
            let expected = if is_agent { &shared.agents } else { &shared.others };
            assert!(std::ptr::eq(turns, expected), "{offers:?}");
        }
    }
}
