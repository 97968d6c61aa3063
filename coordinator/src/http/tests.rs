use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::routing::get;
use axum::{Extension, Router};
use reeve_sdk::api::{ApiKeyCreated, Role};
use reqwest::{Method, StatusCode, Version, header};
use rustls::crypto::aws_lc_rs;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tower_http::catch_panic::CatchPanicLayer;

use super::access::{ACCESS, Access, find_access};
use super::{Server, TlsExporter, layers, openapi};
use crate::config::Tls;
use crate::tasks::Tasks;
use crate::testing::{PASSWORD, TestCoordinator, client, config, refused};

/// What is described, and what is added without a description.
fn routes() -> Vec<(Method, String)> {
    let mut routes = openapi::list_routes(&super::document());
    find_plain_routes(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src")), &mut routes);
    routes
}

/// A route that is not in the description of the API could hide from this test: it is found in the
/// source.
fn find_plain_routes(folder: &Path, routes: &mut Vec<(Method, String)>) {
    for entry in std::fs::read_dir(folder).expect("sources").flatten() {
        let path = entry.path();
        if path.is_dir() {
            find_plain_routes(&path, routes);
        } else if path.extension().is_some_and(|ending| ending == "rs")
            && path.file_stem().is_none_or(|name| name != "tests")
        {
            let text = std::fs::read_to_string(&path).expect("a source file");
            for rest in text.split(".route(\"").skip(1) {
                let (template, handler) = rest.split_once('"').expect("the end of the path");
                let handler = handler.lines().next().unwrap_or_default();
                let method = if handler.contains("post(") { Method::POST } else { Method::GET };
                if !routes.contains(&(method.clone(), template.to_owned())) {
                    routes.push((method, template.to_owned()));
                }
            }
        }
    }
}

#[test]
fn every_route_says_who_may_call_it() {
    for (method, path) in routes() {
        assert!(
            find_access(&method, &path).is_some(),
            "{method} {path} is not in the table in http/access.rs, so it answers nobody"
        );
    }
    let mut seen = BTreeSet::new();
    let routes = routes();
    for (method, path, _) in ACCESS {
        assert!(
            routes.contains(&(method.clone(), (*path).to_owned())),
            "{method} {path} is in the table in http/access.rs, but nothing answers it"
        );
        assert!(seen.insert(format!("{method} {path}")), "{method} {path} is in the table twice");
    }
}

#[tokio::test]
async fn every_route_lets_in_whom_the_table_says_and_nobody_else() {
    let server =
        TestCoordinator::start_with(|config| config.limits.logins_per_minute = 10_000).await;
    let admin = server.set_up().await;
    let mut keys = Vec::new();
    for role in [Role::Viewer, Role::Operator, Role::Approver, Role::Admin] {
        let body = json!({ "name": role.as_str(), "role": role });
        let key: ApiKeyCreated = server.post(&admin, "/api/auth/keys", &body).await;
        keys.push((role, key.token));
    }
    let mut walked = 0;
    for (method, template) in routes() {
        let path = template.replace(['{', '}'], "");
        let access = find_access(&method, &template).expect("declared");
        let status = |token: Option<String>| {
            let mut request = server.request(method.clone(), &path);
            if let Some(token) = token {
                request = request.bearer_auth(token);
            }
            // What the routes make of this is not the question here.
            let request = if method == Method::GET { request } else { request.json(&json!({})) };
            async move { request.send().await.expect("an answer").status() }
        };
        let Access::Role(needed) = access else {
            assert_ne!(status(None).await, StatusCode::FORBIDDEN, "{method} {template}");
            continue;
        };
        assert_eq!(status(None).await, StatusCode::UNAUTHORIZED, "{method} {template} by nobody");
        for (role, key) in &keys {
            let forbidden = status(Some(key.clone())).await == StatusCode::FORBIDDEN;
            // A key may not make keys; that is the route's own rule.
            if (&method, template.as_str()) != (&Method::POST, "/api/auth/keys") {
                assert_eq!(forbidden, *role < needed, "{method} {template} by {}", role.as_str());
            }
            walked += 1;
        }
    }
    assert!(walked >= 4 * 35, "only {walked} were walked");
}

#[test]
fn the_description_of_the_api_is_the_committed_one() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/openapi.json");
    let text = super::document().to_pretty_json().expect("a document") + "\n";
    if std::env::var_os("REEVE_UPDATE").is_some() {
        std::fs::write(path, &text).expect("written");
    }
    let committed = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        committed == text,
        "the API differs from coordinator/openapi.json; if that is meant, run \
         `REEVE_UPDATE=1 cargo test -p reeve-coordinator the_description` and commit the file"
    );
}

