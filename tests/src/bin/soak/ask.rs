//! The people of a run: they ask for jobs, watch, feed and cancel, through a network that may break
//! at any moment, and write down what they were told.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use reeve_protocol::{JobId, OperationId, Stream};
use reeve_sdk::api::{InputAccepted, Job, Operation, OperationState, Page};
use reeve_sdk::{Client, Event};
use reeve_tests::Api;
use reqwest::Method;
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::history::History;
use crate::plan::JobPlan;
use crate::work::{End, Order, bytes, sha256};

/// A request that is not answered within this is sent again.
const PATIENCE: Duration = Duration::from_secs(3);

/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(40);

/// Nobody tries for longer: the world has been healed long before.
const LIMIT: Duration = Duration::from_secs(90);

/// Who the people are and where they ask.
#[derive(Clone)]
pub struct Person {
    /// The API, through the person's proxy.
    pub api: Api,
    /// The same for what is followed.
    pub client: Client,
    /// Where everything is written down.
    pub history: History,
    /// Where commands keep their accounts.
    pub accounts: PathBuf,
    /// This program.
    pub me: PathBuf,
    /// Set when something cannot go on, so that nobody waits for long.
    pub over: Arc<AtomicBool>,
}

/// What somebody was shown of an operation's output.
#[derive(Clone, Debug, Default)]
pub struct Shown {
    /// Bytes of both.
    pub all: u64,
    /// Bytes of stdout, of stderr.
    pub lengths: [u64; 2],
    /// Over them.
    pub sums: [Sha256; 2],
    /// The terminal state that was told.
    pub told: Option<OperationState>,
}

/// What became of asking for a job.
pub struct Asked {
    /// What was asked.
    pub plan: JobPlan,
    /// As acknowledged.
    pub job: Job,
    /// The end was asked for.
    pub cancelled: bool,
    /// What a watcher was shown, by operation.
    pub shown: Option<BTreeMap<OperationId, Shown>>,
}

impl Person {
    /// Asks for a job and does everything else that the plan says about it.
    pub fn live(&self, plan: &JobPlan) -> anyhow::Result<Asked> {
        let job = self.ask(plan)?;
        std::thread::scope(|scope| {
            let watching = plan.watched.then(|| scope.spawn(|| self.watch(plan, job.id)));
            let feeding = plan.fed.map(|size| {
                let id = job.id;
                scope.spawn(move || self.feed(plan, id, size))
            });
            let cancelled = match plan.cancel_after {
                Some(after) => {
                    std::thread::sleep(Duration::from_millis(after));
                    self.cancel(plan, job.id)?;
                    true
                }
                None => false,
            };
            let joined = "somebody's thread panicked";
            let shown = watching.map(|w| w.join().expect(joined)).transpose()?;
            feeding.map(|f| f.join().expect(joined)).transpose()?;
            Ok(Asked { plan: plan.clone(), job: job.clone(), cancelled, shown })
        })
    }

    /// The request, until it is acknowledged; with one key, so that it is recorded once.
    fn ask(&self, plan: &JobPlan) -> anyhow::Result<Job> {
        let body = request(plan, self);
        let body = serde_json::to_vec(&body)?;
        let key = format!("soak-{}-{:016x}", plan.number, plan.seed);
        self.history.note(json!({"job": plan.number, "did": "ask"}));
        let once = || -> anyhow::Result<Job> {
            let headers = [("content-type", "application/json"), ("idempotency-key", &key)];
            let answer = self.until(|| {
                let answer =
                    self.api.send(Method::POST, "/api/jobs", &headers, body.clone()).ok()?;
                // 409: the first of the two is still being recorded.
                (!matches!(answer.status, 409 | 429 | 500..)).then_some(answer)
            });
            let answer = answer.context("nobody acknowledged the job")?;
            ensure!(matches!(answer.status, 200 | 201), "the job was refused: {answer}");
            Ok(answer.json())
        };
        let job = if plan.twice {
            let both = std::thread::scope(|scope| {
                [scope.spawn(once), scope.spawn(once)].map(|t| t.join().expect("a thread panicked"))
            });
            let [first, second] = both;
            let (first, second) = (first?, second?);
            ensure!(first.id == second.id, "one key, two jobs: {} and {}", first.id, second.id);
            first
        } else {
            once()?
        };
        self.history.note(json!({"job": plan.number, "did": "acknowledged", "id": job.id}));
        Ok(job)
    }

