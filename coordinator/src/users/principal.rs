//! Who is asking.

use reeve_protocol::{ApiKeyId, UserId};
use reeve_sdk::api::Role;

use super::Scope;
use crate::problem::ApiError;

/// Who is asking, as far as anything that decides needs to know. Put into each request by the
/// access middleware; take it as an argument of the handler.
#[derive(Clone, Debug)]
pub struct Principal {
    /// As the audit log says it: `user:NAME` or `key:NAME`.
    pub name: String,
    /// The person, also behind a key.
    pub user: UserId,
    /// The person's name.
    pub user_name: String,
    /// What they may do with this key or session.
    pub role: Role,
    /// With which machines: the person's scope and the key's, both.
    pub scope: Scope,
    /// What they showed.
    pub via: Via,
    /// The key or session they showed. Work that outlives a request watches it: see
    /// `Users::watch_ended`.
    pub key: ApiKeyId,
}

/// What somebody showed to be let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Via {
    /// The token of a login, or its cookie.
    Session,
    /// An API key of this name.
    Key(String),
}

impl Via {
    /// `session` or the key's name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Session => "session",
            Self::Key(name) => name,
        }
    }
}

impl Principal {
    /// # Errors
    /// 403 when the role is too low.
    pub fn require(&self, role: Role) -> Result<(), ApiError> {
        if self.role >= role {
            return Ok(());
        }
        Err(ApiError::forbidden(format!(
            "this needs the role {}, and {} has {}",
            role.as_str(),
            self.name,
            self.role.as_str()
        )))
    }
}
