//! Its routes.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use futures_util::StreamExt;
use reeve_protocol::{CoordinatorId, JobId, OperationId, Stream};
use reeve_sdk::api::follow::{FollowRequest, MEDIA_TYPE};
use reeve_sdk::api::{
    CancelRequest, Info, InputAccepted, JobPreview, JobRequest, LoginRequest, LoginResponse,
    MachineCounts, MachineState, OperationState, Page, Problem, Role, SetupRequest, Status, Target,
    Time, WhoAmI,
};
use tokio::sync::watch;

use super::plan::Part;
use super::{RecordedJob, Scripted, TOKEN, cut};

type Shared = State<Arc<Scripted>>;

pub fn router(script: Arc<Scripted>) -> Router {
    Router::new()
        .route("/api/info", get(info))
        .route("/readyz", get(|| async { "ready" }))
        .route("/api/auth/login", post(login))
        .route("/api/auth/setup", post(setup))
        .route("/api/auth/logout", post(|| async { StatusCode::NO_CONTENT }))
        .route("/api/auth/me", get(|| async { Json(me()) }))
        .route("/api/status", get(status))
        .route("/api/machines", get(machines))
        .route("/api/machines/{name}", get(machine))
        .route("/api/jobs", post(create_job))
        .route("/api/jobs/{id}", get(job))
        .route("/api/jobs/{id}/operations", get(job_operations))
        .route("/api/jobs/{id}/follow", post(follow))
        .route("/api/jobs/{id}/cancel", post(cancel))
        .route("/api/operations/{id}", get(operation))
        .route("/api/operations/{id}/output", get(output))
        .route(
            "/api/operations/{id}/input",
            post(input).layer(axum::extract::DefaultBodyLimit::max(4 << 20)),
        )
        .layer(middleware::from_fn_with_state(Arc::clone(&script), gate))
        .with_state(script)
}

pub fn problem(status: u16, code: &str, detail: &str, nearest: &[&str]) -> Response {
    let body = Problem {
        kind: "about:blank".to_owned(),
        title: "scripted".to_owned(),
        status,
        detail: detail.to_owned(),
        code: code.to_owned(),
        request_id: "request-1".to_owned(),
        nearest: nearest.iter().map(|name| (*name).to_owned()).collect(),
        approval: None,
        received: None,
    };
    let status = StatusCode::from_u16(status).expect("status");
    let headers = [(header::CONTENT_TYPE, "application/problem+json")];
    (status, headers, Json(body)).into_response()
}

/// Writes everything down, is busy when told to, and lets in who has the key.
async fn gate(State(script): Shared, request: Request, next: Next) -> Response {
    let path = request.uri().path().to_owned();
    let authorization = request
        .headers()
        .get(header::AUTHORIZATION)
        .map(|value| value.to_str().expect("text").to_owned());
    {
        let mut memory = script.memory();
        memory.requests.push(format!("{} {}", request.method(), request.uri()));
        memory.authorizations.extend(authorization.clone());
    }
    let busy = script.busy.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
    if busy.is_ok() {
        return problem(503, "draining", "the coordinator is draining", &[]);
    }
    let public = ["/api/info", "/readyz", "/api/auth/login", "/api/auth/setup"];
    let expected = format!("Bearer {TOKEN}");
    if !public.contains(&path.as_str()) && authorization.as_deref() != Some(expected.as_str()) {
        return problem(
            401,
            "unauthenticated",
            "this needs a key, and none that is valid came",
            &[],
        );
    }
    next.run(request).await
}

async fn info(State(script): Shared) -> Json<Info> {
    Json(Info {
        product: "reeve".to_owned(),
        version: "0.1.7".to_owned(),
        coordinator_id: CoordinatorId::new(),
        setup_needed: script.memory().code.is_some(),
    })
}

fn me() -> WhoAmI {
    WhoAmI {
        name: "ada".to_owned(),
        role: Role::Admin,
        scope: "@all".to_owned(),
        via: "session".to_owned(),
    }
}

fn welcome() -> Response {
    let expires = Time::from_micros(4_000_000_000_000_000);
    Json(LoginResponse { token: TOKEN.to_owned(), expires, me: me() }).into_response()
}

async fn login(Json(request): Json<LoginRequest>) -> Response {
    if request.name == "ada" && request.password == "correct horse" {
        return welcome();
    }
    problem(401, "wrong_password", "name or password is wrong", &[])
}

async fn setup(State(script): Shared, Json(request): Json<SetupRequest>) -> Response {
    let mut memory = script.memory();
    if memory.code.as_deref() != Some(request.code.as_str()) {
        return problem(401, "wrong_code", "the code is wrong or was used", &[]);
    }
    memory.code = None;
    welcome()
}

async fn status() -> Json<Status> {
    Json(Status {
        version: "0.1.7".to_owned(),
        coordinator_id: CoordinatorId::new(),
        started: Time::from_micros(1),
        database: "sqlite".to_owned(),
        readiness: "ready".to_owned(),
        machines: MachineCounts { online: 2, offline: 1, quarantined: 0, revoked: 0 },
        jobs_running: 0,
        operations_running: 0,
        output_bytes: 4096,
        vault: None,
        providers: Vec::new(),
        models_today: reeve_sdk::api::UsageRow::default(),
    })
}