    /// Tries until it works, within reason.
    pub fn until<T>(&self, mut attempt: impl FnMut() -> Option<T>) -> Option<T> {
        let start = Instant::now();
        while start.elapsed() < LIMIT && !self.over.load(Ordering::SeqCst) {
            if let Some(done) = attempt() {
                return Some(done);
            }
            std::thread::sleep(PAUSE);
        }
        None
    }

    fn operations(&self, job: JobId) -> anyhow::Result<Vec<Operation>> {
        let path = format!("/api/jobs/{job}/operations?limit=1000");
        let page: Option<Page<Operation>> = self.until(|| {
            let answer = self.api.send(Method::GET, &path, &[], Vec::new()).ok()?;
            (answer.status == 200).then(|| answer.json())
        });
        Ok(page.context("nobody tells a job's operations")?.items)
    }

    fn cancel(&self, plan: &JobPlan, job: JobId) -> anyhow::Result<()> {
        let path = format!("/api/jobs/{job}/cancel");
        let headers = [("content-type", "application/json")];
        let answer = self.until(|| {
            let body = br#"{"reason":"soak"}"#.to_vec();
            let answer = self.api.send(Method::POST, &path, &headers, body).ok()?;
            (answer.status < 429).then_some(answer)
        });
        let answer = answer.context("nobody acknowledged the cancel")?;
        // 409: it ended before, perhaps because an earlier request to cancel it was heard.
        ensure!(matches!(answer.status, 200 | 202 | 409), "the cancel was refused: {answer}");
        self.history.note(json!({"job": plan.number, "did": "cancel acknowledged"}));
        Ok(())
    }

    /// Stdin, by offset, as long as somebody wants it.
    fn feed(&self, plan: &JobPlan, job: JobId, size: u64) -> anyhow::Result<()> {
        let operation = self.operations(job)?.first().context("no operation")?.id;
        let input = bytes(plan.seed, 0, size);
        let mut received = 0;
        loop {
            // Pieces of every size; the same again where the answer was lost.
            let to = size.min(received + 1 + plan.seed.rotate_left(received as u32 % 64) % 300_000);
            let path = format!(
                "/api/operations/{operation}/input?offset={received}&end={}",
                if to == size { "true" } else { "false" }
            );
            let body = input[received as usize..to as usize].to_vec();
            let answer = self.until(|| {
                let answer = self.api.send(Method::POST, &path, &[], body.clone()).ok()?;
                (!matches!(answer.status, 429 | 500..)).then_some(answer)
            });
            let answer = answer.context("nobody takes stdin")?;
            match answer.status {
                200 => {
                    let accepted: InputAccepted = answer.json();
                    ensure!(
                        accepted.received <= size,
                        "more stdin arrived than was sent: {answer}"
                    );
                    ensure!(accepted.received >= received, "stdin was taken back: {answer}");
                    received = accepted.received;
                    if accepted.closed || (received == size && to == size) {
                        break;
                    }
                }
                // It has ended, or has not started: both are told by its state.
                409 | 404 => {
                    let ended = self.operations(job)?.iter().all(|o| o.state.is_terminal());
                    if ended {
                        break;
                    }
                    std::thread::sleep(PAUSE);
                }
                _ => bail!("stdin was refused: {answer}"),
            }
        }
        self.history.note(json!({"job": plan.number, "did": "fed", "bytes": received}));
        Ok(())
    }

