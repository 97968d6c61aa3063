use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use reeve_protocol::enrol::Registered;
use reeve_protocol::token::{SECRET_BYTES, Token};
use reeve_sdk::api::{EnrolmentToken, EnrolmentTokenCreated, Machine, Page};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::Clock;
use crate::fleet::testing::Identity;
use crate::operations::testing::{Site, on_each_engine, sent};
use crate::testing::{TestCoordinator, refused};

async fn token(site: &Site, body: Value) -> EnrolmentTokenCreated {
    site.server.post(&site.admin, "/api/enrolment-tokens", &body).await
}

fn register(site: &Site, identity: &Identity, token: &str) -> reqwest::RequestBuilder {
    let request = site.server.request(Method::POST, "/api/clients/register");
    request.json(&identity.register(token))
}

#[tokio::test]
async fn machine_joins_with_what_its_token_says_and_may_ask_again() {
    on_each_engine(|site| async move {
        let made = token(&site, json!({ "labels": { "role": "web" } })).await;
        assert!(!made.token.is_empty() && made.details.uses_left == 1);
        let identity = Identity::new();
        let first: Registered = sent(register(&site, &identity, &made.token)).await;
        assert_eq!((first.name.as_str(), first.channel_binding), ("host", true));
        // The answer was lost: the same question has the same answer, though the token is used.
        let again: Registered = sent(register(&site, &identity, &made.token)).await;
        assert_eq!((again.machine_id, &again.name), (first.machine_id, &first.name));
        let machine: Machine = site.get("/api/machines/host").await;
        assert_eq!(machine.labels.get("role").map(String::as_str), Some("web"));
        let tokens: Page<EnrolmentToken> = site.get("/api/enrolment-tokens").await;
        assert_eq!(tokens.items[0].uses_left, 0);

        let used = register(&site, &Identity::new(), &made.token);
        refused(used, StatusCode::UNAUTHORIZED, "token_used").await;
        let thief = Identity { machine: identity.machine, ..Identity::new() };
        let other_key = register(&site, &thief, &made.token);
        refused(other_key, StatusCode::CONFLICT, "machine_exists").await;
        // A second host of that name gets a name of its own.
        let made = token(&site, json!({})).await;
        let second: Registered = sent(register(&site, &Identity::new(), &made.token)).await;
        assert_eq!(second.name, "host-2");
    })
    .await;
}

#[tokio::test]
async fn bad_token_is_refused_with_what_is_wrong() {
    let now = Arc::new(AtomicI64::new(Clock::system().micros()));
    let clock = Clock::from_fn({
        let now = Arc::clone(&now);
        move || now.load(Ordering::Relaxed)
    });
    let server = TestCoordinator::start_at(clock, |_| {}).await;
    let admin = server.set_up().await;
    let site = Site { server, admin };
    let identity = Identity::new();
    let made = token(&site, json!({ "expires_in_ms": 60_000 })).await;
    let revoked = token(&site, json!({})).await;
    let path = format!("/api/enrolment-tokens/{}", revoked.details.id);
    let request = site.server.request_as(&site.admin, Method::DELETE, &path);
    assert!(request.send().await.expect("an answer").status().is_success());
    now.fetch_add(60_000_000, Ordering::Relaxed);
    let pin = site.server.running.state.ca.pin();
    let text = |kind: &str, id, secret| Token { kind: kind.to_owned(), id, secret, pin }.to_text();
    let unknown = text("join", uuid::Uuid::now_v7(), [1; SECRET_BYTES]);
    let wrong_secret = text("join", revoked.details.id.0, [1; SECRET_BYTES]);
    let other_kind = text("cli", revoked.details.id.0, [1; SECRET_BYTES]);
    let mut mistyped = revoked.token.clone();
    let last = mistyped.pop().expect("a character");
    mistyped.push(if last == '0' { '1' } else { '0' });
    for (text, code) in [
        (made.token.as_str(), "token_expired"),
        (&revoked.token, "token_revoked"),
        (&unknown, "token_unknown"),
        (&wrong_secret, "token_unknown"),
        (&other_kind, "token_malformed"),
        (&mistyped, "token_malformed"),
        ("", "token_malformed"),
        ("hello", "token_malformed"),
    ] {
        eprintln!("{text}");
        refused(register(&site, &identity, text), StatusCode::UNAUTHORIZED, code).await;
    }
    assert!(site.get::<Page<Machine>>("/api/machines").await.items.is_empty());
}

