//! From flags, environment and file to settings in force. Flags win over the environment, which
//! wins over the file.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use reeve_protocol::limits;
use url::Url;

use super::file::{Count, File, Period, PublicUrl, Size, TlsMode};
use super::{
    Args, Config, DEFAULT_FILE, Database, Drain, Limits, Log, LogLevel, Models, Tls,
    without_secrets,
};

/// What is wrong with the settings. The text names the file or flag, the key, why and what to do.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file that was named, or is there, cannot be read.
    #[error("{path} cannot be read: {source}; check the path and its permissions", path = .path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file does not say what it may say.
    #[error("{path}:{line}: {key}{message}", path = .path.display())]
    Syntax {
        /// Which.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The key in that line with a colon after it, or nothing.
        key: String,
        /// Why.
        message: String,
    },
    /// Keys that do not go together, or a flag.
    #[error("{place}: {message}")]
    Value {
        /// A file with a key, or a flag.
        place: String,
        /// Why, and what to do.
        message: String,
    },
}

/// Works out the settings.
///
/// # Errors
/// When they are wrong.
pub fn load(args: &Args) -> Result<Config, ConfigError> {
    let path = args.config.clone().unwrap_or_else(|| PathBuf::from(DEFAULT_FILE));
    match std::fs::read_to_string(&path) {
        Ok(text) => resolve(args, parse(&path, &text)?, Some(path)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && args.config.is_none() => {
            resolve(args, File::default(), None)
        }
        Err(source) => Err(ConfigError::Unreadable { path, source }),
    }
}

fn parse(path: &Path, text: &str) -> Result<File, ConfigError> {
    toml::from_str(text).map_err(|error| {
        let start = error.span().map_or(0, |span| span.start).min(text.len());
        let before = text.get(..start).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        let key = text
            .lines()
            .nth(line - 1)
            .and_then(|line| line.split_once('='))
            .map(|(key, _)| format!("{}: ", key.trim()))
            .unwrap_or_default();
        let message = error.message().replace('\n', " ");
        ConfigError::Syntax { path: path.to_owned(), line, key, message }
    })
}

fn resolve(args: &Args, file: File, path: Option<PathBuf>) -> Result<Config, ConfigError> {
    let place = |key: &str| match &path {
        Some(path) => format!("{}: {key}", path.display()),
        None => key.to_owned(),
    };
    let wrong = |key: &str, message: &str| ConfigError::Value {
        place: place(key),
        message: message.to_owned(),
    };
    let flag = |flag: &str, message: String| ConfigError::Value { place: flag.to_owned(), message };

    let listen =
        args.listen.or(file.listen).unwrap_or(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 7717)));
    let data = args.data.clone().or(file.data).unwrap_or_else(|| PathBuf::from("/var/lib/reeve"));
    let public_url = match &args.public_url {
        Some(text) => {
            Some(text.parse::<PublicUrl>().map_err(|message| flag("--public-url", message))?)
        }
        None => file.public_url,
    };
    let tls = match file.tls.mode {
        TlsMode::Own if file.tls.certificate.is_some() || file.tls.key.is_some() => {
            return Err(wrong("tls.certificate", "is used only with tls.mode = \"files\""));
        }
        TlsMode::Own => Tls::Own { names: file.tls.names },
        TlsMode::Files => match (file.tls.certificate, file.tls.key) {
            (Some(certificate), Some(key)) => Tls::Files { certificate, key },
            _ => {
                return Err(wrong(
                    "tls.mode",
                    "\"files\" needs tls.certificate and tls.key, both PEM files",
                ));
            }
        },
        TlsMode::Off if listen.ip().is_loopback() || !file.trusted_proxies.is_empty() => Tls::Off,
        TlsMode::Off => {
            return Err(wrong(
                "tls.mode",
                "\"off\" sends passwords in the clear; listen on 127.0.0.1, or name the proxies \
                 that do TLS in trusted_proxies",
            ));
        }
    };
    let level = match &args.log_level {
        Some(text) => text.parse().map_err(|message| flag("--log-level", message))?,
        None => file.log.level.unwrap_or(LogLevel::Info),
    };
    let database = match &args.database {
        Some(url) => {
            if Url::parse(url).is_ok_and(|url| url.password().is_some()) {
                return Err(flag(
                    "--database",
                    "a password here is seen by everybody on this host; write it to a file and \
                     name that in [database] password_file"
                        .to_owned(),
                ));
            }
            Some(url.clone())
        }
        None => file.database.url,
    };
    let database = database_url(database, file.database.password_file, &data, wrong)?;
    let count = |value: Option<Count>, default: u32| value.map_or(default, |count| count.0);
    let period =
        |value: Option<Period>, default: Duration| value.map_or(default, |period| period.0);
    let size = |value: Option<Size>, default: u64| value.map_or(default, |size| size.0);
    let idempotency_keep = period(file.limits.idempotency_keep, Duration::from_secs(24 * 3600));
    let approvals_expire = period(file.approvals.expire, Duration::from_secs(3600));
    // What was approved is submitted under a key, which must be remembered for as long.
    if approvals_expire < Duration::from_secs(10) || approvals_expire > idempotency_keep {
        return Err(wrong(
            "approvals.expire",
            "has to be at least 10s and no longer than limits.idempotency_keep (24h)",
        ));
    }
    Ok(Config {
        listen,
        public_url: public_url.map(|url| url.0),
        data,
        dist: file.dist,
        trusted_proxies: file.trusted_proxies,
        database: Database { url: database },
        tls,
        log: Log { level, format: file.log.format.unwrap_or_default() },
        limits: Limits {
            in_flight_per_machine: count(file.limits.in_flight_per_machine, 32),
            max_targets: count(file.limits.max_targets, 50_000),
            output_limit: size(file.limits.output_limit, limits::DEFAULT_OUTPUT_LIMIT),
            request_body_bytes: usize::try_from(size(file.limits.request_body_bytes, 1 << 20))
                .unwrap_or(usize::MAX),
            idempotency_keep,
            uploads_bytes: size(file.limits.uploads_bytes, 64 << 30),
            uploads_keep: period(file.limits.uploads_keep, Duration::from_secs(24 * 3600)),
            // Two descriptors an agent at most, and an installation has up to 50,000 of them.
            connections: count(file.limits.connections, 60_000) as usize,
            requests_per_minute: count(file.limits.requests_per_minute, 6_000),
            logins_per_minute: count(file.limits.logins_per_minute, 30),
            enrolments_per_minute: count(file.limits.enrolments_per_minute, 1_200),
        },
        assistant: file.assistant.resolve(),
        output_keep: Duration::from_secs(u64::from(count(file.output.keep_days, 30)) * 24 * 3600),
        metrics_listen: file.metrics.listen,
        drain: Drain {
            timeout: period(file.drain.timeout, Duration::from_secs(30)),
            spread: period(file.drain.spread, Duration::from_secs(10)),
        },
        approvals_expire,
        policy: file.policy,
        vault_key_file: file.vault.key_file.or_else(credential),
        models: Models {
            user_day_budget: file.models.user_day_budget.map_or(20.0, |amount| amount.0),
            roles: file.models.roles,
            providers: file.models.providers,
        },
        file: path,
    })
}

