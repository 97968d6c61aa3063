//! Units of systemd, on a bus where a systemd answers that manages nothing.

use std::time::Duration;

use reeve_protocol::ops::{
    ServiceAction, ServiceChange, ServiceControl, ServiceList, ServiceStatus, Services, UnitStatus,
};
use reeve_sdk::Answered;
use reeve_tests::systemd::{Behaviour, FakeSystemd};
use reeve_tests::{Cluster, eventually};

fn control(cluster: &Cluster, unit: &str, action: ServiceAction, wait_ms: u32) -> Answered {
    let asked = ServiceControl { unit: unit.to_owned(), action, wait_ms: Some(wait_ms) };
    cluster.perform("web-1", asked).remove(0)
}

#[track_caller]
fn changed(answer: &Answered) -> ServiceChange {
    serde_json::from_slice(&answer.stdout).unwrap_or_else(|error| panic!("{error}: {answer:?}"))
}

#[track_caller]
fn code(answer: &Answered) -> &str {
    &answer.failure.as_ref().unwrap_or_else(|| panic!("no failure: {answer:?}")).code
}

#[test]
fn services_are_listed_looked_at_started_and_stopped() {
    let systemd = FakeSystemd::start(&[
        ("nginx.service", Behaviour::Works),
        ("backup.timer", Behaviour::Works),
    ]);
    let cluster = Cluster::start();
    let _web = cluster.agent("web-1").bus(systemd.address()).start();
    let answer = cluster.perform("web-1", ServiceList::default()).remove(0);
    let listed: Services = serde_json::from_slice(&answer.stdout).expect("units");
    let unit = &listed.units[..1][0];
    assert_eq!((listed.units.len(), unit.unit.as_str()), (1, "nginx.service"));
    assert_eq!((unit.active.as_str(), unit.enabled.as_str()), ("inactive", "disabled"));
    cluster
        .reeve(["services", "list", "web-1", "--type", "timer"])
        .expect_code(0)
        .expect_says("backup.timer");

    let started = cluster.reeve(["services", "start", "web-1", "nginx"]);
    started.expect_code(0).expect_says("nginx.service is active (running)");
    let again = control(&cluster, "nginx", ServiceAction::Start, 60_000);
    assert!(changed(&again).already && changed(&again).job.is_none(), "{again:?}");
    assert_eq!(systemd.unit("nginx.service").jobs, ["StartUnit"]);

    let answer = cluster.perform("web-1", ServiceStatus { unit: "nginx".to_owned() }).remove(0);
    let status: UnitStatus = serde_json::from_slice(&answer.stdout).expect("a status");
    assert_eq!((status.active.as_str(), status.main_pid), ("active", Some(std::process::id())));
    assert_eq!((status.memory, status.cpu_ns, status.restarts), (Some(4096), None, Some(2)));
    assert_eq!((status.since_us, status.last_exit), (Some(1_700_000_000_000_000), None));
    assert_eq!(status.triggered_by, ["other.timer"]);
    cluster
        .reeve(["services", "status", "web-1", "nginx"])
        .expect_code(0)
        .expect_says("The unit nginx.service")
        .expect_says("4.0 KiB");

    let stopped = control(&cluster, "nginx.service", ServiceAction::Stop, 60_000);
    let change = changed(&stopped);
    assert_eq!((change.job.as_deref(), change.status.active.as_str()), (Some("done"), "inactive"));
    assert!(changed(&control(&cluster, "nginx", ServiceAction::Stop, 60_000)).already);
    assert_eq!(systemd.unit("nginx.service").jobs, ["StartUnit", "StopUnit"]);
}

