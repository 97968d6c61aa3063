//! Thousands of agents in one process, without machines: they join with a real token, prove real
//! keys over real TLS, send heartbeats and reports, answer requests as told, and come back by
//! themselves as real agents do. What they hold of an operation outlives their connections, so a
//! coordinator that forgets something is found out.

mod agent;
mod counted;
mod join;
mod operations;
mod session;

use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use reeve_protocol::token::{Pin, Token};
use rustls_pki_types::ServerName;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

pub use join::Identity;

/// Agents that one process should hold: each has a descriptor, and 20,000 are the usual limit.
pub const AGENTS_PER_PROCESS: usize = 15_000;

/// Source addresses on the loopback. One address has some 28,000 ports, and closed connections
/// keep theirs for a minute.
const LOOPBACK_SOURCES: usize = 16;

/// What a swarm is.
#[derive(Clone, Debug)]
pub struct Options {
    /// The coordinator, such as `https://127.0.0.1:7717`.
    pub url: String,
    /// A join token with enough uses. Its pin is whom the agents trust.
    pub token: String,
    /// How many.
    pub agents: usize,
    /// Number of the first; the names are `PREFIX-NUMBER`.
    pub first: usize,
    /// The beginning of the names.
    pub prefix: String,
    /// Where keys are kept, so that the same machines come back with the next start.
    pub keys: Option<PathBuf>,
    /// Threads that the agents share.
    pub threads: usize,
    /// The only processors these threads run on.
    pub cpus: Option<Vec<usize>>,
    /// After every break the pause is the shortest of real agents instead of doubling.
    pub hasty: bool,
    /// How long joining may take, all of them together.
    pub within: Option<Duration>,
}

impl Options {
    /// Agents with names of their own, on two threads.
    #[must_use]
    pub fn new(url: &str, token: &str, agents: usize) -> Self {
        Self {
            url: url.to_owned(),
            token: token.to_owned(),
            agents,
            first: 1,
            prefix: "swarm".to_owned(),
            keys: None,
            threads: 2,
            cpus: None,
            hasty: false,
            within: None,
        }
    }
}

/// What every agent answers to every request.
#[derive(Clone, Copy, Debug, Default)]
pub struct Script {
    /// Bytes it writes.
    pub output: u64,
    /// Until it ends.
    pub delay: Duration,
}

/// What happened so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Machines that have joined.
    pub joined: u64,
    /// Sessions that are open.
    pub online: u64,
    /// Sessions that were opened.
    pub sessions: u64,
    /// Tries that did not become a session.
    pub failures: u64,
    /// Operations started.
    pub started: u64,
    /// Requests for an operation that was started before.
    pub repeated: u64,
    /// Operations whose result was acknowledged.
    pub finished: u64,
}

#[derive(Default)]
struct Tally {
    joined: AtomicU64,
    online: AtomicU64,
    sessions: AtomicU64,
    failures: AtomicU64,
    started: AtomicU64,
    repeated: AtomicU64,
    finished: AtomicU64,
    bytes: AtomicU64,
}

/// What all agents share.
struct Shared {
    address: SocketAddr,
    host: String,
    server_name: ServerName<'static>,
    tls: tokio_rustls::TlsConnector,
    hasty: bool,
    tally: Tally,
    output: AtomicU64,
    delay_ms: AtomicU64,
    /// Why the last try failed.
    complaint: Mutex<Option<String>>,
    stop: CancellationToken,
}

/// A swarm at work; it ends when dropped.
pub struct Swarm {
    shared: Arc<Shared>,
    agents: usize,
    runtime: Option<Runtime>,
}

fn add(count: &AtomicU64) {
    count.fetch_add(1, Ordering::Relaxed);
}

