//! Many runs, each a process of its own, and what came of them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::ask::lock;
use crate::check;
use crate::history::History;
use crate::plan::Plan;
use crate::world::World;

/// A run that takes longer hangs.
const RUN_LIMIT: Duration = Duration::from_secs(300);

/// Characters of a violation that are shown; the history has the rest.
const LONGEST: usize = 500;

/// Exit codes of a run.
const GOOD: i32 = 0;
const VIOLATED: i32 = 1;
const NOT_COUNTED: i32 = 3;

/// What to do for how long.
pub struct Campaign {
    seconds: u64,
    runs: u64,
    seed: u64,
    parallel: usize,
    folder: PathBuf,
}

/// What a run says of itself, in its last line of history.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Outcome {
    violations: Vec<String>,
    faults: Vec<(String, bool)>,
    operations: u64,
    states: BTreeMap<String, u64>,
    bytes: u64,
    database: String,
}

/// What a campaign adds up to.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Summary {
    seed: u64,
    first: u64,
    last: u64,
    runs: u64,
    counted: u64,
    not_counted: u64,
    violated: u64,
    /// By name, in counted runs.
    faults: BTreeMap<String, u64>,
    operations: u64,
    states: BTreeMap<String, u64>,
    bytes: u64,
    databases: BTreeMap<String, u64>,
    seconds: u64,
    violations: BTreeMap<u64, Vec<String>>,
}

/// The seed of a run.
fn seed_of(seed: u64, number: u64) -> u64 {
    u64::from_le_bytes(
        crate::work::bytes(seed, number * 8, number * 8 + 8).try_into().unwrap_or_default(),
    )
}

/// One run in this process; its exit code.
pub fn run_here(seed: u64, number: u64, folder: &Path) -> anyhow::Result<i32> {
    fs::create_dir_all(folder)?;
    let history = History::create(&folder.join(format!("{number}.jsonl")))?;
    let plan = Plan::from_seed(seed_of(seed, number));
    history.note(json!({"seed": seed, "run": number, "plan": plan.describe()}));
    let mut world = World::start(&plan, history.clone());
    let lived = world.live(&plan);
    let mut outcome = Outcome {
        violations: Vec::new(),
        faults: world.fired.clone(),
        operations: 0,
        states: BTreeMap::new(),
        bytes: 0,
        database: format!("{:?}", plan.database),
    };
    match lived {
        Err(error) => outcome.violations.push(format!("{error:#}")),
        Ok(asked) => {
            world.wait_for_rest(&asked);
            let violations = check::check(&mut world, &asked, plan.check_again);
            outcome.violations = violations.0;
            for job in &asked {
                for operation in world.cluster.operations(job.job.id) {
                    outcome.operations += 1;
                    outcome.bytes += operation.output.all;
                    *outcome.states.entry(operation.state.as_str().to_owned()).or_default() += 1;
                }
            }
        }
    }
    history.note(json!({"outcome": outcome}));
    for violation in &outcome.violations {
        println!("seed {seed}, run {number}: {violation}");
    }
    if !outcome.violations.is_empty() {
        keep_logs(&world, &folder.join(format!("{number}.logs")));
        return Ok(VIOLATED);
    }
    let counts = outcome.faults.iter().all(|(_, fired)| *fired);
    Ok(if counts { GOOD } else { NOT_COUNTED })
}

fn keep_logs(world: &World, folder: &Path) {
    let copy = || -> std::io::Result<()> {
        fs::create_dir_all(folder)?;
        fs::copy(world.cluster.coordinator.log_path(), folder.join("coordinator.log"))?;
        for agent in &world.agents {
            fs::write(folder.join(format!("{}.log", agent.name())), agent.log())?;
        }
        Ok(())
    };
    if let Err(error) = copy() {
        eprintln!("the logs could not be kept: {error}");
    }
}

impl Campaign {
    /// What the command line says; `None` when it makes no sense.
    pub fn from_words(words: &[&str]) -> Option<Self> {
        let mut campaign = Self {
            seconds: 60,
            runs: u64::MAX,
            seed: rand::random(),
            parallel: 1,
            folder: PathBuf::from("target/soak"),
        };
        for pair in words.chunks(2) {
            let [name, value] = pair else { return None };
            match *name {
                "--seconds" => campaign.seconds = value.parse().ok()?,
                "--runs" => campaign.runs = value.parse().ok()?,
                "--seed" => campaign.seed = value.parse().ok()?,
                "--parallel" => campaign.parallel = value.parse().ok()?,
                "--folder" => campaign.folder = PathBuf::from(value),
                _ => return None,
            }
        }
        Some(campaign)
    }

