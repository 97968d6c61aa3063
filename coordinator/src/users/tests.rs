use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use reeve_sdk::api::{
    ApiKey, ApiKeyCreated, AuditEntry, AuditVerdict, Info, LoginResponse, Page, Role, User,
    UserCreated, WhoAmI,
};
use reqwest::{Method, StatusCode, header};
use serde_json::json;

use crate::Clock;
use crate::testing::{PASSWORD, TestCoordinator, for_each_engine, good, refused};

async fn actions(server: &TestCoordinator, admin: &str) -> Vec<String> {
    let page: Page<AuditEntry> = server.get(admin, "/api/audit?limit=1000").await;
    let verdict: AuditVerdict = server.get(admin, "/api/audit/verify").await;
    assert!(verdict.intact, "{verdict:?}");
    page.items
        .into_iter()
        .rev()
        .map(|entry| format!("{} {} {}", entry.principal, entry.action, entry.target))
        .collect()
}

#[tokio::test]
async fn from_the_first_code_to_a_second_person_and_out_again() {
    for_each_engine(|server| async move {
        let info: Info = server.get("", "/api/info").await;
        assert!(info.setup_needed);
        let wrong = json!({ "code": "00000-00000-00000-00000", "password": PASSWORD });
        let request = server.request(Method::POST, "/api/auth/setup").json(&wrong);
        refused(request, StatusCode::UNAUTHORIZED, "unauthenticated").await;

        // A bad password does not use the code up.
        let setup = server.running.setup.as_ref().expect("a code");
        let short = json!({ "code": setup.code, "password": "short" });
        let request = server.request(Method::POST, "/api/auth/setup").json(&short);
        refused(request, StatusCode::UNPROCESSABLE_ENTITY, "invalid_password").await;
        assert!(setup.file.exists());
        let admin = server.set_up().await;
        assert!(!setup.file.exists(), "the file with the used code is still there");
        let again = json!({ "code": setup.code, "password": PASSWORD });
        let request = server.request(Method::POST, "/api/auth/setup").json(&again);
        refused(request, StatusCode::UNAUTHORIZED, "unauthenticated").await;
        let info: Info = server.get("", "/api/info").await;
        assert!(!info.setup_needed);

        let me: WhoAmI = server.get(&admin, "/api/auth/me").await;
        assert_eq!((me.name.as_str(), me.role, me.via.as_str()), ("admin", Role::Admin, "session"));

        let ada = server.add_user(&admin, "ada", Role::Operator, "role=web").await;
        let me: WhoAmI = server.get(&ada, "/api/auth/me").await;
        assert_eq!((me.role, me.scope.as_str()), (Role::Operator, "role=web"));
        let request = server.request_as(&ada, Method::GET, "/api/users");
        refused(request, StatusCode::FORBIDDEN, "forbidden").await;

        let login = json!({ "name": "ada", "password": PASSWORD });
        let second: LoginResponse = server.post("", "/api/auth/login", &login).await;
        for (name, password) in
            [("ada", "wrong password"), ("nobody", PASSWORD), ("ada", ""), ("Hunter2!", "x")]
        {
            let login = json!({ "name": name, "password": password });
            let request = server.request(Method::POST, "/api/auth/login").json(&login);
            refused(request, StatusCode::UNAUTHORIZED, "unauthenticated").await;
        }

        // A change counts at once, for sessions that are open.
        let change = json!({ "role": "viewer" });
        let request = server.request_as(&admin, Method::PATCH, "/api/users/ada").json(&change);
        let user: User = good(request.send().await.expect("an answer")).await;
        assert_eq!((user.role, user.scope.as_str()), (Role::Viewer, "role=web"));
        let me: WhoAmI = server.get(&ada, "/api/auth/me").await;
        assert_eq!(me.role, Role::Viewer);

        // Logging out ends one session and leaves the other.
        let request = server.request_as(&second.token, Method::POST, "/api/auth/logout");
        assert_eq!(request.send().await.expect("an answer").status(), StatusCode::NO_CONTENT);
        let request = server.request_as(&second.token, Method::GET, "/api/auth/me");
        refused(request, StatusCode::UNAUTHORIZED, "unauthenticated").await;
        let _: WhoAmI = server.get(&ada, "/api/auth/me").await;

        let request = server.request_as(&admin, Method::DELETE, "/api/users/ada");
        assert_eq!(request.send().await.expect("an answer").status(), StatusCode::NO_CONTENT);
        let request = server.request_as(&ada, Method::GET, "/api/auth/me");
        refused(request, StatusCode::UNAUTHORIZED, "unauthenticated").await;
        let request = server.request_as(&admin, Method::DELETE, "/api/users/admni");
        let problem = refused(request, StatusCode::NOT_FOUND, "user_not_found").await;
        assert_eq!(problem.nearest, ["admin"]);

        assert_eq!(
            actions(&server, &admin).await,
            [
                "anonymous auth.setup_failed code",
                "user:admin auth.setup user:admin",
                "anonymous auth.setup_failed code",
                "user:admin user.create user:ada",
                "user:ada auth.setup user:ada",
                "user:ada auth.login user:ada",
                "anonymous auth.login_failed user:ada",
                "anonymous auth.login_failed user:?",
                "anonymous auth.login_failed user:ada",
                "anonymous auth.login_failed user:?",
                "user:admin user.change user:ada",
                "user:ada auth.logout user:ada",
                "user:admin user.remove user:ada",
            ]
        );
    })
    .await;
}

