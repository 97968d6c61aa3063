//! `reeve-agent enroll`: a join token becomes a machine.

use std::io::Read;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use reeve_protocol::enrol::{Register, Registered};
use reeve_protocol::token::Token;
use serde::Deserialize;
use zeroize::Zeroizing;

use super::StateArgument;
use super::doctor::{self, Report};
use crate::host;
use crate::state::StateFolder;
use crate::state::identity::{Identity, Pending};
use crate::tasks::Tasks;
use crate::uplink::endpoint::{Endpoint, Opened};

/// Environment variable with the token.
const TOKEN_VARIABLE: &str = "REEVE_JOIN_TOKEN";

/// An answer is small.
const MAX_ANSWER: usize = 64 * 1024;

/// For the whole exchange.
const EXCHANGE_LIMIT: Duration = Duration::from_secs(30);

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  reeve-agent enroll https://reeve.example:7717 --token-file token
  reeve tokens create | reeve-agent enroll https://reeve.example:7717 --token-stdin
  REEVE_JOIN_TOKEN=… reeve-agent enroll https://reeve.example:7717 --check")]
pub struct EnrollArguments {
    /// The coordinator, such as https://reeve.example:7717
    url: String,
    /// File with the join token
    #[arg(long, value_name = "FILE", conflicts_with = "token_stdin")]
    token_file: Option<PathBuf>,
    /// Read the join token from stdin
    #[arg(long)]
    token_stdin: bool,
    /// Name of this machine [default: the token's, else the host name]
    #[arg(long)]
    name: Option<String>,
    /// Only check that enrolling would work; the token is not sent
    #[arg(long)]
    check: bool,
    #[command(flatten)]
    state: StateArgument,
}

/// RFC 9457, as far as it is shown.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Problem {
    code: String,
    detail: String,
    title: String,
}

pub async fn main(arguments: EnrollArguments) -> anyhow::Result<ExitCode> {
    let text = read_token(&arguments)?;
    let token = Token::parse(&text).context("the join token cannot be used")?;
    if token.kind != "join" {
        bail!(
            "this is a token of kind '{}', not a join token; create one with 'reeve tokens create'",
            token.kind
        );
    }
    let endpoint = Endpoint::new(&arguments.url, token.pin)?;
    let path = arguments.state.path();
    if arguments.check {
        let mut report = Report::default();
        doctor::check_state(&mut report, &path);
        doctor::check_endpoint(&mut report, &endpoint).await;
        return Ok(report.print(super::Format::Table));
    }
    let folder = StateFolder::create(path)?;
    if Identity::exists(&folder) {
        let known = Identity::load(&folder)?;
        bail!(
            "this machine is already enrolled as '{}' with {}; to enrol it anew, stop the agent, \
             remove {} and run this again",
            known.name,
            known.url,
            folder.path().display()
        );
    }
    let guard = folder.lock()?;
    let identity = enroll(&arguments, &text, &endpoint, &folder).await?;
    drop(guard);
    eprintln!("enrolled as '{}' (machine {})", identity.name, identity.machine_id);
    eprintln!(
        "start the agent with: reeve-agent run{}",
        match &arguments.state.state {
            Some(path) => format!(" --state {}", path.display()),
            None => String::new(),
        }
    );
    Ok(ExitCode::SUCCESS)
}

fn read_token(arguments: &EnrollArguments) -> anyhow::Result<Zeroizing<String>> {
    let mut text = Zeroizing::new(String::new());
    if let Some(path) = &arguments.token_file {
        std::fs::File::open(path)
            .and_then(|file| file.take(4096).read_to_string(&mut text))
            .with_context(|| format!("the token file {} cannot be read", path.display()))?;
    } else if arguments.token_stdin {
        std::io::stdin().take(4096).read_to_string(&mut text).context("stdin cannot be read")?;
    } else if let Ok(value) = std::env::var(TOKEN_VARIABLE) {
        *text = value;
    } else {
        bail!(
            "no join token; create one with 'reeve tokens create' and give it with --token-file, \
             --token-stdin or {TOKEN_VARIABLE}"
        );
    }
    *text = text.trim().to_owned();
    if text.is_empty() {
        bail!("the join token is empty");
    }
    Ok(text)
}

async fn enroll(
    arguments: &EnrollArguments,
    token: &str,
    endpoint: &Endpoint,
    folder: &StateFolder,
) -> anyhow::Result<Identity> {
    // Kept until it worked, so that a second try is the same machine.
    let (pending, key) = Pending::load_or_create(folder)?;
    let opened = endpoint.open().await?;
    let channel_binding = opened.exporter.is_some();
    let ca_pem = opened.seen.authority.as_deref().map(to_pem).unwrap_or_default();
    let public_key = key.verifying_key().to_bytes();
    let register = Register {
        token: token.to_owned(),
        machine_id: pending.machine_id,
        public_key: public_key.iter().map(|byte| format!("{byte:02x}")).collect(),
        name: arguments.name.clone(),
        channel_binding,
        facts: host::facts::read(None, None),
    };
    let body = Zeroizing::new(serde_json::to_vec(&register)?);
    let registered =
        tokio::time::timeout(EXCHANGE_LIMIT, post(endpoint, opened, &body)).await.with_context(
            || format!("the coordinator did not answer within {EXCHANGE_LIMIT:?}"),
        )??;
    if registered.machine_id != pending.machine_id {
        bail!("the coordinator answered for another machine; nothing was stored");
    }
    let identity = Identity {
        url: endpoint.base_url(),
        machine_id: registered.machine_id,
        name: registered.name,
        coordinator_id: registered.coordinator_id,
        ca_pem,
        pin: endpoint.pin().map(|pin| pin.to_string()).unwrap_or_default(),
        channel_binding: registered.channel_binding,
    };
    identity.save(folder)?;
    Pending::remove(folder);
    Ok(identity)
}

