//! What a run will do, made from its seed alone: the same seed makes the same plan.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use reeve_tests::proxy::{Direction, Fault};
use reeve_tests::{Containment, Database};
use serde_json::json;

use crate::work::End;

/// A run's plan.
pub struct Plan {
    /// What the coordinator keeps its records in.
    pub database: Database,
    /// The machines.
    pub machines: Vec<Containment>,
    /// In which order, with the pause before each in milliseconds.
    pub steps: Vec<(u64, Step)>,
    /// Whether the coordinator is killed once more after everything has ended, and everything is
    /// checked against what it then knows.
    pub check_again: bool,
}

/// One thing the driver does.
#[derive(Clone, Debug)]
pub enum Step {
    /// Somebody asks for a job.
    Ask(JobPlan),
    /// Something goes wrong.
    Strike(Blow),
}

/// A job to ask for.
#[derive(Clone, Debug)]
pub struct JobPlan {
    /// Its number, from 0.
    pub number: usize,
    /// On which machine; `None` means all.
    pub machine: Option<usize>,
    /// Bytes to stdout, to stderr.
    pub output: [u64; 2],
    /// Over how long.
    pub millis: u64,
    /// Bytes to stdin, which come back on stdout.
    pub fed: Option<u64>,
    /// Leaves children behind.
    pub children: bool,
    /// Does not hear TERM, INT and HUP.
    pub deaf: bool,
    /// Is not there at all.
    pub missing: bool,
    /// How it ends.
    pub end: End,
    /// Its time limit.
    pub timeout_ms: Option<u64>,
    /// May wait for its machine.
    pub waits: bool,
    /// Somebody watches the output as it comes, through the person's proxy.
    pub watched: bool,
    /// Somebody asks for its end, so long after it was acknowledged.
    pub cancel_after: Option<u64>,
    /// Its request is sent twice at the same time.
    pub twice: bool,
    /// What its bytes are made from.
    pub seed: u64,
}

/// Something that goes wrong. Times in milliseconds.
#[derive(Clone, Debug)]
pub enum Blow {
    /// SIGKILL to an agent, and a new one after a while.
    KillAgent { machine: usize, absent: u64 },
    /// SIGTERM to an agent, and a new one after a while.
    StopAgent { machine: usize, absent: u64 },
    /// SIGSTOP, SIGCONT.
    PauseAgent { machine: usize, pause: u64 },
    /// SIGKILL to the keeper of a running command.
    KillKeeper { machine: usize, agent_too: bool },
    /// SIGSTOP, SIGCONT to all its keepers.
    PauseKeepers { machine: usize, pause: u64 },
    /// SIGKILL to everything, and another boot id.
    Reboot { machine: usize, absent: u64 },
    /// SIGKILL.
    KillCoordinator { absent: u64 },
    /// SIGTERM.
    StopCoordinator { absent: u64 },
    /// SIGSTOP, SIGCONT.
    PauseCoordinator { pause: u64 },
    /// Coordinator and an agent are killed together.
    KillBoth { machine: usize, absent: u64 },
    /// A machine's connections are reset.
    CutMachine { machine: usize },
    /// A machine's connections are reset and refused for a while.
    BarMachine { machine: usize, absent: u64 },
    /// A machine's connection ends at a byte.
    TrapMachine { machine: usize, direction: Direction, bytes: u64, fault: Fault },
    /// Nothing passes for a while.
    FreezeMachine { machine: usize, pause: u64 },
    /// Everything of a machine is slow from now on.
    SlowMachine { machine: usize, delay: u64, bytes_per_second: u64 },
    /// The connections of the people are reset.
    CutPerson,
    /// A person's connection ends at a byte.
    TrapPerson { direction: Direction, bytes: u64, fault: Fault },
    /// Nothing passes for a while.
    FreezePerson { pause: u64 },
    /// The database takes no writes, or is not there, for a while.
    LoseDatabase { pause: u64 },
}

