//! System calls on files that fail while the agent or the coordinator starts: it comes up all the same,
//! or ends with a word about why and comes up when it is started again; and what was there is there.
//!
//! A few from a seed that is printed; all with `REEVE_SYSCALL_FAULTS=all`, one with
//! `REEVE_SYSCALL_FAULTS=agent:write:EIO:3+1`, as in `syscall_faults.rs`.

use std::collections::BTreeSet;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use reeve_sdk::api::MachineState;
use reeve_tests::{Agent, Cluster, Database, Injector, SyscallFault, eventually, require_root};

const LIMIT: Duration = Duration::from_secs(60);
const PROGRAMS: [&str; 2] = ["coordinator", "agent"];

/// How many of a story of a few.
const SAMPLE: usize = 6;

/// Of each sort of call the first so many are tried when all are.
const DEEP: u64 = 6;

/// A fault that never comes: it only counts.
const NEVER: u64 = u64::MAX / 2;

struct Stage {
    cluster: Cluster,
    web: Agent,
    /// A job of before, and what it wrote.
    job: String,
}

/// What came of a start.
struct Told {
    counted: u64,
    hit: bool,
    /// It ended, and was started again as systemd would.
    ended: bool,
}

impl Stage {
    fn new() -> Self {
        let cluster = Cluster::builder().database(Database::Sqlite).start();
        let web = cluster.agent("web-1").start();
        let words = ["run", "web-1", "--shell", "seq 1 30000; exit 4"];
        cluster.reeve(words).expect_code(4);
        let job = cluster.last_operation().job_id.to_string();
        Self { cluster, web, job }
    }

    fn tell(&mut self, fault: &SyscallFault) -> Told {
        let of_agent = fault.of == "agent";
        let before = if of_agent {
            self.web.stop();
            eventually("it is seen to be gone", LIMIT, || {
                self.web.machine().state != MachineState::Online
            });
            self.web.start_held();
            self.web.log()
        } else {
            self.cluster.coordinator.stop(LIMIT);
            self.cluster.coordinator.start_held();
            self.cluster.coordinator.log()
        };
        let (pid, under) = if of_agent {
            (self.web.pid(), self.web.state().to_owned())
        } else {
            (self.cluster.coordinator.pid(), self.cluster.coordinator.data().to_owned())
        };
        let injector = Injector::attach(&[pid], fault, &[&under], self.cluster.folder());
        kill(Pid::from_raw(pid), Signal::SIGCONT).expect("let it go on");
        let mut end = None;
        eventually("it is up, or has ended", LIMIT, || {
            end = if of_agent { self.web.find_end() } else { self.cluster.coordinator.find_end() };
            end.is_some()
                || if of_agent {
                    self.web.machine().state == MachineState::Online
                } else {
                    self.answers()
                }
        });
        let injected = injector.detach();
        if let Some(end) = end {
            assert_eq!(end.code(), Some(1), "{fault}: {end:?}, {:?}", injected.hits);
            let log = if of_agent { self.web.log() } else { self.cluster.coordinator.log() };
            let said = &log[before.len()..];
            assert!(!said.contains("panicked"), "{fault}: {said}");
            let last = said.lines().last().unwrap_or_default();
            assert!(last.starts_with("reeve-"), "{fault}: it ended without a word: {said}");
            println!("{fault}: {last}");
            self.web.start_if_ended();
        }
        if !of_agent {
            if end.is_some() {
                self.cluster.coordinator.start_if_ended();
            }
            self.cluster.coordinator.wait_until_up();
        }
        self.check(fault);
        Told { counted: injected.counted, hit: !injected.hits.is_empty(), ended: end.is_some() }
    }

    fn answers(&self) -> bool {
        let api = &self.cluster.guest;
        api.send(reqwest::Method::GET, "/readyz", &[], Vec::new())
            .is_ok_and(|answer| answer.status == 200)
    }

    /// All is as it was, and goes on.
    fn check(&self, fault: &SyscallFault) {
        self.web.wait_until(MachineState::Online);
        let run = self.cluster.reeve(["run", "web-1", "--wait", "30s", "--", "echo", "ok"]);
        assert!(run.code == 0 && run.text() == "ok\n", "{fault}: {run}");
        let old = self.cluster.reeve(["jobs", "output", &self.job]);
        let expected: String = (1..=30_000).map(|number| format!("{number}\n")).collect();
        assert!(old.code == 0 && old.text() == expected, "{fault}: {} bytes", old.stdout.len());
        let audit = self.cluster.reeve(["audit", "verify"]);
        assert_eq!(audit.code, 0, "{fault}: {audit}");
    }
}

fn every(stage: &mut Stage) -> Vec<SyscallFault> {
    let mut faults = Vec::new();
    for of in PROGRAMS {
        for call in SyscallFault::CALLS {
            let never = SyscallFault { of, call, error: "EIO", at: NEVER, times: 1 };
            let calls = stage.tell(&never).counted;
            println!("{of}: {calls} calls of {call}");
            for at in 1..=calls.min(DEEP) {
                // A full disk is seldom full for one write.
                let all = [("ENOSPC", 3), ("EIO", 1), ("EINTR", 1)];
                let chosen = all.into_iter().enumerate();
                let chosen = chosen.filter(|(number, _)| at == 1 || at % 3 == *number as u64);
                faults.extend(chosen.map(|(_, (error, times))| SyscallFault {
                    of,
                    call,
                    error,
                    at,
                    times,
                }));
            }
        }
    }
    faults
}

fn some() -> Vec<SyscallFault> {
    let seed = std::env::var("REEVE_TEST_SEED")
        .map_or_else(|_| rand::random(), |text| text.parse().expect("a number"));
    println!("REEVE_TEST_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let calls = ["write", "open", "sync", "truncate"];
    let mut faults: Vec<SyscallFault> = (0..SAMPLE - 1)
        .map(|number| SyscallFault {
            of: PROGRAMS[number % PROGRAMS.len()],
            call: calls[random.random_range(0..calls.len())],
            error: SyscallFault::ERRORS[random.random_range(0..SyscallFault::ERRORS.len())],
            at: random.random_range(1..4),
            times: 1,
        })
        .collect();
    // One that certainly comes.
    faults.push(SyscallFault { of: "agent", call: "open", error: "EIO", at: 1, times: 1 });
    faults
}

#[test]
fn start_in_which_a_system_call_fails_is_good_or_says_why_and_the_next_one_is_good() {
    require_root("another user's processes may be traced by root only");
    let mut stage = Stage::new();
    let wanted = std::env::var("REEVE_SYSCALL_FAULTS").unwrap_or_default();
    let faults = match wanted.as_str() {
        "" => some(),
        "all" => every(&mut stage),
        list => list.split(',').map(|text| SyscallFault::parse(text, &PROGRAMS)).collect(),
    };
    let (mut told, mut hits, mut ended) = (0, BTreeSet::new(), 0);
    let mut count = 0;
    for fault in faults {
        let one = stage.tell(&fault);
        println!("{fault}: hit {}, ended {}", one.hit, one.ended);
        told += 1;
        ended += u32::from(one.ended);
        if one.hit {
            count += 1;
            hits.insert(format!("{}:{}", fault.of, fault.call));
        }
    }
    println!("{told} starts, {count} with a fault that happened, {ended} ended by it, in {hits:?}");
    assert!(count > 0, "no fault happened: nothing was shown");
}
