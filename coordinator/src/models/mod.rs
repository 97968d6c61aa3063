//! Providers of models: which there are, which a role asks, what they used. How they are spoken to
//! is in the crate `reeve-models`.

mod check;
mod credentials;
mod oauth;
mod routes;
mod store;
#[cfg(test)]
mod tests;
mod usage;

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use http::StatusCode;
use reeve_models::Models;
use reeve_sdk::api::{self, ModelRole, ModelTest, Provider, ProviderSettings};
use serde_json::json;
use tokio::sync::Mutex;

use crate::Clock;
use crate::audit::{self, Entry};
use crate::config::{self, without_secrets};
use crate::db::{Db, DbError};
use crate::nearest::nearest_names;
use crate::problem::ApiError;
use crate::users::Principal;
use crate::vault::{Vault, VaultError};
use credentials::FromVault;

pub use routes::routes;
pub use usage::{Caller, DayBudget};

/// What a role asks unless somebody says otherwise: the runbooks.
pub const BUILTIN: &str = "builtin";

/// Tokens a model can read and write when its settings do not say.
const CONTEXT_TOKENS: u64 = 128_000;

/// Providers that can be added.
const MAX_PROVIDERS: usize = 100;

/// Providers, roles and usage. Cheap to clone.
#[derive(Clone)]
pub struct ModelRegistry(Arc<Inner>);

struct Inner {
    db: Db,
    clock: Clock,
    vault: Vault,
    models: Models,
    config: config::Models,
    /// What is in force. Held for a moment at a time, never over an await.
    known: RwLock<Known>,
    /// Changes happen one after the other, so that what is in force is what was committed last.
    changing: Mutex<()>,
}

/// Everything in force.
#[derive(Clone, Default)]
struct Known {
    /// By name; `true` when it is from the settings file.
    providers: BTreeMap<String, (ProviderSettings, bool)>,
    roles: BTreeMap<ModelRole, Vec<String>>,
}

impl ModelRegistry {
    /// Reads what there is.
    ///
    /// # Errors
    /// When the database does not answer, or the settings file has a provider that makes no sense.
    pub async fn load(
        db: Db,
        clock: Clock,
        vault: Vault,
        config: config::Models,
    ) -> anyhow::Result<Self> {
        for settings in &config.providers {
            check::check(settings).map_err(|error| {
                anyhow::anyhow!("[[models.provider]] '{}': {}", settings.name, error.detail())
            })?;
        }
        let credentials = Arc::new(FromVault::new(vault.clone(), clock.clone())?);
        let models = Models::new(reeve_models::Options::default(), credentials)?;
        let registry = Self(Arc::new(Inner {
            db,
            clock,
            vault,
            models,
            config,
            known: RwLock::default(),
            changing: Mutex::default(),
        }));
        registry.reload().await?;
        for (role, models) in &registry.0.config.roles {
            registry.check_role(models).map_err(|error| {
                anyhow::anyhow!("[models.roles] {}: {}", role.as_str(), error.detail())
            })?;
        }
        Ok(registry)
    }

    /// To ask a model.
    #[must_use]
    pub fn models(&self) -> &Models {
        &self.0.models
    }

    fn known(&self) -> Known {
        self.0.known.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes what is committed into force.
    async fn reload(&self) -> Result<(), DbError> {
        let mut conn = self.0.db.reader().await?;
        let mut known = Known::default();
        for settings in store::list_providers(&mut conn).await? {
            known.providers.insert(settings.name.clone(), (settings, false));
        }
        // What the file says wins: it is what the machine's owner wrote.
        for settings in &self.0.config.providers {
            known.providers.insert(settings.name.clone(), (settings.clone(), true));
        }
        known.roles = self.0.config.roles.clone();
        known.roles.extend(store::list_roles(&mut conn).await?);
        for role in ModelRole::ALL {
            known.roles.entry(role).or_insert_with(|| vec![BUILTIN.to_owned()]);
        }
        let providers = known.providers.values().map(|(settings, _)| settings.clone()).collect();
        self.0.models.set(providers, known.roles.clone());
        *self.0.known.write().unwrap_or_else(PoisonError::into_inner) = known;
        Ok(())
    }

    /// Everything, as it is shown.
    pub async fn describe(&self) -> api::Models {
        let known = self.known();
        let mut providers = Vec::with_capacity(known.providers.len());
        for (settings, from_file) in known.providers.into_values() {
            providers.push(self.describe_provider(&settings, from_file).await);
        }
        let roles =
            known.roles.into_iter().map(|(role, list)| (role.as_str().to_owned(), list)).collect();
        api::Models { providers, roles }
    }

    async fn describe_provider(&self, settings: &ProviderSettings, from_file: bool) -> Provider {
        let status = self.0.models.statuses().into_iter().find(|each| each.name == settings.name);
        let (breaker, retry_at, rate_limits, last_error) = match status {
            Some(status) => {
                (status.breaker.to_owned(), status.retry_at, status.rate_limits, status.last_error)
            }
            None => ("closed".to_owned(), None, Vec::new(), None),
        };
        Provider {
            settings: without_secrets(settings),
            source: if from_file { "settings" } else { "api" }.to_owned(),
            breaker,
            retry_at,
            key: self.key_state(settings).await.to_owned(),
            rate_limits,
            last_error,
        }
    }

    async fn key_state(&self, settings: &ProviderSettings) -> &'static str {
        if let Some(entry) = &settings.vault_entry {
            return match self.0.vault.check(entry).await {
                Ok(()) => "ok",
                Err(VaultError::Sealed) => "sealed",
                Err(_) => "missing",
            };
        }
        match &settings.key_env {
            Some(name) if std::env::var_os(name).is_some_and(|value| !value.is_empty()) => "ok",
            Some(_) => "missing",
            None => "none",
        }
    }

