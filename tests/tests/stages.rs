//! Each of the three programs dies, or stands still for a while, at each stage of an operation. The
//! stages are made certain by holding back what one side says, not by timing.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use reeve_protocol::JobId;
use reeve_sdk::api::{
    CancelRequest, ExecuteCommandRequest, Job, JobRequest, MachineState, Operation,
    OperationRequest, OperationState,
};
use reeve_tests::processes::Process;
use reeve_tests::proxy::{Direction, Proxy};
use reeve_tests::{Agent, Cluster, Gate, eventually, eventually_some};

const LIMIT: Duration = Duration::from_secs(40);

/// How far an operation has come when it happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The coordinator has recorded it as sent; the machine has not heard of it.
    BeforeAccept,
    /// The machine has journalled and started it; the coordinator has not heard of that.
    Journalled,
    /// Both know that it runs.
    Running,
    /// It has exited; the coordinator has not heard of that.
    Exited,
    /// The coordinator has recorded its end; the machine has not heard of that.
    Reported,
    /// The machine knows that the coordinator knows.
    Acknowledged,
}

const STAGES: [Stage; 6] = [
    Stage::BeforeAccept,
    Stage::Journalled,
    Stage::Running,
    Stage::Exited,
    Stage::Reported,
    Stage::Acknowledged,
];

/// One operation that is brought to a stage.
struct Scene {
    cluster: Cluster,
    proxy: Proxy,
    web: Agent,
    gate: Gate,
    starts: PathBuf,
    job: Option<JobId>,
}

impl Scene {
    fn at(stage: Stage) -> Self {
        println!("stage {stage:?}");
        let mut scene = Self::new();
        scene.bring_to(stage);
        scene
    }

    /// A machine that has nothing to do.
    fn new() -> Self {
        let cluster = Cluster::start();
        let proxy = Proxy::to(cluster.coordinator.address());
        let web = cluster.agent("web-1").dials(&proxy.url()).start();
        // It has said what it has to say at first, and is given work.
        cluster.reeve(["run", "web-1", "--", "true"]).expect_code(0);
        let gate = Gate::in_folder(cluster.folder());
        let starts = cluster.folder().join("starts");
        Self { cluster, proxy, web, gate, starts, job: None }
    }

    fn bring_to(&mut self, stage: Stage) {
        match stage {
            Stage::BeforeAccept => self.proxy.hold(Direction::Down),
            Stage::Journalled => self.proxy.hold(Direction::Up),
            _ => {}
        }
        self.submit();
        self.reach(stage);
    }

    /// Asks for the command.
    fn submit(&mut self) {
        let line = format!("echo start >> {}; {}", self.starts.display(), self.gate.count(7));
        let command = ExecuteCommandRequest { shell: Some(line), ..Default::default() };
        let request = JobRequest::new("web-1", OperationRequest::ExecuteCommand(command));
        self.job = Some(self.cluster.submit(&request).id);
    }

    fn reach(&self, stage: Stage) {
        match stage {
            Stage::BeforeAccept => {
                eventually("the request is on its way", LIMIT, || self.proxy.held() > 0);
                assert_eq!(self.operation().state, OperationState::Sent);
                assert!(!self.starts.exists());
                return;
            }
            Stage::Journalled => {
                eventually("it has started", LIMIT, || self.starts.exists());
                assert_eq!(self.operation().state, OperationState::Sent);
                return;
            }
            _ => {}
        }
        eventually("it runs, and its output is kept", LIMIT, || {
            let operation = self.operation();
            operation.state == OperationState::Running && operation.output.all == 3893
        });
        match stage {
            Stage::Exited => {
                self.proxy.hold(Direction::Up);
                self.gate.open();
                eventually("its command and its keeper have ended", LIMIT, || {
                    !self.gate.has_commands() && self.web.keepers().is_empty()
                });
                assert_eq!(self.operation().state, OperationState::Running);
            }
            Stage::Reported => {
                self.proxy.hold(Direction::Down);
                self.gate.open();
                eventually("its end is recorded", LIMIT, || self.operation().state.is_terminal());
                assert_eq!(self.kept_folders(), 1, "the machine has heard of it");
            }
            Stage::Acknowledged => {
                self.gate.open();
                eventually("its end is recorded", LIMIT, || self.operation().state.is_terminal());
                eventually("the machine has forgotten it", LIMIT, || self.kept_folders() == 0);
            }
            _ => {}
        }
    }

