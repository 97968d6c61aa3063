//! An agent as a process, on this machine but with a state folder of its own.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;
use reeve_sdk::api::{EnrolmentTokenCreated, Machine, MachineState, NewEnrolmentToken};

use crate::cgroups;
use crate::processes::{self, Process};
use crate::wait::{eventually, eventually_some};
use crate::{Api, binaries};

/// How long an agent may take to be online.
const ONLINE_LIMIT: Duration = Duration::from_secs(30);

/// How the processes of a command are held together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Containment {
    /// cgroup v2, as on any machine of today.
    CgroupV2,
    /// Process group and subreaper: the agent is started where it sees no cgroups.
    Fallback,
}

impl Containment {
    /// The word in results.
    #[must_use]
    pub fn wire(self) -> reeve_protocol::Containment {
        match self {
            Self::CgroupV2 => reeve_protocol::Containment::CgroupV2,
            Self::Fallback => reeve_protocol::Containment::ProcessGroup,
        }
    }
}

/// An agent to be.
pub struct AgentBuilder<'a> {
    pub(crate) api: &'a Api,
    pub(crate) folder: PathBuf,
    pub(crate) name: String,
    pub(crate) url: String,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) containment: Containment,
    pub(crate) policy: String,
    pub(crate) bus: Option<String>,
    pub(crate) user: Option<u32>,
    pub(crate) wrapper: Vec<String>,
    pub(crate) environment: BTreeMap<String, String>,
}

impl AgentBuilder<'_> {
    /// A label its machine gets.
    #[must_use]
    pub fn label(mut self, key: &str, value: &str) -> Self {
        self.labels.insert(key.to_owned(), value.to_owned());
        self
    }

    /// Dials another address than the coordinator's own: a proxy.
    #[must_use]
    pub fn dials(mut self, url: &str) -> Self {
        url.clone_into(&mut self.url);
        self
    }

    /// How its commands' processes are held together.
    #[must_use]
    pub fn containment(mut self, containment: Containment) -> Self {
        self.containment = containment;
        self
    }

    /// Its machine's own policy, TOML.
    #[must_use]
    pub fn policy(mut self, text: &str) -> Self {
        text.clone_into(&mut self.policy);
        self
    }

    /// Where its system bus is.
    #[must_use]
    pub fn bus(mut self, address: &str) -> Self {
        self.bus = Some(address.to_owned());
        self
    }

    /// Runs as this user instead of root, in a folder that is theirs.
    #[must_use]
    pub fn user(mut self, uid: u32) -> Self {
        crate::require_root("only root may start programs as somebody else");
        self.user = Some(uid);
        self
    }

    /// Is started by a program that becomes it, such as prlimit(1).
    #[must_use]
    pub fn through(mut self, words: &[&str]) -> Self {
        self.wrapper.extend(words.iter().map(|word| (*word).to_owned()));
        self
    }

    /// Finds this in its environment.
    #[must_use]
    pub fn environment(mut self, name: &str, value: &str) -> Self {
        self.environment.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Its machine's clock differs, as faketime(1) says it: `-2h`.
    #[must_use]
    pub fn clock(mut self, clock: &str) -> Self {
        let environment = crate::clock::environment(Some(clock)).into_iter();
        self.environment.extend(environment.map(|(name, value)| (name.to_owned(), value)));
        self
    }

    /// Its machine is on a network of its own.
    #[must_use]
    pub fn on(mut self, network: &crate::Network) -> Self {
        self.wrapper.extend(network.enter());
        self
    }

    /// Joins with a token of its own, starts it, and waits until it is online.
    ///
    /// # Panics
    /// When any of that does not happen.
    #[must_use]
    pub fn start(self) -> Agent {
        let token: EnrolmentTokenCreated = self
            .api
            .post(
                "/api/enrolment-tokens",
                &NewEnrolmentToken {
                    labels: self.labels.clone(),
                    name: Some(self.name.clone()),
                    ..NewEnrolmentToken::default()
                },
            )
            .json();
        let mut agent = self.prepare();
        let joined = agent.enroll(&token.token);
        assert!(
            joined.status.success(),
            "reeve-agent enroll: {}{}",
            String::from_utf8_lossy(&joined.stdout),
            String::from_utf8_lossy(&joined.stderr)
        );
        agent.restart();
        agent
    }

    /// Lays out its folder, joins nothing, starts nothing.
    ///
    /// # Panics
    /// When the folder cannot be made.
    #[must_use]
    pub fn prepare(self) -> Agent {
        let folder = self.folder.join(&self.name);
        fs::create_dir_all(&folder).expect("make the agent's folder");
        let policy = folder.join("agent.toml");
        fs::write(&policy, &self.policy).expect("write the policy");
        let log = self.folder.join(format!("{}.log", self.name));
        let mut wrapper = self.wrapper;
        if let Some(uid) = self.user {
            std::os::unix::fs::chown(&folder, Some(uid), Some(uid)).expect("give it its folder");
            // The temporary folder is for nobody but its owner.
            for above in folder.ancestors().skip(1).take(2) {
                let passable = fs::Permissions::from_mode(0o711);
                fs::set_permissions(above, passable).expect("let it through");
            }
            let id = uid.to_string();
            wrapper.splice(
                0..0,
                ["setpriv", "--reuid", &id, "--regid", &id, "--clear-groups", "--"]
                    .map(str::to_owned),
            );
        }
        Agent {
            name: self.name,
            url: self.url,
            state: folder.join("state"),
            policy,
            log,
            containment: self.containment,
            bus: self.bus,
            wrapper,
            environment: self.environment,
            api: self.api.clone(),
            process: None,
            cgroup: None,
            boot_id: None,
        }
    }
}

