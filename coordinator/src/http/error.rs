//! Errors over HTTP: RFC 9457 problems.

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};

use super::request_id;
pub use crate::problem::ApiError;

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let (status, wait) = (self.status(), self.wait());
        let problem = self.into_problem(request_id::current());
        let body = serde_json::to_vec(&problem).unwrap_or_default();
        let mut response = (status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(wait) = wait {
            let seconds = wait.as_millis().div_ceil(1000).max(1);
            if let Ok(value) = HeaderValue::from_str(&seconds.to_string()) {
                headers.insert(header::RETRY_AFTER, value);
            }
        }
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(
                header::WWW_AUTHENTICATE,
                HeaderValue::from_static("Bearer realm=\"reeve\""),
            );
        }
        response
    }
}
