//! Credentials that are fixed.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU32, Ordering};

use futures_util::future::BoxFuture;
use reeve_sdk::api::ProviderSettings;
use secrecy::SecretString;

use crate::{Credential, Credentials, ModelError};

/// The same credential for every provider.
pub struct FixedKeys {
    credential: Mutex<Result<Credential, ModelError>>,
    renewed: Option<SecretString>,
    renewals: AtomicU32,
    variables: BTreeMap<String, SecretString>,
}

impl FixedKeys {
    fn new(credential: Result<Credential, ModelError>) -> Self {
        Self {
            credential: Mutex::new(credential),
            renewed: None,
            renewals: AtomicU32::new(0),
            variables: BTreeMap::new(),
        }
    }

    /// No key.
    #[must_use]
    pub fn none() -> Self {
        Self::new(Ok(Credential::None))
    }

    /// An API key.
    #[must_use]
    pub fn key(key: &str) -> Self {
        Self::new(Ok(Credential::Key(key.to_owned().into())))
    }

    /// An OAuth token, and the one it is renewed to.
    #[must_use]
    pub fn token(token: &str, renewed: &str) -> Self {
        let mut keys = Self::new(Ok(Credential::Bearer(token.to_owned().into())));
        keys.renewed = Some(renewed.to_owned().into());
        keys
    }

    /// This error.
    #[must_use]
    pub fn failing(error: ModelError) -> Self {
        Self::new(Err(error))
    }

    /// With a variable of the environment.
    #[must_use]
    pub fn with_variable(mut self, name: &str, value: &str) -> Self {
        self.variables.insert(name.to_owned(), value.to_owned().into());
        self
    }

    /// How often a credential was renewed.
    #[must_use]
    pub fn renewals(&self) -> u32 {
        self.renewals.load(Ordering::Relaxed)
    }
}

impl Credentials for FixedKeys {
    fn credential<'a>(
        &'a self,
        _provider: &'a ProviderSettings,
        renew: bool,
    ) -> BoxFuture<'a, Result<Credential, ModelError>> {
        let mut credential = self.credential.lock().unwrap_or_else(PoisonError::into_inner);
        if renew {
            self.renewals.fetch_add(1, Ordering::Relaxed);
            if let Some(renewed) = &self.renewed {
                *credential = Ok(Credential::Bearer(renewed.clone()));
            }
        }
        let credential = credential.clone();
        Box::pin(async move { credential })
    }

    fn variable(&self, name: &str) -> Option<SecretString> {
        self.variables.get(name).cloned()
    }
}