#[tokio::test]
async fn somebody_who_can_do_everything_always_stays() {
    for_each_engine(|server| async move {
        let admin = server.set_up().await;
        let delete = server.request_as(&admin, Method::DELETE, "/api/users/admin");
        refused(delete, StatusCode::CONFLICT, "last_admin").await;
        for change in [json!({ "role": "approver" }), json!({ "scope": "role=web" })] {
            let request =
                server.request_as(&admin, Method::PATCH, "/api/users/admin").json(&change);
            refused(request, StatusCode::CONFLICT, "last_admin").await;
        }
        // One who never set a password, or sees only some machines, does not count.
        let body = json!({ "name": "asleep", "role": "admin" });
        let _: UserCreated = server.post(&admin, "/api/users", &body).await;
        let scoped = server.add_user(&admin, "scoped", Role::Admin, "role=web").await;
        let delete = server.request_as(&admin, Method::DELETE, "/api/users/admin");
        refused(delete, StatusCode::CONFLICT, "last_admin").await;
        // And cannot make themselves one who does.
        let request = server
            .request_as(&scoped, Method::PATCH, "/api/users/scoped")
            .json(&json!({ "scope": "@all" }));
        refused(request, StatusCode::FORBIDDEN, "forbidden").await;
        let second = server.add_user(&admin, "second", Role::Admin, "@all").await;
        let delete = server.request_as(&second, Method::DELETE, "/api/users/admin");
        assert_eq!(delete.send().await.expect("an answer").status(), StatusCode::NO_CONTENT);
    })
    .await;
}

#[tokio::test]
async fn a_key_never_does_more_than_its_owner() {
    for_each_engine(|server| async move {
        let admin = server.set_up().await;
        let ada = server.add_user(&admin, "ada", Role::Operator, "role=web").await;
        let body = json!({ "name": "ci", "role": "operator", "scope": "env=test" });
        let key: ApiKeyCreated = server.post(&ada, "/api/auth/keys", &body).await;
        assert!(key.token.starts_with("rv_key_"), "{}", key.token);
        let me: WhoAmI = server.get(&key.token, "/api/auth/me").await;
        assert_eq!((me.name.as_str(), me.role, me.via.as_str()), ("ada", Role::Operator, "ci"));
        assert_eq!(me.scope, "env=test within role=web");

        let body = json!({ "name": "root", "role": "admin" });
        let request = server.request_as(&ada, Method::POST, "/api/auth/keys").json(&body);
        refused(request, StatusCode::FORBIDDEN, "forbidden").await;
        let body = json!({ "name": "child" });
        let request = server.request_as(&key.token, Method::POST, "/api/auth/keys").json(&body);
        refused(request, StatusCode::FORBIDDEN, "forbidden").await;
        let body = json!({ "name": "ci" });
        let request = server.request_as(&admin, Method::POST, "/api/auth/keys").json(&body);
        refused(request, StatusCode::CONFLICT, "name_taken").await;

        let change = json!({ "role": "viewer", "scope": "@all" });
        let request = server.request_as(&admin, Method::PATCH, "/api/users/ada").json(&change);
        let _: User = good(request.send().await.expect("an answer")).await;
        let me: WhoAmI = server.get(&key.token, "/api/auth/me").await;
        assert_eq!((me.role, me.scope.as_str()), (Role::Viewer, "env=test"));

        // Everybody sees and revokes their own; an admin all.
        let own: Page<ApiKey> = server.get(&ada, "/api/auth/keys").await;
        assert!(own.items.iter().all(|key| key.user == "ada") && own.items.len() == 2, "{own:?}");
        let all: Page<ApiKey> = server.get(&admin, "/api/auth/keys").await;
        assert_eq!(all.items.len(), 3);
        let eve = server.add_user(&admin, "eve", Role::Approver, "@all").await;
        let path = format!("/api/auth/keys/{}", key.details.id);
        let request = server.request_as(&eve, Method::DELETE, &path);
        refused(request, StatusCode::NOT_FOUND, "key_not_found").await;
        let request = server.request_as(&ada, Method::DELETE, &path);
        assert_eq!(request.send().await.expect("an answer").status(), StatusCode::NO_CONTENT);
        let request = server.request_as(&key.token, Method::GET, "/api/auth/me");
        refused(request, StatusCode::UNAUTHORIZED, "unauthenticated").await;
    })
    .await;
}

