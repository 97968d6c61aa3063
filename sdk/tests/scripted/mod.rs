//! A coordinator that does what a test wrote down, bad luck included: it speaks the API's shapes
//! over real sockets, breaks connections in the middle, forgets, repeats and is busy.

#![allow(dead_code, reason = "each test file uses a part of it")]
#![allow(clippy::expect_used, clippy::large_futures, reason = "this is test code")]

mod plan;
mod routes;

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use reeve_protocol::token::Pin;
use reeve_protocol::{JobId, OperationId};
use tokio::sync::watch;

pub use plan::{Plan, Planned};

/// The key that opens it.
pub const TOKEN: &str = "rv_key_for_tests";

/// What it remembers, for tests to look at.
#[derive(Default)]
pub struct Memory {
    /// `METHOD /path?query` of everything asked.
    pub requests: Vec<String>,
    /// Authorization headers seen.
    pub authorizations: Vec<String>,
    /// By selector: what a job for it does.
    pub plans: HashMap<String, Plan>,
    pub jobs: HashMap<JobId, RecordedJob>,
    pub by_key: HashMap<String, JobId>,
    pub input: HashMap<OperationId, Input>,
    /// Machines that exist.
    pub machines: Vec<reeve_sdk::api::Machine>,
    /// One-time code that is still good.
    pub code: Option<String>,
}

pub struct RecordedJob {
    pub plan: Plan,
    pub request: reeve_sdk::api::JobRequest,
    pub operations: Vec<OperationId>,
    pub cancelled: watch::Sender<bool>,
}

/// What arrived on an operation's stdin.
#[derive(Default)]
pub struct Input {
    pub bytes: Vec<u8>,
    pub ended: bool,
    pub calls: u32,
}

pub struct Scripted {
    pub memory: Mutex<Memory>,
    /// So many requests are answered 503 first.
    pub busy: AtomicU32,
    pub input_ended: watch::Sender<bool>,
}

impl Scripted {
    pub fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn count(&self, prefix: &str) -> usize {
        self.memory().requests.iter().filter(|request| request.starts_with(prefix)).count()
    }

    pub fn plan(&self, selector: &str, plan: Plan) {
        self.memory().plans.insert(selector.to_owned(), plan);
    }
}

/// A running one. Stops with the runtime it was started on.
#[derive(Clone)]
pub struct Server {
    pub address: SocketAddr,
    pub url: String,
    pub script: Arc<Scripted>,
    /// Of its authority, when it speaks TLS.
    pub pin: Option<Pin>,
    pub ca_pem: String,
    /// Connections accepted so far.
    pub connections: Arc<AtomicU32>,
}

impl Server {
    /// Plain HTTP on loopback.
    pub async fn start() -> Self {
        Self::start_with(None).await
    }

    /// With TLS, a certificate for `names`, and an own authority.
    pub async fn start_tls(names: &[&str]) -> Self {
        Self::start_with(Some(names)).await
    }

    #[allow(clippy::disallowed_methods, reason = "a test's server ends with the test's runtime")]
    async fn start_with(names: Option<&[&str]>) -> Self {
        let script = Arc::new(Scripted {
            memory: Mutex::default(),
            busy: AtomicU32::new(0),
            input_ended: watch::Sender::new(false),
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let address = listener.local_addr().expect("address");
        let connections = Arc::new(AtomicU32::new(0));
        let tls = names.map(tls_setup);
        let (acceptor, pin, ca_pem) = match tls {
            Some((acceptor, pin, pem)) => (Some(acceptor), Some(pin), pem),
            None => (None, None, String::new()),
        };
        let service = TowerToHyperService::new(routes::router(Arc::clone(&script)));
        let counter = Arc::clone(&connections);
        let scheme = if acceptor.is_some() { "https" } else { "http" };
        tokio::spawn(async move {
            loop {
                let Ok((socket, _)) = listener.accept().await else { return };
                counter.fetch_add(1, Ordering::SeqCst);
                let (service, acceptor) = (service.clone(), acceptor.clone());
                tokio::spawn(async move {
                    let _ = socket.set_nodelay(true);
                    let server = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
                    match acceptor {
                        Some(acceptor) => {
                            if let Ok(stream) = acceptor.accept(socket).await {
                                let _ =
                                    server.serve_connection(TokioIo::new(stream), service).await;
                            }
                        }
                        None => {
                            let _ = server.serve_connection(TokioIo::new(socket), service).await;
                        }
                    }
                });
            }
        });
        Self { address, url: format!("{scheme}://{address}"), script, pin, ca_pem, connections }
    }
}

fn tls_setup(names: &[&str]) -> (tokio_rustls::TlsAcceptor, Pin, String) {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, PublicKeyData};
    use tokio_rustls::rustls;
    let mut params = CertificateParams::new(Vec::<String>::new()).expect("params");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_key = KeyPair::generate().expect("key");
    let pin = {
        use sha2::Digest;
        Pin(sha2::Sha256::digest(ca_key.subject_public_key_info()).into())
    };
    let ca = params.self_signed(&ca_key).expect("ca");
    let issuer = Issuer::new(params, ca_key);
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let key = KeyPair::generate().expect("key");
    let leaf =
        CertificateParams::new(names).expect("params").signed_by(&key, &issuer).expect("leaf");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(
            vec![leaf.der().clone(), ca.der().clone()],
            rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).expect("key"),
        )
        .expect("certificate");
    (tokio_rustls::TlsAcceptor::from(Arc::new(config)), pin, ca.pem())
}

/// Cuts the connection when a body yields it.
pub fn cut() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionReset, "cut by the script")
}
