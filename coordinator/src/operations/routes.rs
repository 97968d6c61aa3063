//! Jobs and operations over HTTP.

mod channel;
mod events;
mod explain;
mod machines;
mod output;
mod sessions;

use axum::body::Body;
use axum::extract::{DefaultBodyLimit, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use reeve_protocol::{JobId, OperationId};
use reeve_sdk::api::follow::{FollowRequest, MEDIA_TYPE};
use reeve_sdk::api::{
    CancelRequest, InputAccepted, Job, JobPreview, JobRequest, JobState, Operation, OperationState,
    Page, Problem, Role, SignalRequest,
};
use serde::Deserialize;
use tokio::sync::mpsc;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::follow::{FOLLOW_QUEUE, Follower, Watch};
use super::relay::Reader;
use super::submit::{Asking, CLAIM_WITHIN};
use super::terminals::Presence;
use super::{JobFilter, Submitted};
use crate::AppState;
use crate::approvals::Gate;
use crate::http::{ApiError, Json, Path, Query, page_limit};
use crate::users::Principal;

/// The routes of this feature.
pub fn routes() -> OpenApiRouter<AppState> {
    // Taken as it comes, and only as fast as the machine takes it.
    let input = OpenApiRouter::new().routes(routes!(send_input)).layer(DefaultBodyLimit::disable());
    OpenApiRouter::new()
        .routes(routes!(list_jobs, create_job))
        .routes(routes!(show_job))
        .routes(routes!(list_operations))
        .routes(routes!(follow_job))
        .routes(routes!(cancel_job))
        .routes(routes!(show_operation))
        .routes(routes!(signal_operation))
        .routes(routes!(cancel_operation))
        .merge(channel::routes())
        .merge(explain::routes())
        .merge(input)
        .merge(output::routes())
        .merge(events::routes())
        .merge(sessions::routes())
        .merge(machines::routes())
}

/// Run something
///
/// When this answers, the job is durable and under way. With `Idempotency-Key` it can be asked
/// again without running twice. With `Accept: application/vnd.reeve.follow` the answer is the
/// stream of `POST /api/jobs/{id}/follow`. With `relay` that stream is the only place its output ever
/// goes to: a stream that breaks off cancels the job. Relayed from one machine without that media
/// type, its output goes to the channel (`GET /ws/operations/{id}`) that comes for it within 30 s. Where the policy wants people to say yes first, the answer
/// is the problem `approval_required` with `approval`, and nothing was run.
#[utoipa::path(post, path = "/api/jobs", tag = "jobs", request_body = JobRequest,
    params(("Idempotency-Key" = Option<String>, Header, description = "Makes asking again safe")),
    responses((status = 201, body = Job), (status = 200, body = JobPreview),
        (status = 403, body = Problem), (status = 404, body = Problem),
        (status = 409, body = Problem), (status = 422, body = Problem),
        (status = 503, body = Problem)))]
async fn create_job(
    State(state): State<AppState>,
    principal: Principal,
    headers: HeaderMap,
    Json(request): Json<JobRequest>,
) -> Result<Response, ApiError> {
    let key = headers
        .get("idempotency-key")
        .map(|key| key.to_str().map(str::to_owned))
        .transpose()
        .map_err(|_| ApiError::invalid("the Idempotency-Key is no visible ASCII text"))?;
    if request.relay && !request.dry_run && !wants_stream(&headers) {
        let targets = state.operations.check_request(&principal, &request)?;
        if targets.len() != 1 {
            return Err(ApiError::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "relay_needs_stream",
                format!(
                    "what is relayed from several machines goes into the answer's stream; ask with 'Accept: {MEDIA_TYPE}'"
                ),
            ));
        }
    }
    let watch = wants_stream(&headers).then(|| state.operations.watch_new());
    let gate = state.approvals.gate(&principal, &request, key.as_deref()).await?;
    let asking = Asking { key, id: watch.as_ref().map(Watch::job) };
    let submitted = match gate {
        Gate::Open => state.operations.submit(&principal, request, asking).await?,
        Gate::Run(targets) => {
            state.operations.submit_resolved(&principal, request, &targets, asking).await?
        }
        Gate::Ran(job) => Submitted::Job(Box::new(state.operations.describe_job(job).await?)),
    };
    match submitted {
        Submitted::Preview(preview) => Ok(axum::Json(preview).into_response()),
        Submitted::Relayed(job, reader) => match watch {
            None => {
                state.operations.leave_for_channel(&job, reader, CLAIM_WITHIN)?;
                Ok(created(&job))
            }
            Some(watch) => Ok(created_and_followed(&state, &principal, *job, Some(reader), watch)),
        },
        Submitted::Job(job) => match watch {
            None => Ok(created(&job)),
            Some(watch) => Ok(created_and_followed(&state, &principal, *job, None, watch)),
        },
    }
}

