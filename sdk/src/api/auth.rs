//! Logging in, and keys for programs.

use reeve_protocol::ApiKeyId;
use serde::{Deserialize, Serialize};

use super::{Role, Time};

/// Log in with a password.
#[derive(Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct LoginRequest {
    /// Who.
    pub name: String,
    /// Their password.
    pub password: String,
    /// Answer with a session cookie, for browsers, instead of a token.
    #[serde(default)]
    pub cookie: bool,
}

/// Use a one-time code: the one the coordinator printed at its first start, or the one that came
/// with `POST /api/users`.
#[derive(Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct SetupRequest {
    /// The code.
    pub code: String,
    /// The password to set; at least 10 characters.
    pub password: String,
    /// The name to take; only with the code of the first start, where it is `admin` if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// Logged in.
#[derive(Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LoginResponse {
    /// For `Authorization: Bearer`; empty when a cookie was asked for.
    pub token: String,
    /// When it stops working.
    pub expires: Time,
    /// Who is logged in.
    pub me: WhoAmI,
}

/// Who is asking.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct WhoAmI {
    /// The person's name.
    pub name: String,
    /// What they may do with this key or session.
    pub role: Role,
    /// With which machines.
    pub scope: String,
    /// `session` or the key's name.
    pub via: String,
}

/// A key to make, for a program.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct NewApiKey {
    /// What it is for.
    pub name: String,
    /// What it may do; at most what its owner may, which it is when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// With which machines, within the owner's scope.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
    /// How long it is good for, milliseconds; for ever when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_in_ms: Option<u64>,
}

/// A key, without its secret.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ApiKey {
    /// Its id.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = "uuid"))]
    pub id: ApiKeyId,
    /// What it is for.
    pub name: String,
    /// `key` for programs, `cli` and `web` for logged-in sessions.
    pub kind: String,
    /// Whose it is.
    pub user: String,
    /// What it may do.
    pub role: Role,
    /// With which machines.
    pub scope: String,
    /// When it was made.
    pub created: Time,
    /// When it stops working.
    pub expires: Option<Time>,
    /// When it was last used, to the minute.
    pub last_used: Option<Time>,
}

/// A key with its secret, shown once.
#[derive(Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ApiKeyCreated {
    /// For `Authorization: Bearer`.
    pub token: String,
    /// What can be seen of it later.
    pub details: ApiKey,
}

/// Opens one WebSocket, once, within 30 seconds.
#[derive(Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Ticket {
    /// For `/ws/frontend?ticket=…`.
    pub ticket: String,
}
