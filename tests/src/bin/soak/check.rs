//! What has to be true after a run, whatever happened in it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::Duration;

use reeve_protocol::OperationId;
use reeve_sdk::api::{AuditEntry, AuditVerdict, Operation, OperationState, Page};
use reeve_tests::{eventually, processes};
use serde_json::json;
use sha2::Digest;

use crate::ask::{Asked, ends_by_itself, expected};
use crate::work::{self, Account, End};
use crate::world::World;

/// How long what is killed may take to be gone.
const GONE: Duration = Duration::from_secs(15);

/// What was found to be wrong; empty is good.
#[derive(Default)]
pub struct Violations(pub Vec<String>);

impl Violations {
    fn claim(&mut self, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            self.0.push(what());
        }
    }
}

/// One operation as the coordinator tells it, with its output.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Told {
    state: OperationState,
    exit_code: Option<i32>,
    signal: Option<i32>,
    reason: Option<String>,
    lengths: [u64; 2],
    sums: [String; 2],
}

/// Checks everything.
pub fn check(world: &mut World, asked: &[Asked], again: bool) -> Violations {
    let mut violations = Violations::default();
    let starts = starts(world);
    let mut first = BTreeMap::new();
    let mut known = BTreeSet::new();
    for job in asked {
        let operations = world.cluster.operations(job.job.id);
        let machines = if job.plan.machine.is_some() { 1 } else { world.agents.len() };
        violations.claim(operations.len() == machines, || {
            format!(
                "job {} has {} operations for {machines} machines",
                job.plan.number,
                operations.len()
            )
        });
        for operation in &operations {
            known.insert(operation.id.to_string());
            let told = tell(world, operation, &mut violations);
            check_operation(world, job, operation, &told.1, &starts, &mut violations);
            first.insert(operation.id, told.0);
        }
    }
    for (id, count) in &starts {
        violations.claim(known.contains(id), || {
            format!("operation {id} started {count} times and nobody was told of it")
        });
    }
    check_audit(world, asked, &mut violations);
    check_leftovers(world, &known, &mut violations);
    check_logs(world, &mut violations);
    if again {
        world.history.note(json!({"did": "kill the coordinator once more, and check again"}));
        world.cluster.coordinator.kill9();
        world.cluster.coordinator.start();
        for job in asked {
            for operation in world.cluster.operations(job.job.id) {
                let now = tell(world, &operation, &mut violations).0;
                let before = first.get(&operation.id);
                violations.claim(before == Some(&now), || {
                    format!("{} was {before:?} and is {now:?} after a restart", operation.id)
                });
            }
        }
        check_audit(world, asked, &mut violations);
    }
    violations
}

/// How often each operation started, by its own marks.
fn starts(world: &World) -> BTreeMap<String, u32> {
    let mut starts = BTreeMap::new();
    for line in fs::read_to_string(work::starts_file(&world.accounts)).unwrap_or_default().lines() {
        *starts.entry(line.to_owned()).or_default() += 1;
    }
    starts
}

fn tell(world: &World, operation: &Operation, violations: &mut Violations) -> (Told, [Vec<u8>; 2]) {
    let read = |stream: &str| {
        let path = format!("/api/operations/{}/output?stream={stream}&from=0", operation.id);
        world.cluster.api.get(&path)
    };
    let streams = ["stdout", "stderr"].map(|stream| {
        let answer = read(stream);
        assert_eq!(answer.status, 200, "{answer}");
        answer.body
    });
    let all = read("all").body.len() as u64;
    let lengths = [streams[0].len() as u64, streams[1].len() as u64];
    let info = &operation.output;
    // A list does not say what is missing.
    let whole: Operation = world.cluster.api.load(&format!("/api/operations/{}", operation.id));
    let gaps = whole.output.gaps;
    violations.claim(gaps == Some(Vec::new()), || format!("{} has gaps: {gaps:?}", operation.id));
    violations.claim(
        (info.stdout, info.stderr, info.all, all)
            == (lengths[0], lengths[1], lengths[0] + lengths[1], info.all),
        || format!("{}: {info:?}, but there are {lengths:?} and {all} bytes", operation.id),
    );
    let told = Told {
        state: operation.state,
        exit_code: operation.exit_code,
        signal: operation.signal,
        reason: operation.reason.as_ref().map(|reason| reason.code.clone()),
        lengths,
        sums: [work::sha256(&streams[0]), work::sha256(&streams[1])],
    };
    world.history.note(json!({
        "operation": operation.id, "machine": operation.machine, "state": told.state,
        "exit": told.exit_code, "signal": told.signal, "reason": told.reason,
        "bytes": told.lengths, "sha256": [&told.sums[0][..16], &told.sums[1][..16]],
    }));
    (told, streams)
}