fn created_and_followed(
    state: &AppState,
    principal: &Principal,
    job: Job,
    relayed: Option<Reader>,
    watch: Watch,
) -> Response {
    let (sender, receiver) = mpsc::channel(FOLLOW_QUEUE);
    let mut follower =
        Follower::of_new(state.operations.clone(), principal.clone(), job, watch, sender);
    if let Some(reader) = relayed {
        follower = follower.relaying(reader);
    }
    let mut response = follow(state, principal, follower, receiver, None);
    *response.status_mut() = StatusCode::CREATED;
    response
}

fn created(job: &Job) -> Response {
    let place = format!("/api/jobs/{}", job.id);
    (StatusCode::CREATED, [(header::LOCATION, place)], axum::Json(job)).into_response()
}

fn wants_stream(headers: &HeaderMap) -> bool {
    headers
        .get(header::ACCEPT)
        .and_then(|accept| accept.to_str().ok())
        .is_some_and(|accept| accept.split(',').any(|each| each.trim() == MEDIA_TYPE))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
struct JobQuery {
    /// Where the last page ended.
    cursor: Option<String>,
    /// Items of a page, 1 to 1000; 100 when left out.
    limit: Option<u32>,
    /// Only jobs in this state.
    #[param(value_type = Option<String>)]
    state: Option<JobState>,
}

/// List jobs, newest first
#[utoipa::path(get, path = "/api/jobs", tag = "jobs", params(JobQuery),
    responses((status = 200, body = Page<Job>)))]
async fn list_jobs(
    State(state): State<AppState>,
    principal: Principal,
    Query(query): Query<JobQuery>,
) -> Result<axum::Json<Page<Job>>, ApiError> {
    let filter = JobFilter {
        before: query.cursor.map(|text| job_id(&text)).transpose()?,
        limit: page_limit(query.limit)?,
        state: query.state,
    };
    Ok(axum::Json(state.operations.list_jobs(&principal, filter).await?))
}

/// One job
#[utoipa::path(get, path = "/api/jobs/{id}", tag = "jobs",
    params(("id" = String, Path, description = "The job's id")),
    responses((status = 200, body = Job), (status = 404, body = Problem)))]
async fn show_job(
    State(state): State<AppState>,
    principal: Principal,
    Path(id): Path<String>,
) -> Result<axum::Json<Job>, ApiError> {
    let id = job_id(&id)?;
    state.operations.find_job(&principal, id).await?;
    Ok(axum::Json(state.operations.describe_job(id).await?))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
struct OperationQuery {
    /// Where the last page ended.
    cursor: Option<String>,
    /// Items of a page, 1 to 1000; 100 when left out.
    limit: Option<u32>,
    /// Only operations in this state.
    #[param(value_type = Option<String>)]
    state: Option<OperationState>,
}

/// Operations of a job, in the order of its rollout
///
/// `output.gaps` is left out here and comes only with `GET /api/operations/{id}`.
#[utoipa::path(get, path = "/api/jobs/{id}/operations", tag = "jobs",
    params(("id" = String, Path, description = "The job's id"), OperationQuery),
    responses((status = 200, body = Page<Operation>), (status = 404, body = Problem)))]