#[tokio::test]
async fn a_changed_token_opens_nothing() {
    let server = TestCoordinator::start().await;
    let token = server.set_up().await;
    let parsed = reeve_protocol::token::Token::parse(&token).expect("a token");
    let mut other_secret = parsed.clone();
    other_secret.secret[0] ^= 1;
    let mut other_kind = parsed.clone();
    other_kind.kind = "key".to_owned();
    let mut other_id = parsed;
    other_id.id = uuid::Uuid::now_v7();
    let typo = token.replace("rv_cli_", "rv_clj_");
    for wrong in
        [other_secret.to_text(), other_kind.to_text(), other_id.to_text(), typo, "x".to_owned()]
    {
        let request = server.request_as(&wrong, Method::GET, "/api/auth/me");
        refused(request, StatusCode::UNAUTHORIZED, "unauthenticated").await;
    }
    let request = server
        .request(Method::GET, "/api/auth/me")
        .header(header::AUTHORIZATION, "Basic YWRtaW46eA==");
    refused(request, StatusCode::UNAUTHORIZED, "unauthenticated").await;
}

fn adjustable_clock() -> (Clock, Arc<AtomicI64>) {
    let now = Arc::new(AtomicI64::new(1_795_000_000_000_000));
    let shown = Arc::clone(&now);
    (Clock::from_fn(move || shown.load(Ordering::SeqCst)), now)
}

fn later(now: &AtomicI64, by: Duration) {
    now.fetch_add(i64::try_from(by.as_micros()).expect("not that long"), Ordering::SeqCst);
}

#[tokio::test]
async fn sessions_and_codes_end_when_they_should() {
    const HOUR: Duration = Duration::from_secs(3600);
    let (clock, now) = adjustable_clock();
    let server = TestCoordinator::start_at(clock, |_| {}).await;
    let cli = server.set_up().await;
    let users = &server.running.state.users;
    let body = json!({ "name": "late", "role": "viewer" });
    let created: UserCreated = server.post(&cli, "/api/users", &body).await;

    let login = json!({ "name": "admin", "password": PASSWORD, "cookie": true });
    let request = server.request(Method::POST, "/api/auth/login").json(&login);
    let answer = request.header(header::ORIGIN, server.url()).send().await.expect("an answer");
    let cookie = answer.headers()[header::SET_COOKIE].to_str().expect("text").to_owned();
    let web = cookie.split_once('=').and_then(|(_, rest)| rest.split(';').next()).expect("a token");

    // A browser in use stays logged in beyond 12 hours …
    for _ in 0..3 {
        later(&now, 8 * HOUR);
        users.authenticate(web).await.expect("in use");
        users.flush().await.expect("written down");
    }
    // … and one that is not does not.
    later(&now, 13 * HOUR);
    assert!(users.authenticate(web).await.is_err());
    users.authenticate(&cli).await.expect("a CLI session lasts longer");
    let setup = json!({ "code": created.code, "password": PASSWORD });
    let request = server.request(Method::POST, "/api/auth/setup").json(&setup);
    refused(request, StatusCode::UNAUTHORIZED, "unauthenticated").await;
    later(&now, 30 * 24 * HOUR);
    assert!(users.authenticate(&cli).await.is_err());
}