impl Blow {
    /// The name under which it is counted.
    pub fn name(&self) -> &'static str {
        match self {
            Self::KillAgent { .. } => "agent killed",
            Self::StopAgent { .. } => "agent stopped and started",
            Self::PauseAgent { .. } => "agent paused",
            Self::KillKeeper { agent_too: false, .. } => "keeper killed",
            Self::KillKeeper { agent_too: true, .. } => "keeper and agent killed",
            Self::PauseKeepers { .. } => "keepers paused",
            Self::Reboot { .. } => "machine rebooted",
            Self::KillCoordinator { .. } => "coordinator killed",
            Self::StopCoordinator { .. } => "coordinator stopped and started",
            Self::PauseCoordinator { .. } => "coordinator paused",
            Self::KillBoth { .. } => "coordinator and agent killed",
            Self::CutMachine { .. } => "machine's connection reset",
            Self::BarMachine { .. } => "machine's network gone for a while",
            Self::TrapMachine { fault: Fault::Reset, .. } => "machine's connection reset at a byte",
            Self::TrapMachine { fault: Fault::Close, .. } => {
                "machine's connection closed at a byte"
            }
            Self::TrapMachine { fault: Fault::HalfClose, .. } => {
                "machine's connection half closed at a byte"
            }
            Self::TrapMachine { fault: Fault::BlackHole, .. } => {
                "machine's connection swallowed from a byte on"
            }
            Self::FreezeMachine { .. } => "machine's connection frozen",
            Self::SlowMachine { .. } => "machine's connection slow",
            Self::CutPerson => "person's connection reset",
            Self::TrapPerson { .. } => "person's connection ended at a byte",
            Self::FreezePerson { .. } => "person's connection frozen",
            Self::LoseDatabase { .. } => "database gone or locked",
        }
    }
}

impl Plan {
    /// The plan of a seed.
    pub fn from_seed(seed: u64) -> Self {
        let mut dice = StdRng::seed_from_u64(seed);
        let database = if dice.random_bool(0.3) { Database::Postgres } else { Database::Sqlite };
        let machines: Vec<Containment> =
            (0..dice.random_range(2..=3))
                .map(|_| {
                    if dice.random_bool(0.6) {
                        Containment::CgroupV2
                    } else {
                        Containment::Fallback
                    }
                })
                .collect();
        // Something long runs everywhere from first to last, so that every blow meets work.
        let mut jobs: Vec<(u64, Step)> = vec![(0, Step::Ask(carpet(&mut dice)))];
        for number in 1..dice.random_range(4..9) {
            let at = dice.random_range(100..2500);
            jobs.push((at, Step::Ask(job(&mut dice, number, machines.len()))));
        }
        let blows = dice.random_range(1..=4);
        for _ in 0..blows {
            // Some blows come just behind a request, to meet the first moments of an operation.
            let at = if dice.random_bool(0.4) {
                jobs[dice.random_range(1..jobs.len())].0 + dice.random_range(1..60)
            } else {
                dice.random_range(400..2800)
            };
            jobs.push((at.max(350), Step::Strike(blow(&mut dice, machines.len()))));
        }
        jobs.sort_by_key(|(at, _)| *at);
        let mut before = 0;
        let steps = jobs
            .into_iter()
            .map(|(at, step)| {
                let pause = at - before;
                before = at;
                (pause, step)
            })
            .collect();
        Self { database, machines, steps, check_again: dice.random_bool(0.3) }
    }

    /// In words, for the history.
    pub fn describe(&self) -> serde_json::Value {
        json!({
            "database": format!("{:?}", self.database),
            "machines": self.machines.iter().map(|c| format!("{c:?}")).collect::<Vec<_>>(),
            "steps": self.steps.iter().map(|(pause, step)| format!("+{pause} {step:?}")).collect::<Vec<_>>(),
        })
    }
}

fn carpet(dice: &mut StdRng) -> JobPlan {
    JobPlan {
        machine: None,
        output: [dice.random_range(200_000..1_500_000), dice.random_range(0..100_000)],
        millis: dice.random_range(3000..4500),
        watched: true,
        end: End::Exit(dice.random_range(0..3)),
        ..plain(dice, 0)
    }
}

fn plain(dice: &mut StdRng, number: usize) -> JobPlan {
    JobPlan {
        number,
        machine: None,
        output: [dice.random_range(0..3000), dice.random_range(0..500)],
        millis: dice.random_range(0..100),
        fed: None,
        children: false,
        deaf: false,
        missing: false,
        end: End::Exit(0),
        timeout_ms: None,
        waits: true,
        watched: dice.random_bool(0.4),
        cancel_after: None,
        twice: dice.random_bool(0.2),
        seed: dice.random(),
    }
}

