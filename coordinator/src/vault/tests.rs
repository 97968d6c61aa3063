//! The vault over HTTP.

use http::StatusCode;
use reeve_sdk::api::{Page, Role, VaultEntry, VaultState, VaultStatus};
use reqwest::Method;
use serde_json::json;

use crate::testing::{TestCoordinator, for_each_engine, good, refused};

const PASSPHRASE: &str = "seven horses in the rain";
const KEY: &str = "sk-example-canary-55512-abcdefgh";

async fn make(server: &TestCoordinator) -> String {
    let admin = server.set_up().await;
    let status: VaultStatus =
        server.post(&admin, "/api/vault/init", &json!({ "passphrase": PASSPHRASE })).await;
    assert_eq!(status.state, VaultState::Open);
    admin
}

async fn put(server: &TestCoordinator, admin: &str, name: &str) -> VaultEntry {
    let body = json!({ "name": name, "secret": { "kind": "api_key", "value": KEY } });
    server.post(admin, "/api/vault/entries", &body).await
}

#[tokio::test]
async fn a_secret_goes_in_and_only_the_coordinator_gets_it_out() {
    for_each_engine(|server| async move {
        let admin = make(&server).await;
        let entry = put(&server, &admin, "openai").await;
        assert_eq!(entry.ends_with.as_deref(), Some("efgh"));
        let path = "/api/vault/entries";
        let text = server.request_as(&admin, Method::GET, path).send().await.expect("an answer");
        let text = text.text().await.expect("a body");
        assert!(text.contains("openai") && !text.contains("canary"), "{text}");
        let secret = server.running.state.vault.secret("openai").await.expect("open");
        let reeve_sdk::api::VaultSecret::ApiKey { value } = secret else { panic!("a key") };
        assert_eq!(value, KEY);
    })
    .await;
}

#[tokio::test]
async fn it_is_sealed_after_a_start_until_the_passphrase_is_given() {
    for_each_engine(|server| async move {
        let admin = make(&server).await;
        put(&server, &admin, "openai").await;
        let server = server.restart().await;
        let status: VaultStatus = server.get(&admin, "/api/vault").await;
        assert_eq!((status.state, status.entries), (VaultState::Sealed, 1));
        assert!(server.running.state.vault.secret("openai").await.is_err());
        let unlock = |passphrase: &str| {
            server
                .request_as(&admin, Method::POST, "/api/vault/unlock")
                .json(&json!({ "passphrase": passphrase }))
        };
        refused(unlock("seven horses in the sun"), StatusCode::FORBIDDEN, "wrong_passphrase").await;
        assert!(server.running.state.vault.secret("openai").await.is_err());
        let status: VaultStatus = good(unlock(PASSPHRASE).send().await.expect("an answer")).await;
        assert_eq!(status.state, VaultState::Open);
        assert!(server.running.state.vault.secret("openai").await.is_ok());
    })
    .await;
}

#[tokio::test]
async fn a_key_file_opens_it_at_the_start() {
    let server = TestCoordinator::start().await;
    let admin = make(&server).await;
    put(&server, &admin, "openai").await;
    let file = server.folder.path().join("vault-key");
    crate::write_private(&file, format!("{PASSPHRASE}\n").as_bytes()).expect("a file");
    let state = &server.running.state;
    let again = super::Vault::load(
        state.db.clone(),
        state.clock.clone(),
        state.tasks.clone(),
        state.coordinator,
        Some(&file),
    )
    .await;
    assert_eq!(again.status().await.expect("a status").state, VaultState::Open);
    assert!(again.secret("openai").await.is_ok());
    crate::write_private(&file, b"something else entirely").expect("a file");
    let sealed = super::Vault::load(
        state.db.clone(),
        state.clock.clone(),
        state.tasks.clone(),
        state.coordinator,
        Some(&file),
    )
    .await;
    assert_eq!(sealed.status().await.expect("a status").state, VaultState::Sealed);
}

