//! Arguments of handlers whose errors are problems.

use axum::extract::rejection::{BytesRejection, FailedToBufferBody, PathRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts, Request};
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, StatusCode, header};
use serde::de::DeserializeOwned;

use super::ApiError;
use crate::users::Principal;

/// Items of a page when nobody says how many.
const DEFAULT_PAGE: u32 = 100;

/// Items of a page at most.
const MAX_PAGE: u32 = 1000;

/// How many items a page gets.
///
/// # Errors
/// 400 when it is nothing or too many.
pub fn page_limit(limit: Option<u32>) -> Result<i64, ApiError> {
    match limit.unwrap_or(DEFAULT_PAGE) {
        limit @ 1..=MAX_PAGE => Ok(i64::from(limit)),
        limit => Err(ApiError::new(
            StatusCode::BAD_REQUEST,
            "invalid_query",
            format!("limit={limit} is out of range; a page has 1 to {MAX_PAGE} items"),
        )),
    }
}

/// A JSON body. An empty one is read as `{}`.
pub struct Json<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Json<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let is_json = is_json(request.headers());
        let body = Bytes::from_request(request, state).await.map_err(refuse_body)?;
        if body.is_empty() {
            return parse(b"{}").map(Self);
        }
        if !is_json {
            return Err(ApiError::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "unsupported_media_type",
                "the body has to be JSON, with 'Content-Type: application/json'",
            ));
        }
        parse(&body).map(Self)
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next())
        .is_some_and(|kind| {
            let kind = kind.trim().to_ascii_lowercase();
            kind == "application/json"
                || (kind.starts_with("application/") && kind.ends_with("+json"))
        })
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    serde_json::from_slice(body).map_err(|error| match error.classify() {
        serde_json::error::Category::Data => {
            ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_body", error.to_string())
        }
        _ => ApiError::new(
            StatusCode::BAD_REQUEST,
            "malformed_body",
            format!("the body is no JSON: {error}"),
        ),
    })
}

fn refuse_body(rejection: BytesRejection) -> ApiError {
    if let BytesRejection::FailedToBufferBody(FailedToBufferBody::LengthLimitError(_)) = rejection {
        return body_too_large();
    }
    ApiError::new(StatusCode::BAD_REQUEST, "malformed_body", "the body broke off before its end")
}

/// 413.
pub(super) fn body_too_large() -> ApiError {
    ApiError::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        "body_too_large",
        "the body is larger than this route takes (limits.request_body_bytes, unless it has a \
         limit of its own)",
    )
}

/// Query parameters. The type has to refuse unknown ones (`deny_unknown_fields`).
pub struct Query<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let axum::extract::Query(query) = axum::extract::Query::from_request_parts(parts, state)
            .await
            .map_err(|error: QueryRejection| {
                ApiError::new(StatusCode::BAD_REQUEST, "invalid_query", error.body_text())
            })?;
        Ok(Self(query))
    }
}

/// What stands in the path.
pub struct Path<T>(pub T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Path<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let axum::extract::Path(path) = axum::extract::Path::from_request_parts(parts, state)
            .await
            .map_err(|error: PathRejection| {
                ApiError::new(StatusCode::BAD_REQUEST, "invalid_path", error.body_text())
            })?;
        Ok(Self(path))
    }
}

impl<S: Sync> FromRequestParts<S> for Principal {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, ApiError> {
        // Absent only on public routes, whose handlers must not ask.
        parts.extensions.get::<Self>().cloned().ok_or_else(|| {
            ApiError::unauthenticated("log in first: send 'Authorization: Bearer <token>'")
        })
    }
}
