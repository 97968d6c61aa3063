//! Where a provider's key comes from: the vault, or the coordinator's environment. It goes into the
//! header of a request and nowhere else.

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use reeve_models::{Credential, Credentials, ErrorCode, ModelError};
use reeve_sdk::api::{ProviderSettings, VaultSecret};
use secrecy::SecretString;
use tokio::sync::Mutex;

use super::oauth;
use crate::Clock;
use crate::vault::{Vault, VaultError};

/// A token that runs out within this time is renewed before it is used, microseconds.
const EARLY_US: i64 = 60 * 1_000_000;

/// Keys of providers.
pub struct FromVault {
    vault: Vault,
    clock: Clock,
    client: reqwest::Client,
    /// One renewal at a time: most providers take a refresh token once.
    renewing: Mutex<()>,
}

impl FromVault {
    /// # Errors
    /// When TLS cannot be set up.
    pub fn new(vault: Vault, clock: Clock) -> anyhow::Result<Self> {
        Ok(Self { vault, clock, client: oauth::client()?, renewing: Mutex::default() })
    }

    async fn load_from_vault(
        &self,
        provider: &ProviderSettings,
        entry: &str,
        renew: bool,
    ) -> Result<Credential, ModelError> {
        let secret = self.secret(provider, entry).await?;
        let VaultSecret::Oauth { access_token, expires, .. } = &secret else {
            let VaultSecret::ApiKey { value } = secret else {
                return Err(missing(provider, "it is of an unknown kind"));
            };
            return Ok(Credential::Key(SecretString::from(value)));
        };
        let soon = self.clock.micros() + EARLY_US;
        if !renew && expires.is_none_or(|at| at.as_micros() > soon) {
            return Ok(Credential::Bearer(SecretString::from(access_token.clone())));
        }
        let _turn = self.renewing.lock().await;
        // Somebody else may have renewed it while we waited.
        let now = self.secret(provider, entry).await?;
        if let VaultSecret::Oauth { access_token: newer, .. } = &now
            && newer != access_token
        {
            return Ok(Credential::Bearer(SecretString::from(newer.clone())));
        }
        let renewed = oauth::renew(&self.client, &now, self.clock.micros())
            .await
            .map_err(|error| missing(provider, &error.to_string()))?;
        if let Err(error) = self.vault.renew(entry, &renewed).await {
            // The tokens work now; at the next start the old ones may not.
            tracing::error!(entry, error = %error.detail(), "renewed tokens could not be kept");
        }
        match renewed {
            VaultSecret::Oauth { access_token, .. } => {
                Ok(Credential::Bearer(SecretString::from(access_token)))
            }
            VaultSecret::ApiKey { value } => Ok(Credential::Key(SecretString::from(value))),
        }
    }

    async fn secret(
        &self,
        provider: &ProviderSettings,
        entry: &str,
    ) -> Result<VaultSecret, ModelError> {
        self.vault.secret(entry).await.map_err(|error| match error {
            VaultError::Sealed => ModelError::new(
                ErrorCode::VaultSealed,
                format!("{}: {}", provider.name, VaultError::Sealed),
            ),
            other => missing(provider, &other.to_string()),
        })
    }
}

impl Credentials for FromVault {
    fn credential<'a>(
        &'a self,
        provider: &'a ProviderSettings,
        renew: bool,
    ) -> BoxFuture<'a, Result<Credential, ModelError>> {
        async move {
            if let Some(entry) = &provider.vault_entry {
                return self.load_from_vault(provider, entry, renew).await;
            }
            let Some(name) = &provider.key_env else { return Ok(Credential::None) };
            match std::env::var(name) {
                Ok(value) if !value.trim().is_empty() => {
                    Ok(Credential::Key(SecretString::from(value.trim().to_owned())))
                }
                _ => Err(missing(
                    provider,
                    &format!("the coordinator's environment has no variable {name}"),
                )),
            }
        }
        .boxed()
    }
}

fn missing(provider: &ProviderSettings, why: &str) -> ModelError {
    ModelError::new(ErrorCode::Key, format!("{} has no key: {why}", provider.name))
}
