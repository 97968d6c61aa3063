//! What a request shows as proof that it may.

use futures_util::future::BoxFuture;
use reeve_sdk::api::ProviderSettings;
use secrecy::SecretString;

use crate::ModelError;

/// Shown in a request header, and nowhere else.
#[derive(Clone, Debug)]
pub enum Credential {
    /// None needed.
    None,
    /// An API key, in the header the wire has for it.
    Key(SecretString),
    /// An OAuth access token, as `Authorization: Bearer` on every wire.
    Bearer(SecretString),
}

/// Where credentials come from: vault and environment.
pub trait Credentials: Send + Sync {
    /// The credential of a provider. `renew`: the provider just answered 401 to a
    /// [`Credential::Bearer`] from here; refresh it. Asked once for each call, so that a changed key
    /// is in force at once.
    ///
    /// # Errors
    /// [`crate::ErrorCode::VaultSealed`], or [`crate::ErrorCode::Key`] with the remedy.
    fn credential<'a>(
        &'a self,
        provider: &'a ProviderSettings,
        renew: bool,
    ) -> BoxFuture<'a, Result<Credential, ModelError>>;

    /// A variable of the environment, for `env_headers`.
    fn variable(&self, name: &str) -> Option<SecretString> {
        std::env::var(name).ok().map(SecretString::from)
    }
}