fn job(dice: &mut StdRng, number: usize, machines: usize) -> JobPlan {
    let mut job = plain(dice, number);
    job.machine = dice.random_bool(0.8).then(|| dice.random_range(0..machines));
    job.waits = dice.random_bool(0.8);
    job.children = dice.random_bool(0.2);
    match dice.random_range(0..10) {
        // Short ones, of every ending.
        0 | 1 => job.end = End::Exit(dice.random_range(0..256)),
        // Not SEGV and BUS: Rust's own handlers for them let one that was sent pass.
        2 => job.end = End::Signal([1, 2, 3, 6, 9, 15][dice.random_range(0..6)]),
        3 => job.missing = true,
        // Long output.
        4 | 5 => {
            job.output = [dice.random_range(100_000..4_000_000), dice.random_range(0..1_000_000)];
            job.millis = dice.random_range(0..2500);
            job.end = End::Exit(dice.random_range(0..4));
        }
        // What is fed comes back.
        6 => {
            job.machine = Some(dice.random_range(0..machines));
            job.fed = Some(dice.random_range(0..1_000_000));
            job.end = End::Exit(dice.random_range(0..4));
        }
        // What does not end by itself.
        7 => {
            job.end = End::Never;
            job.deaf = dice.random_bool(0.5);
            job.timeout_ms = Some(dice.random_range(100..2000));
        }
        8 => {
            job.end = End::Never;
            job.deaf = dice.random_bool(0.5);
            job.millis = dice.random_range(0..500);
            job.output = [dice.random_range(0..300_000), dice.random_range(0..10_000)];
            job.cancel_after = Some(dice.random_range(0..1500));
        }
        // What might be over when somebody asks for its end.
        _ => {
            job.millis = dice.random_range(0..1000);
            job.cancel_after = Some(dice.random_range(0..1000));
            job.end = End::Exit(dice.random_range(0..2));
        }
    }
    job
}

fn blow(dice: &mut StdRng, machines: usize) -> Blow {
    let machine = dice.random_range(0..machines);
    let absent = dice.random_range(0..1200);
    let pause = dice.random_range(50..1500);
    let direction = if dice.random_bool(0.5) { Direction::Up } else { Direction::Down };
    let fault = match dice.random_range(0..8) {
        0..=2 => Fault::Reset,
        3 | 4 => Fault::Close,
        5 | 6 => Fault::HalfClose,
        _ => Fault::BlackHole,
    };
    match dice.random_range(0..22) {
        0 | 1 => Blow::KillAgent { machine, absent },
        2 => Blow::StopAgent { machine, absent },
        3 => Blow::PauseAgent { machine, pause },
        4 => Blow::KillKeeper { machine, agent_too: false },
        5 => Blow::KillKeeper { machine, agent_too: true },
        6 => Blow::PauseKeepers { machine, pause },
        7 | 8 => Blow::Reboot { machine, absent },
        9 | 10 => Blow::KillCoordinator { absent },
        11 => Blow::StopCoordinator { absent },
        12 => Blow::PauseCoordinator { pause },
        13 => Blow::KillBoth { machine, absent },
        14 => Blow::CutMachine { machine },
        15 => Blow::BarMachine { machine, absent: absent + 200 },
        16 | 17 => {
            let bytes = if direction == Direction::Up {
                dice.random_range(0..30_000)
            } else {
                dice.random_range(0..600)
            };
            Blow::TrapMachine { machine, direction, bytes, fault }
        }
        18 => Blow::FreezeMachine { machine, pause },
        19 => {
            if dice.random_bool(0.5) {
                Blow::SlowMachine {
                    machine,
                    delay: dice.random_range(1..150),
                    bytes_per_second: dice.random_range(200_000..5_000_000),
                }
            } else {
                Blow::CutPerson
            }
        }
        20 => {
            if dice.random_bool(0.7) {
                let bytes = if direction == Direction::Down {
                    dice.random_range(0..60_000)
                } else {
                    dice.random_range(0..500)
                };
                Blow::TrapPerson { direction, bytes, fault }
            } else {
                Blow::FreezePerson { pause }
            }
        }
        _ => Blow::LoseDatabase { pause },
    }
}
