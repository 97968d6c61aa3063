//! `reeve-swarm`: thousands of agents without machines, against any coordinator.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use clap::Parser;
use reeve_tests::swarm::{AGENTS_PER_PROCESS, Options, Script, Swarm};

/// Thousands of agents in one process: real TLS, keys, sessions, heartbeats and results, but no
/// machines and no commands. They come back by themselves when the coordinator goes away.
#[derive(Parser)]
#[command(name = "reeve-swarm", after_help = EXAMPLES)]
struct Args {
    /// The coordinator, such as https://127.0.0.1:7717
    #[arg(long)]
    url: String,
    /// A join token with a use for each agent (REEVE_JOIN_TOKEN)
    #[arg(long, env = "REEVE_JOIN_TOKEN", hide_env_values = true)]
    token: String,
    /// How many agents
    #[arg(long, default_value_t = 1000)]
    agents: usize,
    /// Beginning of their names
    #[arg(long, default_value = "swarm")]
    prefix: String,
    /// Keep their keys here and use them again: the same machines come back
    #[arg(long, value_name = "FILE")]
    keys: Option<PathBuf>,
    /// Bytes each command writes
    #[arg(long, default_value_t = 0)]
    output: u64,
    /// Milliseconds each command takes
    #[arg(long, default_value_t = 0, value_name = "MS")]
    delay: u64,
    /// Come back after the shortest pause of real agents, every time
    #[arg(long)]
    hasty: bool,
    /// Threads of each process
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Processes; one for each 15,000 agents when left out
    #[arg(long)]
    processes: Option<usize>,
    /// Stop after this many seconds
    #[arg(long = "for", value_name = "SECONDS")]
    seconds: Option<u64>,
    /// Number of the first agent
    #[arg(long, default_value_t = 1)]
    first: usize,
}

const EXAMPLES: &str = "Examples:
  reeve tokens create --uses 10000
  reeve-swarm --url https://127.0.0.1:7717 --token rv_join_… --agents 10000
  reeve run @all -- true";

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let processes = args.processes.unwrap_or(args.agents.div_ceil(AGENTS_PER_PROCESS)).max(1);
    ensure!(args.agents > 0, "no agents: ask for at least one with --agents");
    if processes == 1 { swarm(&args) } else { spread(&args, processes) }
}

fn swarm(args: &Args) -> anyhow::Result<()> {
    let options = Options {
        first: args.first,
        prefix: args.prefix.clone(),
        keys: args.keys.clone(),
        threads: args.threads,
        hasty: args.hasty,
        ..Options::new(&args.url, &args.token, args.agents)
    };
    let swarm = Swarm::start(&options)?;
    swarm.play(Script { output: args.output, delay: Duration::from_millis(args.delay) });
    let end = args.seconds.map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let mut last = None;
    while end.is_none_or(|end| Instant::now() < end) {
        let counts = swarm.counts();
        if last != Some(counts) {
            println!(
                "joined {}  online {}  sessions {}  failures {}  started {}  repeated {}  finished {}",
                counts.joined,
                counts.online,
                counts.sessions,
                counts.failures,
                counts.started,
                counts.repeated,
                counts.finished
            );
            last = Some(counts);
        }
        if let Some(complaint) = swarm.complaint() {
            eprintln!("{complaint}");
        }
        std::thread::park_timeout(Duration::from_secs(1));
    }
    Ok(())
}

/// A part of the swarm in each of several processes, because one has only so many descriptors.
fn spread(args: &Args, processes: usize) -> anyhow::Result<()> {
    let each = args.agents.div_ceil(processes);
    let me = std::env::current_exe()?;
    let mut children: Vec<Child> = Vec::new();
    for part in 0..processes {
        let first = args.first + part * each;
        let agents = each.min((args.first + args.agents).saturating_sub(first));
        if agents == 0 {
            break;
        }
        let mut command = Command::new(&me);
        command
            .args(["--url", &args.url, "--prefix", &args.prefix, "--processes", "1"])
            .args(["--agents", &agents.to_string(), "--first", &first.to_string()])
            .args(["--output", &args.output.to_string(), "--delay", &args.delay.to_string()])
            .args(["--threads", &args.threads.to_string()])
            // Not among the arguments: everybody may read those.
            .env("REEVE_JOIN_TOKEN", &args.token)
            .stdout(Stdio::piped());
        if args.hasty {
            command.arg("--hasty");
        }
        if let Some(keys) = &args.keys {
            command.arg("--keys").arg(keys.with_added_extension(part.to_string()));
        }
        if let Some(seconds) = args.seconds {
            command.args(["--for", &seconds.to_string()]);
        }
        children.push(command.spawn().context("starting a part of the swarm")?);
    }
    std::thread::scope(|scope| {
        for (part, child) in children.iter_mut().enumerate() {
            let Some(lines) = child.stdout.take() else { continue };
            scope.spawn(move || {
                for line in BufReader::new(lines).lines().map_while(Result::ok) {
                    println!("{part}: {line}");
                }
            });
        }
    });
    for child in &mut children {
        ensure!(child.wait()?.success(), "a part of the swarm failed");
    }
    Ok(())
}
