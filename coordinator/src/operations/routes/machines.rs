//! Machines as the API shows them: what is recorded, what their session says, what runs there.
//! Here and not in `machines`, because leaving ends sessions and gives up operations.

use std::sync::Arc;

use axum::extract::State;
use http::StatusCode;
use reeve_protocol::GoodbyeReason;
use reeve_sdk::api::{Machine, MachineChange, MachineState, Page, Problem};
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::AppState;
use crate::http::{ApiError, Json, Path, Query, page_limit};
use crate::machines::{Known, parse_selector};
use crate::users::Principal;

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(show, change, remove))
        .routes(routes!(revoke))
        .routes(routes!(list_alias))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
struct MachineQuery {
    /// Only machines this selects; none is fine here.
    selector: Option<String>,
    /// Only machines in this state.
    #[param(value_type = Option<String>)]
    state: Option<MachineState>,
    /// Where the last page ended.
    cursor: Option<String>,
    /// Items of a page, 1 to 1000; 100 when left out.
    limit: Option<u32>,
}

/// List machines
#[utoipa::path(get, path = "/api/machines", tag = "machines", params(MachineQuery),
    responses((status = 200, body = Page<Machine>), (status = 422, body = Problem)))]
async fn list(
    State(state): State<AppState>,
    principal: Principal,
    Query(query): Query<MachineQuery>,
) -> Result<axum::Json<Page<Machine>>, ApiError> {
    page(&state, &principal, query).await
}

/// List machines, by the established name
#[utoipa::path(get, path = "/api/clients/list", tag = "machines", params(MachineQuery),
    responses((status = 200, body = Page<Machine>), (status = 422, body = Problem)))]
async fn list_alias(
    State(state): State<AppState>,
    principal: Principal,
    Query(query): Query<MachineQuery>,
) -> Result<axum::Json<Page<Machine>>, ApiError> {
    page(&state, &principal, query).await
}

async fn page(
    state: &AppState,
    principal: &Principal,
    query: MachineQuery,
) -> Result<axum::Json<Page<Machine>>, ApiError> {
    let selector = query.selector.as_deref().map(parse_selector).transpose()?;
    let limit = usize::try_from(page_limit(query.limit)?).unwrap_or(100);
    let found = state.machines.registry().list(|known| {
        principal.scope.matches(known.id, &known.name, &known.labels)
            && selector.as_ref().is_none_or(|selector| known.is_selected_by(selector))
            && query.cursor.as_ref().is_none_or(|cursor| known.name > *cursor)
            && query.state.is_none_or(|wanted| standing(state, known) == wanted)
    });
    let next = (found.len() > limit)
        .then(|| found.get(limit - 1).map(|known| known.name.clone()))
        .flatten();
    let items = describe(state, found.get(..limit).unwrap_or(&found)).await?;
    Ok(axum::Json(Page { items, next }))
}

fn standing(state: &AppState, known: &Known) -> MachineState {
    match (known.revoked_us, known.quarantined_us) {
        (Some(_), _) => MachineState::Revoked,
        (None, Some(_)) => MachineState::Quarantined,
        (None, None) if state.fleet.is_online(known.id) => MachineState::Online,
        (None, None) => MachineState::Offline,
    }
}

async fn describe(state: &AppState, found: &[Arc<Known>]) -> Result<Vec<Machine>, ApiError> {
    let mut machines = state.machines.describe(found).await?;
    for machine in &mut machines {
        machine.running = state.operations.count_on(machine.id).await?;
        if let Some(session) = state.fleet.find(machine.id) {
            if machine.state == MachineState::Offline {
                machine.state = MachineState::Online;
            }
            machine.metrics = session.metrics();
            machine.clock_skew_ms = Some(session.skew_ms());
            machine.last_seen = Some(reeve_sdk::api::Time::from_micros(session.heard_us()));
        }
    }
    Ok(machines)
}

async fn describe_one(
    state: &AppState,
    known: Arc<Known>,
) -> Result<axum::Json<Machine>, ApiError> {
    let name = known.name.clone();
    let machine = describe(state, &[known]).await?.into_iter().next().ok_or_else(|| {
        ApiError::new(
            StatusCode::NOT_FOUND,
            "machine_not_found",
            format!("'{name}' was removed meanwhile"),
        )
    })?;
    Ok(axum::Json(machine))
}

/// One machine
#[utoipa::path(get, path = "/api/machines/{machine}", tag = "machines",
    params(("machine" = String, Path, description = "Name or id")),
    responses((status = 200, body = Machine), (status = 404, body = Problem)))]
async fn show(
    State(state): State<AppState>,
    principal: Principal,
    Path(machine): Path<String>,
) -> Result<axum::Json<Machine>, ApiError> {
    describe_one(&state, state.machines.find(&principal, &machine)?).await
}

/// Change name, labels or quarantine
#[utoipa::path(patch, path = "/api/machines/{machine}", tag = "machines",
    params(("machine" = String, Path, description = "Name or id")),
    request_body = MachineChange,
    responses((status = 200, body = Machine), (status = 404, body = Problem),
        (status = 409, body = Problem), (status = 422, body = Problem)))]
async fn change(
    State(state): State<AppState>,
    principal: Principal,
    Path(machine): Path<String>,
    Json(change): Json<MachineChange>,
) -> Result<axum::Json<Machine>, ApiError> {
    let quarantine = change.quarantined == Some(true);
    let known = state.machines.change(&principal, &machine, change).await?;
    if quarantine {
        state.fleet.dismiss(known.id, GoodbyeReason::Cloned, "this machine was quarantined");
    }
    describe_one(&state, known).await
}

/// Revoke a machine
///
/// Its session ends at once and it is never let in again. Its history stays.
#[utoipa::path(post, path = "/api/machines/{machine}/revoke", tag = "machines",
    params(("machine" = String, Path, description = "Name or id")),
    responses((status = 200, body = Machine), (status = 404, body = Problem)))]
async fn revoke(
    State(state): State<AppState>,
    principal: Principal,
    Path(machine): Path<String>,
) -> Result<axum::Json<Machine>, ApiError> {
    let id = state.machines.revoke(&principal, &machine).await?;
    state.fleet.dismiss(id, GoodbyeReason::Revoked, "this machine was revoked");
    state.operations.abandon(id).await;
    describe_one(&state, state.machines.find(&principal, &id.to_string())?).await
}

/// Remove a machine
///
/// As revoking, and it is on no list any more.
#[utoipa::path(delete, path = "/api/machines/{machine}", tag = "machines",
    params(("machine" = String, Path, description = "Name or id")),
    responses((status = 204), (status = 404, body = Problem)))]
async fn remove(
    State(state): State<AppState>,
    principal: Principal,
    Path(machine): Path<String>,
) -> Result<StatusCode, ApiError> {
    let id = state.machines.remove(&principal, &machine).await?;
    state.fleet.dismiss(id, GoodbyeReason::Revoked, "this machine was removed");
    state.operations.abandon(id).await;
    state.histories.forget(id).await;
    Ok(StatusCode::NO_CONTENT)
}
