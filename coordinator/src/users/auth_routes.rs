//! Logging in and out.

use std::time::Duration;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use reeve_protocol::token::Token;
use reeve_protocol::{ApiKeyId, UserId};
use reeve_sdk::api::{
    LoginRequest, LoginResponse, Problem, Role, SetupRequest, Ticket, Time, User, WhoAmI,
};
use serde_json::json;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::setup::{SETUP_CODE_FILE, remove_file};
use super::{Password, Principal, SESSION_LIFE, WEB_IDLE, code, hash_secret, store};
use crate::AppState;
use crate::audit::{self, Entry};
use crate::db::{DbError, OnConstraint, Tx};
use crate::http::{ApiError, Cookies, Json};
use crate::selector;

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(setup))
        .routes(routes!(login))
        .routes(routes!(logout))
        .routes(routes!(me))
        .routes(routes!(ticket))
}

/// Use a one-time code
///
/// The code of the first start makes the first admin; the code of a new user sets their password.
#[utoipa::path(post, path = "/api/auth/setup", tag = "auth", request_body = SetupRequest,
    responses((status = 200, body = LoginResponse), (status = 401, body = Problem),
        (status = 422, body = Problem), (status = 429, body = Problem)))]
async fn setup(
    State(state): State<AppState>,
    Json(request): Json<SetupRequest>,
) -> Result<axum::Json<LoginResponse>, ApiError> {
    let users = &state.users;
    if request.name.as_deref().is_some_and(|name| !selector::is_name(name)) {
        return Err(invalid_name());
    }
    let code = code::hash(&request.code);
    // The code first: hashing a password is work that only a good code should get done. It is not
    // used up before the commit.
    let mut tx = state.db.begin().await?;
    let known = store::take_code(&mut tx, code, state.clock.micros()).await?;
    drop(tx);
    if known.is_none() {
        let mut tx = state.db.begin().await?;
        audit::record(&mut tx, &failure("auth.setup_failed", "code")).await?;
        tx.commit().await?;
        return Err(ApiError::unauthenticated(
            "the code is wrong, used or expired; an admin can add you again for a new one",
        ));
    }
    let password = users.hash_password(Password::chosen(request.password)?).await?;
    let mut tx = state.db.begin().await?;
    let now = state.clock.now();
    let Some(owner) = store::take_code(&mut tx, code, now.as_micros()).await? else {
        return Err(ApiError::unauthenticated("the code was used by somebody else just now"));
    };
    let user = match owner {
        Some(id) => {
            let row = store::find_user(&mut tx, &id.to_string()).await?.ok_or_else(|| {
                ApiError::unauthenticated("the person this code was for was removed")
            })?;
            if request.name.is_some_and(|name| name != row.user.name) {
                return Err(ApiError::new(
                    StatusCode::UNPROCESSABLE_ENTITY,
                    "invalid_name",
                    "this code is for a person who has a name already; leave the name out",
                ));
            }
            store::set_password(&mut tx, id, &password).await?;
            row.user
        }
        None => {
            let user = User {
                id: UserId::new(),
                name: request.name.unwrap_or_else(|| "admin".to_owned()),
                role: Role::Admin,
                scope: "@all".to_owned(),
                created: now,
                active: true,
            };
            store::add_user(&mut tx, &user, Some(&password))
                .await
                .on_constraint("users.name", || name_taken(&user.name))?;
            user
        }
    };
    let (response, _) = open_session(&state, &mut tx, &user, false).await?;
    let name = format!("user:{}", user.name);
    let entry = Entry { principal: &name, action: "auth.setup", target: &name, detail: json!({}) };
    audit::record(&mut tx, &entry).await?;
    tx.commit().await?;
    if owner.is_none() {
        remove_file(&state.config.data.join(SETUP_CODE_FILE));
    }
    Ok(axum::Json(response))
}

/// Log in
#[utoipa::path(post, path = "/api/auth/login", tag = "auth", request_body = LoginRequest,
    responses((status = 200, body = LoginResponse), (status = 401, body = Problem),
        (status = 429, body = Problem)))]
