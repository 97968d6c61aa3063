//! Providers, roles, keys and usage.

use std::sync::{Arc, Mutex, PoisonError};

use http::StatusCode;
use reeve_models::{CallRecord, Credential, Credentials as _, TokenUsage};
use reeve_sdk::api::{
    ModelRole, Models, Provider, ProviderSettings, Role, Time, Usage, VaultEntry, VaultSecret,
    VaultStatus, Wire,
};
use reqwest::Method;
use secrecy::ExposeSecret as _;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::credentials::FromVault;
use super::usage::Caller;
use crate::testing::{TestCoordinator, for_each_engine, good, refused};

fn settings(name: &str) -> ProviderSettings {
    serde_json::from_value(json!({
        "name": name, "wire": "openai_chat", "base_url": "http://127.0.0.1:9",
        "models": [{ "name": "small", "price": { "input": 1.0, "output": 2.0 } }, { "name": "large" }],
    }))
    .expect("settings")
}

fn put(
    server: &TestCoordinator,
    admin: &str,
    settings: &ProviderSettings,
) -> reqwest::RequestBuilder {
    let path = format!("/api/models/{}", settings.name);
    server.request_as(admin, Method::PUT, &path).json(settings)
}

async fn add(server: &TestCoordinator, admin: &str, name: &str) -> Provider {
    good(put(server, admin, &settings(name)).send().await.expect("an answer")).await
}

fn role(
    server: &TestCoordinator,
    admin: &str,
    role: &str,
    models: &[&str],
) -> reqwest::RequestBuilder {
    let path = format!("/api/models/roles/{role}");
    server.request_as(admin, Method::PUT, &path).json(&json!({ "models": models }))
}

#[tokio::test]
async fn providers_and_roles_survive_a_restart_and_what_is_asked_cannot_be_removed() {
    for_each_engine(|server| async move {
        let admin = server.set_up().await;
        let before: Models = server.get(&admin, "/api/models").await;
        assert!(before.providers.is_empty());
        assert!(before.roles.values().all(|list| list == &["builtin"]), "{:?}", before.roles);
        add(&server, &admin, "lab").await;
        let set = role(&server, &admin, "planner", &["lab/small", "builtin"]);
        let _: Models = good(set.send().await.expect("an answer")).await;
        let server = server.restart().await;
        let after: Models = server.get(&admin, "/api/models").await;
        assert_eq!(after.roles["planner"], ["lab/small", "builtin"]);
        assert_eq!(after.providers[0].settings, settings("lab"));
        assert_eq!(after.providers[0].breaker, "closed");
        assert_eq!(server.running.state.models.models().list(ModelRole::Planner)[0], "lab/small");
        let remove = || server.request_as(&admin, Method::DELETE, "/api/models/lab");
        refused(remove(), StatusCode::CONFLICT, "provider_in_use").await;
        let mut without = settings("lab");
        without.models.remove(0);
        refused(put(&server, &admin, &without), StatusCode::CONFLICT, "provider_in_use").await;
        let reset = role(&server, &admin, "planner", &[]);
        let _: Models = good(reset.send().await.expect("an answer")).await;
        assert_eq!(remove().send().await.expect("an answer").status(), StatusCode::NO_CONTENT);
        refused(remove(), StatusCode::NOT_FOUND, "provider_not_found").await;
    })
    .await;
}

#[tokio::test]
async fn settings_and_roles_that_make_no_sense_are_refused() {
    let server = TestCoordinator::start().await;
    let admin = server.set_up().await;
    add(&server, &admin, "lab").await;
    let bad = |change: &dyn Fn(&mut ProviderSettings)| {
        let mut settings = settings("other");
        change(&mut settings);
        put(&server, &admin, &settings)
    };
    let code = "invalid_provider";
    for request in [
        bad(&|s| s.wire = Wire::Builtin),
        bad(&|s| s.base_url = Some("http://203.0.113.7".to_owned())),
        bad(&|s| s.base_url = Some("https://user:pass@models.example".to_owned())),
        bad(&|s| s.key_env = Some("A B".to_owned())),
        bad(&|s| s.vault_entry = Some("../x".to_owned())),
        bad(&|s| {
            s.vault_entry = Some("a".to_owned());
            s.key_env = Some("A".to_owned());
        }),
        bad(&|s| s.name = "roles".to_owned()),
    ] {
        refused(request, StatusCode::UNPROCESSABLE_ENTITY, code).await;
    }
    let invalid = StatusCode::UNPROCESSABLE_ENTITY;
    for (models, status, code) in [
        (vec!["builtin", "lab/small"], invalid, "invalid_request"),
        (vec!["lab/small", "lab/small"], invalid, "invalid_request"),
        (vec!["lab"], invalid, "invalid_request"),
        (vec!["lab/smal"], StatusCode::NOT_FOUND, "model_not_found"),
        (vec!["lap/small"], StatusCode::NOT_FOUND, "provider_not_found"),
    ] {
        let problem = refused(role(&server, &admin, "planner", &models), status, code).await;
        assert_eq!(problem.nearest.is_empty(), status != StatusCode::NOT_FOUND, "{problem:?}");
    }
    refused(role(&server, &admin, "king", &["builtin"]), StatusCode::NOT_FOUND, "role_not_found")
        .await;
    let viewer = server.add_user(&admin, "vera", Role::Viewer, "@all").await;
    refused(put(&server, &viewer, &settings("x")), StatusCode::FORBIDDEN, "forbidden").await;
}