#[test]
fn operations_have_ids_of_their_own() {
    let document = serde_json::to_value(super::document()).expect("a document");
    let mut ids = BTreeSet::new();
    for item in document["paths"].as_object().expect("paths").values() {
        for operation in item.as_object().expect("an item").values() {
            let id = operation["operationId"].as_str().expect("an id");
            assert!(ids.insert(id.to_owned()), "{id} is there twice");
        }
    }
}

#[tokio::test]
async fn bad_input_gets_a_clear_problem() {
    let server =
        TestCoordinator::start_with(|config| config.limits.request_body_bytes = 2000).await;
    let admin = server.set_up().await;
    let post = |body: &str| {
        server
            .request_as(&admin, Method::POST, "/api/users")
            .header(header::CONTENT_TYPE, "application/json")
            .body(body.to_owned())
    };
    use StatusCode as S;
    for (body, status, code, mentions) in [
        ("{", S::BAD_REQUEST, "malformed_body", "EOF"),
        ("", S::UNPROCESSABLE_ENTITY, "invalid_body", "name"),
        (
            r#"{"name":"x","role":"viewer","colour":1}"#,
            S::UNPROCESSABLE_ENTITY,
            "invalid_body",
            "colour",
        ),
        (r#"{"name":"x","role":"king"}"#, S::UNPROCESSABLE_ENTITY, "invalid_body", "king"),
        (r#"{"name":"X Y","role":"viewer"}"#, S::UNPROCESSABLE_ENTITY, "invalid_name", "a-z"),
        (
            r#"{"name":"x","role":"viewer","scope":"a,b=c"}"#,
            S::UNPROCESSABLE_ENTITY,
            "invalid_scope",
            "mixes",
        ),
        (r#"{"name":"admin","role":"viewer"}"#, S::CONFLICT, "name_taken", "admin"),
    ] {
        let problem = refused(post(body), status, code).await;
        assert!(problem.detail.contains(mentions), "{body}: {problem:?}");
    }
    refused(post(&"x".repeat(2001)), S::PAYLOAD_TOO_LARGE, "body_too_large").await;
    let form = server.request_as(&admin, Method::POST, "/api/users").body("name=x");
    refused(form, S::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type").await;
    for query in ["?colour=red", "?limit=0", "?limit=1001", "?limit=many"] {
        let request = server.request_as(&admin, Method::GET, &format!("/api/users{query}"));
        refused(request, S::BAD_REQUEST, "invalid_query").await;
    }
    let request = server.request_as(&admin, Method::DELETE, "/api/auth/keys/no-uuid");
    refused(request, S::BAD_REQUEST, "invalid_path").await;
    refused(server.request(Method::GET, "/nothing/here"), S::NOT_FOUND, "route_not_found").await;
    let wrong = server.request(Method::PUT, "/api/users").send().await.expect("an answer");
    assert_eq!(wrong.headers()[header::ALLOW], "GET,HEAD,POST");
    refused(server.request(Method::PUT, "/api/users"), S::METHOD_NOT_ALLOWED, "method_not_allowed")
        .await;
}

#[tokio::test]
async fn an_answer_carries_the_request_id_and_guards() {
    let server = TestCoordinator::start().await;
    let ask = |id: &str| {
        server.request(Method::GET, "/api/users").header("x-request-id", id.to_owned()).send()
    };
    let answer = ask("my-request.1").await.expect("an answer");
    assert_eq!(answer.headers()["x-request-id"], "my-request.1");
    assert_eq!(answer.headers()["x-content-type-options"], "nosniff");
    assert!(answer.text().await.expect("a body").contains(r#""request_id":"my-request.1""#));
    for bad in ["spaces in it", "\"quoted\"", &"x".repeat(65), ""] {
        let answer = ask(bad).await.expect("an answer");
        assert_ne!(answer.headers()["x-request-id"], bad);
    }
}

#[tokio::test]
async fn those_who_ask_too_often_are_told_when_to_come_back() {
    let server = TestCoordinator::start_with(|config| {
        config.limits.logins_per_minute = 3;
        config.limits.requests_per_minute = 5;
    })
    .await;
    let admin = server.set_up().await;
    let login = json!({ "name": "admin", "password": "wrong password" });
    let attempt = || server.request(Method::POST, "/api/auth/login").json(&login);
    for _ in 0..2 {
        refused(attempt(), StatusCode::UNAUTHORIZED, "unauthenticated").await;
    }
    let answer = attempt().send().await.expect("an answer");
    let wait: u64 =
        answer.headers()[header::RETRY_AFTER].to_str().expect("text").parse().expect("s");
    assert!((1..=60).contains(&wait), "{wait}");
    refused(attempt(), StatusCode::TOO_MANY_REQUESTS, "rate_limited").await;
    let ask = || server.request_as(&admin, Method::GET, "/api/auth/me");
    for _ in 0..5 {
        assert_eq!(ask().send().await.expect("an answer").status(), StatusCode::OK);
    }
    refused(ask(), StatusCode::TOO_MANY_REQUESTS, "rate_limited").await;
}

#[tokio::test]
async fn a_panic_is_one_requests_end() {
    async fn fragile() -> &'static str {
        panic!("with a secret in it")
    }
    let router = Router::new()
        .route("/fragile", get(fragile))
        .layer(CatchPanicLayer::custom(layers::answer_panic))
        .layer(axum::middleware::from_fn(super::request_id::with_request_id));
    let (url, _tasks) = serve(router, None).await;
    let client = client(None);
    for _ in 0..2 {
        let problem = refused(
            client.get(format!("{url}/fragile")),
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
        )
        .await;
        assert!(!problem.detail.contains("secret"), "{problem:?}");
    }
}

async fn serve(router: Router, tls: Option<Arc<rustls::ServerConfig>>) -> (String, Tasks) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let tasks = Tasks::new();
    let scheme = if tls.is_some() { "https" } else { "http" };
    let server = Server { router, tls, tasks: tasks.clone(), max_connections: 10 };
    // Kept at work by its own tasks.
    let _ = server.listen(listener);
    (format!("{scheme}://{address}"), tasks)
}

#[tokio::test]
async fn plain_http_on_the_tls_port_is_told_so() {
    let server = TestCoordinator::start().await;
    let url = server.url().replace("https://", "http://");
    let answer = client(None).get(format!("{url}/api/info")).send().await.expect("an answer");
    assert_eq!(answer.status(), StatusCode::BAD_REQUEST);
    let text = answer.text().await.expect("a body");
    assert!(text.contains("https_required") && text.contains("speaks HTTPS"), "{text}");
}

#[tokio::test]
async fn a_client_with_the_pin_finds_and_trusts_the_authority() {
    let server = TestCoordinator::start().await;
    let pin = std::fs::read_to_string(server.folder.path().join("ca.pin")).expect("a pin");
    assert_eq!(pin.trim(), server.running.state.ca.pin().expect("TLS").to_string());
    let file = std::fs::read(server.folder.path().join("ca.pem")).expect("an authority");
    let anchor = CertificateDer::from_pem_slice(&file).expect("PEM");
    assert_eq!(super::super::tls::compute_pin(&anchor).expect("a key").to_string(), pin.trim());
    for name in ["localhost", "reeve-coordinator.internal", "127.0.0.1"] {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(anchor.clone()).expect("an anchor");
        let stream = connect(&server, roots, name).await.expect(name);
        let chain = stream.get_ref().1.peer_certificates().expect("a chain");
        assert_eq!(chain.last(), Some(&anchor), "the authority has to be in the chain");
    }
    let other = TestCoordinator::start().await;
    let mut roots = rustls::RootCertStore::empty();
    let pem = other.running.state.ca.pem().expect("TLS");
    roots.add(CertificateDer::from_pem_slice(pem.as_bytes()).expect("PEM")).expect("an anchor");
    connect(&server, roots, "localhost").await.expect_err("another coordinator's authority");
}

async fn connect(
    server: &TestCoordinator,
    roots: rustls::RootCertStore,
    name: &'static str,
) -> std::io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
    let mut tls =
        rustls::ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
    tls.alpn_protocols = vec![b"http/1.1".to_vec()];
    let stream = TcpStream::connect(server.running.address).await?;
    let name = ServerName::try_from(name).expect("a name");
    tokio_rustls::TlsConnector::from(Arc::new(tls)).connect(name, stream).await
}

#[tokio::test]
async fn both_ends_of_a_channel_know_the_same_exporter() {
    let coordinator = TestCoordinator::start().await;
    let tls = coordinator.running.state.ca.server_config().expect("TLS");
    let show = |Extension(exporter): Extension<TlsExporter>| async move { crate::hex(&exporter.0) };
    let (url, _tasks) = serve(Router::new().route("/", get(show)), tls).await;
    let address = url.trim_start_matches("https://").to_owned();
    let pem = coordinator.running.state.ca.pem().expect("TLS");
    for _ in 0..2 {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(pem.as_bytes()).expect("PEM")).expect("an anchor");
        let tls =
            rustls::ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
                .with_safe_default_protocol_versions()
                .expect("versions")
                .with_root_certificates(roots)
                .with_no_client_auth();
        let stream = TcpStream::connect(&address).await.expect("a connection");
        let name = ServerName::try_from("localhost").expect("a name");
        let mut stream = tokio_rustls::TlsConnector::from(Arc::new(tls))
            .connect(name, stream)
            .await
            .expect("TLS");
        let ours = stream
            .get_ref()
            .1
            .export_keying_material([0_u8; 32], b"EXPORTER-Channel-Binding", None)
            .expect("an exporter");
        stream
            .write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            .await
            .expect("sent");
        let mut answer = String::new();
        // rustls reports a close without close_notify as an error; the text is there by then.
        let _ = stream.read_to_string(&mut answer).await;
        assert!(answer.ends_with(&crate::hex(&ours)), "{answer}");
    }
}

#[tokio::test]
async fn http_2_is_spoken_to_those_who_can() {
    let server = TestCoordinator::start().await;
    let answer = server.request(Method::GET, "/healthz").send().await.expect("an answer");
    assert_eq!(answer.version(), Version::HTTP_2);
}

#[tokio::test]
async fn certificates_are_reloaded_and_kept_on_an_error() {
    let server = TestCoordinator::start().await;
    let state = &server.running.state;
    let pin = state.ca.pin();
    let mut changed = (*state.config).clone();
    changed.tls = Tls::Files { certificate: "/nonexistent".into(), key: "/nonexistent".into() };
    state.ca.reload(&changed, &state.clock).expect_err("no such file");
    changed.tls = Tls::Off;
    state.ca.reload(&changed, &state.clock).expect_err("no such switch");
    assert_eq!(state.ca.pin(), pin);
    changed.tls = Tls::Own { names: vec!["reeve.example".to_owned()] };
    state.ca.reload(&changed, &state.clock).expect("a new leaf");
    assert_eq!(state.ca.pin(), pin, "the authority stays");
    let pem = state.ca.pem().expect("TLS");
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(pem.as_bytes()).expect("PEM")).expect("an anchor");
    connect(&server, roots, "reeve.example").await.expect("the new name");
}

#[tokio::test]
async fn certificates_from_elsewhere_work() {
    let own = TestCoordinator::start().await;
    let folder = own.folder.path().join("tls");
    let server = TestCoordinator::start_with(|config| {
        config.tls =
            Tls::Files { certificate: folder.join("leaf.pem"), key: folder.join("leaf.key") };
    })
    .await;
    assert_eq!(server.running.state.ca.pin(), own.running.state.ca.pin());
    let answer = server.request(Method::GET, "/healthz").send().await.expect("an answer");
    assert_eq!(answer.status(), StatusCode::OK);
}

#[tokio::test]
async fn without_tls_the_cookie_has_the_plain_name() {
    let server = TestCoordinator::start_with(|config| config.tls = Tls::Off).await;
    assert!(server.url().starts_with("http://127.0.0.1:"), "{}", server.url());
    server.set_up().await;
    let login = json!({ "name": "admin", "password": PASSWORD, "cookie": true });
    let request = server.request(Method::POST, "/api/auth/login").json(&login);
    let answer = request.header(header::ORIGIN, server.url()).send().await.expect("an answer");
    let cookie = answer.headers()[header::SET_COOKIE].to_str().expect("text");
    assert!(cookie.starts_with("reeve=rv_web_") && !cookie.contains("Secure"), "{cookie}");
}

#[tokio::test]
async fn draining_is_seen_and_ends() {
    let server = TestCoordinator::start().await;
    let ready = server.request(Method::GET, "/readyz").send().await.expect("an answer");
    assert_eq!(ready.status(), StatusCode::OK);
    server.running.state.readiness.start_draining();
    refused(server.request(Method::GET, "/readyz"), StatusCode::SERVICE_UNAVAILABLE, "draining")
        .await;
    let (address, tasks) = (server.running.address, server.running.state.tasks.clone());
    tokio::time::timeout(Duration::from_secs(20), server.running.shutdown())
        .await
        .expect("in time");
    assert!(tasks.running().is_empty(), "{:?}", tasks.running());
    TcpStream::connect(address).await.expect_err("nobody listens any more");
}

#[tokio::test]
async fn a_database_that_is_away_makes_it_not_ready() {
    let server = TestCoordinator::start().await;
    server.running.state.db.close().await;
    let request = server.request(Method::GET, "/readyz");
    refused(request, StatusCode::SERVICE_UNAVAILABLE, "database_down").await;
    let alive = server.request(Method::GET, "/healthz").send().await.expect("an answer");
    assert_eq!(alive.status(), StatusCode::OK);
}

#[tokio::test]
async fn programs_are_served_with_their_checksums_and_nothing_else_is() {
    let dist = tempfile::tempdir().expect("a folder");
    std::fs::write(dist.path().join("reeve-agent"), b"abc").expect("a program");
    std::fs::write(dist.path().parent().expect("a parent").join("x"), b"secret").ok();
    let path = dist.path().to_owned();
    let server = TestCoordinator::start_with(|config| config.dist = Some(path)).await;
    let text = |path: &'static str| {
        let request = server.request(Method::GET, path);
        async move { request.send().await.expect("an answer").text().await.expect("a body") }
    };
    assert_eq!(text("/dist/reeve-agent").await, "abc");
    assert_eq!(
        text("/dist/SHA256SUMS").await,
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad  reeve-agent\n"
    );
    for path in ["/dist/nothing", "/dist/..%2Fx", "/dist/.hidden", "/dist/%2Fetc%2Fpasswd"] {
        refused(server.request(Method::GET, path), StatusCode::NOT_FOUND, "file_not_found").await;
    }
    let script = text("/install.sh").await;
    let pin = server.running.state.ca.pin().expect("TLS").to_string();
    assert!(script.contains(&server.url()) && script.contains(&pin), "{script}");
}

