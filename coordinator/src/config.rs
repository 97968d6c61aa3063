//! Settings: what was written ([`Args`], the file) and what it comes to ([`Config`]) are two types.

mod assistant;
mod file;
mod policy;
mod resolve;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use reeve_sdk::api::{ModelRole, ProviderSettings};
use url::Url;

pub use assistant::Assistant;
pub use file::{LogFormat, LogLevel};
pub use policy::{Applies, PolicyRule, PolicyVerdict};
pub use resolve::{ConfigError, load};

/// Where the file is looked for when none is named; it may be absent then.
pub const DEFAULT_FILE: &str = "/etc/reeve/coordinator.toml";

/// Reeve's server: routes operations to machines and keeps what they answer.
#[derive(Clone, Debug, Default, clap::Parser)]
#[command(name = "reeve-coordinator", version, after_help = EXAMPLES)]
pub struct Args {
    /// Settings file [default: /etc/reeve/coordinator.toml, which may be absent]
    #[arg(long, value_name = "FILE", env = "REEVE_COORDINATOR_CONFIG")]
    pub config: Option<PathBuf>,
    /// Folder for everything it keeps [default: /var/lib/reeve]
    #[arg(long, value_name = "DIR", env = "REEVE_DATA")]
    pub data: Option<PathBuf>,
    /// Address and port to listen on [default: 0.0.0.0:7717]
    #[arg(long, value_name = "ADDR:PORT")]
    pub listen: Option<SocketAddr>,
    /// How people and agents reach it [default: https:// with this host's name and the port]
    #[arg(long, value_name = "URL")]
    pub public_url: Option<String>,
    /// sqlite:PATH or postgres://USER@HOST/NAME; passwords belong in the file [default: a file in the data folder]
    #[arg(long, value_name = "URL")]
    pub database: Option<String>,
    /// error, warn, info, debug or trace
    #[arg(long, value_name = "LEVEL")]
    pub log_level: Option<String>,
    /// Print the settings in force, without secrets, and end
    #[arg(long)]
    pub print_config: bool,
    /// Check the settings and end
    #[arg(long)]
    pub check_config: bool,
}

const EXAMPLES: &str = "Examples:
  reeve-coordinator                                  first start prints a one-time admin code
  reeve-coordinator --data ~/reeve --listen 127.0.0.1:7717
  reeve-coordinator --check-config && systemctl reload reeve-coordinator";

/// Settings in force.
#[derive(Clone, Debug)]
pub struct Config {
    /// The file they came from, if there was one.
    pub file: Option<PathBuf>,
    /// Where to listen; port 0 takes any.
    pub listen: SocketAddr,
    /// How people and agents reach it, if somebody said.
    pub public_url: Option<Url>,
    /// Folder for everything it keeps.
    pub data: PathBuf,
    /// Folder with programs to serve at `/dist/`.
    pub dist: Option<PathBuf>,
    /// Addresses whose `x-forwarded-for` is believed.
    pub trusted_proxies: Vec<std::net::IpAddr>,
    /// The database.
    pub database: Database,
    /// How TLS is done.
    pub tls: Tls,
    /// What to log, and how.
    pub log: Log,
    /// Bounds.
    pub limits: Limits,
    /// The assistant.
    pub assistant: Assistant,
    /// How long output of ended jobs is kept.
    pub output_keep: Duration,
    /// Listener of its own for `/metrics`, open to whoever reaches it.
    pub metrics_listen: Option<SocketAddr>,
    /// How it ends.
    pub drain: Drain,
    /// How long an approval can be given and used.
    pub approvals_expire: Duration,
    /// What needs whose yes.
    pub policy: Vec<PolicyRule>,
    /// The vault's passphrase, for a start without a person.
    pub vault_key_file: Option<PathBuf>,
    /// Providers of models.
    pub models: Models,
}

/// Providers of models and who asks which.
#[derive(Clone, Debug, PartialEq)]
pub struct Models {
    /// Most that one person's tasks may cost in a day (UTC), in the currency of the prices.
    pub user_day_budget: f64,
    /// For each role, `provider/model` in the order they are tried.
    pub roles: BTreeMap<ModelRole, Vec<String>>,
    /// Those from the file; others are added at run time.
    pub providers: Vec<ProviderSettings>,
}

/// A provider's settings as they may be shown: headers whose names sound secret lose their value.
#[must_use]
pub fn without_secrets(settings: &ProviderSettings) -> ProviderSettings {
    let mut settings = settings.clone();
    for (name, value) in &mut settings.headers {
        let name = name.to_ascii_lowercase();
        if ["auth", "key", "token", "secret", "cookie"].iter().any(|word| name.contains(word)) {
            "***".clone_into(value);
        }
    }
    settings
}

/// The database.
#[derive(Clone)]
pub struct Database {
    /// `sqlite:PATH` or `postgres://…`, with its password.
    pub url: String,
}

/// How TLS is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tls {
    /// With certificates from our own authority, made at first start.
    Own {
        /// Names beside the ones it finds out by itself.
        names: Vec<String>,
    },
    /// With certificates from elsewhere.
    Files {
        /// PEM, leaf first.
        certificate: PathBuf,
        /// PEM.
        key: PathBuf,
    },
    /// Not here: on loopback, or behind a declared proxy.
    Off,
}

/// What to log, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Log {
    pub level: LogLevel,
    pub format: LogFormat,
}

/// Bounds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Operations sent to one machine and not ended.
    pub in_flight_per_machine: u32,
    /// Machines of one job.
    pub max_targets: u32,
    /// Output kept whole for one operation, bytes.
    pub output_limit: u64,
    /// A request's body, bytes, on routes without a limit of their own.
    pub request_body_bytes: usize,
    /// How long an `Idempotency-Key` is remembered.
    pub idempotency_keep: Duration,
    /// Files kept for stdin of operations, together, bytes; one principal may have half of it.
    pub uploads_bytes: u64,
    /// Such a file goes this long after its last use.
    pub uploads_keep: Duration,
    /// TCP connections at the same time, agents included.
    pub connections: usize,
    /// Requests per minute of one principal.
    pub requests_per_minute: u32,
    /// Logins and setups per minute from one address.
    pub logins_per_minute: u32,
    /// Machines that may join per minute from one address: a whole site may stand behind one.
    pub enrolments_per_minute: u32,
}

/// How it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drain {
    /// At most this long.
    pub timeout: Duration,
    /// Agents are told to come back at a random moment within this time.
    pub spread: Duration,
}

impl std::fmt::Debug for Database {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Database").field("url", &self.redacted()).finish()
    }
}

impl Database {
    /// The URL with `***` for its password.
    #[must_use]
    pub fn redacted(&self) -> String {
        match Url::parse(&self.url) {
            Ok(mut url) if url.password().is_some() => {
                let _ = url.set_password(Some("***"));
                url.to_string()
            }
            _ => self.url.clone(),
        }
    }
}
