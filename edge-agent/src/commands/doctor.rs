//! `reeve-agent doctor`: everything the agent needs, each with its remedy.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use serde::Serialize;

use super::{Format, StateArgument};
use crate::host;
use crate::operations::Inspection;
use crate::policy::{self, Policy};
use crate::state::StateFolder;
use crate::state::identity::{Identity, load_key};
use crate::uplink::endpoint::Endpoint;

/// A clock further off than this makes certificates and logs misleading.
const MAX_SKEW_MS: i64 = 5 * 60 * 1000;

/// Less free space than this is worth a warning: one operation may spool as much.
const MIN_FREE_BYTES: u64 = reeve_protocol::limits::SPOOL_BYTES;

#[derive(Debug, Args)]
pub struct DoctorArguments {
    #[command(flatten)]
    state: StateArgument,
    /// Check this coordinator instead of the enrolled one
    #[arg(long)]
    url: Option<String>,
    /// This machine's policy [default: /etc/reeve/agent.toml, if there is one]
    #[arg(long, env = "REEVE_AGENT_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// How to show it
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

/// One thing checked.
#[derive(Debug, Serialize)]
struct Check {
    name: &'static str,
    ok: bool,
    detail: String,
}

/// All things checked.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    checks: Vec<Check>,
}

impl Report {
    fn good(&mut self, name: &'static str, detail: impl Into<String>) {
        self.checks.push(Check { name, ok: true, detail: detail.into() });
    }

    fn bad(&mut self, name: &'static str, detail: impl Into<String>) {
        self.checks.push(Check { name, ok: false, detail: detail.into() });
    }

    /// Shows it. The exit code: 1 when anything is bad.
    pub fn print(&self, format: Format) -> ExitCode {
        match format {
            Format::Json => {
                println!("{}", serde_json::to_string_pretty(self).unwrap_or_default());
            }
            Format::Table => {
                for check in &self.checks {
                    let mark = if check.ok { "ok  " } else { "FAIL" };
                    println!("{mark}  {:<12} {}", check.name, check.detail);
                }
            }
        }
        if self.checks.iter().all(|check| check.ok) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

pub async fn main(arguments: DoctorArguments) -> anyhow::Result<ExitCode> {
    let mut report = Report::default();
    let path = arguments.state.path();
    check_state(&mut report, &path);
    let folder = StateFolder::at(path);
    let identity = check_identity(&mut report, &folder);
    let policy = check_policy(&mut report, arguments.config.as_deref());
    check_containment(&mut report);
    check_inspection(&mut report, &policy, &folder).await;
    let pin = identity.as_ref().and_then(|identity| identity.pin.parse().ok());
    let url = arguments.url.or(identity.map(|identity| identity.url));
    match url.map(|url| Endpoint::new(&url, pin)) {
        Some(Ok(endpoint)) => check_endpoint(&mut report, &endpoint).await,
        Some(Err(error)) => report.bad("coordinator", error.to_string()),
        None => report.bad("coordinator", "unknown; enrol this machine, or give --url"),
    }
    Ok(report.print(arguments.output))
}

/// Whether the state folder can be written, and has room.
pub fn check_state(report: &mut Report, path: &Path) {
    match StateFolder::create(path.to_owned()) {
        Ok(folder) => {
            match folder.write_file("doctor", b"ok", false) {
                Ok(()) => report.good("state", format!("{} can be written", path.display())),
                Err(error) => report.bad("state", format!("{error}; check owner and free space")),
            }
            let _ = std::fs::remove_file(folder.file("doctor"));
        }
        Err(error) => report.bad(
            "state",
            format!("{error}; run as the folder's owner, or give another with --state"),
        ),
    }
    if let Some((_, free)) = host::metrics::measure_disk(path) {
        let text = format!("{} MiB free in {}", free / 1024 / 1024, path.display());
        if free < MIN_FREE_BYTES {
            report.bad("disk", format!("{text}; free some: output is kept there until it is sent"));
        } else {
            report.good("disk", text);
        }
    }
}

fn check_identity(report: &mut Report, folder: &StateFolder) -> Option<Identity> {
    match Identity::load(folder).and_then(|identity| load_key(folder).map(|_| identity)) {
        Ok(identity) => {
            report.good("identity", format!("enrolled as '{}'", identity.name));
            Some(identity)
        }
        Err(error) => {
            report.bad("identity", error.to_string());
            None
        }
    }
}

/// The policy, or none when it cannot be used.
fn check_policy(report: &mut Report, config: Option<&Path>) -> Policy {
    let path = config.unwrap_or(Path::new(policy::DEFAULT_PATH));
    match Policy::load(path, config.is_some()) {
        Ok(policy) => {
            if path.exists() {
                report.good("policy", format!("{} is valid", path.display()));
            } else {
                report.good("policy", "none: everything is allowed");
            }
            policy
        }
        Err(error) => {
            report.bad("policy", error.to_string());
            Policy::default()
        }
    }
}

/// Whether commands can be kept from changing anything. Not needed by the agent itself.
async fn check_inspection(report: &mut Report, policy: &Policy, folder: &StateFolder) {
    let fact = Inspection::probe(Path::new("/proc/self/exe"), policy, folder).await.fact;
    report.good(
        "inspect mode",
        if fact.available {
            format!("works ({})", fact.walls.join(", "))
        } else {
            format!("not here: {}", fact.reason)
        },
    );
}

fn check_containment(report: &mut Report) {
    if host::cgroup::looks_possible() {
        report.good("containment", "control groups (cgroup v2)");
    } else {
        report.good(
            "containment",
            "process groups; for control groups mount cgroup2, and run as root or with \
             Delegate=yes",
        );
    }
}

/// Whether the coordinator answers and is who it should be. Nothing secret is sent.
pub async fn check_endpoint(report: &mut Report, endpoint: &Endpoint) {
    match endpoint.proxy() {
        Some(proxy) => report.good("proxy", format!("{proxy}, from the environment")),
        None => match endpoint.resolve().await {
            Ok(addresses) => {
                let list: Vec<String> = addresses.iter().map(ToString::to_string).collect();
                report.good("dns", list.join(" "));
            }
            Err(error) => return report.bad("dns", error.to_string()),
        },
    }
    match endpoint.connect_tcp().await {
        Ok(_) => report.good("tcp", format!("{} answers", endpoint.address())),
        Err(error) => return report.bad("tcp", error.to_string()),
    }
    let opened = match endpoint.open().await {
        Ok(opened) => opened,
        Err(error) => return report.bad("tls", error.to_string()),
    };
    match endpoint.pin() {
        Some(pin) => report.good("tls", format!("the authority has the pin {pin}")),
        None => report.good("tls", "none: loopback only"),
    }
    match super::enroll::fetch_date(endpoint, opened).await {
        Ok(Some(skew_ms)) if skew_ms.abs() > MAX_SKEW_MS => report.bad(
            "clock",
            format!(
                "{} s off the coordinator's; set it, for example with 'timedatectl set-ntp true'",
                skew_ms / 1000
            ),
        ),
        Ok(Some(skew_ms)) => report.good("clock", format!("{} s off", skew_ms / 1000)),
        Ok(None) => report.good("clock", "the coordinator tells no time before a session"),
        Err(error) => report.bad("http", format!("{error:#}")),
    }
}