/// The vault's passphrase as systemd hands it over: `LoadCredential=vault:/path` or
/// `LoadCredentialEncrypted=` (systemd.exec(5)).
fn credential() -> Option<PathBuf> {
    let path = PathBuf::from(std::env::var_os("CREDENTIALS_DIRECTORY")?).join("vault");
    path.exists().then_some(path)
}

fn database_url(
    url: Option<String>,
    password_file: Option<PathBuf>,
    data: &Path,
    wrong: impl Fn(&str, &str) -> ConfigError,
) -> Result<String, ConfigError> {
    let in_data = || format!("sqlite:{}", data.join("reeve.db").display());
    let text = url.unwrap_or_else(in_data);
    // What people write for "the default".
    let text = if text == "sqlite:" { in_data() } else { text };
    if text.starts_with("sqlite:") {
        return match password_file {
            Some(_) => Err(wrong("database.password_file", "is used only with postgres://")),
            None => Ok(text),
        };
    }
    let mut url = Url::parse(&text)
        .ok()
        .filter(|url| matches!(url.scheme(), "postgres" | "postgresql"))
        .ok_or_else(|| {
            wrong("database.url", "has to be sqlite:PATH or postgres://USER@HOST/NAME")
        })?;
    if let Some(path) = password_file {
        let password = std::fs::read_to_string(&path)
            .map_err(|source| ConfigError::Unreadable { path, source })?;
        url.set_password(Some(password.trim_end_matches(['\r', '\n'])))
            .map_err(|()| wrong("database.url", "has no host that a password could be for"))?;
    }
    Ok(url.into())
}