impl Swarm {
    /// Joins whoever has not joined yet, then lets them all connect. Returns once all have joined.
    ///
    /// # Errors
    /// When the coordinator cannot be found, or does not let them join.
    pub fn start(options: &Options) -> anyhow::Result<Self> {
        let pin = Token::parse(&options.token)
            .map_err(|error| anyhow::anyhow!("the join token: {error}"))?
            .pin
            .context("the join token has no pin: the coordinator has to end TLS itself")?;
        let shared = Arc::new(share(options, pin)?);
        let cpus = options.cpus.clone();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(options.threads.max(1))
            .thread_name("swarm")
            .on_thread_start(move || {
                if let Some(cpus) = &cpus {
                    pin_to(cpus);
                }
            })
            .enable_all()
            .build()?;
        let limit = options.within.unwrap_or(Duration::MAX);
        let joining = join::join_all(options, pin, &shared.tally.joined);
        let identities = runtime
            .block_on(async { tokio::time::timeout(limit, joining).await })
            .unwrap_or_else(|_| {
                let joined = shared.tally.joined.load(Ordering::Relaxed);
                anyhow::bail!("only {joined} had joined after {limit:?}")
            })?;
        for (at, identity) in identities.into_iter().enumerate() {
            let agent = agent::Agent::new(identity, source(&shared, options.first + at));
            runtime.spawn(agent.run(Arc::clone(&shared)));
        }
        Ok(Self { shared, agents: options.agents, runtime: Some(runtime) })
    }

    /// How many there are.
    #[must_use]
    pub fn agents(&self) -> usize {
        self.agents
    }

    /// What they answer from now on.
    pub fn play(&self, script: Script) {
        self.shared.output.store(script.output, Ordering::Relaxed);
        let delay = u64::try_from(script.delay.as_millis()).unwrap_or(u64::MAX);
        self.shared.delay_ms.store(delay, Ordering::Relaxed);
    }

    /// What happened so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let tally = &self.shared.tally;
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Counts {
            joined: read(&tally.joined),
            online: read(&tally.online),
            sessions: read(&tally.sessions),
            failures: read(&tally.failures),
            started: read(&tally.started),
            repeated: read(&tally.repeated),
            finished: read(&tally.finished),
        }
    }

    /// Bytes exchanged in sessions and on the way to them, both ways, TLS included.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.shared.tally.bytes.load(Ordering::Relaxed)
    }

    /// Whether every agent has a session.
    #[must_use]
    pub fn is_all_online(&self) -> bool {
        self.counts().online == self.agents as u64
    }

    /// Why the last try failed, if any has since it was asked for.
    #[must_use]
    pub fn complaint(&self) -> Option<String> {
        self.shared.complaint.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Drop for Swarm {
    fn drop(&mut self) {
        self.shared.stop.cancel();
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(Duration::from_secs(5));
        }
    }
}

fn share(options: &Options, pin: Pin) -> anyhow::Result<Shared> {
    let rest = options.url.strip_prefix("https://").context("the URL has to be https://")?;
    let host = rest.trim_end_matches('/').to_owned();
    let address = host
        .to_socket_addrs()
        .with_context(|| format!("{host} has no address"))?
        .next()
        .with_context(|| format!("{host} has no address"))?;
    let name = host.rsplit_once(':').map_or(host.as_str(), |(name, _)| name);
    let server_name = ServerName::try_from(name.trim_matches(['[', ']']).to_owned())
        .with_context(|| format!("{name} is no host"))?;
    Ok(Shared {
        address,
        server_name,
        host,
        tls: join::tls(pin)?.into(),
        hasty: options.hasty,
        tally: Tally::default(),
        output: AtomicU64::new(0),
        delay_ms: AtomicU64::new(0),
        complaint: Mutex::default(),
        stop: CancellationToken::new(),
    })
}

/// Where an agent dials from: on the loopback there are many addresses.
fn source(shared: &Shared, number: usize) -> Option<IpAddr> {
    let loopback = shared.address.is_ipv4() && shared.address.ip().is_loopback();
    let last = u8::try_from(2 + number % LOOPBACK_SOURCES).unwrap_or(2);
    loopback.then_some(IpAddr::V4(Ipv4Addr::new(127, 0, 0, last)))
}

fn pin_to(cpus: &[usize]) {
    let mut set = nix::sched::CpuSet::new();
    for cpu in cpus {
        let _beyond_what_a_set_holds = set.set(*cpu);
    }
    // A machine with fewer processors runs them where it can.
    let _none_of_them = nix::sched::sched_setaffinity(nix::unistd::Pid::from_raw(0), &set);
}