    /// Adds a provider, or changes the one of the same name.
    async fn put(
        &self,
        by: &Principal,
        settings: ProviderSettings,
    ) -> Result<(Provider, bool), ApiError> {
        check::check(&settings)?;
        let _turn = self.0.changing.lock().await;
        let known = self.known();
        let old = known.providers.get(&settings.name);
        if old.is_some_and(|(_, from_file)| *from_file) {
            return Err(from_file(&settings.name));
        }
        if old.is_none() && known.providers.len() >= MAX_PROVIDERS {
            return Err(ApiError::invalid(format!("there are {MAX_PROVIDERS} providers already")));
        }
        // A model that a role asks must not vanish under it.
        let left = |name: &str| settings.models.iter().any(|model| model.name == name);
        for (role, list) in &known.roles {
            let gone = list.iter().find(|entry| {
                entry.split_once('/').is_some_and(|(p, m)| p == settings.name && !left(m))
            });
            if let Some(entry) = gone {
                return Err(in_use(entry, *role));
            }
        }
        let is_new = old.is_none();
        let mut tx = self.0.db.begin().await?;
        store::put_provider(&mut tx, &settings, &by.name, self.0.clock.micros()).await?;
        let detail = json!({ "settings": without_secrets(&settings) });
        let target = format!("model:{}", settings.name);
        let action = if is_new { "model.add" } else { "model.change" };
        audit::record(&mut tx, &Entry { principal: &by.name, action, target: &target, detail })
            .await?;
        tx.commit().await?;
        self.reload().await?;
        Ok((self.describe_provider(&settings, false).await, is_new))
    }

    /// Removes a provider that no role asks.
    async fn remove(&self, by: &Principal, name: &str) -> Result<(), ApiError> {
        let _turn = self.0.changing.lock().await;
        let known = self.known();
        match known.providers.get(name) {
            None => return Err(not_found(&known, name)),
            Some((_, true)) => return Err(from_file(name)),
            Some((_, false)) => {}
        }
        for (role, list) in &known.roles {
            let used = list
                .iter()
                .find(|entry| entry.split_once('/').is_some_and(|(provider, _)| provider == name));
            if let Some(entry) = used {
                return Err(in_use(entry, *role));
            }
        }
        let mut tx = self.0.db.begin().await?;
        store::remove_provider(&mut tx, name).await?;
        let target = format!("model:{name}");
        let entry = Entry {
            principal: &by.name,
            action: "model.remove",
            target: &target,
            detail: json!({}),
        };
        audit::record(&mut tx, &entry).await?;
        tx.commit().await?;
        Ok(self.reload().await?)
    }

    /// Says which models a role asks.
    async fn set_role(
        &self,
        by: &Principal,
        role: ModelRole,
        models: &[String],
    ) -> Result<(), ApiError> {
        let _turn = self.0.changing.lock().await;
        self.check_role(models)?;
        let mut tx = self.0.db.begin().await?;
        store::put_role(&mut tx, role, models, &by.name, self.0.clock.micros()).await?;
        let target = format!("role:{}", role.as_str());
        let entry = Entry {
            principal: &by.name,
            action: "model.role",
            target: &target,
            detail: json!({ "models": models }),
        };
        audit::record(&mut tx, &entry).await?;
        tx.commit().await?;
        Ok(self.reload().await?)
    }