impl Config {
    /// The settings as a file that would give the same, without secrets.
    #[must_use]
    pub fn to_text(&self) -> String {
        let (mode, certificate, key, names) = match &self.tls {
            Tls::Own { names } => (TlsMode::Own, None, None, names.clone()),
            Tls::Files { certificate, key } => {
                (TlsMode::Files, Some(certificate.clone()), Some(key.clone()), Vec::new())
            }
            Tls::Off => (TlsMode::Off, None, None, Vec::new()),
        };
        let limits = &self.limits;
        let count = |value: usize| Some(Count(u32::try_from(value).unwrap_or(u32::MAX)));
        let file = File {
            listen: Some(self.listen),
            public_url: self.public_url.clone().map(PublicUrl),
            data: Some(self.data.clone()),
            dist: self.dist.clone(),
            trusted_proxies: self.trusted_proxies.clone(),
            database: super::file::DatabaseTable {
                url: Some(self.database.redacted()),
                password_file: None,
            },
            tls: super::file::TlsTable { mode, certificate, key, names },
            log: super::file::LogTable {
                level: Some(self.log.level),
                format: Some(self.log.format),
            },
            limits: super::file::LimitsTable {
                in_flight_per_machine: Some(Count(limits.in_flight_per_machine)),
                max_targets: Some(Count(limits.max_targets)),
                output_limit: Some(Size(limits.output_limit)),
                request_body_bytes: Some(Size(limits.request_body_bytes as u64)),
                idempotency_keep: Some(Period(limits.idempotency_keep)),
                uploads_bytes: Some(Size(limits.uploads_bytes)),
                uploads_keep: Some(Period(limits.uploads_keep)),
                connections: count(limits.connections),
                requests_per_minute: Some(Count(limits.requests_per_minute)),
                logins_per_minute: Some(Count(limits.logins_per_minute)),
                enrolments_per_minute: Some(Count(limits.enrolments_per_minute)),
            },
            assistant: super::assistant::AssistantTable::of(&self.assistant),
            output: super::file::OutputTable {
                keep_days: Some(Count(
                    u32::try_from(self.output_keep.as_secs() / (24 * 3600)).unwrap_or(u32::MAX),
                )),
            },
            metrics: super::file::MetricsTable { listen: self.metrics_listen },
            drain: super::file::DrainTable {
                timeout: Some(Period(self.drain.timeout)),
                spread: Some(Period(self.drain.spread)),
            },
            approvals: super::file::ApprovalsTable { expire: Some(Period(self.approvals_expire)) },
            policy: self.policy.clone(),
            vault: super::file::VaultTable { key_file: self.vault_key_file.clone() },
            models: super::file::ModelsTable {
                user_day_budget: Some(super::file::Amount(self.models.user_day_budget)),
                roles: self.models.roles.clone(),
                providers: self.models.providers.iter().map(without_secrets).collect(),
            },
        };
        toml::to_string(&file).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve_text(text: &str) -> Result<Config, ConfigError> {
        let path = PathBuf::from("/etc/reeve/coordinator.toml");
        resolve(&Args::default(), parse(&path, text)?, Some(path))
    }

    #[test]
    fn an_empty_file_gives_every_default() {
        let config = resolve_text("").expect("defaults");
        assert_eq!(config.listen.to_string(), "0.0.0.0:7717");
        assert_eq!(config.database.url, "sqlite:/var/lib/reeve/reeve.db");
        assert_eq!(config.limits.in_flight_per_machine, 32);
        assert_eq!(config.tls, Tls::Own { names: Vec::new() });
    }

    #[test]
    fn errors_name_file_line_key_and_remedy() {
        for (text, expected) in [
            ("listen = '0.0.0.0:1'\nlisten_to = 1\n", vec!["coordinator.toml:2", "listen_to"]),
            ("\n[log]\nlevel = 'loud'\n", vec!["coordinator.toml:3", "level", "debug"]),
            ("listen = 'everywhere'", vec!["coordinator.toml:1", "listen"]),
            ("[limits]\noutput_limit = '4GB'\n", vec!["coordinator.toml:2", "output_limit", "GiB"]),
            ("[drain]\ntimeout = 'soon'\n", vec!["coordinator.toml:2", "timeout", "30s"]),
            ("[tls]\nmode = 'off'\n", vec!["coordinator.toml", "tls.mode", "127.0.0.1"]),
            ("[tls]\nmode = 'files'\n", vec!["tls.certificate", "tls.key"]),
            ("[database]\nurl = 'mysql://x/y'\n", vec!["database.url", "postgres://"]),
            ("public_url = 'reeve.example'", vec!["coordinator.toml:1", "https://HOST:PORT"]),
            ("[assistant]\nbudget_hard = -1\n", vec!["coordinator.toml:2", "budget_hard", "0"]),
            ("[limits]\nmax_targets = 0\n", vec!["coordinator.toml:2", "max_targets", "1"]),
            ("[approvals]\nexpire = '2days'\n", vec!["approvals.expire", "24h"]),
            (
                "[[policy]]\nmatch = 'env=prod'\nchange = 'approve:0'\n",
                vec!["coordinator.toml:3", "change", "approve:N"],
            ),
            (
                "[[policy]]\nmatch = 'env==prod'\n",
                vec!["coordinator.toml:2", "match", "label=value"],
            ),
            ("[[policy]]\nchange = 'deny'\n", vec!["coordinator.toml:1", "match"]),
            ("[[policy]]\nmatch = '@all'\nchnge = 'deny'\n", vec!["coordinator.toml:3", "chnge"]),
            ("[[policy]]\nmatch = '@all'\napplies_to = []\n", vec!["coordinator.toml:3", "both"]),
            ("listen = [", vec!["coordinator.toml:1"]),
        ] {
            let error = resolve_text(text).expect_err(text).to_string();
            for part in expected {
                assert!(error.contains(part), "{text:?} gave {error:?} without {part:?}");
            }
            assert!(!error.contains('\n'), "{error:?} is more than a line");
        }
    }

    #[test]
    fn printed_settings_read_back_the_same_and_hide_the_password() {
        let config = resolve_text("[database]\nurl = 'postgres://reeve:s3cret@db/reeve'\n[[policy]]\nmatch = 'env=prod'\nchange = 'approve:2'\napplies_to = ['task']\n")
            .expect("settings");
        let text = config.to_text();
        assert!(!text.contains("s3cret"), "{text}");
        assert!(!format!("{config:?}").contains("s3cret"));
        let again = resolve_text(&text).expect("what was printed");
        assert_eq!(again.to_text(), text);
    }

    #[test]
    fn a_password_on_the_command_line_is_refused() {
        let args = Args {
            database: Some("postgres://reeve:s3cret@db/reeve".to_owned()),
            ..Args::default()
        };
        let error = resolve(&args, File::default(), None).expect_err("refused").to_string();
        assert!(error.contains("password_file") && !error.contains("s3cret"), "{error}");
    }
}
