//! System calls on files that fail, one after the other, in every program: never a false success,
//! never a second start, and it goes on by itself.
//!
//! A few from a seed that is printed; `REEVE_SYSCALL_FAULTS=all` takes calls of each sort in each program
//! in turn, `REEVE_SYSCALL_FAULTS=keeper:write:EIO:3+1` one (program, sort of call, error, which, how
//! many in a row).

use std::collections::BTreeSet;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use reeve_protocol::ops::PARTIAL_PREFIX;
use reeve_tests::{
    Agent, Cluster, Database, Injected, Injector, SyscallFault, eventually, processes, require_root,
};

const PROGRAMS: [&str; 4] = ["coordinator", "agent", "keeper", "worker"];

/// How many of a story of a few.
const SAMPLE: usize = 8;

/// Of each sort of call in each program, the first so many are tried when all are, and as many more
/// at even distances behind them.
const DEEP: u64 = 8;

/// What came of one story.
struct Told {
    injected: Injected,
    /// Of a command, of a copy to the machine and of one from it.
    codes: [i32; 3],
}

/// A machine, a coordinator, a file with known content, and a place where commands leave a mark.
struct Stage {
    cluster: Cluster,
    web: Agent,
    folder: PathBuf,
    data: Vec<u8>,
    /// Stories told on it.
    count: u32,
}

