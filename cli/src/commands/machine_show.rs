//! `reeve machines show`: what is stored of a machine, and while it is online what it says itself.

use std::time::Duration;

use reeve_protocol::InspectFact;
use reeve_protocol::ops::{FileSystem, MachineDescribe, MachineDescription, RebootNeed, Updates};
use reeve_sdk::Client;
use reeve_sdk::api::{History, JobRequest, Machine, MachineState, Time};
use serde::Serialize;

use super::labels_text;
use super::machines::state_word;
use crate::args::Global;
use crate::durations::{age, length, size};
use crate::failure::Failure;
use crate::output::print_one;
use crate::terminal::note;
use crate::top::line_of;

/// A machine may take so long to describe itself; a package manager needs seconds of it.
const PATIENCE: Duration = Duration::from_secs(30);

/// How far back the lines of charts go, seconds.
const CHART_SECONDS: i64 = 3600;
/// How wide they are.
const CHART_WIDTH: usize = 60;

/// Routes, packages and the like that are shown.
const MAX_SHOWN: usize = 8;

/// A machine with what it says itself.
#[derive(Serialize)]
struct Shown<'a> {
    #[serde(flatten)]
    machine: &'a Machine,
    /// What it says itself; nothing when it was not asked or could not answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    live: Option<&'a MachineDescription>,
}

