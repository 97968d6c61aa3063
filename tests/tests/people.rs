//! A second person exists, may do less, and sees only what they may.

use reeve_sdk::api::{AuditVerdict, LoginResponse, SetupRequest, UserCreated};
use reeve_tests::{Api, Cluster, on_each_database};

fn join(cluster: &Cluster, arguments: &[&str]) -> Api {
    let mut line = vec!["users", "add"];
    line.extend(arguments);
    line.extend(["-o", "json"]);
    let created: UserCreated = cluster.reeve(line).expect_code(0).json();
    let login: LoginResponse = cluster
        .guest
        .post(
            "/api/auth/setup",
            &SetupRequest {
                code: created.code,
                password: "another good one".to_owned(),
                name: None,
            },
        )
        .json();
    cluster.guest.with_token(&login.token)
}

on_each_database! {
    fn second_person_sees_and_runs_only_what_they_may(builder) {
        let cluster = builder.start();
        let _web = cluster.agent("web-1").label("role", "web").start();
        let _db = cluster.agent("db-1").label("role", "db").start();
        let dana = join(&cluster, &["dana", "--role", "operator", "--scope", "role=web"]);
        let list = cluster.reeve_as(&dana, ["machines", "list"]);
        list.expect_code(0).expect_says("web-1");
        assert!(!list.all().contains("db-1"), "{list}");
        cluster.reeve_as(&dana, ["run", "web-1", "--", "echo", "mine"]).expect_code(0).expect_stdout("mine\n");
        // What is outside their scope does not exist for them: not even by its right name.
        let run = cluster.reeve_as(&dana, ["run", "db-1", "--", "true"]);
        run.expect_code(255);
        assert_eq!(dana.get("/api/machines/db-1").problem(404).code, "machine_not_found");
        cluster.reeve_as(&dana, ["run", "@all", "--", "echo", "all"]).expect_code(0);
        assert_eq!(cluster.last_operation().machine, "web-1");
        // Another's job on another's machine is no business of theirs.
        cluster.reeve(["run", "db-1", "--", "echo", "secret"]).expect_code(0);
        let operation = cluster.last_operation();
        assert_eq!(dana.get(&format!("/api/operations/{}/output?stream=all&from=0", operation.id)).status, 404);
        assert_eq!(dana.get(&format!("/api/jobs/{}", operation.job_id)).status, 404);
        // Administration is not theirs.
        assert_eq!(dana.get("/api/users").problem(403).code, "forbidden");
        assert_eq!(dana.post("/api/enrolment-tokens", &serde_json::json!({})).problem(403).code, "forbidden");
    }

    fn viewer_may_look_and_not_touch(builder) {
        let cluster = builder.start();
        let _web = cluster.agent("web-1").start();
        let vera = join(&cluster, &["vera", "--role", "viewer"]);
        cluster.reeve_as(&vera, ["machines", "list"]).expect_code(0).expect_says("web-1");
        cluster.reeve_as(&vera, ["run", "web-1", "--", "true"]).expect_code(255);
        let page: reeve_sdk::api::Page<reeve_sdk::api::Job> = cluster.api.load("/api/jobs");
        assert!(page.items.is_empty());
        cluster.reeve(["users", "role", "vera", "operator"]).expect_code(0);
        cluster.reeve_as(&vera, ["run", "web-1", "--", "true"]).expect_code(0);
        cluster.reeve(["users", "remove", "vera", "--yes"]).expect_code(0);
        assert_eq!(vera.get("/api/machines").status, 401);
        cluster.reeve(["users", "list"]).expect_code(0).expect_says("admin");
    }

    fn audit_names_who_did_what_and_its_chain_is_whole(builder) {
        let cluster = builder.start();
        let _web = cluster.agent("web-1").start();
        cluster.reeve(["run", "web-1", "--", "true"]).expect_code(0);
        let audit = cluster.api.get("/api/audit?limit=1000");
        let text = String::from_utf8_lossy(&audit.body).into_owned();
        assert_eq!(audit.status, 200, "{audit}");
        assert!(text.contains("user:admin") && text.contains("job."), "{text}");
        let verdict: AuditVerdict = cluster.api.load("/api/audit/verify");
        assert!(verdict.intact && verdict.entries >= 3, "{verdict:?}");
    }
}

#[test]
fn one_time_code_works_once_and_login_by_hand_works() {
    let cluster = Cluster::start();
    assert!(!cluster.coordinator.data().join("setup-code").exists());
    let created: UserCreated = cluster
        .reeve(["users", "add", "dana", "--role", "viewer", "-o", "json"])
        .expect_code(0)
        .json();
    let folder = cluster.folder();
    std::fs::write(folder.join("code"), &created.code).expect("write");
    std::fs::write(folder.join("password"), "a long enough password\n").expect("write");
    let (code, password) = (folder.join("code"), folder.join("password"));
    let login = [
        "login",
        cluster.coordinator.url(),
        "--pin",
        &cluster.coordinator.pin(),
        "--code-file",
        &code.to_string_lossy(),
        "--password-file",
        &password.to_string_lossy(),
    ]
    .map(str::to_owned);
    let guest = cluster.guest.clone();
    cluster.reeve_as(&guest, &login).expect_code(0);
    // Logged in: no address and no key in the environment any more.
    cluster.reeve_as(&guest, ["whoami"]).expect_code(0).expect_says("dana");
    let again = cluster.reeve_as(&guest, &login);
    assert_ne!(again.code, 0, "{again}");
    cluster.reeve_as(&guest, ["logout"]).expect_code(0);
    assert_ne!(cluster.reeve_as(&guest, ["machines", "list"]).code, 0);
}

#[test]
fn nobody_gets_in_without_a_key_and_every_error_says_so() {
    let cluster = Cluster::start();
    for path in
        ["/api/machines", "/api/jobs", "/api/users", "/api/status", "/api/audit", "/metrics"]
    {
        assert_eq!(cluster.guest.get(path).problem(401).code, "unauthenticated", "{path}");
    }
    let forged = cluster.guest.with_token("rv_key_0123_4567_89abcdef");
    assert_eq!(forged.get("/api/machines").status, 401);
    assert_eq!(cluster.guest.get("/healthz").status, 200);
    let problem = cluster.api.get("/api/machines?colour=red");
    assert!(matches!(problem.status, 400 | 422), "{problem}");
    let problem =
        cluster.api.post("/api/jobs", &serde_json::json!({ "selector": "@all", "surprise": 1 }));
    assert!(matches!(problem.status, 400 | 422), "{problem}");
    let huge = vec![b'x'; 32 << 20];
    let answer = cluster.api.send(
        reqwest::Method::POST,
        "/api/jobs",
        &[("content-type", "application/json")],
        huge,
    );
    assert!(answer.is_err() || answer.is_ok_and(|answer| answer.status == 413));
}
