//! The vault: provider keys, encrypted. Values go in and never come out.

use serde::{Deserialize, Serialize};

use super::Time;

/// Where the vault stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum VaultState {
    /// There is none yet.
    Absent,
    /// It needs its passphrase.
    Sealed,
    /// It can be used.
    Open,
}

/// How the vault is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct VaultStatus {
    /// Where it stands.
    pub state: VaultState,
    /// Entries in it.
    pub entries: u32,
    /// It opens by itself at the start, with a key file.
    pub opens_itself: bool,
}

/// Make or open the vault.
#[derive(Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct VaultPassphrase {
    /// At least 12 characters.
    pub passphrase: String,
}

/// A secret to keep.
#[derive(Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct NewVaultEntry {
    /// Its name: lower-case letters, digits, `-`.
    pub name: String,
    /// The secret.
    pub secret: VaultSecret,
}

/// What can be kept.
#[derive(Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum VaultSecret {
    /// An API key.
    ApiKey {
        /// The key.
        value: String,
    },
    /// Tokens of an OAuth 2.0 login (RFC 6749), refreshed when they run out.
    Oauth {
        /// For requests.
        access_token: String,
        /// To get another; without one it ends when it runs out.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        refresh_token: Option<String>,
        /// A JWT with claims about the account (OpenID Connect Core 1.0, 2).
        #[serde(default, skip_serializing_if = "Option::is_none")]
        id_token: Option<String>,
        /// Where to refresh.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        token_url: Option<String>,
        /// As whom.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        client_id: Option<String>,
        /// When the access token runs out; else its own `exp`, else it is tried until refused.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        expires: Option<Time>,
    },
}

/// What is shown of a secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct VaultEntry {
    /// Its name.
    pub name: String,
    /// `api_key` or `oauth`.
    pub kind: String,
    /// Its last four characters, when it is long enough to tell.
    pub ends_with: Option<String>,
    /// Whose account, as its id_token says.
    pub account: Option<String>,
    /// When its access token runs out.
    pub expires: Option<Time>,
    /// Who put it in.
    pub created_by: String,
    /// When.
    pub created: Time,
}
