//! `reeve services`.

use clap::{Args, Subcommand};
use clap_complete::ArgValueCandidates;
use reeve_protocol::ops::service_status::unit_name;
use reeve_protocol::ops::{
    Service, ServiceAction, ServiceChange, ServiceControl, ServiceList, ServiceStatus,
    Services as Units, UnitStatus,
};
use reeve_sdk::Client;
use reeve_sdk::api::{JobRequest, Time};
use serde::Serialize;

use super::completion::machine_names;
use super::perform::{perform, to_selector};
use super::{confirm, logs};
use crate::args::{Format, Global};
use crate::connection::connect;
use crate::durations::{age, length, size, to_millis};
use crate::failure::Failure;
use crate::output::{Column, Row, column, print_list, print_one, wide};
use crate::terminal::note;

const EXAMPLES: &str = "\
Examples:
  reeve services list web-1 --failed
  reeve services restart 'role=web' nginx       asks when that is many machines";

/// More than so many machines need a yes before anything on them is changed.
const CONFIRM_ABOVE: usize = 10;

/// Look at and control services (units of systemd)
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Services {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// List services
    List(List),
    /// Show how a service is
    Status(Which),
    /// Show what it logged, as 'reeve logs MACHINE -u UNIT' does
    Logs(Logged),
    /// Start it, unless it runs
    Start(Control),
    /// Stop it, if it runs
    Stop(Control),
    /// Stop it if it runs, and start it
    Restart(Control),
    /// Have it read its settings again
    Reload(Control),
    /// Have it started at boot from now on
    Enable(Control),
    /// Have it started at boot no more
    Disable(Control),
    /// Make it impossible to start
    Mask(Control),
    /// Make it possible again
    Unmask(Control),
}

#[derive(Args)]
struct List {
    /// web-1 | web-1,db-1 | web-* | role=web,env!=prod | @all
    #[arg(required = true, value_name = "MACHINE", add = ArgValueCandidates::new(machine_names))]
    machines: Vec<String>,
    /// Only those that failed
    #[arg(long)]
    failed: bool,
    /// Only those in this state: active, inactive, failed, …
    #[arg(long, conflicts_with = "failed")]
    state: Option<String>,
    /// Only those with this in their name or description
    #[arg(long, value_name = "TEXT")]
    name: Option<String>,
    /// Other kinds of units: timer, socket, mount, …
    #[arg(long = "type", value_name = "KIND", value_delimiter = ',')]
    kinds: Vec<String>,
    /// Also those that are installed and not loaded
    #[arg(short, long)]
    all: bool,
}

#[derive(Args)]
struct Which {
    /// Machines, then the unit
    #[arg(required = true, num_args = 2.., value_names = ["MACHINE", "UNIT"])]
    #[arg(add = ArgValueCandidates::new(machine_names))]
    words: Vec<String>,
}

#[derive(Args)]
struct Control {
    #[command(flatten)]
    which: Which,
    /// Do not ask, however many machines
    #[arg(short, long)]
    yes: bool,
    /// Wait so long for it (2m); it goes on after that
    #[arg(long, value_name = "DURATION", value_parser = crate::durations::parse)]
    timeout: Option<std::time::Duration>,
}

#[derive(Args)]
struct Logged {
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    sift: logs::Sift,
}

impl Logged {
    async fn perform(self, global: &Global) -> Result<u8, Failure> {
        let (selector, unit) = self.which.split()?;
        let read = logs::Logs::of_unit(selector, unit_name(&unit), self.sift);
        Box::pin(read.perform(global)).await
    }
}

impl Which {
    /// The selector, and the unit behind it.
    fn split(&self) -> Result<(String, String), Failure> {
        match self.words.split_last() {
            Some((unit, machines)) if !machines.is_empty() => {
                Ok((to_selector(machines), unit.clone()))
            }
            _ => Err(Failure::usage("name a machine and then the unit")),
        }
    }
}

/// A unit of a machine, in a list of one machine's or of many machines'.
#[derive(Serialize)]
struct Listed<const MANY: bool> {
    machine: String,
    #[serde(flatten)]
    service: Service,
}

impl<const MANY: bool> Row for Listed<MANY> {
    const COLUMNS: &'static [Column] = &[
        Column { title: "MACHINE", wide: !MANY },
        column("UNIT"),
        wide("LOAD"),
        column("ACTIVE"),
        column("SUB"),
        column("AT BOOT"),
        column("DESCRIPTION"),
    ];

    fn name(&self) -> String {
        self.service.unit.clone()
    }

    fn cells(&self) -> Vec<String> {
        let service = &self.service;
        let dash = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
        vec![
            self.machine.clone(),
            service.unit.clone(),
            dash(&service.load),
            dash(&service.active),
            dash(&service.sub),
            dash(&service.enabled),
            service.description.clone(),
        ]
    }
}

/// A unit of one machine among many.
#[derive(Serialize)]
struct Looked {
    machine: String,
    #[serde(flatten)]
    status: UnitStatus,
}

