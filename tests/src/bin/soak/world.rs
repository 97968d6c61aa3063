//! The world of a run: real programs, proxies between them, and what goes wrong with them.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use reeve_sdk::RetryLimits;
use reeve_sdk::api::{MachineState, OperationState};
use reeve_tests::proxy::{Direction, Fault, Proxy};
use reeve_tests::{Agent, Cluster, Database, eventually};
use serde_json::json;

use crate::ask::{Asked, Person};
use crate::history::History;
use crate::plan::{Blow, JobPlan, Plan, Step};

/// How long a blow waits for something to hit.
const PREY: Duration = Duration::from_secs(5);

/// How long the healed world may take to come to rest.
const REST: Duration = Duration::from_secs(90);

/// Everything in a run.
pub struct World {
    /// Coordinator, database, folder.
    pub cluster: Cluster,
    /// The machines, as `m0`, `m1`, …
    pub agents: Vec<Agent>,
    /// Between each of them and the coordinator.
    pub proxies: Vec<Proxy>,
    /// Between the people and the coordinator.
    pub of_person: Proxy,
    /// Where commands keep their accounts.
    pub accounts: PathBuf,
    /// Where everything is written down.
    pub history: History,
    /// Whether what the plan wanted has happened, by its name.
    pub fired: Vec<(String, bool)>,
    /// Operations whose keeper was killed.
    pub keepers_killed: Vec<String>,
    /// Machines that were rebooted, and when, microseconds since 1970.
    pub reboots: Vec<(usize, i64)>,
    /// Traps that were set: name, machine (`None`: the person's), faults that had happened before.
    traps: Vec<(String, Option<usize>, u64)>,
    /// Proxies that swallow everything of some connection; `None`: the person's.
    swallowed: Vec<Option<usize>>,
    over: Arc<AtomicBool>,
}

impl World {
    /// Starts everything.
    pub fn start(plan: &Plan, history: History) -> Self {
        let cluster = Cluster::builder().database(plan.database).start();
        let accounts = cluster.folder().join("accounts");
        std::fs::create_dir(&accounts).expect("make a folder");
        let proxies: Vec<Proxy> =
            plan.machines.iter().map(|_| Proxy::to(cluster.coordinator.address())).collect();
        let agents = plan
            .machines
            .iter()
            .zip(&proxies)
            .enumerate()
            .map(|(number, (containment, proxy))| {
                let agent = cluster.agent(&format!("m{number}")).containment(*containment);
                agent.dials(&proxy.url()).start()
            })
            .collect();
        let of_person = Proxy::to(cluster.coordinator.address());
        Self {
            cluster,
            agents,
            proxies,
            of_person,
            accounts,
            history,
            fired: Vec::new(),
            keepers_killed: Vec::new(),
            reboots: Vec::new(),
            traps: Vec::new(),
            swallowed: Vec::new(),
            over: Arc::default(),
        }
    }

    /// Goes through the plan, heals, waits until all is at rest; what became of each job.
    pub fn live(&mut self, plan: &Plan) -> anyhow::Result<Vec<Asked>> {
        let person = Person {
            api: Person::patient(&self.cluster.api.at(&self.of_person.url())),
            client: self.patient_client(),
            history: self.history.clone(),
            accounts: self.accounts.clone(),
            me: std::env::current_exe()?,
            over: Arc::clone(&self.over),
        };
        let mut people: Vec<JoinHandle<anyhow::Result<Asked>>> = Vec::new();
        for (pause, step) in &plan.steps {
            std::thread::sleep(Duration::from_millis(*pause));
            match step {
                Step::Ask(job) => people.push(self.send_off(&person, job)),
                Step::Strike(blow) => {
                    self.history.note(json!({"blow": format!("{blow:?}")}));
                    let fired = self.strike(blow);
                    if let Some(fired) = fired {
                        self.fired.push((blow.name().to_owned(), fired));
                    }
                    self.history.note(json!({"struck": blow.name(), "fired": fired}));
                }
            }
        }
        self.heal();
        let start = Instant::now();
        while !people.iter().all(JoinHandle::is_finished) && start.elapsed() < REST {
            std::thread::sleep(Duration::from_millis(20));
        }
        self.over.store(true, Ordering::SeqCst);
        people
            .into_iter()
            .map(|person| person.join().expect("a person's thread panicked"))
            .collect()
    }

