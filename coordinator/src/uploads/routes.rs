//! Uploads over HTTP.

use axum::body::Body;
use axum::extract::{DefaultBodyLimit, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use reeve_protocol::UploadId;
use reeve_sdk::api::{NewUpload, Page, Problem, Upload};
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::AppState;
use crate::http::{ApiError, Json, Path, Query};
use crate::users::Principal;

/// Where to go on, for whoever asks with HEAD.
const OFFSET: HeaderName = HeaderName::from_static("upload-offset");
/// How long it will be.
const LENGTH: HeaderName = HeaderName::from_static("upload-length");

/// The routes of this feature.
pub fn routes() -> OpenApiRouter<AppState> {
    // Bodies are written as they come; what was announced bounds them.
    let append = OpenApiRouter::new()
        .routes(routes!(show, append, remove))
        .layer(DefaultBodyLimit::disable());
    OpenApiRouter::new().routes(routes!(list, create)).merge(append)
}

/// Announce a file
///
/// It can be stdin of operations on many machines: `input` of a job. Only who made it may use it.
/// What was announced counts as taken; it goes some time after its last use (`limits.uploads_keep`).
#[utoipa::path(post, path = "/api/uploads", tag = "uploads", request_body = NewUpload,
    responses((status = 201, body = Upload), (status = 422, body = Problem),
        (status = 507, body = Problem)))]
async fn create(
    State(state): State<AppState>,
    principal: Principal,
    Json(new): Json<NewUpload>,
) -> Result<Response, ApiError> {
    let upload = state.uploads.create(&principal, new).await?;
    let place = format!("/api/uploads/{}", upload.id);
    Ok((StatusCode::CREATED, [(header::LOCATION, place)], axum::Json(upload)).into_response())
}

/// Your files at the coordinator, newest first
#[utoipa::path(get, path = "/api/uploads", tag = "uploads",
    responses((status = 200, body = Page<Upload>)))]
async fn list(
    State(state): State<AppState>,
    principal: Principal,
) -> Result<axum::Json<Page<Upload>>, ApiError> {
    Ok(axum::Json(Page { items: state.uploads.list(&principal).await?, next: None }))
}

/// How far a file is
///
/// `received` (and the header `Upload-Offset`) is where to go on.
#[utoipa::path(get, path = "/api/uploads/{id}", tag = "uploads",
    params(("id" = String, Path, description = "The upload's id")),
    responses((status = 200, body = Upload), (status = 404, body = Problem)))]
async fn show(
    State(state): State<AppState>,
    principal: Principal,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    let upload = state.uploads.show(&principal, upload_id(&id)?).await?;
    let headers =
        [(OFFSET, HeaderValue::from(upload.received)), (LENGTH, HeaderValue::from(upload.size))];
    Ok((headers, axum::Json(upload)).into_response())
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
struct AppendQuery {
    /// Where the body begins: exactly as much as is there.
    offset: u64,
}

/// Append to a file
///
/// The body is the bytes, as many as you like; they are kept as they come. When it breaks off, ask
/// how far it is and go on from there. With the wrong offset the problem `wrong_offset` says the
/// right one in `received`. The last piece is answered when the whole has its hash.
#[utoipa::path(patch, path = "/api/uploads/{id}", tag = "uploads",
    request_body(content = String, content_type = "application/octet-stream"),
    params(("id" = String, Path, description = "The upload's id"), AppendQuery),
    responses((status = 200, body = Upload), (status = 404, body = Problem),
        (status = 409, body = Problem), (status = 422, body = Problem),
        (status = 503, body = Problem)))]
async fn append(
    State(state): State<AppState>,
    principal: Principal,
    Path(id): Path<String>,
    Query(query): Query<AppendQuery>,
    headers: HeaderMap,
    body: Body,
) -> Result<axum::Json<Upload>, ApiError> {
    let id = upload_id(&id)?;
    let (users, who) = (state.users.clone(), principal.clone());
    let ended = async move { users.ended(&who).await };
    let length =
        headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    let body = body.into_data_stream();
    let place = (query.offset, length);
    let upload = state.uploads.append(&principal, id, place, body, ended).await?;
    Ok(axum::Json(upload))
}

/// Remove a file
///
/// Not while a job reads it.
#[utoipa::path(delete, path = "/api/uploads/{id}", tag = "uploads",
    params(("id" = String, Path, description = "The upload's id")),
    responses((status = 204), (status = 404, body = Problem), (status = 409, body = Problem)))]
async fn remove(
    State(state): State<AppState>,
    principal: Principal,
    Path(id): Path<String>,
) -> Result<StatusCode, ApiError> {
    state.uploads.delete(&principal, upload_id(&id)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn upload_id(text: &str) -> Result<UploadId, ApiError> {
    text.parse().map_err(|_| {
        ApiError::new(
            StatusCode::NOT_FOUND,
            "upload_not_found",
            format!("'{}' is no upload's id", text.escape_debug()),
        )
    })
}