type Details = Vec<(&'static str, String)>;

/// Shows a machine. It is asked itself while it is online, unless `stored` will do.
pub async fn show(
    global: &Global,
    client: &Client,
    machine: &Machine,
    stored: bool,
) -> Result<(), Failure> {
    let is_asked = machine.state == MachineState::Online && !stored;
    let live = if is_asked { describe(client, machine).await } else { None };
    let history = client.machine_history(&machine.name, CHART_SECONDS, Some("cpu,memory")).await;
    let mut details = basics(machine);
    match &live {
        Some(live) => details.extend(live_details(live)),
        None => details.extend(stored_details(machine)),
    }
    if let Ok(history) = history {
        details.extend(charts(&history, machine.facts.memory_total));
    }
    print_one(global.output, &Shown { machine, live: live.as_ref() }, &machine.name, &details)
}

/// What the machine says of itself; that it does not is told, and no failure.
async fn describe(client: &Client, machine: &Machine) -> Option<MachineDescription> {
    let request = JobRequest::new(&machine.name, MachineDescribe::default());
    let asked = tokio::time::timeout(PATIENCE, client.perform(&request)).await;
    let why = match asked {
        Err(_) => "it does not answer".to_owned(),
        Ok(Err(error)) => error.to_string(),
        Ok(Ok(mut answers)) => match answers.pop() {
            None => "nobody was asked".to_owned(),
            Some(answer) => match (answer.failure, serde_json::from_slice(&answer.stdout)) {
                (None, Ok(description)) => return Some(description),
                (None, Err(error)) => error.to_string(),
                (Some(failure), _) => failure.to_string(),
            },
        },
    };
    note(&format!("{}: only what is stored is shown: {why}", machine.name));
    None
}

fn basics(machine: &Machine) -> Details {
    let facts = &machine.facts;
    let load =
        machine.metrics.map(|now| format!("{:.2} {:.2} {:.2}", now.load1, now.load5, now.load15));
    vec![
        ("name", machine.name.clone()),
        ("id", machine.id.to_string()),
        ("state", state_word(machine.state).to_owned()),
        ("labels", labels_text(&machine.labels)),
        ("enrolled", machine.enrolled.to_string()),
        (
            "last seen",
            machine.last_seen.map(|at| format!("{at} ({})", age(at))).unwrap_or_default(),
        ),
        ("running", machine.running.to_string()),
        ("host name", facts.hostname.clone()),
        ("system", format!("{} {} {}", facts.os_name, facts.kernel, facts.architecture)),
        ("cpus", format!("{} {}", facts.cpus, facts.cpu_model)),
        ("memory", size(facts.memory_total)),
        ("load", load.unwrap_or_default()),
        ("agent", format!("{} as {}", machine.agent_version, facts.agent_user)),
        ("inspect mode", facts.inspect.as_ref().map(inspect_text).unwrap_or_default()),
        ("clock", machine.clock_skew_ms.map(|skew| format!("{skew:+} ms")).unwrap_or_default()),
        ("boot id", machine.boot_id.clone()),
    ]
}

/// What its agent told when it last connected.
fn stored_details(machine: &Machine) -> Details {
    let facts = &machine.facts;
    let disks = facts.disks.iter().map(|disk| {
        let (free, total) = (size(disk.available), size(disk.total));
        format!("{} {} {free} free of {total}", disk.mount, disk.kind)
    });
    let networks = facts
        .networks
        .iter()
        .map(|network| format!("{} {} {}", network.name, network.mac, network.addresses.join(" ")));
    vec![
        ("told", "when it last connected".to_owned()),
        ("disks", lines(disks)),
        ("networks", lines(networks)),
    ]
}

/// What it says now.
fn live_details(live: &MachineDescription) -> Details {
    let interfaces = live.interfaces.iter().map(|interface| {
        format!(
            "{} {} {} in {} out {}{}",
            interface.name,
            interface.state,
            interface.addresses.join(" "),
            size(interface.received),
            size(interface.sent),
            match interface.faults {
                0 => String::new(),
                faults => format!(" faults {faults}"),
            }
        )
    });
    let routes = live.routes.iter().take(MAX_SHOWN).map(|route| {
        let via = match route.gateway.as_str() {
            "" => String::new(),
            gateway => format!(" via {gateway}"),
        };
        format!("{}{via} dev {}", route.destination, route.interface)
    });
    let users = match &live.users {
        None => "not known".to_owned(),
        Some(users) if users.is_empty() => "nobody".to_owned(),
        Some(users) => lines(users.iter().map(|user| {
            let since = age(Time::from_micros(user.since_us));
            format!("{} on {} {} ({since})", user.user, user.terminal, user.from)
        })),
    };
    vec![
        ("told", "now, by the machine itself".to_owned()),
        ("up", length(live.uptime_s.saturating_mul(1000))),
        ("virtual", live.virtualisation.clone()),
        (
            "time",
            match live.clock_synchronised {
                Some(true) => format!("{}, synchronised", live.timezone),
                Some(false) => format!("{}, NOT synchronised", live.timezone),
                None => live.timezone.clone(),
            },
        ),
        ("disks", lines(live.filesystems.iter().map(disk_text))),
        ("networks", lines(interfaces)),
        ("routes", lines(routes)),
        ("dns", live.dns_servers.join(" ")),
        ("logged in", users),
        ("updates", live.updates.as_ref().map(updates_text).unwrap_or_default()),
        ("reboot", reboot_text(&live.reboot)),
    ]
}

fn disk_text(disk: &FileSystem) -> String {
    let space = match (disk.available, disk.total) {
        (Some(free), Some(total)) => format!("{} free of {}", size(free), size(total)),
        _ => "not measured: it is another machine's".to_owned(),
    };
    let inodes = match (disk.inodes_free, disk.inodes) {
        (Some(free), Some(all)) if all > 0 => {
            // The share that is used, rounded up.
            let used = all.saturating_sub(free).saturating_mul(100).div_ceil(all);
            format!(", {used}% of inodes used")
        }
        _ => String::new(),
    };
    let read_only = if disk.read_only { ", read-only" } else { "" };
    format!("{} {} {space}{inodes}{read_only}", disk.mount, disk.kind)
}

fn updates_text(updates: &Updates) -> String {
    let mut text = match (updates.count, updates.security) {
        (None, _) => format!("not known ({})", updates.note),
        (Some(0), _) => "none".to_owned(),
        (Some(count), Some(security)) => format!("{count}, {security} of them for security"),
        (Some(count), None) => format!("{count}; how many for security is not known"),
    };
    if let Some(at) = updates.as_of_us {
        text.push_str(&format!(" ({}, lists {} old)", updates.manager, age(Time::from_micros(at))));
    }
    // What mends something of security comes first.
    let mut packages: Vec<_> = updates.packages.iter().collect();
    packages.sort_by_key(|package| !package.security);
    for package in packages.iter().take(MAX_SHOWN) {
        let mark = if package.security { " (security)" } else { "" };
        text.push_str(&format!(
            "\n{} {} -> {}{mark}",
            package.name, package.installed, package.available
        ));
    }
    if packages.len() > MAX_SHOWN {
        text.push_str(&format!("\n… {} more", packages.len() - MAX_SHOWN));
    }
    text
}

fn reboot_text(need: &RebootNeed) -> String {
    match need.needed {
        None => "not known".to_owned(),
        Some(false) => "not needed".to_owned(),
        Some(true) => format!("NEEDED: {}", need.reasons.join("; ")),
    }
}

fn lines(each: impl Iterator<Item = String>) -> String {
    each.collect::<Vec<_>>().join("\n")
}

/// Whether commands can be kept from changing anything there.
fn inspect_text(fact: &InspectFact) -> String {
    if fact.available {
        format!("yes ({})", fact.walls.join(", "))
    } else {
        format!("no: {}", fact.reason)
    }
}

/// The last hour as lines of blocks.
fn charts(history: &History, memory_total: u64) -> Details {
    let find = |name: &str| history.series.iter().find(|series| series.name == name);
    let chart = |name: &str, most: f64| {
        let values = &find(name)?.avg;
        let each = values.len().div_ceil(CHART_WIDTH).max(1);
        // Where nothing is known a blank is drawn.
        let means = values.chunks(each).map(|some| {
            let known: Vec<f64> = some.iter().flatten().copied().collect();
            (!known.is_empty()).then(|| known.iter().sum::<f64>() / known.len() as f64)
        });
        let line: String = means
            .map(|mean| match mean {
                None => " ".to_owned(),
                // The cast saturates.
                Some(mean) => line_of([(mean / most * 100.0).round() as u64].into_iter(), 100, 1),
            })
            .collect();
        let last = values.iter().rev().flatten().next()?;
        Some((line, *last))
    };
    let mut details = Vec::new();
    if let Some((line, last)) = chart("cpu", 100.0) {
        details.push(("cpu, 1 h", format!("{line} {last:.0}%")));
    }
    if let Some((line, last)) = chart("memory", (memory_total as f64).max(1.0)) {
        // The cast saturates.
        details.push(("memory, 1 h", format!("{line} {}", size(last as u64))));
    }
    details
}

#[cfg(test)]
mod tests {
    use super::*;
    use reeve_protocol::ops::Update;
    use reeve_sdk::api::HistorySeries;

    #[test]
    fn inspect_mode_is_told_with_its_walls_or_the_reason() {
        let walls = vec!["namespaces".to_owned(), "seccomp".to_owned()];
        let mut fact = InspectFact { available: true, reason: String::new(), walls };
        assert_eq!(inspect_text(&fact), "yes (namespaces, seccomp)");
        fact = InspectFact { available: false, reason: "no root".to_owned(), walls: Vec::new() };
        assert_eq!(inspect_text(&fact), "no: no root");
    }

    #[test]
    fn what_is_not_known_is_said_so() {
        let unknown = Updates { note: "dnf ended with 1".to_owned(), ..Updates::default() };
        assert_eq!(updates_text(&unknown), "not known (dnf ended with 1)");
        let package = |name: &str, security| Update {
            name: name.to_owned(),
            installed: "1".to_owned(),
            available: "2".to_owned(),
            security,
        };
        let some = Updates {
            count: Some(2),
            security: Some(1),
            packages: vec![package("a", false), package("b", true)],
            ..Updates::default()
        };
        let expected = "2, 1 of them for security\nb 1 -> 2 (security)\na 1 -> 2";
        assert_eq!(updates_text(&some), expected);
        assert_eq!(reboot_text(&RebootNeed::default()), "not known");
    }

    #[test]
    fn charts_show_gaps_as_blanks() {
        let series = |name: &str, avg| HistorySeries {
            name: name.to_owned(),
            avg,
            ..HistorySeries::default()
        };
        let history = History {
            series: vec![
                series("cpu", vec![Some(0.0), None, Some(100.0)]),
                series("memory", vec![]),
            ],
            ..History::default()
        };
        assert_eq!(charts(&history, 100), [("cpu, 1 h", "▁ █ 100%".to_owned())]);
    }
}
