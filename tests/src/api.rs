//! The REST API as any program would use it: requests, statuses, bodies. Stories that are about the
//! SDK use the SDK; this is for what the SDK would not let anybody send.

use std::time::Duration;

use reeve_sdk::api::Problem;
use reqwest::Method;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::runtime::Runtime;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// A person or program at the API.
#[derive(Clone)]
pub struct Api {
    runtime: std::sync::Arc<Runtime>,
    http: reqwest::Client,
    url: String,
    token: Option<String>,
    patience: Duration,
}

/// An answer, whatever its status.
#[derive(Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The headers.
    pub headers: reqwest::header::HeaderMap,
    /// The body.
    pub body: Vec<u8>,
    asked: String,
}

impl Answer {
    /// The body as JSON.
    ///
    /// # Panics
    /// When the status is no success, or the body has another shape.
    #[track_caller]
    pub fn json<T: DeserializeOwned>(&self) -> T {
        assert!((200..300).contains(&self.status), "{self}");
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self}"))
    }

    /// The problem, when the status is `status`.
    ///
    /// # Panics
    /// When the status is another, or the body is no problem.
    #[track_caller]
    pub fn problem(&self, status: u16) -> Problem {
        assert_eq!(self.status, status, "{self}");
        let kind = self.headers.get("content-type").and_then(|value| value.to_str().ok());
        assert!(kind.is_some_and(|kind| kind.starts_with("application/problem+json")), "{self}");
        let problem: Problem =
            serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self}"));
        assert_eq!(problem.status, status, "{self}");
        assert!(!problem.detail.is_empty() && !problem.code.is_empty(), "{self}");
        let id = self.headers.get("x-request-id").and_then(|value| value.to_str().ok());
        assert_eq!(id, Some(problem.request_id.as_str()), "{self}");
        problem
    }
}

impl std::fmt::Display for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} → {} {}", self.asked, self.status, String::from_utf8_lossy(&self.body))
    }
}

impl Api {
    /// Somebody who has not logged in, and trusts only the authority `ca_pem`.
    pub(crate) fn new(url: &str, ca_pem: &[u8]) -> Self {
        Self::with_connections(url, ca_pem, usize::MAX)
    }

    /// As [`Self::new`], keeping at most so many connections open that nobody uses.
    pub(crate) fn with_connections(url: &str, ca_pem: &[u8], kept: usize) -> Self {
        let _second_time = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let authority = reqwest::Certificate::from_pem(ca_pem).expect("the coordinator's CA");
        let http = reqwest::Client::builder()
            .tls_certs_only([authority])
            .no_proxy()
            .pool_max_idle_per_host(kept)
            .build()
            .expect("an HTTP client");
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        Self { runtime: runtime.into(), http, url: url.to_owned(), token: None, patience: PATIENCE }
    }

    /// The same at another address: a proxy.
    #[must_use]
    pub fn at(&self, url: &str) -> Self {
        Self { url: url.to_owned(), ..self.clone() }
    }

    /// The same, giving up on an answer after `patience`.
    #[must_use]
    pub fn with_patience(&self, patience: Duration) -> Self {
        Self { patience, ..self.clone() }
    }

    /// The same, showing `token`.
    #[must_use]
    pub fn with_token(&self, token: &str) -> Self {
        Self { token: Some(token.to_owned()), ..self.clone() }
    }

    /// The token shown.
    #[must_use]
    pub fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }

    /// Sends any request.
    ///
    /// # Errors
    /// When there is no answer at all.
    pub fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Vec<u8>,
    ) -> Result<Answer, reqwest::Error> {
        let asked = format!("{method} {path}");
        let mut request =
            self.http.request(method, format!("{}{path}", self.url)).timeout(self.patience);
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.runtime.block_on(async {
            let answer = request.body(body).send().await?;
            let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
            Ok(Answer { status, headers, body: answer.bytes().await?.to_vec(), asked })
        })
    }

    /// `GET`.
    ///
    /// # Panics
    /// When there is no answer.
    #[track_caller]
    pub fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, &[], Vec::new())
            .unwrap_or_else(|error| panic!("GET {path}: {error:?}"))
    }

    /// `GET` of a JSON answer.
    ///
    /// # Panics
    /// When there is none.
    #[track_caller]
    pub fn load<T: DeserializeOwned>(&self, path: &str) -> T {
        self.get(path).json()
    }

    /// `POST` of JSON.
    ///
    /// # Panics
    /// When there is no answer.
    #[track_caller]
    pub fn post<B: Serialize>(&self, path: &str, body: &B) -> Answer {
        self.post_with(path, &[], body)
    }

    /// `POST` of JSON with more headers.
    ///
    /// # Panics
    /// When there is no answer.
    #[track_caller]
    pub fn post_with<B: Serialize>(
        &self,
        path: &str,
        headers: &[(&str, &str)],
        body: &B,
    ) -> Answer {
        let mut all = vec![("content-type", "application/json")];
        all.extend_from_slice(headers);
        let body = serde_json::to_vec(body).expect("JSON");
        self.send(Method::POST, path, &all, body)
            .unwrap_or_else(|error| panic!("POST {path}: {error:?}"))
    }

    /// `DELETE`.
    ///
    /// # Panics
    /// When there is no answer.
    #[track_caller]
    pub fn delete(&self, path: &str) -> Answer {
        self.send(Method::DELETE, path, &[], Vec::new())
            .unwrap_or_else(|error| panic!("DELETE {path}: {error:?}"))
    }
}