impl Row for Looked {
    const COLUMNS: &'static [Column] = &[
        column("MACHINE"),
        column("UNIT"),
        column("ACTIVE"),
        column("SUB"),
        column("AT BOOT"),
        column("SINCE"),
        column("PID"),
        column("MEMORY"),
        wide("RESTARTS"),
        wide("RESULT"),
    ];

    fn name(&self) -> String {
        self.machine.clone()
    }

    fn cells(&self) -> Vec<String> {
        let status = &self.status;
        let number = |number: Option<u32>| number.map(|it| it.to_string()).unwrap_or_default();
        vec![
            self.machine.clone(),
            status.unit.clone(),
            status.active.clone(),
            status.sub.clone(),
            status.enabled.clone(),
            status.since_us.map(|at| age(Time::from_micros(at))).unwrap_or_default(),
            number(status.main_pid),
            status.memory.map(size).unwrap_or_default(),
            number(status.restarts),
            status.result.clone(),
        ]
    }
}

/// What was done on one machine.
#[derive(Serialize)]
struct Changed {
    machine: String,
    #[serde(flatten)]
    change: ServiceChange,
}

impl Row for Changed {
    const COLUMNS: &'static [Column] = &[
        column("MACHINE"),
        column("UNIT"),
        column("ACTION"),
        column("CAME TO"),
        column("ACTIVE"),
        column("SUB"),
        column("AT BOOT"),
        wide("PID"),
    ];

    fn name(&self) -> String {
        self.machine.clone()
    }

    fn cells(&self) -> Vec<String> {
        let Self { machine, change } = self;
        let came_to = match (change.already, change.job.as_deref()) {
            (true, _) => "already so",
            (false, Some(result)) => result,
            (false, None) if change.links.is_empty() => "not ended",
            (false, None) => "done",
        };
        vec![
            machine.clone(),
            change.status.unit.clone(),
            change.action.as_str().to_owned(),
            came_to.to_owned(),
            change.status.active.clone(),
            change.status.sub.clone(),
            change.status.enabled.clone(),
            change.status.main_pid.map(|pid| pid.to_string()).unwrap_or_default(),
        ]
    }
}

impl Services {
    pub async fn perform(self, global: &Global) -> Result<u8, Failure> {
        let client = connect(global)?;
        match self.action {
            Action::List(list) => list.perform(global, &client).await,
            Action::Status(which) => status(global, &client, &which).await,
            Action::Logs(logged) => logged.perform(global).await,
            Action::Start(it) => it.perform(global, &client, ServiceAction::Start).await,
            Action::Stop(it) => it.perform(global, &client, ServiceAction::Stop).await,
            Action::Restart(it) => it.perform(global, &client, ServiceAction::Restart).await,
            Action::Reload(it) => it.perform(global, &client, ServiceAction::Reload).await,
            Action::Enable(it) => it.perform(global, &client, ServiceAction::Enable).await,
            Action::Disable(it) => it.perform(global, &client, ServiceAction::Disable).await,
            Action::Mask(it) => it.perform(global, &client, ServiceAction::Mask).await,
            Action::Unmask(it) => it.perform(global, &client, ServiceAction::Unmask).await,
        }
    }
}

impl List {
    async fn perform(&self, global: &Global, client: &Client) -> Result<u8, Failure> {
        let operation = ServiceList { kinds: self.kinds.clone(), all: self.all };
        let replies = perform::<Units>(client, &to_selector(&self.machines), operation).await?;
        let mut all = Vec::new();
        for (machine, listing) in replies.answers {
            let wanted = listing.units.into_iter().filter(|service| self.is_wanted(service));
            all.extend(wanted.map(|service| (machine.clone(), service)));
        }
        fn listed<const MANY: bool>(all: Vec<(String, Service)>) -> Vec<Listed<MANY>> {
            all.into_iter().map(|(machine, service)| Listed { machine, service }).collect()
        }
        if replies.asked > 1 {
            print_list(global.output, &listed::<true>(all))?;
        } else {
            print_list(global.output, &listed::<false>(all))?;
        }
        Ok(replies.code)
    }

    fn is_wanted(&self, service: &Service) -> bool {
        let state = if self.failed { Some("failed") } else { self.state.as_deref() };
        state.is_none_or(|state| service.active == state || service.sub == state)
            && self.name.as_ref().is_none_or(|text| {
                service.unit.contains(text) || service.description.contains(text)
            })
    }
}

async fn status(global: &Global, client: &Client, which: &Which) -> Result<u8, Failure> {
    let (selector, unit) = which.split()?;
    let mut replies = perform::<UnitStatus>(client, &selector, ServiceStatus { unit }).await?;
    if replies.asked == 1 {
        if let Some((machine, status)) = replies.answers.pop() {
            print_one(global.output, &status, &status.unit, &details(&machine, &status))?;
        }
        return Ok(replies.code);
    }
    let all: Vec<Looked> =
        replies.answers.into_iter().map(|(machine, status)| Looked { machine, status }).collect();
    print_list(global.output, &all)?;
    Ok(replies.code)
}