#[allow(clippy::too_many_lines)]
fn check_operation(
    world: &World,
    job: &Asked,
    operation: &Operation,
    streams: &[Vec<u8>; 2],
    starts: &BTreeMap<String, u32>,
    violations: &mut Violations,
) {
    let id = operation.id.to_string();
    let plan = &job.plan;
    let who = || format!("job {} on {}, operation {id}", plan.number, operation.machine);
    let state = operation.state;
    let started = starts.get(&id).copied().unwrap_or_default();
    violations.claim(started <= 1, || format!("{} started {started} times", who()));
    let account: Option<Account> = fs::read(work::account_file(&world.accounts, &id))
        .ok()
        .and_then(|bytes| serde_json::from_slice(&bytes).ok());

    // Where it ended, and whether that may be.
    let lost_allowed = world.keepers_killed.contains(&id)
        || world.reboots.iter().any(|(machine, at)| {
            // Also what was sent later, while nobody knew of the reboot.
            operation.machine == format!("m{machine}")
                && operation.finished.is_none_or(|finished| finished.as_micros() >= *at)
        });
    let late_allowed = !plan.waits;
    let own_end = match plan.end {
        _ if plan.missing => (OperationState::Failed, Some(127), None),
        End::Exit(0) => (OperationState::Succeeded, Some(0), None),
        End::Exit(code) => (OperationState::Failed, Some(code), None),
        End::Signal(signal) => (OperationState::Failed, None, Some(signal)),
        End::Never => (OperationState::Lost, None, None),
    };
    let offline = operation.reason.as_ref().is_some_and(|reason| reason.code == "machine_offline");
    let may_be = match state {
        OperationState::Succeeded | OperationState::Failed if !offline => {
            ends_by_itself(plan) && (state, operation.exit_code, operation.signal) == own_end
        }
        OperationState::Cancelled => job.cancelled,
        OperationState::TimedOut => plan.timeout_ms.is_some(),
        OperationState::Lost => lost_allowed,
        OperationState::Expired | OperationState::Refused | OperationState::Failed => late_allowed,
        _ => false,
    };
    violations.claim(may_be, || {
        format!(
            "{} is {state:?} (exit {:?}, signal {:?}, reason {:?}), which cannot be after {plan:?}",
            who(),
            operation.exit_code,
            operation.signal,
            operation.reason
        )
    });

    // Whether it started.
    let ran_by_itself =
        matches!(state, OperationState::Succeeded | OperationState::Failed) && !offline;
    if ran_by_itself && !plan.missing {
        violations.claim(started == 1, || format!("{} is {state:?} and never started", who()));
        violations.claim(account.as_ref().is_some_and(|account| account.end == plan.end), || {
            format!("{} is {state:?}, and its command's own account is {account:?}", who())
        });
    }
    if matches!(state, OperationState::Expired | OperationState::Refused) || offline {
        violations.claim(started == 0, || format!("{} is {state:?}, and it started", who()));
    }

    // Its output.
    let wanted = expected(plan);
    let written = progress(world, &id);
    for (index, name) in ["stdout", "stderr"].into_iter().enumerate() {
        let kept = &streams[index];
        let seed = if index == 0 { plan.seed } else { work::stderr_seed(plan.seed) };
        if plan.missing {
            violations.claim(kept.is_empty(), || format!("{}: {name} from nothing", who()));
            continue;
        }
        violations.claim(kept.len() as u64 <= wanted[index].0, || {
            format!(
                "{}: {} bytes of {name}, {} at most were written",
                who(),
                kept.len(),
                wanted[index].0
            )
        });
        violations.claim(*kept == work::bytes(seed, 0, kept.len() as u64), || {
            format!("{}: {name} is not what was written", who())
        });
        if state != OperationState::Lost && !offline {
            violations.claim(kept.len() as u64 >= written[index], || {
                format!(
                    "{} is {state:?}: {} bytes of {name} are kept, {} were written",
                    who(),
                    kept.len(),
                    written[index]
                )
            });
        }
        if let (true, Some(account)) = (ran_by_itself, &account) {
            let own = if index == 0 {
                (account.stdout, &account.stdout_sha256)
            } else {
                (account.stderr, &account.stderr_sha256)
            };
            violations.claim(own == (kept.len() as u64, &work::sha256(kept)), || {
                format!(
                    "{}: {} bytes of {name} are kept, its command's sum is {own:?}",
                    who(),
                    kept.len()
                )
            });
            violations
                .claim(plan.fed.is_some() || own == (wanted[index].0, &wanted[index].1), || {
                    format!("{}: its command wrote {own:?} to {name}", who())
                });
        }
    }

    // What was fed arrived whole, when nobody ended it before.
    if let (true, Some(size)) = (ran_by_itself, plan.fed) {
        violations.claim(streams[0].len() as u64 == size, || {
            format!("{} was fed {size} bytes and gave back {}", who(), streams[0].len())
        });
    }

    // What a watcher was shown is what is kept.
    if let Some(shown) = &job.shown {
        check_shown(shown.get(&operation.id), operation.id, state, streams, violations);
    }
}