#[tokio::test]
async fn locking_takes_effect_at_once_and_is_in_the_audit() {
    let server = TestCoordinator::start().await;
    let admin = make(&server).await;
    put(&server, &admin, "openai").await;
    let status: VaultStatus = server.post(&admin, "/api/vault/lock", &json!({})).await;
    assert_eq!(status.state, VaultState::Sealed);
    assert!(server.running.state.vault.secret("openai").await.is_err());
    let body = json!({ "name": "x", "secret": { "kind": "api_key", "value": KEY } });
    let request = server.request_as(&admin, Method::POST, "/api/vault/entries").json(&body);
    refused(request, StatusCode::CONFLICT, "vault_sealed").await;
    let audit = server.request_as(&admin, Method::GET, "/api/audit").send().await.expect("answer");
    let audit = audit.text().await.expect("a body");
    for action in ["vault.init", "vault.add", "vault.lock"] {
        assert!(audit.contains(action), "{action} is not in {audit}");
    }
    assert!(!audit.contains("canary") && !audit.contains(PASSPHRASE), "{audit}");
}

#[tokio::test]
async fn an_entry_moved_to_another_name_in_the_database_does_not_open() {
    for_each_engine(|server| async move {
        let admin = make(&server).await;
        put(&server, &admin, "openai").await;
        let state = &server.running.state;
        let row =
            super::store::find_entry(&mut state.db.reader().await.expect("a reader"), "openai")
                .await
                .expect("a row")
                .expect("an entry");
        let mut moved = row;
        moved.shown.name = "other".to_owned();
        let mut tx = state.db.begin().await.expect("a transaction");
        super::store::put_entry(&mut tx, &moved, 1).await.expect("put");
        tx.commit().await.expect("committed");
        let error = state.vault.secret("other").await.err().expect("must not open");
        assert!(matches!(error, super::VaultError::Damaged(name) if name == "other"));
    })
    .await;
}

#[tokio::test]
async fn bad_requests_are_refused_with_a_remedy() {
    let server = TestCoordinator::start().await;
    let admin = server.set_up().await;
    let post = |path: &str, body: serde_json::Value| {
        server.request_as(&admin, Method::POST, path).json(&body)
    };
    let entry = json!({ "name": "a", "secret": { "kind": "api_key", "value": "v" } });
    refused(post("/api/vault/entries", entry.clone()), StatusCode::CONFLICT, "vault_absent").await;
    let unlock = json!({ "passphrase": PASSPHRASE });
    refused(post("/api/vault/unlock", unlock), StatusCode::CONFLICT, "vault_absent").await;
    let short = json!({ "passphrase": "elevenchars" });
    let code = "invalid_passphrase";
    refused(post("/api/vault/init", short), StatusCode::UNPROCESSABLE_ENTITY, code).await;
    let _: VaultStatus =
        server.post(&admin, "/api/vault/init", &json!({ "passphrase": PASSPHRASE })).await;
    let again = json!({ "passphrase": PASSPHRASE });
    refused(post("/api/vault/init", again), StatusCode::CONFLICT, "vault_exists").await;
    for (name, value, code) in [
        ("Bad Name", "v", "invalid_name"),
        ("a", "", "invalid_secret"),
        ("a", "x y", "invalid_secret"),
    ] {
        let body = json!({ "name": name, "secret": { "kind": "api_key", "value": value } });
        let request = post("/api/vault/entries", body);
        refused(request, StatusCode::UNPROCESSABLE_ENTITY, code).await;
    }
    let gone = server.request_as(&admin, Method::DELETE, "/api/vault/entries/nothing");
    refused(gone, StatusCode::NOT_FOUND, "vault_entry_not_found").await;
    let operator = server.add_user(&admin, "op", Role::Operator, "@all").await;
    let list = server.request_as(&operator, Method::GET, "/api/vault/entries");
    refused(list, StatusCode::FORBIDDEN, "forbidden").await;
    let page: Page<VaultEntry> = server.get(&admin, "/api/vault/entries").await;
    assert!(page.items.is_empty());
}