/// What is logged, by everybody in this process.
#[derive(Clone, Default)]
struct Captured(Arc<Mutex<Vec<u8>>>);

impl Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("the log").extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn secrets_are_in_no_log_and_not_readable_in_the_database() {
    const CANARY: &str = "canary-password-7391";
    let log = Captured::default();
    let writer = log.clone();
    tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || writer.clone())
        .try_init()
        .expect("the only subscriber in this process");
    let server = TestCoordinator::start().await;
    let code = server.running.setup.as_ref().expect("a code").code.clone();
    let setup = json!({ "code": code, "password": CANARY });
    let answer: reeve_sdk::api::LoginResponse = server.post("", "/api/auth/setup", &setup).await;
    let login = json!({ "name": "admin", "password": CANARY });
    let second: reeve_sdk::api::LoginResponse = server.post("", "/api/auth/login", &login).await;
    let wrong = json!({ "name": CANARY, "password": "x" });
    let request = server.request(Method::POST, "/api/auth/login").json(&wrong);
    refused(request, StatusCode::UNAUTHORIZED, "unauthenticated").await;
    let key: ApiKeyCreated =
        server.post(&answer.token, "/api/auth/keys", &json!({ "name": "ci" })).await;
    let ticket: reeve_sdk::api::Ticket =
        server.post(&answer.token, "/api/auth/ticket", &json!({})).await;
    let path = format!("/ws/frontend?ticket={}", ticket.ticket);
    let _ = server.request(Method::GET, &path).send().await;
    let folder = server.folder;
    server.running.shutdown().await;

    let log = String::from_utf8_lossy(&log.0.lock().expect("the log")).into_owned();
    assert!(log.contains("/api/auth/login"), "nothing was captured");
    let database: String = std::fs::read_dir(folder.path())
        .expect("the folder")
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("reeve.db"))
        .map(|entry| {
            String::from_utf8_lossy(&std::fs::read(entry.path()).expect("a file")).into_owned()
        })
        .collect();
    assert!(database.contains("auth.login"), "the database was not read");
    let secret = |token: &str| token.split('_').nth(3).expect("a secret").to_owned();
    for (what, secret) in [
        ("password", CANARY.to_owned()),
        ("one-time code", code),
        ("session", secret(&answer.token)),
        ("second session", secret(&second.token)),
        ("key", secret(&key.token)),
        ("ticket", ticket.ticket),
    ] {
        assert!(!log.contains(&secret), "the {what} is in the log");
        assert!(!database.contains(&secret), "the {what} is in the database");
    }
}

#[tokio::test]
async fn a_port_in_use_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let taken = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let mut config = config(folder.path());
    config.metrics_listen = Some(taken.local_addr().expect("an address"));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let error = crate::start(config, listener).await.err().expect("refused").to_string();
    assert!(error.contains(&taken.local_addr().expect("an address").to_string()), "{error}");
}
