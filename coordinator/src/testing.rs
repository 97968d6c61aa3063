//! A whole coordinator in a test, asked over real HTTP.

use std::future::Future;
use std::path::Path;
use std::sync::Arc;

use reeve_sdk::api::{LoginResponse, Problem, Role, SetupRequest, UserCreated};
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode};
use rustls::crypto::aws_lc_rs;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use tempfile::TempDir;
use tokio::net::TcpListener;

use crate::config::{Args, Config};
use crate::db::testing::postgres_url;
use crate::start::start_at;
use crate::{Clock, Running};

/// Long enough for the rules.
pub const PASSWORD: &str = "correct horse battery";

/// A coordinator of its own, on a port of its own, with data of its own.
pub struct TestCoordinator {
    /// What it is made of.
    pub running: Running,
    /// Its data.
    pub folder: TempDir,
    client: Client,
}

/// Runs a test with a coordinator on SQLite, then with one on PostgreSQL.
pub async fn for_each_engine<F, Fut>(test: F)
where
    F: Fn(TestCoordinator) -> Fut,
    Fut: Future<Output = ()>,
{
    eprintln!("engine: sqlite");
    test(TestCoordinator::start().await).await;
    eprintln!("engine: postgres");
    let url = postgres_url().await;
    test(TestCoordinator::start_with(|config| config.database.url = url.clone()).await).await;
}

impl TestCoordinator {
    /// On SQLite, with every default.
    pub async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    /// With some settings changed.
    pub async fn start_with(change: impl FnOnce(&mut Config)) -> Self {
        Self::start_at(Clock::system(), change).await
    }

    /// With a clock of the test's own.
    pub async fn start_at(clock: Clock, change: impl FnOnce(&mut Config)) -> Self {
        let folder = TempDir::new().expect("a folder");
        let mut config = config(folder.path());
        change(&mut config);
        let listener = TcpListener::bind(config.listen).await.expect("a port");
        let running = start_at(config, listener, clock).await.expect("a coordinator");
        let client = client(running.state.ca.pem().as_deref());
        Self { running, folder, client }
    }

    /// Ends it and starts it again on the same data, on another port.
    pub async fn restart(self) -> Self {
        let Self { running, folder, client: _ } = self;
        let (config, clock) = ((*running.state.config).clone(), running.state.clock.clone());
        running.shutdown().await;
        let listener = TcpListener::bind(config.listen).await.expect("a port");
        let running = start_at(config, listener, clock).await.expect("a coordinator");
        let client = client(running.state.ca.pem().as_deref());
        Self { running, folder, client }
    }

    /// Where it listens, `https://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        self.running.state.url.as_str().trim_end_matches('/').to_owned()
    }

    /// A request without a token.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path}", self.url()))
    }

    /// A request with a token.
    pub fn request_as(&self, token: &str, method: Method, path: &str) -> RequestBuilder {
        self.request(method, path).bearer_auth(token)
    }

    /// Asks and expects a good answer.
    pub async fn get<T: DeserializeOwned>(&self, token: &str, path: &str) -> T {
        good(self.request_as(token, Method::GET, path).send().await.expect("an answer")).await
    }

    /// Sends and expects a good answer.
    pub async fn post<T: DeserializeOwned>(
        &self,
        token: &str,
        path: &str,
        body: &(impl Serialize + Sync),
    ) -> T {
        let request = self.request_as(token, Method::POST, path).json(body);
        good(request.send().await.expect("an answer")).await
    }

    /// Uses the first start's code: the token of `admin`.
    pub async fn set_up(&self) -> String {
        let code = self.running.setup.as_ref().expect("nobody set it up").code.clone();
        self.use_code(&code).await
    }

    /// Uses a one-time code: the token of its person.
    pub async fn use_code(&self, code: &str) -> String {
        let request =
            SetupRequest { code: code.to_owned(), password: PASSWORD.to_owned(), name: None };
        let answer: LoginResponse = self.post("", "/api/auth/setup", &request).await;
        answer.token
    }

    /// Adds a person and logs them in.
    pub async fn add_user(&self, admin: &str, name: &str, role: Role, scope: &str) -> String {
        let body = json!({ "name": name, "role": role, "scope": scope });
        let created: UserCreated = self.post(admin, "/api/users", &body).await;
        self.use_code(&created.code).await
    }
}

/// Every default, but for loopback and any port.
pub fn config(data: &Path) -> Config {
    let args = Args {
        data: Some(data.to_owned()),
        listen: Some(([127, 0, 0, 1], 0).into()),
        ..Args::default()
    };
    let mut config = crate::config::load(&args).expect("defaults");
    config.drain.timeout = std::time::Duration::from_secs(10);
    config
}

/// A client that trusts this certificate only, and follows nothing.
pub fn client(trusted: Option<&str>) -> Client {
    let mut roots = rustls::RootCertStore::empty();
    if let Some(pem) = trusted {
        let certificate = CertificateDer::from_pem_slice(pem.as_bytes()).expect("a certificate");
        roots.add(certificate).expect("an anchor");
    }
    let mut tls =
        rustls::ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Client::builder()
        .tls_backend_preconfigured(tls)
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .build()
        .expect("a client")
}

/// The body of a good answer.
pub async fn good<T: DeserializeOwned>(response: Response) -> T {
    let status = response.status();
    let text = response.text().await.expect("a body");
    assert!(status.is_success(), "{status}: {text}");
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// Expects a problem with this status and code.
pub async fn refused(request: RequestBuilder, status: StatusCode, code: &str) -> Problem {
    let response = request.send().await.expect("an answer");
    let found = response.status();
    let kind = response.headers().get("content-type").cloned();
    let text = response.text().await.expect("a body");
    let problem: Problem =
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{found} {error}: {text}"));
    assert_eq!((found, problem.code.as_str()), (status, code), "{text}");
    assert_eq!(problem.status, status.as_u16());
    assert_eq!(kind.expect("a type"), "application/problem+json");
    assert!(!problem.request_id.is_empty() && !problem.detail.is_empty(), "{text}");
    problem
}
