//! Starting and ending the whole of it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use reeve_protocol::CoordinatorId;
use tokio::net::TcpListener;
use url::Url;

use crate::approvals::{self, Approvals};
use crate::assistant::{self, Assistant};
use crate::config::{Config, Tls};
use crate::db::{Db, DbError, settings};
use crate::events::Hub;
use crate::files::write_public;
use crate::fleet::Fleet;
use crate::history::Histories;
use crate::http::{self, CountSource, Counts, Listening, RateLimits, Readiness, Server};
use crate::machines::Machines;
use crate::models::ModelRegistry;
use crate::operations::{self, Operations};
use crate::tasks::Tasks;
use crate::tls::{self, Authority, TlsError};
use crate::uploads::{self, Uploads};
use crate::users::{SetupCode, SetupError, Users};
use crate::vault::Vault;
use crate::{AppState, Clock, Parts, telemetry};

/// Samples of histograms are folded away this often.
const TIDY_EVERY: Duration = Duration::from_secs(10);

/// At the end, for tasks that were told to stop.
const LAST_WAIT: Duration = Duration::from_secs(5);

/// Why it does not start. The text names the thing, why, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The database.
    #[error("database {url}: {source}; check [database] url")]
    Db {
        /// Which, without its password.
        url: String,
        /// Why.
        source: DbError,
    },
    /// Certificates.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The one-time code.
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// A listener.
    #[error("{address} cannot be listened on: {source}; is something else using the port?")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// What a former run left.
    #[error("what a former run left cannot be taken up: {0:#}")]
    Operations(#[from] anyhow::Error),
    /// Providers of models.
    #[error("the models of the settings cannot be used: {0:#}")]
    Models(#[source] anyhow::Error),
    /// A file in the data folder.
    #[error("{path} cannot be written: {source}; check the data folder's owner and space", path = .path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// A coordinator at work.
pub struct Running {
    /// Where it listens.
    pub address: SocketAddr,
    /// What its handlers use.
    pub state: AppState,
    /// While nobody has used the first start's code.
    pub setup: Option<SetupCode>,
    listening: Vec<Listening>,
}

/// Starts everything. Returns when requests are answered.
///
/// # Errors
/// When something that is needed is not there.
pub async fn start(config: Config, listener: TcpListener) -> Result<Running, StartError> {
    start_at(config, listener, Clock::system()).await
}

/// As [`start`], with a clock of the caller's.
pub(crate) async fn start_at(
    config: Config,
    listener: TcpListener,
    clock: Clock,
) -> Result<Running, StartError> {
    let listen_error = |source| StartError::Listen { address: config.listen, source };
    let address = listener.local_addr().map_err(listen_error)?;
    telemetry::start_metrics();
    let ca = Arc::new(Authority::load(&config, &clock)?);
    let server_config = ca.server_config()?;
    let database = config.database.redacted();
    let db_error = |source| StartError::Db { url: database.clone(), source };
    let (db, coordinator) = open_database(&config).await.map_err(&db_error)?;
    let tasks = Tasks::new();
    let users = Users::new(db.clone(), clock.clone(), tasks.clone());
    let key_file = config.vault_key_file.as_deref();
    let vault = Vault::load(db.clone(), clock.clone(), tasks.clone(), coordinator, key_file).await;
    let models =
        ModelRegistry::load(db.clone(), clock.clone(), vault.clone(), config.models.clone())
            .await
            .map_err(StartError::Models)?;
    let setup = users.prepare_setup(&config.data).await?;
    let metrics_listener = match config.metrics_listen {
        None => None,
        Some(address) => Some(
            TcpListener::bind(address)
                .await
                .map_err(|source| StartError::Listen { address, source })?,
        ),
    };
    let machines = Machines::load(db.clone(), clock.clone(), &tasks).await.map_err(&db_error)?;
    let folder = config.data.join("history");
    let histories = Histories::open(folder.clone(), tasks.clone())
        .map_err(|source| StartError::File { path: folder, source })?;
    let (fleet, inbox) =
        Fleet::new(machines.clone(), histories.clone(), coordinator, clock.clone(), tasks.clone());
    let events = Hub::default();
    let uploads = Uploads::start(uploads::Parts {
        db: db.clone(),
        clock: clock.clone(),
        tasks: tasks.clone(),
        limits: config.limits.clone(),
        folder: config.data.join("uploads"),
    })
    .await?;
    let operations = Operations::start(operations::Parts {
        db: db.clone(),
        clock: clock.clone(),
        hub: events.clone(),
        fleet: fleet.clone(),
        inbox,
        machines: machines.clone(),
        uploads: uploads.clone(),
        tasks: tasks.clone(),
        limits: config.limits.clone(),
        folder: config.data.join("output"),
        keep: config.output_keep,
    })
    .await?;
    let approvals = Approvals::new(approvals::Parts {
        db: db.clone(),
        clock: clock.clone(),
        tasks: tasks.clone(),
        machines: machines.clone(),
        users: users.clone(),
        operations: operations.clone(),
        expire: config.approvals_expire,
        policy: config.policy.clone(),
    });
    let assistant = Assistant::start(assistant::Parts {
        db: db.clone(),
        clock: clock.clone(),
        hub: events.clone(),
        machines: machines.clone(),
        users: users.clone(),
        operations: operations.clone(),
        approvals: approvals.clone(),
        models: models.clone(),
        tasks: tasks.clone(),
        settings: config.assistant.clone(),
        keep: config.output_keep,
        idempotency_keep: config.limits.idempotency_keep,
    });
    let state = AppState::new(Parts {
        url: Arc::new(public_url(&config, address)),
        rates: RateLimits::new(&config.limits),
        readiness: Readiness::new(),
        counts: count_source(machines.clone(), fleet.clone(), operations.clone()),
        started: clock.micros(),
        config: Arc::new(config),
        db,
        clock,
        tasks,
        coordinator,
        ca,
        users,
        uploads,
        vault,
        models,
        machines,
        histories,
        fleet,
        operations,
        approvals,
        assistant,
        events,
    });
    write_facts(&state, address)?;
    let (tasks, users) = (state.tasks.clone(), state.users.clone());
    tasks.spawn_lasting("users", move || users.clone().run());
    let (models, own) = (state.models.clone(), tasks.clone());
    tasks.spawn_lasting("usage", move || models.clone().sweep(own.clone()));
    let approvals = state.approvals.clone();
    tasks.spawn_lasting("approvals", move || approvals.clone().run());
    let (rates, own) = (state.rates.clone(), tasks.clone());
    tasks.spawn_lasting("rate limits", move || rates.clone().run(own.clone()));
    let own = tasks.clone();
    tasks.spawn_lasting("metrics", move || tidy_metrics(own.clone()));
    let server = Server {
        router: http::router(state.clone()),
        tls: server_config,
        tasks: state.tasks.clone(),
        max_connections: state.config.limits.connections,
    };
    let mut listening = vec![server.clone().listen(listener)];
    if let Some(listener) = metrics_listener {
        let server =
            Server { router: http::metrics_router(), tls: None, max_connections: 64, ..server };
        listening.push(server.listen(listener));
    }
    Ok(Running { address, state, setup, listening })
}

impl Running {
    /// Returns when something without which nothing works has ended by a panic.
    pub async fn failed(&self) {
        self.state.tasks.failed().cancelled().await;
    }

    /// Ends in order: takes no new work, tells those who are connected, answers what was asked,
    /// stops every task, closes the database. Takes no longer than `drain.timeout` and a little.
    pub async fn shutdown(self) {
        let deadline = Instant::now() + self.state.config.drain.timeout;
        let left = || deadline.saturating_duration_since(Instant::now());
        self.state.readiness.start_draining();
        self.state.fleet.drain(self.state.config.drain.spread);
        for listening in self.listening {
            listening.stop(left()).await;
        }
        if let Err(stubborn) = self.state.tasks.close_and_wait(left().max(LAST_WAIT)).await {
            tracing::warn!(?stubborn, "some tasks did not end in time");
        }
        // A task that did not end may still hold a connection.
        if tokio::time::timeout(LAST_WAIT, self.state.db.close()).await.is_err() {
            tracing::warn!("the database was not closed in time");
        }
    }
}

async fn open_database(config: &Config) -> Result<(Db, CoordinatorId), DbError> {
    let db = Db::connect(&config.database.url).await?;
    db.migrate().await?;
    let coordinator = settings::load_coordinator_id(&db).await?;
    Ok((db, coordinator))
}

fn scheme(config: &Config) -> &'static str {
    match config.tls {
        Tls::Off => "http",
        Tls::Own { .. } | Tls::Files { .. } => "https",
    }
}

/// What was configured; else the address bound; else, when it is every address, this host's name.
fn public_url(config: &Config, address: SocketAddr) -> Url {
    if let Some(url) = &config.public_url {
        return url.clone();
    }
    let scheme = scheme(config);
    let by_name = tls::host_name()
        .filter(|_| address.ip().is_unspecified())
        .and_then(|name| Url::parse(&format!("{scheme}://{name}:{}", address.port())).ok());
    by_name.unwrap_or_else(|| bound_url(config, address))
}

/// An address of this host that certainly leads here.
fn bound_url(config: &Config, address: SocketAddr) -> Url {
    let ip = match address.ip() {
        ip if !ip.is_unspecified() => ip,
        std::net::IpAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
        std::net::IpAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
    };
    let text = format!("{}://{}", scheme(config), SocketAddr::new(ip, address.port()));
    // A socket address always makes a URL.
    Url::parse(&text).unwrap_or_else(|_| FALLBACK_URL.clone())
}

static FALLBACK_URL: std::sync::LazyLock<Url> = std::sync::LazyLock::new(|| {
    #[allow(clippy::expect_used, reason = "a constant")]
    Url::parse("https://localhost:7717").expect("a URL")
});

/// Files for scripts on this host: where we listen and whom to trust.
fn write_facts(state: &AppState, address: SocketAddr) -> Result<(), StartError> {
    let url = bound_url(&state.config, address);
    let mut files = vec![("coordinator.url", url.as_str().trim_end_matches('/').to_owned())];
    if let (Some(pem), Some(pin)) = (state.ca.pem(), state.ca.pin()) {
        files.push(("ca.pem", pem.trim_end().to_owned()));
        files.push(("ca.pin", pin.to_string()));
    }
    for (name, text) in files {
        let path = state.config.data.join(name);
        write_public(&path, format!("{text}\n").as_bytes())
            .map_err(|source| StartError::File { path, source })?;
    }
    Ok(())
}

/// Counts for `/api/status`, as far as a scope reaches.
fn count_source(machines: Machines, fleet: Fleet, operations: Operations) -> CountSource {
    Arc::new(move |scope| {
        let (machines, fleet, operations) = (machines.clone(), fleet.clone(), operations.clone());
        Box::pin(async move {
            let mut counts = Counts::default();
            let visible = machines
                .registry()
                .list(|known| scope.matches(known.id, &known.name, &known.labels));
            for known in visible {
                let count = match (known.revoked_us, known.quarantined_us) {
                    (Some(_), _) => &mut counts.machines.revoked,
                    (None, Some(_)) => &mut counts.machines.quarantined,
                    (None, None) if fleet.is_online(known.id) => &mut counts.machines.online,
                    (None, None) => &mut counts.machines.offline,
                };
                *count += 1;
            }
            (counts.jobs_running, counts.operations_running, counts.output_bytes) =
                operations.summary().await?;
            Ok(counts)
        })
    })
}

async fn tidy_metrics(tasks: Tasks) {
    let token = tasks.token();
    loop {
        tokio::select! {
            () = token.cancelled() => return,
            () = tokio::time::sleep(TIDY_EVERY) => telemetry::tidy_metrics(),
        }
    }
}
