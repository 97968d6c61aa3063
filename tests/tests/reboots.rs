//! The machine itself goes down: everything on it is gone at once, and the kernel that comes up has
//! another boot id.

use std::fs;
use std::path::Path;
use std::time::Duration;

use reeve_sdk::api::{
    ExecuteCommandRequest, JobRequest, MachineState, OperationRequest, OperationState,
};
use reeve_tests::proxy::{Direction, Proxy};
use reeve_tests::{Cluster, Gate, eventually, on_each_containment, on_each_database};

const LIMIT: Duration = Duration::from_secs(30);

fn request(line: &str) -> JobRequest {
    let command = ExecuteCommandRequest { shell: Some(line.to_owned()), ..Default::default() };
    JobRequest::new("web-1", OperationRequest::ExecuteCommand(command))
}

fn starts(file: &Path) -> String {
    fs::read_to_string(file).unwrap_or_default()
}

on_each_containment! {
    fn machine_rebooted_in_the_middle_of_a_command_is_lost_with_what_was_seen(containment) {
        let cluster = Cluster::start();
        let mut web = cluster.agent("web-1").containment(containment).start();
        let file = cluster.folder().join("starts");
        let gate = Gate::in_folder(cluster.folder());
        let line = format!("echo start >> {}; {}", file.display(), gate.count(0));
        let mut run = cluster.spawn_reeve(["run", "web-1", "--shell", &line]);
        run.wait_for("\n1000\n");
        web.power_off();
        assert!(!gate.has_commands(), "the power is off");
        web.restart();
        let run = run.finish();
        run.expect_says("lost").expect_says("reboot");
        assert_ne!(run.code, 0, "{run}");
        // What had arrived was kept.
        assert!(Gate::counted().starts_with(&run.text()) && run.text().contains("\n1000\n"), "{run}");
        let operation = cluster.last_operation();
        assert_eq!(operation.state, OperationState::Lost);
        assert_eq!(operation.reason.expect("a reason").code, "rebooted");
        cluster.reeve(["run", "web-1", "--", "true"]).expect_code(0);
        assert_eq!(starts(&file), "start\n");
    }
}

on_each_database! {
    fn request_under_way_when_the_machine_rebooted_never_runs(builder) {
        let cluster = builder.start();
        let proxy = Proxy::to(cluster.coordinator.address());
        let mut web = cluster.agent("web-1").dials(&proxy.url()).start();
        cluster.reeve(["run", "web-1", "--", "true"]).expect_code(0);
        let file = cluster.folder().join("starts");
        proxy.hold(Direction::Down);
        let job = cluster.submit(&request(&format!("echo start >> {}", file.display())));
        eventually("the request is on its way", LIMIT, || proxy.held() > 0);
        web.power_off();
        proxy.thaw();
        web.restart();
        // It cannot have started, but nobody is able to know that.
        eventually("it is given up", LIMIT, || {
            cluster.operations(job.id)[0].state == OperationState::Lost
        });
        cluster.reeve(["run", "web-1", "--", "true"]).expect_code(0);
        assert_eq!(starts(&file), "");
    }

    /// What a machine wrote last before its power failed may not be on its disk: journal and folder
    /// of the operation are gone as if it had never been asked. Only the boot id tells.
    fn power_cut_that_loses_the_journals_last_words_starts_nothing_twice(builder) {
        let cluster = builder.start();
        let proxy = Proxy::to(cluster.coordinator.address());
        let mut web = cluster.agent("web-1").dials(&proxy.url()).start();
        cluster.reeve(["run", "web-1", "--", "true"]).expect_code(0);
        let file = cluster.folder().join("starts");
        let before = cluster.folder().join("journal-before");
        fs::copy(web.state().join("journal"), &before).expect("copy the journal");
        let gate = Gate::in_folder(cluster.folder());
        let line = format!("echo start >> {}; {}", file.display(), gate.wait());
        // Nobody hears that it started.
        proxy.hold(Direction::Up);
        let job = cluster.submit(&request(&line));
        eventually("it has started", LIMIT, || file.exists());
        web.power_off();
        assert_eq!(cluster.operations(job.id)[0].state, OperationState::Sent);
        proxy.thaw();
        fs::copy(&before, web.state().join("journal")).expect("the journal of before");
        let folders = fs::read_dir(web.state().join("operations")).expect("a folder").flatten();
        for folder in folders.filter(|f| f.file_name().to_string_lossy().contains('-')) {
            fs::remove_dir_all(folder.path()).expect("remove a folder");
        }
        gate.open();
        web.restart();
        eventually("it has ended", LIMIT, || cluster.operations(job.id)[0].state.is_terminal());
        cluster.reeve(["run", "web-1", "--", "true"]).expect_code(0);
        assert_eq!(starts(&file), "start\n");
        let operation = &cluster.operations(job.id)[0];
        assert_eq!(operation.state, OperationState::Lost);
        assert_eq!(operation.reason.as_ref().expect("a reason").code, "rebooted");
    }
}

#[test]
fn job_that_waits_runs_once_after_the_reboot() {
    let cluster = Cluster::start();
    let mut web = cluster.agent("web-1").start();
    web.power_off();
    web.wait_until(MachineState::Offline);
    let run = cluster.spawn_reeve(["run", "web-1", "--wait", "5m", "--", "echo", "at last"]);
    web.restart();
    run.finish().expect_code(0).expect_stdout("at last\n");
}