#[tokio::test]
async fn provider_of_the_settings_file_cannot_be_changed_over_http() {
    let server = TestCoordinator::start_with(|config| {
        config.models.providers = vec![settings("file")];
        config.models.roles.insert(ModelRole::Validator, vec!["file/large".to_owned()]);
    })
    .await;
    let admin = server.set_up().await;
    let models: Models = server.get(&admin, "/api/models").await;
    assert_eq!(models.providers[0].source, "settings");
    assert_eq!(models.roles["validator"], ["file/large"]);
    refused(put(&server, &admin, &settings("file")), StatusCode::CONFLICT, "provider_in_settings")
        .await;
}

#[tokio::test]
async fn usage_is_summed_by_what_is_asked_for_and_counts_against_the_day() {
    for_each_engine(|server| async move {
        let admin = server.set_up().await;
        let models = &server.running.state.models;
        let now_us = server.running.state.clock.micros();
        let call = |model: &str, outcome: &str, cost: f64, started_us: i64| CallRecord {
            provider: "lab".to_owned(),
            model: model.to_owned(),
            started_us,
            latency_ms: 10,
            first_text_ms: Some(3),
            outcome: outcome.to_owned(),
            http_status: Some(200),
            usage: TokenUsage { input: 100, cached: 40, output: 7, reasoning: 2 },
            cost,
            prompt_sha256: "0".repeat(64),
        };
        let caller = Caller { user: "admin", task: None, stage: "plan", role: ModelRole::Planner };
        let yesterday = now_us - 25 * 3600 * 1_000_000;
        let calls = [
            call("small", "ok", 0.25, now_us),
            call("large", "model_busy", 0.5, now_us),
            call("small", "ok", 4.0, yesterday),
        ];
        models.record(caller, &calls).await.expect("recorded");
        let usage: Usage = server.get(&admin, "/api/usage?by=model").await;
        let rows: Vec<(&str, u64, u64)> =
            usage.rows.iter().map(|row| (&*row.key, row.calls, row.failed)).collect();
        assert_eq!(rows, [("lab/small", 2, 0), ("lab/large", 1, 1)]);
        assert_eq!((usage.total.input_tokens, usage.total.cached_tokens), (300, 120));
        assert!((usage.total.cost - 4.75).abs() < 1e-6, "{}", usage.total.cost);
        for by in ["provider", "role", "user", "task", "day"] {
            let usage: Usage = server.get(&admin, &format!("/api/usage?by={by}")).await;
            assert_eq!(usage.rows.iter().map(|row| row.calls).sum::<u64>(), 3, "{by}");
        }
        let days: Usage = server.get(&admin, "/api/usage?by=day").await;
        assert!(days.rows.iter().all(|row| row.key.starts_with("20") && row.key.len() == 10));
        let budget = models.day_budget("admin").await.expect("a budget");
        assert!((budget.spent - 0.75).abs() < 1e-6, "{budget:?}");
        assert!(models.day_budget("dana").await.expect("a budget").spent.abs() < 1e-9);
        let status: serde_json::Value = server.get(&admin, "/api/status").await;
        assert_eq!(status["models_today"]["calls"], 2);
        let request = server.request_as(&admin, Method::GET, "/api/usage?by=colour");
        assert!(request.send().await.expect("an answer").status().is_client_error());
    })
    .await;
}

/// Answers one request after the other with these; keeps what was asked.
async fn token_server(answers: Vec<(u16, serde_json::Value)>) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/token", listener.local_addr().expect("an address"));
    let asked = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&asked);
    #[allow(clippy::disallowed_methods, reason = "a test's own server")]
    tokio::spawn(async move {
        for (status, body) in answers {
            let (mut socket, _) = listener.accept().await.expect("a connection");
            let mut request = Vec::new();
            let mut chunk = [0; 4096];
            while !String::from_utf8_lossy(&request).contains("grant_type") {
                let read = socket.read(&mut chunk).await.expect("a request");
                request.extend_from_slice(&chunk[..read]);
            }
            let text = String::from_utf8_lossy(&request).into_owned();
            seen.lock().unwrap_or_else(PoisonError::into_inner).push(text);
            let body = body.to_string();
            let answer = format!(
                "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                body.len()
            );
            socket.write_all(answer.as_bytes()).await.expect("written");
        }
    });
    (url, asked)
}