/// An agent with its state folder.
pub struct Agent {
    name: String,
    url: String,
    state: PathBuf,
    policy: PathBuf,
    log: PathBuf,
    containment: Containment,
    bus: Option<String>,
    /// What it is started through, before its own name.
    wrapper: Vec<String>,
    environment: BTreeMap<String, String>,
    api: Api,
    process: Option<Child>,
    /// The folder of its cgroups, found when it last ended.
    cgroup: Option<PathBuf>,
    /// The file that stands for the kernel's, once the machine has been rebooted.
    boot_id: Option<PathBuf>,
}

impl Agent {
    /// Its machine's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its state folder.
    #[must_use]
    pub fn state(&self) -> &Path {
        &self.state
    }

    /// All it and its keepers have logged.
    #[must_use]
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Its process id.
    ///
    /// # Panics
    /// When it is not running.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.process.as_ref().expect("the agent runs").id().cast_signed()
    }

    /// `reeve-agent enroll`, whatever comes of it.
    ///
    /// # Panics
    /// When the program cannot be started.
    pub fn enroll(&self, token: &str) -> Output {
        let file = self.state.with_file_name("token");
        fs::write(&file, token).expect("write the token");
        let output = wrapped(&self.wrapper)
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .envs(&self.environment)
            .args(["enroll", &self.url, "--token-file"])
            .arg(&file)
            .args(["--name", &self.name, "--state"])
            .arg(&self.state)
            .stdin(Stdio::null())
            .output()
            .expect("start reeve-agent enroll");
        fs::remove_file(&file).expect("remove the token");
        output
    }

    /// Starts it.
    ///
    /// # Panics
    /// When it runs already or cannot be started.
    pub fn start_without_waiting(&mut self) {
        assert!(self.process.is_none(), "{} runs already", self.name);
        let log = File::options().create(true).append(true).open(&self.log).expect("open the log");
        let mut command = self.command();
        command
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("RUST_BACKTRACE", "1")
            .envs(&self.environment)
            .args(["run", "--state"])
            .arg(&self.state)
            .arg("--config")
            .arg(&self.policy)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("clone a file"))
            .stderr(log);
        if let Some(bus) = &self.bus {
            command.env("DBUS_SYSTEM_BUS_ADDRESS", bus);
        }
        self.process = Some(command.spawn().expect("start reeve-agent run"));
    }

    /// Starts it as a process that stands still before it is the agent: somebody may want to attach
    /// to it. SIGCONT lets it go on.
    ///
    /// # Panics
    /// When it runs already or cannot be started.
    pub fn start_held(&mut self) {
        let words = crate::processes::HELD.map(str::to_owned);
        self.wrapper.extend(words);
        self.start_without_waiting();
        self.wrapper.truncate(self.wrapper.len() - crate::processes::HELD.len());
        crate::processes::wait_until_held(self.pid());
    }

    /// How it ended, when it has ended by itself.
    ///
    /// # Panics
    /// When it was never started.
    pub fn find_end(&mut self) -> Option<std::process::ExitStatus> {
        let process = self.process.as_mut().expect("the agent was started");
        process.try_wait().expect("ask for the agent")
    }

    fn command(&self) -> Command {
        // Only root may write to the cgroups, so an ordinary user's agent has to fall back anyway.
        let hide_cgroups =
            self.containment == Containment::Fallback && nix::unistd::geteuid().is_root();
        if !hide_cgroups && self.boot_id.is_none() {
            return wrapped(&self.wrapper);
        }
        // A mount namespace of its own, in which the machine looks as it should.
        let mut steps = String::new();
        if hide_cgroups {
            steps.push_str("mount -t tmpfs none /sys/fs/cgroup && ");
        }
        if let Some(file) = &self.boot_id {
            let over = "/proc/sys/kernel/random/boot_id";
            steps.push_str(&format!("mount --bind '{}' {over} && ", file.display()));
        }
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "--propagation", "private", "sh", "-c"])
            .arg(format!("{steps}exec \"$0\" \"$@\""))
            .args(&self.wrapper)
            .arg(binaries::agent());
        command
    }

    /// What a reboot does to its machine: agent, keepers and commands are gone at once, and the
    /// kernel that comes up has another boot id. Does not start the agent again.
    ///
    /// # Panics
    /// When this is not root, or it is not running.
    pub fn power_off(&mut self) {
        crate::require_root("another boot id is mounted over the kernel's");
        self.kill9();
        let folders = fs::read_dir(self.state.join("operations")).into_iter().flatten().flatten();
        let marks: Vec<String> = folders
            .map(|folder| format!("REEVE_OPERATION={}", folder.file_name().to_string_lossy()))
            .collect();
        // Keepers first: power does not leave them the time to write down how their commands ended.
        for keeper in self.keepers() {
            keeper.signal(Signal::SIGKILL);
        }
        if let Some(folder) = &self.cgroup {
            cgroups::remove(folder);
        }
        processes::kill_all_of(&self.state.to_string_lossy());
        for process in processes::list() {
            if process.environment.iter().any(|entry| marks.contains(entry)) {
                process.signal(Signal::SIGKILL);
            }
        }
        let file = self.state.with_file_name("boot_id");
        fs::write(&file, format!("{}\n", uuid::Uuid::new_v4())).expect("write a boot id");
        self.boot_id = Some(file);
    }

    /// Whether its process was started and not ended by the story.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.process.is_some()
    }

    /// Starts it again if it has ended by itself, as systemd does (`Restart=always`). Whether it had.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start_if_ended(&mut self) -> bool {
        let process = self.process.as_mut().expect("the agent was started");
        if !matches!(process.try_wait(), Ok(Some(_))) {
            return false;
        }
        self.process = None;
        self.start_without_waiting();
        true
    }

    /// Starts it again and waits until it is online.
    ///
    /// # Panics
    /// When it is not within half a minute.
    pub fn restart(&mut self) {
        self.start_without_waiting();
        self.wait_until(MachineState::Online);
    }

    /// Its machine as the coordinator knows it.
    #[must_use]
    #[track_caller]
    pub fn machine(&self) -> Machine {
        self.api.load(&format!("/api/machines/{}", self.name))
    }

    /// Waits until the coordinator says so.
    ///
    /// # Panics
    /// When it does not within half a minute.
    #[track_caller]
    pub fn wait_until(&self, state: MachineState) {
        eventually(&format!("{} is {state:?}", self.name), ONLINE_LIMIT, || {
            let answer = self.api.get(&format!("/api/machines/{}", self.name));
            answer.status == 200 && answer.json::<Machine>().state == state
        });
    }

    /// SIGKILL to the agent alone; keepers and commands go on.
    ///
    /// # Panics
    /// When it is not running.
    pub fn kill9(&mut self) {
        self.note_cgroups();
        let mut process = self.process.take().expect("the agent runs");
        process.kill().expect("kill the agent");
        process.wait().expect("wait for the agent");
    }

    /// SIGTERM, as systemd would with `KillMode=process`.
    ///
    /// # Panics
    /// When it takes longer than 20 seconds.
    pub fn stop(&mut self) {
        self.note_cgroups();
        Process::read(self.pid()).expect("the agent runs").signal(Signal::SIGTERM);
        let mut process = self.process.take().expect("the agent runs");
        eventually_some("the agent has stopped", Duration::from_secs(20), || {
            process.try_wait().expect("wait for the agent")
        });
    }

    /// Finds its cgroups while it still runs and can be asked.
    fn note_cgroups(&mut self) {
        let pid = self.process.as_ref().map(|process| process.id().cast_signed());
        self.cgroup = pid.and_then(cgroups::of_agent).or(self.cgroup.take());
    }

    /// Its keepers.
    #[must_use]
    pub fn keepers(&self) -> Vec<Process> {
        let state = self.state.to_string_lossy().into_owned();
        processes::list()
            .into_iter()
            .filter(|process| {
                process.arguments.iter().any(|argument| argument == "keep")
                    && process
                        .arguments
                        .iter()
                        .chain(&process.environment)
                        .any(|t| t.contains(&state))
            })
            .collect()
    }

    /// Waits for the process that makes its keepers, and the one that it holds ready.
    ///
    /// # Panics
    /// When they are not there within 10 seconds.
    #[must_use]
    #[track_caller]
    pub fn nursery(&self) -> [Process; 2] {
        let state = self.state.to_string_lossy().into_owned();
        eventually_some("the agent has a nursery", Duration::from_secs(10), || {
            let is_ours = |process: &Process| {
                let words = &process.arguments;
                words.get(1).is_some_and(|word| word == "warm")
                    && words.get(2).is_some_and(|folder| folder.starts_with(&state))
            };
            let mut found: Vec<_> = processes::list().into_iter().filter(is_ours).collect();
            found.sort_by_key(|process| process.parent != self.pid());
            <[Process; 2]>::try_from(found).ok().filter(|[first, _]| first.parent == self.pid())
        })
    }

    /// Waits for the one keeper there is.
    ///
    /// # Panics
    /// When there is not exactly one within 10 seconds.
    #[must_use]
    #[track_caller]
    pub fn keeper(&self) -> Process {
        eventually_some("the agent has one keeper", Duration::from_secs(10), || {
            <[Process; 1]>::try_from(self.keepers()).ok().map(|[keeper]| keeper)
        })
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.note_cgroups();
        if let Some(mut process) = self.process.take() {
            let _gone = process.kill();
            let _gone = process.wait();
        }
        processes::kill_all_of(&self.state.to_string_lossy());
        if let Some(folder) = &self.cgroup {
            cgroups::remove(folder);
        }
    }
}

/// The agent, started through other programs.
fn wrapped(words: &[String]) -> Command {
    let Some((first, rest)) = words.split_first() else { return Command::new(binaries::agent()) };
    let mut command = Command::new(first);
    command.args(rest).arg(binaries::agent());
    command
}
