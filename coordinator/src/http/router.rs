//! All routes and what is around them.

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::get;
use http::{HeaderValue, header};
use tower_http::catch_panic::CatchPanicLayer;
use utoipa_axum::router::OpenApiRouter;

use super::authenticate::guard;
use super::{downloads, layers, openapi, peer, request_id, routes};
use crate::{
    AppState, approvals, assistant, audit, events, fleet, history, machines, models, operations,
    uploads, users, vault,
};

/// Routes of every feature.
pub(super) fn features() -> OpenApiRouter<AppState> {
    OpenApiRouter::with_openapi(openapi::head())
        .merge(routes::routes())
        .merge(downloads::routes())
        .merge(users::routes())
        .merge(audit::routes())
        .merge(machines::routes())
        .merge(fleet::routes())
        .merge(history::routes())
        .merge(operations::routes())
        .merge(uploads::routes())
        .merge(approvals::routes())
        .merge(assistant::routes())
        .merge(events::routes())
        .merge(vault::routes())
        .merge(models::routes())
}

/// The whole of the public listener.
pub fn router(state: AppState) -> Router {
    let (router, mut document) = features().split_for_parts();
    openapi::finish(&mut document);
    let document: Arc<str> = document.to_json().unwrap_or_default().into();
    let describe = move || {
        let body = document.to_string();
        async move { ([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], body) }
    };
    router
        .route("/api/openapi.json", get(describe))
        .route_layer(from_fn_with_state(state.clone(), guard))
        .method_not_allowed_fallback(layers::wrong_method)
        .fallback(layers::no_route)
        .layer(DefaultBodyLimit::max(state.config.limits.request_body_bytes))
        .layer(CatchPanicLayer::custom(layers::answer_panic))
        .layer(from_fn(layers::observe))
        .layer(from_fn(layers::secure))
        .layer(from_fn_with_state(state.clone(), peer::find_peer))
        .layer(from_fn(request_id::with_request_id))
        .with_state(state)
}

/// The listener for metrics alone: whoever reaches it may read them.
pub fn metrics_router() -> Router {
    Router::new()
        .route("/metrics", get(|| async { crate::telemetry::render_metrics() }))
        .fallback(layers::no_route)
        .layer(from_fn(request_id::with_request_id))
}