#[tokio::test]
async fn last_use_is_written_down() {
    let server = TestCoordinator::start().await;
    let admin = server.set_up().await;
    let users = &server.running.state.users;
    users.authenticate(&admin).await.expect("good");
    users.flush().await.expect("written down");
    let keys: Page<ApiKey> = server.get(&admin, "/api/auth/keys").await;
    assert!(keys.items[0].last_used.is_some(), "{keys:?}");
}

#[tokio::test]
async fn work_ends_when_its_key_does() {
    let server = TestCoordinator::start().await;
    let admin = server.set_up().await;
    let ada = server.add_user(&admin, "ada", Role::Operator, "@all").await;
    let users = server.running.state.users.clone();
    let principal = users.authenticate(&ada).await.expect("good");
    let watching = {
        let users = users.clone();
        server.running.state.tasks.spawn("watch", async move { users.ended(&principal).await })
    };
    let request = server.request_as(&admin, Method::DELETE, "/api/users/ada");
    assert_eq!(request.send().await.expect("an answer").status(), StatusCode::NO_CONTENT);
    tokio::time::timeout(Duration::from_secs(2), watching).await.expect("in time").expect("joined");
}

#[tokio::test]
async fn a_ticket_opens_one_door_once() {
    let server = TestCoordinator::start().await;
    let admin = server.set_up().await;
    let ticket: reeve_sdk::api::Ticket = server.post(&admin, "/api/auth/ticket", &json!({})).await;
    let tickets = &server.running.state.users.tickets;
    assert_eq!(tickets.take(&ticket.ticket).expect("good").name, "user:admin");
    assert!(tickets.take(&ticket.ticket).is_err());
    for wrong in ["", "zz", &"0".repeat(64), &"é".repeat(32)] {
        assert!(tickets.take(wrong).is_err(), "{wrong}");
    }
}

#[tokio::test]
async fn a_browser_may_act_only_from_our_own_pages() {
    let server = TestCoordinator::start().await;
    server.set_up().await;
    let login = json!({ "name": "admin", "password": PASSWORD, "cookie": true });
    let origin = server.url();
    for wrong in [None, Some("https://evil.example"), Some("null")] {
        let mut request = server.request(Method::POST, "/api/auth/login").json(&login);
        if let Some(wrong) = wrong {
            request = request.header(header::ORIGIN, wrong);
        }
        refused(request, StatusCode::FORBIDDEN, "wrong_origin").await;
    }
    let request = server.request(Method::POST, "/api/auth/login").json(&login);
    let answer = request.header(header::ORIGIN, &origin).send().await.expect("an answer");
    let set = answer.headers()[header::SET_COOKIE].to_str().expect("text").to_owned();
    for part in ["__Host-reeve=rv_web_", "HttpOnly", "SameSite=Strict", "Secure", "Path=/"] {
        assert!(set.contains(part), "{set} lacks {part}");
    }
    let body: LoginResponse = good(answer).await;
    assert_eq!(body.token, "", "the token is for the cookie alone");
    let cookie = set.split(';').next().expect("a pair");

    let with_cookie = |method, path| server.request(method, path).header(header::COOKIE, cookie);
    let _: WhoAmI = good(with_cookie(Method::GET, "/api/auth/me").send().await.expect("ok")).await;
    let ticket = "/api/auth/ticket";
    refused(with_cookie(Method::POST, ticket), StatusCode::FORBIDDEN, "wrong_origin").await;
    let request = with_cookie(Method::POST, ticket).header(header::ORIGIN, "https://evil.example");
    refused(request, StatusCode::FORBIDDEN, "wrong_origin").await;
    let request = with_cookie(Method::POST, ticket).header(header::ORIGIN, &origin);
    assert_eq!(request.send().await.expect("an answer").status(), StatusCode::OK);
    let request = with_cookie(Method::POST, "/api/auth/logout").header(header::ORIGIN, &origin);
    let answer = request.send().await.expect("an answer");
    assert!(answer.headers()[header::SET_COOKIE].to_str().expect("text").contains("Max-Age=0"));
    let request = with_cookie(Method::GET, "/api/auth/me");
    refused(request, StatusCode::UNAUTHORIZED, "unauthenticated").await;
}