fn check_shown(
    shown: Option<&crate::ask::Shown>,
    id: OperationId,
    state: OperationState,
    streams: &[Vec<u8>; 2],
    violations: &mut Violations,
) {
    let Some(shown) = shown else {
        violations.0.push(format!("{id}: a watcher was never told of it"));
        return;
    };
    violations.claim(shown.told == Some(state), || {
        format!("{id} is {state:?}, a watcher was told {:?}", shown.told)
    });
    for (index, kept) in streams.iter().enumerate() {
        let sum: String =
            shown.sums[index].clone().finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        let same = shown.lengths[index] == kept.len() as u64 && sum == work::sha256(kept);
        violations.claim(same, || {
            format!(
                "{id}: a watcher was shown {} bytes of stream {index}, {} are kept, or others",
                shown.lengths[index],
                kept.len()
            )
        });
    }
}

/// How much the command's writes had brought out.
fn progress(world: &World, id: &str) -> [u64; 2] {
    let mut bytes = fs::read(work::progress_file(&world.accounts, id)).unwrap_or_default();
    bytes.resize(16, 0);
    let number = |from: usize| {
        let mut eight = [0; 8];
        eight.copy_from_slice(&bytes[from..from + 8]);
        u64::from_le_bytes(eight)
    };
    [number(0), number(8)]
}

/// The chain is whole, and each job was recorded once.
fn check_audit(world: &World, asked: &[Asked], violations: &mut Violations) {
    let verdict: AuditVerdict = world.cluster.api.load("/api/audit/verify");
    violations.claim(verdict.intact, || format!("the audit chain is broken: {verdict:?}"));
    let page: Page<AuditEntry> = world.cluster.api.load("/api/audit?action=job.create&limit=1000");
    violations.claim(page.items.len() == asked.len(), || {
        format!("{} jobs were acknowledged, the audit has {}", asked.len(), page.items.len())
    });
}

/// Nothing of what has ended is left: no process, no keeper, no folder.
fn check_leftovers(world: &World, known: &BTreeSet<String>, violations: &mut Violations) {
    let left = || -> Vec<String> {
        let marks: Vec<String> = known.iter().map(|id| format!("REEVE_OPERATION={id}")).collect();
        processes::list()
            .into_iter()
            .filter(|process| process.environment.iter().any(|entry| marks.contains(entry)))
            .map(|process| format!("{} {}", process.pid, process.command_line()))
            .collect()
    };
    let caught = std::panic::catch_unwind(|| {
        eventually("no process of what has ended is left", GONE, || left().is_empty());
    });
    violations.claim(caught.is_ok(), || format!("processes are left: {:?}", left()));
    for agent in &world.agents {
        let folders = || -> Vec<String> {
            let listed = fs::read_dir(agent.state().join("operations")).into_iter().flatten();
            listed
                .flatten()
                .map(|entry| entry.file_name().to_string_lossy().into_owned())
                .filter(|name| known.contains(name))
                .collect()
        };
        let clean = || agent.keepers().is_empty() && folders().is_empty();
        let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            eventually("the machine has forgotten what has ended", GONE, clean);
        }));
        violations.claim(caught.is_ok(), || {
            let keepers: Vec<String> = agent.keepers().iter().map(|k| k.command_line()).collect();
            format!("{} keeps {:?} and {keepers:?}", agent.name(), folders())
        });
    }
}

/// Nobody panicked.
fn check_logs(world: &World, violations: &mut Violations) {
    let logs = [("coordinator".to_owned(), world.cluster.coordinator.log())].into_iter();
    let agents = world.agents.iter().map(|agent| (agent.name().to_owned(), agent.log()));
    for (who, log) in logs.chain(agents) {
        let panic = log.lines().find(|line| line.contains("panicked"));
        violations.claim(panic.is_none(), || format!("{who} panicked: {panic:?}"));
    }
}