    /// Whether every entry of a role's list is there.
    fn check_role(&self, models: &[String]) -> Result<(), ApiError> {
        let known = self.known();
        if models.len() > 16 {
            return Err(ApiError::invalid("a role asks at most 16 models"));
        }
        for (at, entry) in models.iter().enumerate() {
            if models.iter().take(at).any(|other| other == entry) {
                return Err(ApiError::invalid(format!("'{entry}' is there twice")));
            }
            if entry == BUILTIN {
                if at + 1 < models.len() {
                    return Err(ApiError::invalid(
                        "'builtin' always has an answer; it has to be the last",
                    ));
                }
                continue;
            }
            self.find_model(&known, entry)?;
        }
        Ok(())
    }

    /// Whether there is such a `provider/model`, or it is `builtin`.
    ///
    /// # Errors
    /// 404 with the nearest names.
    pub fn check_model(&self, entry: &str) -> Result<(), ApiError> {
        if entry == BUILTIN { Ok(()) } else { self.find_model(&self.known(), entry) }
    }

    /// Tokens that each model of a role can read and write together; `None` when the role asks no
    /// model before the runbooks.
    #[must_use]
    pub fn window(&self, role: ModelRole) -> Option<u64> {
        let known = self.known();
        let list = known.roles.get(&role)?;
        let models = list.iter().take_while(|entry| *entry != BUILTIN);
        let size = |entry: &String| {
            let (provider, model) = entry.split_once('/')?;
            let (settings, _) = known.providers.get(provider)?;
            let found = settings.models.iter().find(|each| each.name == model)?;
            Some(found.context_tokens.unwrap_or(CONTEXT_TOKENS))
        };
        // One that is not there any more is told of when it is asked.
        models.map(|entry| size(entry).unwrap_or(CONTEXT_TOKENS)).min()
    }

    fn find_model(&self, known: &Known, entry: &str) -> Result<(), ApiError> {
        let (provider, model) = entry.split_once('/').ok_or_else(|| {
            ApiError::invalid(format!("'{entry}' has to be provider/model, or builtin"))
        })?;
        let (settings, _) =
            known.providers.get(provider).ok_or_else(|| not_found(known, provider))?;
        if settings.models.iter().any(|each| each.name == model) {
            return Ok(());
        }
        let names = settings.models.iter().map(|each| &*each.name);
        let detail = format!("'{provider}' has no model '{model}'; 'reeve models list' shows them");
        Err(ApiError::new(StatusCode::NOT_FOUND, "model_not_found", detail)
            .nearest(nearest_names(model, names)))
    }

    /// Asks a provider for a sign of life.
    async fn test(
        &self,
        by: &Principal,
        name: &str,
        model: Option<&str>,
    ) -> Result<ModelTest, ApiError> {
        let known = self.known();
        let (settings, _) = known.providers.get(name).ok_or_else(|| not_found(&known, name))?;
        if let Some(model) = model {
            self.find_model(&known, &format!("{name}/{model}"))?;
        } else if settings.models.is_empty() {
            return Err(ApiError::invalid(format!("'{name}' has no models; add one with --model")));
        }
        let tested = self.0.models.test(name, model).await.map_err(|error| {
            ApiError::new(StatusCode::CONFLICT, "model_untestable", error.message)
        })?;
        let caller =
            Caller { user: &by.user_name, task: None, stage: "test", role: ModelRole::Planner };
        self.record(caller, &tested.calls).await?;
        Ok(tested.report)
    }
}

fn not_found(known: &Known, name: &str) -> ApiError {
    let names = known.providers.keys().map(String::as_str);
    let detail = format!("there is no provider '{name}'; 'reeve models add' makes one");
    ApiError::new(StatusCode::NOT_FOUND, "provider_not_found", detail)
        .nearest(nearest_names(name, names))
}

fn from_file(name: &str) -> ApiError {
    ApiError::new(
        StatusCode::CONFLICT,
        "provider_in_settings",
        format!("'{name}' is in the coordinator's settings file; change it there"),
    )
}

fn in_use(entry: &str, role: ModelRole) -> ApiError {
    ApiError::new(
        StatusCode::CONFLICT,
        "provider_in_use",
        format!(
            "the role {role} asks '{entry}'; change that first with 'reeve models use {role} …'",
            role = role.as_str()
        ),
    )
}

/// From millionths of the currency.
#[allow(clippy::cast_precision_loss, reason = "money of this size fits")]
fn from_micro(micro: i64) -> f64 {
    micro as f64 / 1e6
}

/// To millionths of the currency, rounded up: what was used is never forgotten.
#[allow(clippy::cast_possible_truncation, reason = "clamped before")]
fn to_micro(amount: f64) -> i64 {
    (amount.clamp(0.0, 1e9) * 1e6).ceil() as i64
}