async fn list_operations(
    State(state): State<AppState>,
    principal: Principal,
    Path(id): Path<String>,
    Query(query): Query<OperationQuery>,
) -> Result<axum::Json<Page<Operation>>, ApiError> {
    let id = job_id(&id)?;
    state.operations.find_job(&principal, id).await?;
    let after = match query.cursor {
        None => -1,
        Some(text) => text.parse().map_err(|_| {
            ApiError::new(StatusCode::BAD_REQUEST, "invalid_query", "that cursor is none of ours")
        })?,
    };
    let limit = page_limit(query.limit)?;
    let page = state.operations.list_operations(&principal, id, after, limit, query.state).await?;
    Ok(axum::Json(page))
}

/// Follow a job
///
/// States and output of all its operations on one connection, as frames: see the SDK's `follow`
/// module or docs/protocol.md. Ends when everything has ended and was sent. After a break, ask
/// again with the merged offsets reached.
#[utoipa::path(post, path = "/api/jobs/{id}/follow", tag = "jobs", request_body = FollowRequest,
    params(("id" = String, Path, description = "The job's id")),
    responses((status = 200, body = String, content_type = "application/vnd.reeve.follow"),
        (status = 404, body = Problem)))]
async fn follow_job(
    State(state): State<AppState>,
    principal: Principal,
    Path(id): Path<String>,
    Json(request): Json<FollowRequest>,
) -> Result<Response, ApiError> {
    let id = job_id(&id)?;
    state.operations.find_job(&principal, id).await?;
    let attachment = match request.attach {
        None => None,
        Some(attach) => {
            if attach.types {
                principal.require(Role::Operator)?;
            }
            Some(state.operations.join(&principal, id, attach.operation, attach.types).await?)
        }
    };
    let (sender, receiver) = mpsc::channel(FOLLOW_QUEUE);
    let follower =
        Follower::new(state.operations.clone(), principal.clone(), id, &request, sender)?;
    Ok(follow(&state, &principal, follower, receiver, attachment))
}

fn follow(
    state: &AppState,
    principal: &Principal,
    follower: Follower,
    receiver: mpsc::Receiver<std::io::Result<Bytes>>,
    attachment: Option<Presence>,
) -> Response {
    let users = state.users.clone();
    let principal = principal.clone();
    state.tasks.spawn("follower", async move {
        let _attachment = attachment;
        tokio::select! {
            () = follower.run() => {}
            // Whoever loses the right to see must not go on seeing.
            () = users.ended(&principal) => {}
        }
    });
    stream_response(MEDIA_TYPE, receiver)
}

/// A body that is sent as it comes.
fn stream_response(
    kind: &'static str,
    receiver: mpsc::Receiver<std::io::Result<Bytes>>,
) -> Response {
    let stream = futures_util::stream::unfold(receiver, |mut receiver| async move {
        receiver.recv().await.map(|chunk| (chunk, receiver))
    });
    let mut response = Response::new(Body::from_stream(stream));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // Proxies that collect answers before they pass them on would hold live output back.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

/// Cancel a job
#[utoipa::path(post, path = "/api/jobs/{id}/cancel", tag = "jobs", request_body = CancelRequest,
    params(("id" = String, Path, description = "The job's id")),
    responses((status = 202, body = Job), (status = 404, body = Problem),
        (status = 409, body = Problem)))]
async fn cancel_job(
    State(state): State<AppState>,
    principal: Principal,
    Path(id): Path<String>,
    Json(request): Json<CancelRequest>,
) -> Result<(StatusCode, axum::Json<Job>), ApiError> {
    let job = state.operations.cancel_job(&principal, job_id(&id)?, &request.reason).await?;
    Ok((StatusCode::ACCEPTED, axum::Json(job)))
}

