//! Adding, changing and removing people.

use std::time::Duration;

use axum::extract::State;
use http::StatusCode;
use reeve_protocol::UserId;
use reeve_sdk::api::{NewUser, Page, Problem, Role, Time, User, UserChange, UserCreated};
use serde_json::json;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::auth_routes::{invalid_name, name_taken};
use super::key_routes::PageQuery;
use super::{Principal, code, store};
use crate::AppState;
use crate::audit::{self, Entry};
use crate::db::{OnConstraint, Tx};
use crate::http::{ApiError, Json, Path, Query};
use crate::nearest::nearest_names;
use crate::selector::{self, Selector};

/// How long the code of a new person works.
const CODE_LIFE: Duration = Duration::from_secs(24 * 3600);

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list, create)).routes(routes!(change, remove))
}

/// List people
#[utoipa::path(get, path = "/api/users", tag = "users", params(PageQuery),
    responses((status = 200, body = Page<User>), (status = 403, body = Problem)))]
async fn list(
    State(state): State<AppState>,
    Query(query): Query<PageQuery>,
) -> Result<axum::Json<Page<User>>, ApiError> {
    let mut conn = state.db.reader().await?;
    Ok(axum::Json(store::list_users(&mut conn, query.cursor(), query.limit()?).await?))
}

/// Add a person
///
/// The answer holds a one-time code with which they set their password.
#[utoipa::path(post, path = "/api/users", tag = "users", request_body = NewUser,
    responses((status = 201, body = UserCreated), (status = 403, body = Problem),
        (status = 409, body = Problem), (status = 422, body = Problem)))]
async fn create(
    State(state): State<AppState>,
    principal: Principal,
    Json(request): Json<NewUser>,
) -> Result<(StatusCode, axum::Json<UserCreated>), ApiError> {
    may_manage(&principal)?;
    if !selector::is_name(&request.name) {
        return Err(invalid_name());
    }
    let user = User {
        id: UserId::new(),
        name: request.name,
        role: request.role,
        scope: parse_scope(request.scope.as_deref().unwrap_or("@all"))?,
        created: state.clock.now(),
        active: false,
    };
    let code = code::make();
    let expires = state.clock.micros_after(CODE_LIFE);
    let mut tx = state.db.begin().await?;
    store::add_user(&mut tx, &user, None)
        .await
        .on_constraint("users.name", || name_taken(&user.name))?;
    let created = user.created.as_micros();
    store::add_code(&mut tx, code::hash(&code), Some(user.id), created, Some(expires)).await?;
    let entry = Entry {
        principal: &principal.name,
        action: "user.create",
        target: &format!("user:{}", user.name),
        detail: json!({ "role": user.role, "scope": user.scope }),
    };
    audit::record(&mut tx, &entry).await?;
    tx.commit().await?;
    let expires = Time::from_micros(expires);
    Ok((StatusCode::CREATED, axum::Json(UserCreated { user, code, expires })))
}

/// Change what a person may do
///
/// It counts from their next request on, and for all their keys.
#[utoipa::path(patch, path = "/api/users/{user}", tag = "users", request_body = UserChange,
    params(("user" = String, Path, description = "Name or id")),
    responses((status = 200, body = User), (status = 403, body = Problem),
        (status = 404, body = Problem), (status = 409, body = Problem),
        (status = 422, body = Problem)))]
async fn change(
    State(state): State<AppState>,
    principal: Principal,
    Path(name): Path<String>,
    Json(request): Json<UserChange>,
) -> Result<axum::Json<User>, ApiError> {
    may_manage(&principal)?;
    let scope = request.scope.as_deref().map(parse_scope).transpose()?;
    let mut tx = state.db.begin().await?;
    let mut user = load_user(&mut tx, &name).await?;
    let before = json!({ "role": user.role, "scope": user.scope });
    user.role = request.role.unwrap_or(user.role);
    user.scope = scope.unwrap_or(user.scope);
    // Recorded first: it makes two admins who demote each other take turns.
    let entry = Entry {
        principal: &principal.name,
        action: "user.change",
        target: &format!("user:{}", user.name),
        detail: json!({ "before": before, "after": { "role": user.role, "scope": user.scope } }),
    };
    audit::record(&mut tx, &entry).await?;
    if user.role != Role::Admin || user.scope != "@all" {
        keep_an_admin(&mut tx, &user).await?;
    }
    store::change_user(&mut tx, user.id, user.role, &user.scope).await?;
    tx.commit().await?;
    state.users.announce_change();
    Ok(axum::Json(user))
}

/// Remove a person
///
/// Their keys and sessions end at once.
#[utoipa::path(delete, path = "/api/users/{user}", tag = "users",
    params(("user" = String, Path, description = "Name or id")),
    responses((status = 204), (status = 403, body = Problem), (status = 404, body = Problem),
        (status = 409, body = Problem)))]
async fn remove(
    State(state): State<AppState>,
    principal: Principal,
    Path(name): Path<String>,
) -> Result<StatusCode, ApiError> {
    may_manage(&principal)?;
    let mut tx = state.db.begin().await?;
    let user = load_user(&mut tx, &name).await?;
    // Recorded first, as above.
    let entry = Entry {
        principal: &principal.name,
        action: "user.remove",
        target: &format!("user:{}", user.name),
        detail: json!({ "role": user.role, "scope": user.scope }),
    };
    audit::record(&mut tx, &entry).await?;
    keep_an_admin(&mut tx, &user).await?;
    store::remove_user(&mut tx, user.id).await?;
    tx.commit().await?;
    state.users.announce_change();
    Ok(StatusCode::NO_CONTENT)
}

/// Whoever sees only some machines could otherwise give themselves the rest.
fn may_manage(principal: &Principal) -> Result<(), ApiError> {
    if principal.scope.is_all() {
        return Ok(());
    }
    Err(ApiError::forbidden("only an admin whose scope is @all may manage people"))
}

async fn load_user(tx: &mut Tx, name: &str) -> Result<User, ApiError> {
    if let Some(row) = store::find_user(tx, name).await? {
        return Ok(row.user);
    }
    let names = store::list_user_names(tx).await?;
    Err(ApiError::new(
        StatusCode::NOT_FOUND,
        "user_not_found",
        format!("there is no user '{name}'; 'reeve users list' shows them"),
    )
    .nearest(nearest_names(name, names.iter().map(String::as_str))))
}

/// Somebody has to be left who can do everything.
async fn keep_an_admin(tx: &mut Tx, user: &User) -> Result<(), ApiError> {
    if store::count_other_admins(tx, user.id).await? > 0 {
        return Ok(());
    }
    Err(ApiError::new(
        StatusCode::CONFLICT,
        "last_admin",
        format!(
            "nobody would be left who may do everything; make another admin before {}",
            user.name
        ),
    ))
}

fn parse_scope(text: &str) -> Result<String, ApiError> {
    text.parse::<Selector>().map(|selector| selector.to_string()).map_err(|error| {
        ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_scope", error.to_string())
    })
}
