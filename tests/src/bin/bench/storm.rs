//! A coordinator dies, and everybody comes back at once: how long that takes, and how people fare
//! meanwhile who keep a connection, and who make one for each request.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use reeve_tests::swarm::Swarm;
use reeve_tests::{Api, Cluster};

use crate::cost::Cost;
use crate::crowd::{LIMIT, start, wait};

/// Between two requests of whoever uses the API meanwhile.
const POLL: Duration = Duration::from_millis(20);

/// Of one restart.
pub struct Storm {
    /// Until all were back, seconds, from the start of the new coordinator.
    pub back: f64,
    /// Processor time of the coordinator, all of it, seconds.
    pub cpu: f64,
    /// Tries of agents that led to nothing meanwhile.
    pub failures: u64,
    /// How long each request took meanwhile on a connection that is kept.
    pub kept: Vec<Duration>,
    /// And on connections of their own.
    pub anew: Vec<Duration>,
}

/// Somebody who uses the API until told to stop.
struct User {
    done: Arc<AtomicBool>,
    asking: JoinHandle<anyhow::Result<Vec<Duration>>>,
}

impl User {
    fn start(api: Api) -> Self {
        let done = Arc::new(AtomicBool::new(false));
        let over = Arc::clone(&done);
        let asking = std::thread::spawn(move || {
            let api = api.with_patience(LIMIT);
            let mut took = Vec::new();
            while !over.load(Ordering::Relaxed) {
                let asked = Instant::now();
                let path = "/api/machines?limit=20";
                let answer = api.send(reqwest::Method::GET, path, &[], Vec::new())?;
                took.push(asked.elapsed());
                ensure!(answer.status == 200, "{answer}");
                std::thread::sleep(POLL);
            }
            Ok(took)
        });
        Self { done, asking }
    }

    fn end(self) -> anyhow::Result<Vec<Duration>> {
        self.done.store(true, Ordering::Relaxed);
        let asked = self.asking.join().map_err(|_| anyhow::anyhow!("a thread panicked"))?;
        asked.context("the API did not answer")
    }
}

/// Kills the coordinator, starts it again, and uses its API until everybody is back.
pub fn restart(cluster: &mut Cluster, swarm: &Swarm) -> anyhow::Result<Storm> {
    cluster.coordinator.kill9();
    wait("everybody has noticed", || swarm.counts().online == 0)?;
    let failures = swarm.counts().failures;
    let began = Instant::now();
    start(cluster)?;
    let (kept, anew) = (User::start(cluster.api.clone()), User::start(cluster.hasty_api()));
    let back = wait("everybody is back", || swarm.is_all_online());
    let took = began.elapsed().as_secs_f64();
    let (kept, anew) = (kept.end(), anew.end());
    back?;
    let cpu = Cost(cluster.coordinator.pid()).cpu()?;
    let failures = swarm.counts().failures - failures;
    Ok(Storm { back: took, cpu, failures, kept: kept?, anew: anew? })
}