/// Two to a page, so that every client has to turn pages.
async fn machines(State(script): Shared, Query(query): Query<HashMap<String, String>>) -> Response {
    let from: usize = query.get("cursor").map_or(0, |cursor| cursor.parse().expect("own cursor"));
    let memory = script.memory();
    let wanted = query.get("state");
    let all: Vec<_> = memory
        .machines
        .iter()
        .filter(|machine| {
            wanted.is_none_or(|w| *w == format!("{:?}", machine.state).to_lowercase())
        })
        .cloned()
        .collect();
    let items: Vec<_> = all.iter().skip(from).take(2).cloned().collect();
    let next = (from + 2 < all.len()).then(|| (from + 2).to_string());
    Json(Page { items, next }).into_response()
}

async fn machine(State(script): Shared, Path(name): Path<String>) -> Response {
    match script.memory().machines.iter().find(|machine| machine.name == name) {
        Some(machine) => Json(machine).into_response(),
        None => not_found(&name),
    }
}

fn not_found(name: &str) -> Response {
    problem(404, "machine_not_found", &format!("there is no machine '{name}'"), &["web-1", "web-2"])
}

async fn create_job(
    State(script): Shared,
    headers: HeaderMap,
    Json(request): Json<JobRequest>,
) -> Response {
    let plan = match script.memory().plans.get(&request.selector) {
        Some(plan) => plan.clone(),
        None => return not_found(&request.selector),
    };
    if request.dry_run {
        let targets = plan.operations.iter().map(|planned| Target {
            machine_id: reeve_protocol::MachineId::new(),
            machine: planned.machine.clone(),
            state: if planned.state == OperationState::Expired {
                MachineState::Offline
            } else {
                MachineState::Online
            },
        });
        return Json(JobPreview { targets: targets.collect() }).into_response();
    }
    let key = headers.get("idempotency-key").expect("every submission has a key");
    let key = key.to_str().expect("text").to_owned();
    let id = {
        let mut memory = script.memory();
        let known = memory.by_key.get(&key).copied();
        known.unwrap_or_else(|| {
            let id = JobId::new();
            let operations = plan.operations.iter().map(|_| OperationId::new()).collect();
            let cancelled = watch::Sender::new(false);
            memory.jobs.insert(id, RecordedJob { plan, request, operations, cancelled });
            memory.by_key.insert(key, id);
            id
        })
    };
    let wants_stream = headers
        .get(header::ACCEPT)
        .is_some_and(|accept| accept.to_str().is_ok_and(|accept| accept == MEDIA_TYPE));
    if wants_stream {
        return stream(&script, id, &BTreeMap::new(), StatusCode::CREATED);
    }
    let memory = script.memory();
    let recorded = memory.jobs.get(&id).expect("recorded");
    let job = recorded.plan.job(id, &recorded.request, &recorded.operations, false);
    (StatusCode::CREATED, Json(job)).into_response()
}

async fn follow(
    State(script): Shared,
    Path(id): Path<JobId>,
    Json(request): Json<FollowRequest>,
) -> Response {
    if !script.memory().jobs.contains_key(&id) {
        return problem(404, "job_not_found", &format!("there is no job {id}"), &[]);
    }
    stream(&script, id, &request.offsets, StatusCode::OK)
}

struct Flow {
    parts: VecDeque<Part>,
    /// Left before the cut.
    budget: usize,
    cancelled: watch::Receiver<bool>,
    input_ended: watch::Receiver<bool>,
    cut: bool,
}

fn stream(
    script: &Scripted,
    id: JobId,
    offsets: &BTreeMap<String, u64>,
    status: StatusCode,
) -> Response {
    let memory = script.memory();
    let recorded = memory.jobs.get(&id).expect("recorded");
    let plan = &recorded.plan;
    let flow = Flow {
        parts: plan.parts(id, &recorded.request, &recorded.operations, offsets),
        budget: plan.cut_after.unwrap_or(usize::MAX),
        cancelled: recorded.cancelled.subscribe(),
        input_ended: script.input_ended.subscribe(),
        cut: false,
    };
    let body = futures_util::stream::unfold(flow, |mut flow| async move {
        loop {
            if flow.cut {
                return None;
            }
            match flow.parts.pop_front()? {
                Part::Bytes(bytes) if bytes.len() > flow.budget => {
                    // A part of the frame arrives, then nothing.
                    if flow.budget > 0 {
                        let part = bytes.slice(..flow.budget);
                        flow.budget = 0;
                        flow.parts.push_front(Part::Bytes(bytes));
                        return Some((Ok(part), flow));
                    }
                    flow.cut = true;
                    // Hyper sends what it has when polled again; without this the cut overtakes it.
                    tokio::task::yield_now().await;
                    return Some((Err(cut()), flow));
                }
                Part::Bytes(bytes) => {
                    flow.budget -= bytes.len();
                    return Some((Ok(bytes), flow));
                }
                Part::WaitForCancel => {
                    let _ = flow.cancelled.wait_for(|cancelled| *cancelled).await;
                }
                Part::WaitForInput => {
                    let _ = flow.input_ended.wait_for(|ended| *ended).await;
                }
            }
        }
    });
    (status, [(header::CONTENT_TYPE, MEDIA_TYPE)], Body::from_stream(body)).into_response()
}