    /// Watches to the end. What is shown is checked as it comes: nothing twice, nothing left out.
    fn watch(&self, plan: &JobPlan, job: JobId) -> anyhow::Result<BTreeMap<OperationId, Shown>> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let mut shown: BTreeMap<OperationId, Shown> = BTreeMap::new();
        let mut follow = self.client.follow(job);
        let interrupted = runtime.block_on(async {
            let mut interrupted = 0_u32;
            loop {
                let next = tokio::time::timeout(LIMIT, follow.next()).await;
                match next
                    .context("the stream stands still")?
                    .context("the stream broke for good")?
                {
                    None => return anyhow::Ok(interrupted),
                    Some(Event::Output(output)) => {
                        let seen = shown.entry(output.operation).or_default();
                        let stream = usize::from(output.stream == Stream::Stderr);
                        let where_it_is = (output.all, output.offset);
                        ensure!(
                            where_it_is == (seen.all, seen.lengths[stream]),
                            "{}: shown from {where_it_is:?}, known to {seen:?}",
                            output.operation
                        );
                        seen.all += output.bytes.len() as u64;
                        seen.lengths[stream] += output.bytes.len() as u64;
                        seen.sums[stream].update(&output.bytes);
                    }
                    Some(Event::Operation(operation)) => {
                        let seen = shown.entry(operation.id).or_default();
                        if let Some(told) = seen.told {
                            ensure!(
                                told == operation.state,
                                "{} was {told:?} and is {:?}",
                                operation.id,
                                operation.state
                            );
                        }
                        if operation.state.is_terminal() {
                            seen.told = Some(operation.state);
                        }
                    }
                    Some(Event::Gap { operation, gap }) => bail!("{operation} has a gap: {gap:?}"),
                    Some(Event::Interrupted { .. }) => interrupted += 1,
                    Some(_) => {}
                }
            }
        })?;
        self.history.note(
            json!({"job": plan.number, "did": "watched to the end", "interrupted": interrupted}),
        );
        Ok(shown)
    }

    /// The same person, waiting as long as it takes.
    pub fn patient(api: &Api) -> Api {
        api.with_patience(PATIENCE)
    }
}

fn request(plan: &JobPlan, person: &Person) -> serde_json::Value {
    let order = Order {
        folder: person.accounts.clone(),
        seed: plan.seed,
        stdout: plan.output[0],
        stderr: if plan.fed.is_some() { 0 } else { plan.output[1] },
        millis: plan.millis,
        echo: plan.fed.is_some(),
        children: plan.children,
        end: plan.end,
    };
    let order = serde_json::to_string(&order).expect("JSON");
    let me = person.me.display().to_string();
    let mut command = json!({ "grace_ms": 400, "stdin": plan.fed.is_some() });
    if plan.missing {
        command["argv"] = json!(["/nonexistent/soak"]);
    } else if plan.deaf {
        command["shell"] = json!(format!("trap '' TERM INT HUP; exec '{me}' work '{order}'"));
    } else {
        command["argv"] = json!([me, "work", order]);
    }
    if let Some(timeout) = plan.timeout_ms {
        command["timeout_ms"] = json!(timeout);
    }
    let selector = plan.machine.map_or("@all".to_owned(), |machine| format!("m{machine}"));
    let mut request = json!({ "selector": selector, "operation": { "execute_command": command } });
    if plan.waits {
        request["wait_ms"] = json!(120_000);
    }
    request
}

/// What a command that ran to its end should have written.
pub fn expected(plan: &JobPlan) -> [(u64, String); 2] {
    let stdout = plan.fed.unwrap_or(plan.output[0]);
    let stderr = if plan.fed.is_some() { 0 } else { plan.output[1] };
    [
        (stdout, sha256(&bytes(plan.seed, 0, stdout))),
        (stderr, sha256(&bytes(crate::work::stderr_seed(plan.seed), 0, stderr))),
    ]
}

/// Whether a command that nobody stops would end by itself.
pub fn ends_by_itself(plan: &JobPlan) -> bool {
    plan.end != End::Never
}

/// A lock on what several people add to.
pub fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