/// One operation
#[utoipa::path(get, path = "/api/operations/{id}", tag = "operations",
    params(("id" = String, Path, description = "The operation's id")),
    responses((status = 200, body = Operation), (status = 404, body = Problem)))]
async fn show_operation(
    State(state): State<AppState>,
    principal: Principal,
    Path(id): Path<String>,
) -> Result<axum::Json<Operation>, ApiError> {
    let row = state.operations.find(&principal, operation_id(&id)?).await?;
    Ok(axum::Json(state.operations.describe(&row).await?))
}

/// Cancel an operation
#[utoipa::path(post, path = "/api/operations/{id}/cancel", tag = "operations",
    request_body = CancelRequest,
    params(("id" = String, Path, description = "The operation's id")),
    responses((status = 202, body = Operation), (status = 404, body = Problem),
        (status = 409, body = Problem)))]
async fn cancel_operation(
    State(state): State<AppState>,
    principal: Principal,
    Path(id): Path<String>,
    Json(request): Json<CancelRequest>,
) -> Result<(StatusCode, axum::Json<Operation>), ApiError> {
    let id = operation_id(&id)?;
    let operation = state.operations.cancel_operation(&principal, id, &request.reason).await?;
    Ok((StatusCode::ACCEPTED, axum::Json(operation)))
}

/// Send a signal to a running command
#[utoipa::path(post, path = "/api/operations/{id}/signal", tag = "operations",
    request_body = SignalRequest,
    params(("id" = String, Path, description = "The operation's id")),
    responses((status = 202), (status = 404, body = Problem), (status = 409, body = Problem)))]
async fn signal_operation(
    State(state): State<AppState>,
    principal: Principal,
    Path(id): Path<String>,
    Json(request): Json<SignalRequest>,
) -> Result<StatusCode, ApiError> {
    state.operations.signal(&principal, operation_id(&id)?, request.signal).await?;
    Ok(StatusCode::ACCEPTED)
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
struct InputQuery {
    /// Where in stdin the body begins.
    offset: u64,
    /// Whether stdin ends behind it.
    #[serde(default)]
    end: bool,
}

/// Send a piece of stdin
///
/// The body is the bytes, as many as you like; they are passed on as they come. Answers when all
/// have safely arrived on the machine, or when nothing has moved for 10 seconds, or after 45 seconds,
/// with how much has; go on from `received`. Sending a piece again does no harm. Pieces of some MiB,
/// two at a time, are fast.
#[utoipa::path(post, path = "/api/operations/{id}/input", tag = "operations",
    request_body(content = String, content_type = "application/octet-stream"),
    params(("id" = String, Path, description = "The operation's id"), InputQuery),
    responses((status = 200, body = InputAccepted), (status = 404, body = Problem),
        (status = 409, body = Problem), (status = 413, body = Problem)))]
async fn send_input(
    State(state): State<AppState>,
    principal: Principal,
    Path(id): Path<String>,
    Query(query): Query<InputQuery>,
    body: Body,
) -> Result<axum::Json<InputAccepted>, ApiError> {
    let id = operation_id(&id)?;
    let body = body.into_data_stream();
    let accepted = state.operations.input(&principal, id, query.offset, body, query.end).await?;
    Ok(axum::Json(accepted))
}

fn job_id(text: &str) -> Result<JobId, ApiError> {
    text.parse().map_err(|_| {
        ApiError::new(
            StatusCode::NOT_FOUND,
            "job_not_found",
            format!("'{}' is no job's id; 'reeve jobs list' shows them", text.escape_debug()),
        )
    })
}

fn operation_id(text: &str) -> Result<OperationId, ApiError> {
    text.parse().map_err(|_| {
        ApiError::new(
            StatusCode::NOT_FOUND,
            "operation_not_found",
            format!("'{}' is no operation's id", text.escape_debug()),
        )
    })
}