#[test]
fn what_systemd_cannot_do_fails_with_the_state_of_the_unit() {
    let systemd = FakeSystemd::start(&[
        ("broken.service", Behaviour::Fails),
        ("brief.service", Behaviour::Dies),
        ("masked.service", Behaviour::Masked),
        ("denied.service", Behaviour::Denied),
        ("plain.service", Behaviour::Static),
        ("slow.service", Behaviour::Hangs),
        ("nginx.service", Behaviour::Works),
    ]);
    let cluster = Cluster::start();
    let _web = cluster.agent("web-1").bus(systemd.address()).start();
    let start = |unit: &str| control(&cluster, unit, ServiceAction::Start, 60_000);

    let answer = start("broken");
    assert_eq!(code(&answer), "job_failed");
    let change = changed(&answer);
    assert_eq!((change.job.as_deref(), change.status.last_exit), (Some("failed"), Some(1)));
    let answer = start("brief");
    assert_eq!(code(&answer), "job_failed");
    assert!(format!("{answer:?}").contains("ended at once"), "{answer:?}");
    assert_eq!(changed(&answer).job.as_deref(), Some("done"));
    assert_eq!(code(&start("masked")), "masked");
    assert_eq!(code(&start("denied")), "not_permitted");
    let reload = control(&cluster, "plain", ServiceAction::Reload, 60_000);
    assert_eq!(code(&reload), "not_applicable");

    // It goes on after the wait, and is told as it is.
    let answer = control(&cluster, "slow", ServiceAction::Start, 500);
    assert_eq!(code(&answer), "timed_out");
    assert_eq!(changed(&answer).status.active, "activating");

    let answer = start("ngnix");
    assert_eq!(code(&answer), "not_found");
    assert!(format!("{answer:?}").contains("did you mean nginx.service"), "{answer:?}");
    let looked = cluster.perform("web-1", ServiceStatus { unit: "gone".to_owned() }).remove(0);
    assert_eq!(code(&looked), "not_found");
    cluster.reeve(["services", "start", "web-1", "broken"]).expect_code(1).expect_says("exit 1");
    cluster.reeve(["services", "start", "web-1", "a b"]).expect_code(255).expect_says("a b");
}

#[test]
fn enabling_changes_links_once_and_has_them_read() {
    let systemd = FakeSystemd::start(&[
        ("nginx.service", Behaviour::Works),
        ("plain.service", Behaviour::Static),
    ]);
    let cluster = Cluster::start();
    let _web = cluster.agent("web-1").bus(systemd.address()).start();
    let enabled = control(&cluster, "nginx", ServiceAction::Enable, 1000);
    let change = changed(&enabled);
    assert_eq!((change.already, change.status.enabled.as_str()), (false, "enabled"));
    assert!(change.links[0].contains("multi-user.target.wants"), "{change:?}");
    assert_eq!(systemd.reloads(), 1);
    assert!(changed(&control(&cluster, "nginx", ServiceAction::Enable, 1000)).already);
    assert_eq!(systemd.reloads(), 1);
    assert_eq!(code(&control(&cluster, "plain", ServiceAction::Enable, 1000)), "not_applicable");
    let disabled = cluster.reeve(["services", "disable", "web-1", "nginx"]);
    disabled.expect_code(0).expect_says("nginx.service is disabled").expect_says("removed");
    let masked = control(&cluster, "nginx", ServiceAction::Mask, 1000);
    assert_eq!(changed(&masked).status.enabled, "masked");
    let unmasked = control(&cluster, "nginx", ServiceAction::Unmask, 1000);
    assert_eq!(changed(&unmasked).status.enabled, "disabled");
}

#[test]
fn bus_that_vanishes_in_the_middle_is_told() {
    let mut systemd = FakeSystemd::start(&[("slow.service", Behaviour::Hangs)]);
    let cluster = Cluster::start();
    let _web = cluster.agent("web-1").bus(systemd.address()).start();
    let running = cluster.spawn_reeve(["services", "restart", "web-1", "slow", "--timeout", "1h"]);
    eventually("the job was given", Duration::from_secs(20), || {
        systemd.unit("slow.service").jobs == ["RestartUnit"]
    });
    systemd.kill_bus();
    running.finish().expect_code(1).expect_says("connection to the system bus was lost");
}

#[test]
fn machines_without_systemd_and_without_leave_say_so() {
    let systemd = FakeSystemd::bus_alone();
    let cluster = Cluster::start();
    let _none = cluster.agent("none").bus("unix:path=/no/such/bus").start();
    let _other = cluster.agent("other").bus(systemd.address()).start();
    let policy = "[allow]\nexec = false\n";
    let _strict = cluster.agent("strict").bus(systemd.address()).policy(policy).start();
    if !std::path::Path::new("/run/systemd/system").exists() {
        let answer = cluster.perform("none", ServiceList::default()).remove(0);
        assert_eq!(code(&answer), "no_systemd");
    }
    let answer = cluster.perform("other", ServiceList::default()).remove(0);
    assert_eq!(code(&answer), "no_systemd");
    let stopped = cluster.reeve(["services", "stop", "strict", "nginx"]);
    stopped.expect_code(255).expect_says("policy");
}