/// One request on a connection of its own.
async fn send(
    opened: Opened,
    request: hyper::Request<Full<Bytes>>,
) -> anyhow::Result<(hyper::StatusCode, hyper::HeaderMap, Bytes)> {
    let io = TokioIo::new(opened.stream);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io)
        .await
        .context("the coordinator does not speak HTTP")?;
    let tasks = Tasks::new();
    tasks.spawn("http", async move {
        let _ = connection.await;
    });
    let response = sender.send_request(request).await.context("the coordinator hung up")?;
    let (parts, body) = response.into_parts();
    let answer = Limited::new(body, MAX_ANSWER)
        .collect()
        .await
        .map_err(|error| anyhow::anyhow!("the coordinator's answer broke off: {error}"))?
        .to_bytes();
    Ok((parts.status, parts.headers, answer))
}

/// How far the coordinator's clock is ahead of ours, milliseconds, from the `date` of an answer
/// (RFC 9110), which counts in seconds.
pub async fn fetch_date(endpoint: &Endpoint, opened: Opened) -> anyhow::Result<Option<i64>> {
    let request = hyper::Request::get("/healthz")
        .header("host", endpoint.address())
        .body(Full::new(Bytes::new()))?;
    let (_, headers, _) = tokio::time::timeout(EXCHANGE_LIMIT, send(opened, request))
        .await
        .with_context(|| format!("the coordinator did not answer within {EXCHANGE_LIMIT:?}"))??;
    let date = headers.get("date").and_then(|date| date.to_str().ok());
    Ok(date.and_then(parse_date).map(|seconds| (seconds - host::now_us() / 1_000_000) * 1000))
}

/// Seconds since 1970 of a date like `Sun, 06 Nov 1994 08:49:37 GMT`.
fn parse_date(text: &str) -> Option<i64> {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let mut fields = text.split_once(", ")?.1.split(' ');
    let day: i64 = fields.next()?.parse().ok()?;
    let name = fields.next()?;
    let month = i64::try_from(MONTHS.iter().position(|month| *month == name)?).ok()? + 1;
    let year: i64 = fields.next()?.parse().ok()?;
    let mut clock = fields.next()?.split(':').map(str::parse::<i64>);
    let (hour, minute, second) = (clock.next()?.ok()?, clock.next()?.ok()?, clock.next()?.ok()?);
    // Days since 1970 in the Gregorian calendar, years beginning in March.
    let (year, month) = if month <= 2 { (year - 1, month + 9) } else { (year, month - 3) };
    let days = 365 * year + year.div_euclid(4) - year.div_euclid(100)
        + year.div_euclid(400)
        + (153 * month + 2) / 5
        + day
        - 719_469;
    Some(days * 86_400 + hour * 3600 + minute * 60 + second)
}

async fn post(endpoint: &Endpoint, opened: Opened, body: &[u8]) -> anyhow::Result<Registered> {
    let request = hyper::Request::post("/api/clients/register")
        .header("host", endpoint.address())
        .header("content-type", "application/json")
        .header("accept", "application/json")
        .header("user-agent", concat!("reeve-agent/", env!("CARGO_PKG_VERSION")))
        .body(Full::new(Bytes::copy_from_slice(body)))?;
    let (status, _, answer) = send(opened, request).await?;
    if status.is_success() {
        return serde_json::from_slice(&answer).context("the coordinator's answer makes no sense");
    }
    let problem: Problem = serde_json::from_slice(&answer).unwrap_or_default();
    let detail = match (problem.detail.as_str(), problem.title.as_str()) {
        ("", "") => format!("it answered {status}; is this a Reeve coordinator's address?"),
        ("", title) => title.to_owned(),
        (detail, _) => detail.to_owned(),
    };
    let code = if problem.code.is_empty() { String::new() } else { format!(" [{}]", problem.code) };
    bail!("the coordinator refuses: {}{code}", printable(&detail));
}

/// What a coordinator says goes to a terminal: no control characters.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(1000).collect()
}

fn to_pem(der: &[u8]) -> String {
    use base64::Engine;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let mut pem = "-----BEGIN CERTIFICATE-----\n".to_owned();
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, tail) = rest.split_at(rest.len().min(64));
        pem.push_str(line);
        pem.push('\n');
        rest = tail;
    }
    pem.push_str("-----END CERTIFICATE-----\n");
    pem
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_of_http_become_seconds() {
        assert_eq!(parse_date("Sun, 06 Nov 1994 08:49:37 GMT"), Some(784_111_777));
        assert_eq!(parse_date("Thu, 01 Jan 1970 00:00:00 GMT"), Some(0));
        assert_eq!(parse_date("Thu, 29 Feb 2024 00:00:00 GMT"), Some(1_709_164_800));
        assert_eq!(parse_date("yesterday"), None);
    }
}