async fn with_oauth(server: &TestCoordinator, token_url: &str, expires: Time) -> ProviderSettings {
    let admin = server.set_up().await;
    let passphrase = json!({ "passphrase": "seven horses in the rain" });
    let _: VaultStatus = server.post(&admin, "/api/vault/init", &passphrase).await;
    let secret = json!({
        "kind": "oauth", "access_token": "old-access", "refresh_token": "old-refresh",
        "token_url": token_url, "client_id": "app", "expires": expires,
    });
    let entry = json!({ "name": "login", "secret": secret });
    let _: VaultEntry = server.post(&admin, "/api/vault/entries", &entry).await;
    ProviderSettings { vault_entry: Some("login".to_owned()), ..settings("lab") }
}

fn bearer(credential: &Credential) -> &str {
    let Credential::Bearer(token) = credential else { panic!("{credential:?}") };
    token.expose_secret()
}

#[tokio::test]
async fn login_that_runs_out_is_renewed_once_for_all_and_kept() {
    let answer =
        json!({ "access_token": "new-access", "refresh_token": "new-refresh", "expires_in": 3600 });
    let (url, asked) = token_server(vec![(200, answer)]).await;
    let server = TestCoordinator::start().await;
    let state = &server.running.state;
    let soon = Time::from_micros(state.clock.micros() + 5_000_000);
    let provider = with_oauth(&server, &url, soon).await;
    let keys = FromVault::new(state.vault.clone(), state.clock.clone()).expect("keys");
    let (one, two) =
        tokio::join!(keys.credential(&provider, false), keys.credential(&provider, false));
    assert_eq!(bearer(&one.expect("a token")), "new-access");
    assert_eq!(bearer(&two.expect("a token")), "new-access");
    let asked = asked.lock().unwrap_or_else(PoisonError::into_inner).clone();
    assert_eq!(asked.len(), 1, "the refresh token was used twice");
    assert!(asked[0].contains("refresh_token=old-refresh") && asked[0].contains("client_id=app"));
    let VaultSecret::Oauth { refresh_token, .. } = state.vault.secret("login").await.expect("kept")
    else {
        panic!("another kind")
    };
    assert_eq!(refresh_token.as_deref(), Some("new-refresh"));
}

#[tokio::test]
async fn login_that_the_provider_ends_says_what_to_do_and_shows_no_token() {
    let (url, _asked) = token_server(vec![(400, json!({ "error": "invalid_grant" }))]).await;
    let server = TestCoordinator::start().await;
    let state = &server.running.state;
    let provider = with_oauth(&server, &url, Time::from_micros(1)).await;
    let keys = FromVault::new(state.vault.clone(), state.clock.clone()).expect("keys");
    let error = keys.credential(&provider, false).await.expect_err("refused");
    assert_eq!(error.code.as_str(), "model_key");
    let text = error.to_string();
    assert!(text.contains("invalid_grant") && text.contains("log in there again"), "{text}");
    assert!(!text.contains("old-"), "{text}");
}

#[tokio::test]
async fn sealed_vault_and_missing_keys_name_the_provider_and_the_remedy() {
    let server = TestCoordinator::start().await;
    let admin = server.set_up().await;
    let state = &server.running.state;
    let keys = FromVault::new(state.vault.clone(), state.clock.clone()).expect("keys");
    let provider = ProviderSettings { vault_entry: Some("k".to_owned()), ..settings("lab") };
    let code = |error: reeve_models::ModelError| (error.code.as_str(), error.message);
    let (absent, text) = code(keys.credential(&provider, false).await.expect_err("no vault"));
    assert!(absent == "model_key" && text.contains("lab") && text.contains("vault init"), "{text}");
    let passphrase = json!({ "passphrase": "seven horses in the rain" });
    let _: VaultStatus = server.post(&admin, "/api/vault/init", &passphrase).await;
    let (missing, text) = code(keys.credential(&provider, false).await.expect_err("no entry"));
    assert!(missing == "model_key" && text.contains("reeve vault add k"), "{text}");
    let _: VaultStatus = server.post(&admin, "/api/vault/lock", &json!({})).await;
    let (sealed, text) = code(keys.credential(&provider, false).await.expect_err("sealed"));
    assert!(sealed == "vault_sealed" && text.contains("reeve vault unlock"), "{text}");
    let provider =
        ProviderSettings { key_env: Some("REEVE_TEST_NOT_SET".to_owned()), ..settings("lab") };
    let (missing, text) = code(keys.credential(&provider, false).await.expect_err("not set"));
    assert!(missing == "model_key" && text.contains("REEVE_TEST_NOT_SET"), "{text}");
    assert!(matches!(keys.credential(&settings("lab"), false).await, Ok(Credential::None)));
}