    fn operation(&self) -> Operation {
        let job = self.job.expect("a job was asked for");
        self.cluster.operations(job).into_iter().next().expect("an operation")
    }

    /// Folders of operations that the machine keeps; spare ones are named by numbers.
    fn kept_folders(&self) -> usize {
        let folders = fs::read_dir(self.web.state().join("operations")).into_iter().flatten();
        folders.flatten().filter(|f| f.file_name().to_string_lossy().contains('-')).count()
    }

    /// The network is whole again, the command may end.
    fn heal(&self) {
        self.proxy.thaw();
        self.gate.open();
    }

    /// Everything of it is there, and it happened once.
    fn expect_whole(&self) {
        self.heal();
        let operation = eventually_some("it has ended", LIMIT, || {
            Some(self.operation()).filter(|operation| operation.state.is_terminal())
        });
        assert_eq!(operation.state, OperationState::Failed, "{operation:?}");
        assert_eq!(operation.exit_code, Some(7), "{operation:?}");
        let path = format!("/api/operations/{}/output?stream=stdout&from=0", operation.id);
        assert_eq!(String::from_utf8_lossy(&self.cluster.api.get(&path).body), Gate::counted());
        self.expect_over();
    }

    /// Nothing happens any more: it started once, and the machine has forgotten it.
    fn expect_over(&self) {
        self.web.wait_until(MachineState::Online);
        eventually("the machine has forgotten it", LIMIT, || self.kept_folders() == 0);
        assert!(!self.gate.has_commands());
        assert_eq!(fs::read_to_string(&self.starts).expect("starts"), "start\n");
    }
}

/// SIGSTOP, what `meanwhile` does, SIGCONT.
fn pause(pid: i32, meanwhile: impl FnOnce()) {
    kill(Pid::from_raw(pid), Signal::SIGSTOP).expect("stop it");
    meanwhile();
    kill(Pid::from_raw(pid), Signal::SIGCONT).expect("let it go on");
}

#[test]
fn agent_killed_at_any_stage_starts_nothing_twice_and_loses_nothing() {
    for stage in STAGES {
        let mut scene = Scene::at(stage);
        scene.web.kill9();
        scene.proxy.thaw();
        scene.web.start_without_waiting();
        scene.expect_whole();
    }
}

#[test]
fn agent_that_stands_still_at_any_stage_loses_nothing() {
    for stage in STAGES {
        let scene = Scene::at(stage);
        pause(scene.web.pid(), || {
            scene.heal();
            if matches!(stage, Stage::Journalled | Stage::Running) {
                eventually("the command ends without it", LIMIT, || !scene.gate.has_commands());
            }
        });
        scene.expect_whole();
    }
}

#[test]
fn coordinator_killed_at_any_stage_starts_nothing_twice_and_loses_nothing() {
    for stage in STAGES {
        let mut scene = Scene::at(stage);
        scene.cluster.coordinator.kill9();
        scene.heal();
        scene.cluster.coordinator.start();
        scene.expect_whole();
    }
}

#[test]
fn coordinator_that_stands_still_at_any_stage_loses_nothing() {
    for stage in STAGES {
        let scene = Scene::at(stage);
        pause(scene.cluster.coordinator.pid(), || {
            scene.heal();
            if matches!(stage, Stage::Journalled | Stage::Running) {
                eventually("the command ends without it", LIMIT, || !scene.gate.has_commands());
            }
        });
        scene.expect_whole();
    }
}

