//! `reeve doctor`: looks at everything between here and the machines, in the order in which it can
//! break.

use std::time::Duration;

use clap::Args;
use reeve_sdk::api::MachineState;
use reeve_sdk::{Client, Paging, probe};
use serde::Serialize;

use crate::args::{Format, Global};
use crate::connection::Connection;
use crate::contexts;
use crate::exit;
use crate::failure::Failure;
use crate::output::{json, json_line, print, print_one};
use crate::terminal::{Screen, escape};

const EXAMPLES: &str = "\
Examples:
  reeve doctor
  reeve doctor --url https://reeve.example:7717 -o json

Exits with 1 when something fails.";

/// How long a single step may take.
const STEP_TIMEOUT: Duration = Duration::from_secs(5);
/// A clock off by more confuses people who compare times.
const SKEW_LIMIT_SECONDS: i64 = 30;

/// Find out why something does not work.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Doctor {}

#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Ok,
    Warn,
    Fail,
}

#[derive(Serialize)]
struct Check {
    check: &'static str,
    verdict: Verdict,
    found: String,
}

#[derive(Default)]
struct Findings(Vec<Check>);

impl Findings {
    fn ok(&mut self, check: &'static str, found: impl Into<String>) {
        self.0.push(Check { check, verdict: Verdict::Ok, found: found.into() });
    }
    fn warn(&mut self, check: &'static str, found: impl Into<String>) {
        self.0.push(Check { check, verdict: Verdict::Warn, found: found.into() });
    }
    fn fail(&mut self, check: &'static str, found: impl Into<String>) {
        self.0.push(Check { check, verdict: Verdict::Fail, found: found.into() });
    }
}

impl Doctor {
    pub async fn perform(self, global: &Global) -> Result<u8, Failure> {
        let mut findings = Findings::default();
        examine(global, &mut findings).await;
        show(global, &findings.0)?;
        let failed = findings.0.iter().any(|check| check.verdict == Verdict::Fail);
        Ok(if failed { exit::SOME_FAILED } else { exit::OK })
    }
}

/// Goes on as long as the next step makes sense.
async fn examine(global: &Global, findings: &mut Findings) {
    let connection = match Connection::load(global) {
        Ok(connection) => connection,
        Err(failure) => return findings.fail("config", failure.to_string()),
    };
    let source = match &connection.context {
        Some(context) => format!("context '{context}'"),
        None => "flags and environment".to_owned(),
    };
    let path = contexts::path().map(|path| path.display().to_string()).unwrap_or_default();
    findings.ok("config", format!("{} from {source} ({path})", connection.url));
    let client = match connection.client_trying_for(Duration::ZERO) {
        Ok(client) => client,
        Err(failure) => return findings.fail("config", failure.to_string()),
    };
    if !reach(&connection, findings).await || !trust(&connection, &client, findings).await {
        return;
    }
    clock(&client, findings).await;
    readiness(&client, findings).await;
    if access(&connection, &client, findings).await {
        machines(&client, findings).await;
    }
}

/// DNS and TCP. Behind a proxy neither is ours to look at.
async fn reach(connection: &Connection, findings: &mut Findings) -> bool {
    let Ok(url) = url::Url::parse(&connection.url) else {
        findings.fail("config", format!("'{}' is no address", connection.url));
        return false;
    };
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
    let port = url.port_or_known_default().unwrap_or(7717);
    let proxy = ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"]
        .into_iter()
        .find(|name| std::env::var_os(name).is_some_and(|value| !value.is_empty()));
    if let Some(proxy) = proxy {
        findings.warn("network", format!("{proxy} is set; the way goes through that proxy"));
        return true;
    }
    let addresses: Vec<_> = match tokio::net::lookup_host((host.as_str(), port)).await {
        Ok(addresses) => addresses.collect(),
        Err(error) => {
            findings.fail("dns", format!("{host} cannot be resolved: {error}; check the name"));
            return false;
        }
    };
    let listed = addresses.iter().map(|a| a.ip().to_string()).collect::<Vec<_>>().join(", ");
    findings.ok("dns", format!("{host} is {listed}"));
    let mut last = "no address".to_owned();
    for address in addresses {
        let attempt = tokio::net::TcpStream::connect(address);
        match tokio::time::timeout(STEP_TIMEOUT, attempt).await {
            Ok(Ok(_)) => {
                findings.ok("tcp", format!("{address} accepts connections"));
                return true;
            }
            Ok(Err(error)) => last = format!("{address}: {error}"),
            Err(_) => last = format!("{address}: no answer in {} s", STEP_TIMEOUT.as_secs()),
        }
    }
    findings.fail("tcp", format!("{last}; does the coordinator run, is a firewall in between?"));
    false
}