impl Stage {
    fn new() -> Self {
        let cluster = Cluster::builder().database(Database::Sqlite).start();
        let web = cluster.agent("web-1").start();
        let folder = cluster.folder().join("stage");
        let mut random = StdRng::seed_from_u64(7);
        let data: Vec<u8> = (0..300_000).map(|_| random.random()).collect();
        for name in ["starts", "here", "there"] {
            fs::create_dir_all(folder.join(name)).expect("a folder");
        }
        fs::write(folder.join("data"), &data).expect("written");
        Self { cluster, web, folder, data, count: 0 }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Tells one story. What is wrong with how it ended, if anything.
    fn tell(&mut self, fault: &SyscallFault) -> Result<Told, String> {
        self.count += 1;
        let name = format!("{}", self.count);
        let coordinator = fault.of == "coordinator";
        let mut pids =
            vec![if coordinator { self.cluster.coordinator.pid() } else { self.web.pid() }];
        if matches!(fault.of, "keeper" | "worker") {
            // What makes keepers.
            pids.extend(processes::descendants(self.web.pid()).iter().map(|process| process.pid));
        }
        let under = if coordinator {
            vec![self.cluster.coordinator.data().to_owned()]
        } else {
            vec![self.web.state().to_owned(), self.at("there")]
        };
        let under: Vec<&Path> = under.iter().map(PathBuf::as_path).collect();
        let injector = Injector::attach(&pids, fault, &under, self.cluster.folder());

        let mut wrong = Vec::new();
        let started = self.at("starts").join(&name);
        fs::create_dir(&started).expect("a folder");
        // The mark is a name of its own for each start; the command writes nothing but its output.
        let line = format!("mkdir {}/$$ && cat {}", started.display(), self.at("data").display());
        let run = self.cluster.reeve(["run", "web-1", "--wait", "30s", "--shell", &line]);
        let starts = || fs::read_dir(&started).expect("read").count();
        match run.code {
            0 if run.stdout != self.data => wrong.push(format!("a false success: {run}")),
            0 if starts() != 1 => wrong.push(format!("{} starts: {run}", starts())),
            0 | 255 => {}
            _ => wrong.push(format!("a code that the command did not have: {}", run.code)),
        }
        if !self.data.starts_with(&run.stdout) {
            wrong.push("output that the command did not write".to_owned());
        }

        let (here, there) = (self.at("here").join(&name), self.at("there").join(&name));
        fs::write(&here, &self.data).expect("written");
        let remote = format!("web-1:{}", there.display());
        let back = self.at("here").join(format!("{name}-back"));
        let copy = |from: &str, to: &str| self.cluster.reeve(["cp", from, to]);
        let (here_text, back_text) = (here.to_string_lossy(), back.to_string_lossy());
        let up = copy(&here_text, &remote);
        match fs::read(&there) {
            Ok(found) if found == self.data => {}
            Ok(found) => wrong.push(format!("{} bytes under the name: {up}", found.len())),
            Err(_) if up.code == 0 => wrong.push(format!("a false success: {up}")),
            Err(_) => {}
        }
        let down = copy(&format!("web-1:{}", self.at("data").display()), &back_text);
        match fs::read(&back) {
            Ok(found) if found == self.data => {}
            Ok(_) => wrong.push(format!("something else came: {down}")),
            Err(_) if down.code == 0 => wrong.push(format!("a false success: {down}")),
            Err(_) => {}
        }
        let injected = injector.detach();
        let codes = [run.code, up.code, down.code];
        if std::env::var_os("REEVE_SYSCALL_FAULTS").is_some() {
            println!("{fault}: {} calls, {:?}, codes {codes:?}", injected.counted, injected.hits);
            for finished in [&run, &up, &down].iter().filter(|finished| finished.code != 0) {
                println!("    {}", finished.stderr.trim_end());
            }
        }
        self.recover(&name, &mut wrong);
        if starts() > 1 {
            wrong.push(format!("started {} times", starts()));
        }
        if wrong.is_empty() {
            Ok(Told { injected, codes })
        } else {
            Err(format!("{:?}: {}", injected.hits, wrong.join("\n")))
        }
    }

    /// It has to go on without anybody's help, but for what systemd does.
    fn recover(&mut self, name: &str, wrong: &mut Vec<String>) {
        if self.web.start_if_ended() {
            println!("    the agent ended, and was started again as systemd would");
        }
        if self.cluster.coordinator.start_if_ended() {
            println!("    the coordinator ended, and was started again as systemd would");
        }
        let mut last = None;
        let works = catch_unwind(AssertUnwindSafe(|| {
            eventually("commands run again", Duration::from_secs(60), || {
                let run = self.cluster.reeve(["run", "web-1", "--wait", "20s", "--", "echo", "ok"]);
                let well = run.code == 0 && run.text() == "ok\n";
                last = Some(run);
                well
            });
        }));
        if works.is_err() {
            wrong.push(format!("no command runs any more: {}", last.expect("a run")));
            return;
        }
        let (here, there) = (self.at("here").join(name), self.at("there").join(name));
        let again = self.cluster.reeve([
            "cp",
            &here.to_string_lossy(),
            &format!("web-1:{}", there.display()),
        ]);
        if again.code != 0 || fs::read(&there).ok().as_ref() != Some(&self.data) {
            wrong.push(format!("the same copy fails afterwards: {again}"));
        }
        for folder in ["here", "there"] {
            for entry in fs::read_dir(self.at(folder)).expect("read") {
                let left = entry.expect("an entry").file_name();
                if left.to_string_lossy().starts_with(PARTIAL_PREFIX) {
                    wrong.push(format!("{} was left in {folder}", left.to_string_lossy()));
                }
            }
        }
        let _gone = fs::remove_file(&there);
        let _gone = fs::remove_file(&here);
        // Whatever was asked for has an end.
        let ended = catch_unwind(AssertUnwindSafe(|| {
            eventually("every operation has ended", Duration::from_secs(60), || {
                let jobs: reeve_sdk::api::Page<reeve_sdk::api::Job> =
                    self.cluster.api.load("/api/jobs?limit=20");
                jobs.items.iter().all(|job| {
                    self.cluster.operations(job.id).iter().all(|one| one.state.is_terminal())
                })
            });
            eventually("no keeper is left", Duration::from_secs(30), || {
                self.web.keepers().is_empty()
            });
        }));
        if ended.is_err() {
            wrong.push("an operation, or a keeper, has no end".to_owned());
        }
    }

    /// How many calls of a sort a program makes in a story, by trying one that never comes.
    fn count(&mut self, of: &'static str, call: &'static str) -> u64 {
        let never = SyscallFault { of, call, error: "EIO", at: u64::MAX / 2, times: 1 };
        self.tell(&never).expect("all is well without a fault").injected.counted
    }
}

/// Each call of each program, and for each number one error after the other; the first ones with all.
fn every(stage: &mut Stage) -> Vec<SyscallFault> {
    let mut faults = Vec::new();
    for of in PROGRAMS {
        for call in SyscallFault::CALLS {
            let calls = stage.count(of, call);
            println!("{of}: {calls} calls of {call}");
            let step = (calls.saturating_sub(DEEP) / DEEP).max(1);
            let behind = (DEEP + 1..=calls).step_by(usize::try_from(step).unwrap_or(1));
            for at in (1..=calls.min(DEEP)).chain(behind) {
                for (number, error) in SyscallFault::ERRORS.into_iter().enumerate() {
                    let chosen = at <= 2 || at % 3 == number as u64;
                    // A full disk is seldom full for one write.
                    let times = if error == "ENOSPC" && at % 2 == 0 { 3 } else { 1 };
                    if chosen {
                        faults.push(SyscallFault { of, call, error, at, times });
                    }
                }
            }
        }
    }
    faults
}

/// Some, from a seed.
fn some(seed: u64) -> Vec<SyscallFault> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut faults = Vec::new();
    let sorts = ["write", "sync", "rename", "open"];
    for number in 0..SAMPLE {
        faults.push(SyscallFault {
            of: PROGRAMS[number % PROGRAMS.len()],
            call: sorts[random.random_range(0..sorts.len())],
            error: SyscallFault::ERRORS[random.random_range(0..SyscallFault::ERRORS.len())],
            at: random.random_range(1..8),
            times: 1,
        });
    }
    faults.shuffle(&mut random);
    faults
}