#[test]
fn keeper_killed_at_any_stage_is_lost_and_never_run_again() {
    // At the other stages there is no keeper yet, or none any more.
    for stage in [Stage::Journalled, Stage::Running] {
        let scene = Scene::at(stage);
        scene.web.keeper().signal(Signal::SIGKILL);
        scene.proxy.thaw();
        let operation = eventually_some("it has ended", LIMIT, || {
            Some(scene.operation()).filter(|operation| operation.state.is_terminal())
        });
        assert_eq!(operation.state, OperationState::Lost, "{operation:?}");
        assert_eq!(operation.reason.expect("a reason").code, "keeper_killed");
        scene.expect_over();
    }
}

#[test]
fn keeper_that_stands_still_at_any_stage_loses_nothing() {
    for stage in [Stage::Journalled, Stage::Running] {
        let scene = Scene::at(stage);
        let keeper = scene.web.keeper();
        pause(keeper.pid, || {
            scene.heal();
            eventually("the command has written all and ended", LIMIT, || {
                !scene.gate.has_commands()
            });
            assert!(!scene.operation().state.is_terminal(), "nobody could have seen its end");
        });
        scene.expect_whole();
    }
}

/// An operation that the machine has journalled, while the one who makes its keepers stands still:
/// nothing of it can run yet.
fn journalled_without_a_keeper() -> (Scene, [Process; 2]) {
    let mut scene = Scene::new();
    let [nursery, _] = scene.web.nursery();
    let ask_for_parent = ["run", "web-1", "--", "sh", "-c", "grep PPid /proc/$PPID/status"];
    eventually("keepers come from there", LIMIT, || {
        let said = scene.cluster.reeve(ask_for_parent).expect_code(0).text();
        said.split_whitespace().last() == Some(&nursery.pid.to_string())
    });
    eventually("all is forgotten", LIMIT, || scene.kept_folders() == 0);
    let journal = scene.web.state().join("journal");
    let length = || fs::metadata(&journal).expect("a journal").len();
    let before = length();
    let makers = scene.web.nursery();
    signal_all(&makers, Signal::SIGSTOP);
    scene.submit();
    eventually("it is in the journal", LIMIT, || length() > before);
    assert!(!scene.starts.exists());
    (scene, makers)
}

fn signal_all(makers: &[Process], signal: Signal) {
    for maker in makers {
        maker.signal(signal);
    }
}

#[test]
fn agent_killed_before_anybody_kept_its_command_runs_it_after_the_restart() {
    let (mut scene, makers) = journalled_without_a_keeper();
    scene.web.kill9();
    signal_all(&makers, Signal::SIGKILL);
    scene.web.start_without_waiting();
    scene.expect_whole();
}

#[test]
fn agent_killed_before_anybody_kept_a_cancelled_command_runs_nothing_of_it() {
    let (mut scene, makers) = journalled_without_a_keeper();
    scene.web.kill9();
    signal_all(&makers, Signal::SIGKILL);
    let job = scene.job.expect("a job was asked for");
    let path = format!("/api/jobs/{job}/cancel");
    let job: Job = scene.cluster.api.post(&path, &CancelRequest::default()).json();
    assert!(job.cancel_requested.is_some());
    scene.web.start_without_waiting();
    let operation = eventually_some("it has ended", LIMIT, || {
        Some(scene.operation()).filter(|operation| operation.state.is_terminal())
    });
    assert_eq!(operation.state, OperationState::Cancelled, "{operation:?}");
    scene.web.wait_until(MachineState::Online);
    assert_eq!(scene.kept_folders(), 0);
    assert!(!scene.starts.exists());
}

#[test]
fn keeper_that_comes_only_after_its_agents_death_starts_nothing_twice() {
    let (mut scene, makers) = journalled_without_a_keeper();
    scene.web.kill9();
    // The next agent may not take its silence for its death.
    scene.web.start_without_waiting();
    scene.web.wait_until(MachineState::Online);
    signal_all(&makers, Signal::SIGCONT);
    scene.expect_whole();
}

#[test]
fn keepers_maker_killed_before_anybody_kept_a_command_costs_it_nothing() {
    let (scene, makers) = journalled_without_a_keeper();
    signal_all(&makers, Signal::SIGKILL);
    scene.expect_whole();
}