    /// Runs until the time is up, and says what came of it; whether all is well.
    pub fn run(self) -> anyhow::Result<bool> {
        let folder = self.folder.join(self.seed.to_string());
        fs::create_dir_all(&folder).context("make the folder of the histories")?;
        println!("SEED={} in {}", self.seed, folder.display());
        let start = Instant::now();
        // A campaign of the same seed goes on where the one before stopped.
        let first = (0..).find(|n| !folder.join(format!("{n}.jsonl")).exists()).unwrap_or(0);
        let next = AtomicU64::new(first);
        let summary = Mutex::new(Summary { seed: self.seed, first, ..Summary::default() });
        std::thread::scope(|scope| {
            for _ in 0..self.parallel {
                scope.spawn(|| {
                    while start.elapsed() < Duration::from_secs(self.seconds) {
                        let number = next.fetch_add(1, Ordering::SeqCst);
                        if number - first >= self.runs {
                            break;
                        }
                        let verdict = run_apart(self.seed, number, &folder);
                        let mut summary = lock(&summary);
                        summary.add(number, verdict, &folder);
                        summary.seconds = start.elapsed().as_secs();
                        summary.write(&self.folder);
                    }
                });
            }
        });
        let summary = lock(&summary).clone();
        println!("{}", serde_json::to_string_pretty(&summary)?);
        Ok(summary.violated == 0 && summary.counted > 0)
    }
}

/// A run in a process of its own; its exit code, and what it said.
fn run_apart(seed: u64, number: u64, folder: &Path) -> (i32, String) {
    let output = folder.join(format!("{number}.out"));
    let started = std::env::current_exe().and_then(|me| {
        let file = fs::File::create(&output)?;
        Command::new(me)
            .args(["run", &seed.to_string(), &number.to_string()])
            .arg(folder)
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
    });
    let mut child = match started {
        Ok(child) => child,
        Err(error) => return (VIOLATED, format!("the run could not be started: {error}")),
    };
    let start = Instant::now();
    let code = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status.code().unwrap_or(VIOLATED),
            Ok(None) if start.elapsed() < RUN_LIMIT => {
                std::thread::sleep(Duration::from_millis(50))
            }
            _ => {
                let _gone = child.kill();
                let _gone = child.wait();
                break VIOLATED;
            }
        }
    };
    let said = fs::read(&output).unwrap_or_default();
    if code != VIOLATED && code < 100 {
        let _gone = fs::remove_file(&output);
    }
    (code, String::from_utf8_lossy(&said).into_owned())
}

impl Summary {
    fn add(&mut self, number: u64, (code, said): (i32, String), folder: &Path) {
        self.runs += 1;
        self.last = self.last.max(number);
        let outcome = fs::read_to_string(folder.join(format!("{number}.jsonl"))).ok();
        let outcome = outcome.as_deref().and_then(|text| text.lines().last()).and_then(|line| {
            let mut line: serde_json::Value = serde_json::from_str(line).ok()?;
            serde_json::from_value::<Outcome>(line["outcome"].take()).ok()
        });
        let word = match code {
            GOOD => "good",
            NOT_COUNTED => "not counted: a fault met nothing",
            _ => "VIOLATED",
        };
        println!("run {number}: {word}");
        match (code, outcome) {
            (GOOD, Some(outcome)) => {
                self.counted += 1;
                for (name, _) in outcome.faults {
                    *self.faults.entry(name).or_default() += 1;
                }
                for (state, count) in outcome.states {
                    *self.states.entry(state).or_default() += count;
                }
                self.operations += outcome.operations;
                self.bytes += outcome.bytes;
                *self.databases.entry(outcome.database).or_default() += 1;
            }
            (NOT_COUNTED, _) => self.not_counted += 1,
            (_, outcome) => {
                self.violated += 1;
                let mut what = outcome.map(|outcome| outcome.violations).unwrap_or_default();
                if what.is_empty() {
                    what = said.lines().rev().take(30).map(ToOwned::to_owned).collect();
                    what.reverse();
                }
                for line in &mut what {
                    *line = line.chars().take(LONGEST).collect();
                    println!("{line}");
                }
                self.violations.insert(number, what);
            }
        }
    }

    fn write(&self, folder: &Path) {
        let file = folder.join(format!("{}.json", self.seed));
        let text = serde_json::to_vec_pretty(self).unwrap_or_default();
        if let Err(error) = fs::write(&file, text) {
            eprintln!("{} could not be written: {error}", file.display());
        }
    }
}