#[test]
fn failing_system_calls_are_no_false_success_and_no_second_start() {
    require_root("another user's processes may be traced by root only");
    let mut stage = Stage::new();
    let wanted = std::env::var("REEVE_SYSCALL_FAULTS").unwrap_or_default();
    let faults = match wanted.as_str() {
        "" => {
            let seed = std::env::var("REEVE_TEST_SEED")
                .map_or_else(|_| rand::random(), |text| text.parse().expect("a number"));
            println!("REEVE_TEST_SEED={seed}");
            some(seed)
        }
        "all" => every(&mut stage),
        list => list.split(',').map(|text| SyscallFault::parse(text, &PROGRAMS)).collect(),
    };
    let mut hit = BTreeSet::new();
    let (mut told, mut hits) = (0, 0);
    let mut wrong = Vec::new();
    for fault in faults {
        // What a story left behind must not be held against the next one.
        match catch_unwind(AssertUnwindSafe(|| stage.tell(&fault))) {
            Ok(Ok(Told { injected, .. })) => {
                told += 1;
                if !injected.hits.is_empty() {
                    hits += 1;
                    hit.insert(format!("{}:{}", fault.of, fault.call));
                }
                continue;
            }
            Ok(Err(why)) => wrong.push(format!("{fault}: {why}")),
            Err(panic) => {
                let why = panic
                    .downcast_ref::<String>()
                    .cloned()
                    .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
                    .unwrap_or_default();
                wrong.push(format!("{fault}: {why}"));
            }
        }
        println!("WRONG {}", wrong.last().expect("just pushed"));
        stage = Stage::new();
    }
    println!("{told} stories, {hits} with a fault that happened, in {hit:?}");
    assert!(wrong.is_empty(), "{} went wrong:\n{}", wrong.len(), wrong.join("\n\n"));
    assert!(hits > 0, "no fault happened: nothing was shown");
}

/// Each of these has to happen, and nobody may notice.
fn nobody_notices(faults: &[&str]) {
    require_root("another user's processes may be traced by root only");
    let mut stage = Stage::new();
    for fault in faults.iter().map(|text| SyscallFault::parse(text, &PROGRAMS)) {
        let told = stage.tell(&fault).unwrap_or_else(|why| panic!("{fault}: {why}"));
        assert!(!told.injected.hits.is_empty(), "{fault} did not happen");
        assert_eq!(told.codes, [0; 3], "{fault}: {:?}", told.injected.hits);
    }
}

/// Only some file systems are interrupted (those over networks, FUSE), but then at any call.
#[test]
fn interrupted_calls_are_made_again() {
    nobody_notices(&[
        "agent:rename:EINTR:1",
        "keeper:write:EINTR:2",
        "keeper:open:EINTR:1",
        "keeper:open:EINTR:5",
        "worker:sync:EINTR:2",
        "worker:rename:EINTR:1",
        "worker:open:EINTR:8",
        "worker:truncate:EINTR:2",
    ]);
}

#[test]
fn disk_that_fails_for_a_moment_costs_a_running_command_nothing() {
    nobody_notices(&["keeper:write:EIO:2+3", "keeper:write:EIO:4", "keeper:open:EIO:5"]);
}