async fn trust(connection: &Connection, client: &Client, findings: &mut Findings) -> bool {
    match client.info().await {
        Ok(info) => {
            let how = match (connection.pin, &connection.ca_file) {
                _ if connection.url.starts_with("http:") => "plain HTTP on this machine".to_owned(),
                (Some(pin), _) => format!("pinned to sha256:{pin}"),
                (None, Some(file)) => format!("trusted by {}", file.display()),
                (None, None) => "trusted by this system".to_owned(),
            };
            findings.ok("tls", how);
            findings.ok("coordinator", format!("Reeve {} ({})", info.version, info.coordinator_id));
            if info.setup_needed {
                findings.warn("coordinator", "waits for its first user; use 'reeve login'");
            }
            true
        }
        Err(error) => {
            let mut found = error.to_string();
            if let Ok(presented) = probe(&connection.url, STEP_TIMEOUT).await
                && let Some(pin) = presented.authority()
            {
                found.push_str(&format!(" (presented: sha256:{pin})"));
            }
            findings.fail("tls", found);
            false
        }
    }
}

async fn clock(client: &Client, findings: &mut Findings) {
    match client.clock().await {
        Ok(Some(there)) => {
            let skew = jiff::Timestamp::now().as_second() - there;
            if skew.abs() > SKEW_LIMIT_SECONDS {
                findings.warn(
                    "clock",
                    format!("{skew:+} s from the coordinator's; set this clock or that"),
                );
            } else {
                findings.ok("clock", format!("{skew:+} s from the coordinator's"));
            }
        }
        Ok(None) => findings.warn("clock", "the coordinator does not say what time it is"),
        Err(error) => findings.fail("clock", error.to_string()),
    }
}

async fn readiness(client: &Client, findings: &mut Findings) {
    match client.ready().await {
        Ok(()) => findings.ok("readiness", "takes new work"),
        Err(error) => findings.fail("readiness", format!("takes no new work: {error}")),
    }
}

async fn access(connection: &Connection, client: &Client, findings: &mut Findings) -> bool {
    if connection.token.is_none() {
        findings.fail("login", "not logged in; use 'reeve login' or set REEVE_API_KEY");
        return false;
    }
    match client.me().await {
        Ok(me) => {
            findings
                .ok("login", format!("{} ({}, machines {})", me.name, me.role.as_str(), me.scope));
            true
        }
        Err(error) => {
            findings.fail("login", Failure::from(error).to_string());
            false
        }
    }
}

async fn machines(client: &Client, findings: &mut Findings) {
    let status = match client.status().await {
        Ok(status) => status,
        Err(error) => return findings.fail("machines", error.to_string()),
    };
    let counts = status.machines;
    let mut bad = Vec::new();
    for state in [MachineState::Offline, MachineState::Quarantined] {
        let paging = Paging { cursor: None, limit: Some(10) };
        if let Ok(page) = client.machines(None, Some(state), &paging).await {
            bad.extend(page.items.into_iter().map(|machine| machine.name));
        }
    }
    let text = format!("{} online, {} offline", counts.online, counts.offline);
    match counts {
        _ if counts.offline + counts.quarantined > 0 => {
            findings.warn("machines", format!("{text}: {}", bad.join(", ")));
        }
        _ if counts.online == 0 => {
            findings.warn("machines", "none yet; 'reeve tokens create' makes a token to join with");
        }
        _ => findings.ok("machines", text),
    }
}

fn show(global: &Global, checks: &[Check]) -> Result<(), Failure> {
    match global.output {
        Format::Json => return print(&json(&checks)?),
        Format::Yaml => return print_one(Format::Yaml, &checks, "", &[]),
        Format::Jsonl => {
            let lines: Result<String, Failure> = checks.iter().map(json_line).collect();
            return print(&lines?);
        }
        Format::Name => {
            let failed = checks.iter().filter(|check| check.verdict != Verdict::Ok);
            return print(&failed.map(|check| format!("{}\n", check.check)).collect::<String>());
        }
        Format::Table | Format::Wide => {}
    }
    let screen = Screen::stdout(global.color);
    let mut text = String::new();
    for check in checks {
        let word = match check.verdict {
            Verdict::Ok => screen.paint("32", "ok  "),
            Verdict::Warn => screen.paint("33", "warn"),
            Verdict::Fail => screen.paint("31", "FAIL"),
        };
        text.push_str(&format!("{word}  {:<12} {}\n", check.check, escape(&check.found)));
    }
    print(&text)
}
