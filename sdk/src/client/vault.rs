//! The vault, and models.

use reqwest::Method;

use super::Client;
use crate::Error;
use crate::api::{
    ModelTest, ModelTestRequest, Models, NewVaultEntry, Page, Provider, ProviderSettings,
    RoleModels, Usage, VaultEntry, VaultPassphrase, VaultStatus,
};

impl Client {
    /// How the vault is.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn vault(&self) -> Result<VaultStatus, Error> {
        self.get(&["api", "vault"]).fetch().await
    }

    /// Makes the vault; it is open afterwards.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn init_vault(&self, passphrase: &VaultPassphrase) -> Result<VaultStatus, Error> {
        self.post(&["api", "vault", "init"]).json(passphrase)?.fetch().await
    }

    /// Opens the vault.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn unlock_vault(&self, passphrase: &VaultPassphrase) -> Result<VaultStatus, Error> {
        self.post(&["api", "vault", "unlock"]).json(passphrase)?.fetch().await
    }

    /// Seals the vault.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn lock_vault(&self) -> Result<VaultStatus, Error> {
        self.post(&["api", "vault", "lock"]).repeatable().fetch().await
    }

    /// What is in the vault, without the secrets.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn vault_entries(&self) -> Result<Page<VaultEntry>, Error> {
        self.get(&["api", "vault", "entries"]).fetch().await
    }

    /// Puts a secret in, or in place of the one of the same name.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn add_vault_entry(&self, entry: &NewVaultEntry) -> Result<VaultEntry, Error> {
        self.post(&["api", "vault", "entries"]).json(entry)?.fetch().await
    }

    /// Takes a secret out.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn remove_vault_entry(&self, name: &str) -> Result<(), Error> {
        self.call(Method::DELETE, &["api", "vault", "entries", name]).send().await.map(drop)
    }

    /// Providers of models, and who asks which.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn models(&self) -> Result<Models, Error> {
        self.get(&["api", "models"]).fetch().await
    }

    /// Adds a provider, or changes the one of the same name.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn put_provider(&self, settings: &ProviderSettings) -> Result<Provider, Error> {
        let name = settings.name.as_str();
        self.call(Method::PUT, &["api", "models", name]).json(settings)?.repeatable().fetch().await
    }

    /// Removes a provider.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn remove_provider(&self, name: &str) -> Result<(), Error> {
        self.call(Method::DELETE, &["api", "models", name]).send().await.map(drop)
    }

    /// Asks a provider's model for a sign of life. It costs a few tokens.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn test_provider(
        &self,
        name: &str,
        request: &ModelTestRequest,
    ) -> Result<ModelTest, Error> {
        self.post(&["api", "models", name, "test"]).json(request)?.fetch().await
    }

    /// Says which models a role asks, in order. An empty list is the default again.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn set_role(&self, role: &str, models: &RoleModels) -> Result<Models, Error> {
        let path = ["api", "models", "roles", role];
        self.call(Method::PUT, &path).json(models)?.repeatable().fetch().await
    }

    /// What models used. Times are RFC 3339; `by` is `provider`, `model`, `role`, `user`, `task` or
    /// `day`.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn usage(
        &self,
        from: Option<&str>,
        to: Option<&str>,
        by: Option<&str>,
    ) -> Result<Usage, Error> {
        let call = self.get(&["api", "usage"]).query("from", from).query("to", to);
        call.query("by", by).fetch().await
    }
}