async fn login(
    State(state): State<AppState>,
    cookies: Cookies,
    Json(request): Json<LoginRequest>,
) -> Result<Response, ApiError> {
    if request.cookie {
        // Otherwise another site could log a browser in as somebody else.
        cookies.check_origin(&state)?;
    }
    let mut conn = state.db.reader().await?;
    let row = store::find_user(&mut conn, &request.name).await?;
    drop(conn);
    // Ids are not for logging in with.
    let row = row.filter(|row| row.user.name == request.name);
    let stored = row.as_ref().and_then(|row| row.password.clone());
    let fits = state.users.verify_password(Password::given(request.password), stored).await?;
    let mut tx = state.db.begin().await?;
    let known = row.as_ref().map(|row| row.user.name.clone());
    let Some(row) = row.filter(|_| fits) else {
        // A name nobody has may be a password typed into the wrong field.
        let target = known.as_deref().unwrap_or("?");
        audit::record(&mut tx, &failure("auth.login_failed", &format!("user:{target}"))).await?;
        tx.commit().await?;
        return Err(ApiError::unauthenticated("name or password is wrong"));
    };
    // Between looking and now somebody may have removed them.
    let user = store::find_user(&mut tx, &row.user.id.to_string())
        .await?
        .ok_or_else(|| ApiError::unauthenticated("name or password is wrong"))?
        .user;
    let (mut response, token) = open_session(&state, &mut tx, &user, request.cookie).await?;
    let name = format!("user:{}", user.name);
    let detail = json!({ "kind": if request.cookie { "web" } else { "cli" } });
    let entry = Entry { principal: &name, action: "auth.login", target: &name, detail };
    audit::record(&mut tx, &entry).await?;
    tx.commit().await?;
    if !request.cookie {
        return Ok(axum::Json(response).into_response());
    }
    response.token = String::new();
    let cookie = cookies.to_set(&token, Some(SESSION_LIFE));
    with_cookie(axum::Json(response).into_response(), &cookie)
}

/// Log out
///
/// Ends the session that was shown; an API key stays.
#[utoipa::path(post, path = "/api/auth/logout", tag = "auth",
    responses((status = 204), (status = 401, body = Problem)))]
async fn logout(
    State(state): State<AppState>,
    cookies: Cookies,
    principal: Principal,
) -> Result<Response, ApiError> {
    if principal.via == super::Via::Session {
        let mut tx = state.db.begin().await?;
        store::remove_key(&mut tx, principal.key).await?;
        let entry = Entry {
            principal: &principal.name,
            action: "auth.logout",
            target: &principal.name,
            detail: json!({}),
        };
        audit::record(&mut tx, &entry).await?;
        tx.commit().await?;
        state.users.announce_change();
    }
    let response = StatusCode::NO_CONTENT.into_response();
    with_cookie(response, &cookies.to_set("", Some(Duration::ZERO)))
}

/// Who am I?
#[utoipa::path(get, path = "/api/auth/me", tag = "auth",
    responses((status = 200, body = WhoAmI), (status = 401, body = Problem)))]
async fn me(principal: Principal) -> axum::Json<WhoAmI> {
    axum::Json(WhoAmI {
        name: principal.user_name,
        role: principal.role,
        scope: principal.scope.to_string(),
        via: principal.via.as_str().to_owned(),
    })
}

/// A ticket for one WebSocket
#[utoipa::path(post, path = "/api/auth/ticket", tag = "auth",
    responses((status = 200, body = Ticket), (status = 401, body = Problem)))]
async fn ticket(
    State(state): State<AppState>,
    principal: Principal,
) -> Result<axum::Json<Ticket>, ApiError> {
    Ok(axum::Json(Ticket { ticket: state.users.tickets.issue(principal)? }))
}

/// A new session with its token.
async fn open_session(
    state: &AppState,
    tx: &mut Tx,
    user: &User,
    web: bool,
) -> Result<(LoginResponse, String), DbError> {
    let kind = if web { "web" } else { "cli" };
    let mut secret = [0_u8; 32];
    rand::fill(&mut secret);
    let id = ApiKeyId::new();
    let created = state.clock.micros();
    let expires = state.clock.micros_after(if web { WEB_IDLE } else { SESSION_LIFE });
    let key = store::NewKey {
        id,
        kind,
        name: kind,
        user: user.id,
        role: None,
        scope: None,
        hash: hash_secret(&secret),
        created,
        expires: Some(expires),
    };
    store::add_key(tx, &key).await?;
    let token = Token { kind: kind.to_owned(), id: id.0, secret, pin: None }.to_text();
    let me = WhoAmI {
        name: user.name.clone(),
        role: user.role,
        scope: user.scope.clone(),
        via: "session".to_owned(),
    };
    let expires = Time::from_micros(expires);
    Ok((LoginResponse { token: token.clone(), expires, me }, token))
}

fn with_cookie(mut response: Response, cookie: &str) -> Result<Response, ApiError> {
    let value = HeaderValue::from_str(cookie).map_err(ApiError::internal)?;
    response.headers_mut().append(header::SET_COOKIE, value);
    Ok(response)
}

fn failure<'a>(action: &'a str, target: &'a str) -> Entry<'a> {
    Entry { principal: "anonymous", action, target, detail: json!({}) }
}

pub(super) fn invalid_name() -> ApiError {
    ApiError::new(
        StatusCode::UNPROCESSABLE_ENTITY,
        "invalid_name",
        "a name has 1 to 64 of a-z, 0-9, '.', '_' and '-', and starts with a letter or digit",
    )
}

pub(super) fn name_taken(name: &str) -> ApiError {
    ApiError::new(
        StatusCode::CONFLICT,
        "name_taken",
        format!("there is a '{name}' already; choose another name"),
    )
}