    /// The SDK's client, trying for as long as a blow may last on a busy machine.
    fn patient_client(&self) -> reeve_sdk::Client {
        reeve_sdk::Client::builder(&self.of_person.url())
            .token(self.cluster.api.token().expect("logged in"))
            .ca_pem(self.cluster.coordinator.ca_pem())
            .retry(RetryLimits { total: REST, follow: REST })
            .build()
            .expect("a client")
    }

    fn send_off(&self, person: &Person, job: &JobPlan) -> JoinHandle<anyhow::Result<Asked>> {
        let (person, job) = (person.clone(), job.clone());
        std::thread::spawn(move || {
            person.live(&job).map_err(|error| error.context(format!("job {}", job.number)))
        })
    }

    /// The keepers that have a command which still runs.
    fn prey(&self, machine: usize) -> Option<Vec<reeve_tests::processes::Process>> {
        let start = Instant::now();
        while start.elapsed() < PREY {
            let keepers = self.agents[machine].keepers();
            if !keepers.is_empty() {
                return Some(keepers);
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        None
    }

    /// Does it. Whether there was something to hit; `None` when that is only known later.
    fn strike(&mut self, blow: &Blow) -> Option<bool> {
        let nap = |millis: &u64| std::thread::sleep(Duration::from_millis(*millis));
        let set = match blow {
            Blow::KillAgent { machine, absent } => {
                let hit = self.prey(*machine).is_some();
                self.agents[*machine].kill9();
                nap(absent);
                self.agents[*machine].start_without_waiting();
                hit
            }
            Blow::StopAgent { machine, absent } => {
                let hit = self.prey(*machine).is_some();
                self.agents[*machine].stop();
                nap(absent);
                self.agents[*machine].start_without_waiting();
                hit
            }
            Blow::PauseAgent { machine, pause } => {
                let hit = self.prey(*machine).is_some();
                pause_and_go_on(&[self.agents[*machine].pid()], *pause);
                hit
            }
            Blow::KillKeeper { machine, agent_too } => {
                let Some(keepers) = self.prey(*machine) else { return Some(false) };
                let keeper = &keepers[keepers.len() / 2];
                if *agent_too {
                    self.agents[*machine].kill9();
                }
                self.keepers_killed.extend(operation_of(keeper));
                keeper.signal(Signal::SIGKILL);
                if *agent_too {
                    self.agents[*machine].start_without_waiting();
                }
                true
            }
            Blow::PauseKeepers { machine, pause } => {
                let keepers = self.prey(*machine).unwrap_or_default();
                let ids: Vec<i32> = keepers.iter().map(|keeper| keeper.pid).collect();
                pause_and_go_on(&ids, *pause);
                !ids.is_empty()
            }
            Blow::Reboot { machine, absent } => {
                let hit = self.prey(*machine).is_some();
                let now = now_us();
                self.agents[*machine].power_off();
                self.reboots.push((*machine, now));
                nap(absent);
                self.agents[*machine].start_without_waiting();
                hit
            }
            Blow::KillCoordinator { absent } => {
                let hit = self.prey(0).is_some();
                self.cluster.coordinator.kill9();
                nap(absent);
                self.cluster.coordinator.start();
                hit
            }
            Blow::StopCoordinator { absent } => {
                let hit = self.prey(0).is_some();
                self.cluster.coordinator.stop(Duration::from_secs(60));
                nap(absent);
                self.cluster.coordinator.start();
                hit
            }
            Blow::PauseCoordinator { pause } => {
                let hit = self.prey(0).is_some();
                pause_and_go_on(&[self.cluster.coordinator.pid()], *pause);
                hit
            }
            Blow::KillBoth { machine, absent } => {
                let hit = self.prey(*machine).is_some();
                self.agents[*machine].kill9();
                self.cluster.coordinator.kill9();
                nap(absent);
                self.cluster.coordinator.start();
                self.agents[*machine].start_without_waiting();
                hit
            }
            Blow::CutMachine { machine } => {
                let before = self.proxies[*machine].faults();
                self.proxies[*machine].cut();
                self.proxies[*machine].faults() > before
            }
            Blow::BarMachine { machine, absent } => {
                let before = self.proxies[*machine].faults();
                self.proxies[*machine].refuse(true);
                self.proxies[*machine].cut();
                nap(absent);
                self.proxies[*machine].refuse(false);
                self.proxies[*machine].faults() > before
            }
            Blow::TrapMachine { machine, direction, bytes, fault } => {
                if *fault == Fault::BlackHole {
                    self.swallowed.push(Some(*machine));
                }
                let proxy = &self.proxies[*machine];
                self.traps.push((blow.name().to_owned(), Some(*machine), proxy.faults()));
                proxy.after(*direction, *bytes, *fault);
                return None;
            }
            Blow::FreezeMachine { machine, pause } => freeze(&self.proxies[*machine], *pause),
            Blow::SlowMachine { machine, delay, bytes_per_second } => {
                let proxy = &self.proxies[*machine];
                let before = proxy.passed(Direction::Up);
                proxy.delay(Duration::from_millis(*delay));
                proxy.throttle(Some(*bytes_per_second));
                let start = Instant::now();
                while proxy.passed(Direction::Up) == before && start.elapsed() < PREY {
                    std::thread::sleep(Duration::from_millis(5));
                }
                proxy.passed(Direction::Up) > before
            }
            Blow::CutPerson => {
                let before = self.of_person.faults();
                self.of_person.cut();
                self.of_person.faults() > before
            }
            Blow::TrapPerson { direction, bytes, fault } => {
                if *fault == Fault::BlackHole {
                    self.swallowed.push(None);
                }
                self.traps.push((blow.name().to_owned(), None, self.of_person.faults()));
                self.of_person.after(*direction, *bytes, *fault);
                return None;
            }
            Blow::FreezePerson { pause } => freeze(&self.of_person, *pause),
            Blow::LoseDatabase { pause } if self.cluster.database == Database::Sqlite => {
                let lock = self.cluster.lock_database();
                nap(pause);
                drop(lock);
                true
            }
            Blow::LoseDatabase { pause } => {
                self.cluster.stop_database();
                nap(pause);
                self.cluster.start_database();
                true
            }
        };
        Some(set)
    }

    /// Ends everything that is still wrong.
    fn heal(&mut self) {
        self.history.note(json!({"did": "heal"}));
        // A trap that was set late gets the time that its byte needs.
        for (name, machine, before) in std::mem::take(&mut self.traps) {
            let proxy = machine.map_or(&self.of_person, |machine| &self.proxies[machine]);
            let start = Instant::now();
            while proxy.faults() == before && start.elapsed() < Duration::from_millis(1500) {
                std::thread::sleep(Duration::from_millis(10));
            }
            self.fired.push((name, proxy.faults() > before));
        }
        for proxy in self.proxies.iter().chain([&self.of_person]) {
            proxy.calm();
        }
        // What was swallowed stays swallowed, and would be noticed after 40 s only.
        for proxy in &self.swallowed {
            proxy.map_or(&self.of_person, |machine| &self.proxies[machine]).cut();
        }
        for agent in &mut self.agents {
            if !agent.is_running() {
                agent.start_without_waiting();
            }
        }
        // An agent that was turned away often waits up to a minute before it tries again.
        eventually("all machines are online", REST, || {
            self.agents.iter().all(|agent| agent.machine().state == MachineState::Online)
        });
    }

    /// Waits until no operation of any job is under way.
    pub fn wait_for_rest(&self, asked: &[Asked]) {
        for job in asked {
            eventually(&format!("job {} has ended", job.plan.number), REST, || {
                let operations = self.cluster.operations(job.job.id);
                operations.iter().all(|operation| OperationState::is_terminal(operation.state))
            });
        }
    }
}

fn freeze(proxy: &Proxy, pause: u64) -> bool {
    let before = proxy.held();
    proxy.freeze();
    std::thread::sleep(Duration::from_millis(pause));
    proxy.thaw();
    proxy.held() > before
}

fn pause_and_go_on(pids: &[i32], pause: u64) {
    for pid in pids {
        let _gone = kill(Pid::from_raw(*pid), Signal::SIGSTOP);
    }
    std::thread::sleep(Duration::from_millis(pause));
    for pid in pids {
        let _gone = kill(Pid::from_raw(*pid), Signal::SIGCONT);
    }
}

/// Whose keeper it is: the last part of the folder it was given.
fn operation_of(keeper: &reeve_tests::processes::Process) -> Option<String> {
    let folder = keeper.arguments.last()?;
    Some(Path::new(folder).file_name()?.to_string_lossy().into_owned())
}

/// This machine's clock, microseconds since 1970.
fn now_us() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.ok().and_then(|since| i64::try_from(since.as_micros()).ok()).unwrap_or_default()
}
