//! All providers and roles, behind one cheap handle.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use reeve_sdk::api::{ModelRole, ModelSettings, ProviderSettings};
use rustls::ClientConfig;

use crate::credential::Credentials;
use crate::endpoint::{self, Endpoint};
use crate::error::{ErrorCode, ModelError};
use crate::health::{Health, ProviderStatus};
use crate::options::Options;
use crate::wires::Quirks;

/// A provider in force.
pub(crate) struct Entry {
    pub(crate) settings: ProviderSettings,
    /// Where and how; or why its settings are not usable.
    pub(crate) endpoint: Result<Endpoint, ModelError>,
    pub(crate) health: Arc<Health>,
    /// By model.
    quirks: Mutex<HashMap<String, Quirks>>,
    /// Its last credential was an OAuth token, which can be renewed.
    token: AtomicBool,
}

impl Entry {
    pub(crate) fn quirks(&self, model: &str) -> Quirks {
        let quirks = self.quirks.lock().unwrap_or_else(PoisonError::into_inner);
        quirks.get(model).copied().unwrap_or_default()
    }

    pub(crate) fn learn(&self, model: &str, better: Quirks) {
        let mut quirks = self.quirks.lock().unwrap_or_else(PoisonError::into_inner);
        quirks.insert(model.to_owned(), better);
    }

    pub(crate) fn note_token(&self, is_token: bool) {
        self.token.store(is_token, Ordering::Relaxed);
    }

    pub(crate) fn shows_a_token(&self) -> bool {
        self.token.load(Ordering::Relaxed)
    }
}

#[derive(Default)]
struct Table {
    providers: BTreeMap<String, Arc<Entry>>,
    roles: BTreeMap<ModelRole, Vec<String>>,
}

struct Inner {
    options: Options,
    credentials: Arc<dyn Credentials>,
    tls: ClientConfig,
    table: RwLock<Arc<Table>>,
    /// By provider, also while it is not set: taking it out and in again does not heal it.
    health: Mutex<HashMap<String, Arc<Health>>>,
    random: Mutex<StdRng>,
}

/// Asks models. Cheap to clone; all clones share breakers, limits and settings.
#[derive(Clone)]
pub struct Models(Arc<Inner>);

impl std::fmt::Debug for Models {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Models").finish_non_exhaustive()
    }
}

impl Models {
    /// Without providers: every role's list is `builtin`.
    ///
    /// # Errors
    /// [`ErrorCode::Settings`] when TLS cannot be set up.
    pub fn new(options: Options, credentials: Arc<dyn Credentials>) -> Result<Self, ModelError> {
        let random = match options.seed {
            Some(seed) => StdRng::seed_from_u64(seed),
            None => StdRng::from_rng(&mut rand::rng()),
        };
        Ok(Self(Arc::new(Inner {
            options,
            credentials,
            tls: endpoint::tls()?,
            table: RwLock::default(),
            health: Mutex::default(),
            random: Mutex::new(random),
        })))
    }

    /// Puts providers and roles into force, all at once. Questions under way keep theirs. Breakers
    /// and limits stay with a provider's name; what was learned of its models stays while its
    /// settings do. Providers whose settings are not usable fail when asked, with the reason; see
    /// [`crate::check_settings`].
    pub fn set(&self, providers: Vec<ProviderSettings>, roles: BTreeMap<ModelRole, Vec<String>>) {
        let former = self.table();
        let mut entries = BTreeMap::new();
        for settings in providers {
            let entry = match former.providers.get(&settings.name) {
                Some(same) if same.settings == settings => Arc::clone(same),
                _ => self.open(settings),
            };
            entries.insert(entry.settings.name.clone(), entry);
        }
        let table = Arc::new(Table { providers: entries, roles });
        *self.0.table.write().unwrap_or_else(PoisonError::into_inner) = table;
    }

    fn open(&self, settings: ProviderSettings) -> Arc<Entry> {
        let options = &self.0.options;
        let connect = options.connect(&settings);
        let endpoint = Endpoint::open(&settings, self.0.tls.clone(), connect);
        let mut all = self.0.health.lock().unwrap_or_else(PoisonError::into_inner);
        let health = all
            .entry(settings.name.clone())
            .or_insert_with(|| Arc::new(Health::new(&settings.name, options)));
        let health = Arc::clone(health);
        Arc::new(Entry {
            settings,
            endpoint,
            health,
            quirks: Mutex::default(),
            token: AtomicBool::new(false),
        })
    }

    fn table(&self) -> Arc<Table> {
        Arc::clone(&self.0.table.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn options(&self) -> &Options {
        &self.0.options
    }

    pub(crate) fn credentials(&self) -> &dyn Credentials {
        &*self.0.credentials
    }

    /// From 0 to below 1.
    pub(crate) fn chance(&self) -> f64 {
        self.0.random.lock().unwrap_or_else(PoisonError::into_inner).random()
    }

    /// The models of a role, in order: `provider/model`, or `builtin`.
    #[must_use]
    pub fn list(&self, role: ModelRole) -> Vec<String> {
        match self.table().roles.get(&role) {
            Some(list) if !list.is_empty() => list.clone(),
            _ => vec!["builtin".to_owned()],
        }
    }

    /// The provider and its model named `provider/model`.
    pub(crate) fn find(&self, name: &str) -> Result<(Arc<Entry>, ModelSettings), ModelError> {
        let shown = crate::faults::one_line(name);
        let Some((provider, model)) = name.split_once('/') else {
            return Err(ModelError::new(
                ErrorCode::Settings,
                format!("'{shown}' names no model; write provider/model"),
            ));
        };
        let entry = self.entry(provider)?;
        let Some(settings) = entry.settings.models.iter().find(|known| known.name == model) else {
            return Err(ModelError::new(
                ErrorCode::Settings,
                format!(
                    "{provider} has no model of that name ('{shown}'); see `reeve models list`"
                ),
            ));
        };
        let settings = settings.clone();
        Ok((entry, settings))
    }

    pub(crate) fn entry(&self, provider: &str) -> Result<Arc<Entry>, ModelError> {
        self.table().providers.get(provider).cloned().ok_or_else(|| {
            ModelError::new(
                ErrorCode::Settings,
                format!(
                    "there is no provider '{}'; see `reeve models list`",
                    crate::faults::one_line(provider)
                ),
            )
        })
    }

    /// How each provider is, by name.
    #[must_use]
    pub fn statuses(&self) -> Vec<ProviderStatus> {
        self.table().providers.values().map(|entry| entry.health.status()).collect()
    }
}