fn details(machine: &str, status: &UnitStatus) -> Vec<(&'static str, String)> {
    let when = |at: Option<i64>| {
        at.map(Time::from_micros).map(|at| format!("{at} ({})", age(at))).unwrap_or_default()
    };
    let last = match (status.last_exit, status.last_signal) {
        (Some(code), _) => format!("exit {code}, {}", when(status.last_ended_us)),
        (None, Some(signal)) => format!("signal {signal}, {}", when(status.last_ended_us)),
        (None, None) => String::new(),
    };
    let memory = match (status.memory, status.memory_peak) {
        (Some(now), Some(peak)) => format!("{} (at most {})", size(now), size(peak)),
        (Some(now), None) => size(now),
        _ => String::new(),
    };
    vec![
        ("unit", status.unit.clone()),
        ("machine", machine.to_owned()),
        ("description", status.description.clone()),
        ("loaded", join(&[&status.load, &status.path, &status.load_error])),
        ("drop-ins", status.drop_ins.join("\n")),
        ("at boot", status.enabled.clone()),
        ("active", join(&[&status.active, &status.sub])),
        ("since", when(status.since_us)),
        ("started by", status.triggered_by.join(" ")),
        ("main process", status.main_pid.map(|pid| pid.to_string()).unwrap_or_default()),
        ("last end", last),
        ("result", status.result.clone()),
        ("restarts", status.restarts.map(|count| count.to_string()).unwrap_or_default()),
        ("it says", status.status_text.clone()),
        ("memory", memory),
        ("processor", status.cpu_ns.map(|ns| length(ns / 1_000_000)).unwrap_or_default()),
        ("tasks", status.tasks.map(|count| count.to_string()).unwrap_or_default()),
        ("control group", status.cgroup.clone()),
        (
            "remark",
            if status.needs_daemon_reload {
                "its file changed on the disk; systemctl daemon-reload has it read".to_owned()
            } else {
                String::new()
            },
        ),
    ]
}

fn join(words: &[&str]) -> String {
    let words: Vec<&str> = words.iter().copied().filter(|word| !word.is_empty()).collect();
    words.join(" ")
}

impl Control {
    async fn perform(
        &self,
        global: &Global,
        client: &Client,
        action: ServiceAction,
    ) -> Result<u8, Failure> {
        let (selector, unit) = self.which.split()?;
        let wait = self.timeout.map(|wait| u32::try_from(to_millis(wait)).unwrap_or(u32::MAX));
        let operation = ServiceControl { unit: unit.clone(), action, wait_ms: wait };
        if !self.yes {
            let request = JobRequest::new(selector.clone(), operation.clone());
            let count = client.preview_job(&request).await?.targets.len();
            if count > CONFIRM_ABOVE {
                let doing =
                    format!("To {} {} on {count} machines", action.as_str(), unit_name(&unit));
                confirm(false, &doing)?;
            }
        }
        let replies = perform::<ServiceChange>(client, &selector, operation).await?;
        if replies.asked == 1 && matches!(global.output, Format::Table | Format::Wide) {
            for (machine, change) in &replies.answers {
                note(&format!("{machine}: {}", sentence(change)));
            }
            return Ok(replies.code);
        }
        let all: Vec<Changed> = replies
            .answers
            .into_iter()
            .map(|(machine, change)| Changed { machine, change })
            .collect();
        print_list(global.output, &all)?;
        Ok(replies.code)
    }
}

/// `nginx.service is active (running), process 4711`.
fn sentence(change: &ServiceChange) -> String {
    let status = &change.status;
    let mut text = match change.action {
        ServiceAction::Start
        | ServiceAction::Stop
        | ServiceAction::Restart
        | ServiceAction::Reload => format!("{} is {} ({})", status.unit, status.active, status.sub),
        _ => format!("{} is {}", status.unit, status.enabled),
    };
    if change.already {
        text.push_str(", as it was already");
    } else if let Some(pid) = status.main_pid {
        text.push_str(&format!(", process {pid}"));
    }
    for link in &change.links {
        text.push_str(&format!("\n  {link}"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_word_is_the_unit_and_the_others_are_machines() {
        let which =
            |words: &[&str]| Which { words: words.iter().map(|&it| it.to_owned()).collect() };
        let split = which(&["web-1", "role=db", "nginx"]).split().expect("two and one");
        assert_eq!(split, ("web-1,role=db".to_owned(), "nginx".to_owned()));
        assert!(which(&["nginx"]).split().is_err());
    }

    #[test]
    fn what_came_of_it_is_one_sentence() {
        let status = UnitStatus {
            unit: "nginx.service".to_owned(),
            active: "active".to_owned(),
            sub: "running".to_owned(),
            main_pid: Some(7),
            ..UnitStatus::default()
        };
        let mut change = ServiceChange {
            action: ServiceAction::Start,
            already: false,
            job: Some("done".to_owned()),
            links: Vec::new(),
            status,
        };
        assert_eq!(sentence(&change), "nginx.service is active (running), process 7");
        change.already = true;
        assert_eq!(sentence(&change), "nginx.service is active (running), as it was already");
    }
}