async fn job(State(script): Shared, Path(id): Path<JobId>) -> Response {
    let memory = script.memory();
    match memory.jobs.get(&id) {
        Some(recorded) => {
            Json(recorded.plan.job(id, &recorded.request, &recorded.operations, true))
                .into_response()
        }
        None => problem(404, "job_not_found", &format!("there is no job {id}"), &[]),
    }
}

async fn job_operations(State(script): Shared, Path(id): Path<JobId>) -> Response {
    let memory = script.memory();
    let recorded = memory.jobs.get(&id).expect("recorded");
    let all = recorded.plan.operations.iter().zip(&recorded.operations);
    let items = all.map(|(planned, operation)| planned.operation(*operation, id, true)).collect();
    Json(Page { items, next: None }).into_response()
}

async fn cancel(
    State(script): Shared,
    Path(id): Path<JobId>,
    Json(_): Json<CancelRequest>,
) -> Response {
    let memory = script.memory();
    let recorded = memory.jobs.get(&id).expect("recorded");
    recorded.cancelled.send_replace(!recorded.plan.ignores_cancel);
    let job = recorded.plan.job(id, &recorded.request, &recorded.operations, false);
    (StatusCode::ACCEPTED, Json(job)).into_response()
}

async fn operation(State(script): Shared, Path(id): Path<OperationId>) -> Response {
    let memory = script.memory();
    for (job, recorded) in &memory.jobs {
        if let Some(index) = recorded.operations.iter().position(|operation| *operation == id) {
            let mut operation = recorded.plan.operations[index].operation(id, *job, false);
            if let Some(input) = memory.input.get(&id) {
                operation.stdin_received = input.bytes.len() as u64;
            }
            return Json(operation).into_response();
        }
    }
    problem(404, "operation_not_found", &format!("there is no operation {id}"), &[])
}

async fn output(
    State(script): Shared,
    Path(id): Path<OperationId>,
    Query(query): Query<HashMap<String, String>>,
) -> Response {
    let memory = script.memory();
    let from: usize = query.get("from").map_or(0, |from| from.parse().expect("number"));
    for recorded in memory.jobs.values() {
        if let Some(index) = recorded.operations.iter().position(|operation| *operation == id) {
            let wanted = query.get("stream").map(String::as_str);
            let bytes: Vec<u8> = recorded.plan.operations[index]
                .output
                .iter()
                .filter(|(stream, _)| match wanted {
                    Some("stdout") => *stream == Stream::Stdout,
                    Some("stderr") => *stream == Stream::Stderr,
                    _ => true,
                })
                .flat_map(|(_, bytes)| bytes.iter().copied())
                .skip(from)
                .collect();
            let limit = recorded.plan.cut_after.unwrap_or(usize::MAX);
            if bytes.len() > limit {
                let parts = [Ok(Bytes::copy_from_slice(&bytes[..limit])), Err(cut())];
                let parts = futures_util::stream::iter(parts).then(|part| async move {
                    if part.is_err() {
                        // Otherwise the cut overtakes what was written before it.
                        tokio::task::yield_now().await;
                    }
                    part
                });
                return Body::from_stream(parts).into_response();
            }
            return bytes.into_response();
        }
    }
    problem(404, "operation_not_found", &format!("there is no operation {id}"), &[])
}

/// Takes what continues what it has. Every fifth call is refused, every seventh taken by half.
async fn input(
    State(script): Shared,
    Path(id): Path<OperationId>,
    Query(query): Query<HashMap<String, String>>,
    bytes: Bytes,
) -> Response {
    assert!(bytes.len() <= 4 << 20, "a piece is too long");
    let offset: u64 = query.get("offset").expect("an offset").parse().expect("a number");
    let mut memory = script.memory();
    let input = memory.input.entry(id).or_default();
    input.calls += 1;
    if input.calls % 5 == 0 {
        return problem(503, "draining", "the coordinator is draining", &[]);
    }
    let have = input.bytes.len() as u64;
    if offset <= have {
        let skip = usize::try_from(have - offset).expect("small");
        let mut fresh = bytes.get(skip..).unwrap_or_default();
        if input.calls % 7 == 0 {
            fresh = &fresh[..fresh.len() / 2];
        }
        input.bytes.extend_from_slice(fresh);
    }
    let received = input.bytes.len() as u64;
    if query.get("end").is_some_and(|end| end == "true") && received == offset {
        input.ended = true;
        script.input_ended.send_replace(true);
    }
    Json(InputAccepted { received, closed: false }).into_response()
}