#[tokio::test]
async fn one_use_lets_one_in_however_many_ask_at_once() {
    on_each_engine(|site| async move {
        let made = token(&site, json!({})).await;
        let identities: Vec<Identity> = (0..8).map(|_| Identity::new()).collect();
        let answers = futures_util::future::join_all(
            identities.iter().map(|identity| register(&site, identity, &made.token).send()),
        )
        .await;
        let mut statuses: Vec<_> =
            answers.into_iter().map(|answer| answer.expect("an answer").status()).collect();
        statuses.sort();
        assert_eq!(statuses[0], StatusCode::CREATED);
        assert!(statuses[1..].iter().all(|status| *status == StatusCode::UNAUTHORIZED));
        assert_eq!(site.get::<Page<Machine>>("/api/machines").await.items.len(), 1);
    })
    .await;
}

#[tokio::test]
async fn machine_that_asks_twice_at_once_is_let_in_once() {
    on_each_engine(|site| async move {
        for uses in [1, 5] {
            let made = token(&site, json!({ "uses": uses })).await;
            let identity = Identity::new();
            let ask = || sent::<Registered>(register(&site, &identity, &made.token));
            let (one, two, three) = tokio::join!(ask(), ask(), ask());
            assert!(one.name == two.name && two.name == three.name);
            let tokens: Page<EnrolmentToken> = site.get("/api/enrolment-tokens").await;
            assert_eq!(tokens.items[0].uses_left, uses - 1);
        }
        // Whoever has no name of their own gets a free one, also many at once.
        let made = token(&site, json!({ "uses": 10 })).await;
        let identities: Vec<Identity> = (0..10).map(|_| Identity::new()).collect();
        let joined = futures_util::future::join_all(
            identities.iter().map(|each| sent::<Registered>(register(&site, each, &made.token))),
        )
        .await;
        let names: std::collections::BTreeSet<_> =
            joined.into_iter().map(|joined| joined.name).collect();
        assert_eq!(names.len(), 10, "{names:?}");
    })
    .await;
}

#[tokio::test]
async fn name_is_given_once() {
    on_each_engine(|site| async move {
        site.join("web-1").await;
        let made = token(&site, json!({ "name": "web-1" })).await;
        let request = register(&site, &Identity::new(), &made.token);
        refused(request, StatusCode::CONFLICT, "name_taken").await;
        // The token is not used up by that.
        let tokens: Page<EnrolmentToken> = site.get("/api/enrolment-tokens").await;
        assert_eq!(tokens.items[0].uses_left, 1);
        site.join("web-2").await;
        let rename = |name: &str| {
            let request = site.server.request_as(&site.admin, Method::PATCH, "/api/machines/web-2");
            request.json(&json!({ "name": name }))
        };
        refused(rename("web-1"), StatusCode::CONFLICT, "name_taken").await;
        refused(rename("Web 1"), StatusCode::UNPROCESSABLE_ENTITY, "invalid_name").await;
        let renamed: Machine = sent(rename("web-3")).await;
        assert_eq!(renamed.name, "web-3");
        site.join("web-2").await;
        let weak = json!({
            "token": made.token, "machine_id": uuid::Uuid::now_v7(), "public_key": "0".repeat(64),
            "channel_binding": true, "facts": {},
        });
        let request = site.server.request(Method::POST, "/api/clients/register").json(&weak);
        refused(request, StatusCode::UNPROCESSABLE_ENTITY, "invalid_request").await;
    })
    .await;
}
