//! Disks fill, databases go away, ports are taken, configuration is wrong. One clear error, nothing
//! lost, and it recovers by itself.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use reeve_sdk::api::OperationState;
use reeve_tests::{Cluster, Database, Gate, SmallDisk, binaries, eventually};

#[test]
fn disk_full_refuses_new_work_loses_nothing_and_recovers_by_itself() {
    let disk = SmallDisk::of("24m");
    let cluster = Cluster::builder().database(Database::Sqlite).data(disk.folder()).start();
    let _web = cluster.agent("web-1").start();
    let line = "head -c 40M /dev/zero; echo end; exit 3";
    let run = cluster.spawn_reeve(["run", "web-1", "--shell", line]);
    eventually("new work is refused for want of room", Duration::from_secs(60), || {
        let answer = cluster.api.post(
            "/api/jobs",
            &serde_json::json!({
                "selector": "web-1",
                "operation": { "execute_command": { "argv": ["true"] } },
            }),
        );
        answer.status == 503 && answer.problem(503).code == "disk_full"
    });
    assert_eq!(cluster.guest.get("/healthz").status, 200, "the process is well, its disk is not");
    disk.grow("512m");
    let run = run.finish();
    run.expect_code(3);
    assert_eq!(run.stdout.len(), (40 << 20) + 4);
    assert!(run.stdout.ends_with(b"end\n"));
    eventually("it takes work again", Duration::from_secs(30), || {
        cluster.reeve(["run", "web-1", "--", "true"]).code == 0
    });
}

#[test]
fn locked_database_delays_or_refuses_and_recovers_by_itself() {
    let cluster = Cluster::builder().database(Database::Sqlite).start();
    let _web = cluster.agent("web-1").start();
    let gate = Gate::in_folder(cluster.folder());
    let mut run = cluster.spawn_reeve(["run", "web-1", "--shell", &gate.count(2)]);
    run.wait_for("\n1000\n");

    let lock = cluster.lock_database();
    let start = Instant::now();
    let refused = cluster.api.post(
        "/api/jobs",
        &serde_json::json!({
            "selector": "web-1",
            "operation": { "execute_command": { "argv": ["true"] } },
        }),
    );
    assert_eq!(refused.problem(503).code, "database_busy");
    assert!(start.elapsed() < Duration::from_secs(60), "{:?}", start.elapsed());
    assert!(refused.headers.contains_key("retry-after"));
    gate.open();
    drop(lock);

    run.finish().expect_code(2).expect_stdout(&Gate::counted());
    cluster.reeve(["run", "web-1", "--", "true"]).expect_code(0);
}

#[test]
fn database_server_gone_refuses_new_work_and_recovers_by_itself() {
    let mut cluster = Cluster::builder().database(Database::Postgres).start();
    let _web = cluster.agent("web-1").start();
    let gate = Gate::in_folder(cluster.folder());
    let mut run = cluster.spawn_reeve(["run", "web-1", "--shell", &gate.count(2)]);
    run.wait_for("\n1000\n");
    cluster.stop_database();
    eventually("the coordinator says so", Duration::from_secs(30), || {
        cluster.guest.get("/readyz").status == 503
    });
    assert_eq!(cluster.guest.get("/healthz").status, 200);
    gate.open();
    cluster.start_database();
    run.finish().expect_code(2).expect_stdout(&Gate::counted());
    eventually("the coordinator is ready again", Duration::from_secs(30), || {
        cluster.guest.get("/readyz").status == 200
    });
    assert_eq!(cluster.last_operation().state, OperationState::Failed);
}

fn coordinator(arguments: &[&str], config: &Path) -> std::process::Output {
    Command::new(binaries::coordinator())
        .env_clear()
        .arg("--config")
        .arg(config)
        .args(arguments)
        .output()
        .expect("start reeve-coordinator")
}

fn said(output: &std::process::Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

#[test]
fn taken_port_is_named() {
    let cluster = Cluster::start();
    let folder = tempfile::tempdir().expect("a folder");
    let config = folder.path().join("coordinator.toml");
    fs::write(&config, "").expect("write");
    let data = folder.path().join("data");
    let data = data.to_string_lossy();
    let output =
        coordinator(&["--data", &data, "--listen", cluster.coordinator.address()], &config);
    assert!(!output.status.success());
    assert!(said(&output).contains(cluster.coordinator.address()), "{}", said(&output));
    assert!(!said(&output).contains("panicked"), "{}", said(&output));
}

#[test]
fn unknown_key_in_the_configuration_is_named_and_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = folder.path().join("coordinator.toml");
    fs::write(&config, "[limits]\nin_flihgt_per_machine = 3\n").expect("write");
    for flag in ["--check-config", "--print-config"] {
        let output = coordinator(&[flag], &config);
        assert!(!output.status.success());
        let said = said(&output);
        assert!(
            said.contains("in_flihgt_per_machine") && said.contains("coordinator.toml"),
            "{said}"
        );
    }
    fs::write(&config, "[database]\nurl = \"postgres://reeve:hunter2@db/reeve\"\n").expect("write");
    let output = coordinator(&["--check-config"], &config);
    assert!(output.status.success(), "{}", said(&output));
    let output = coordinator(&["--print-config"], &config);
    assert!(output.status.success() && said(&output).contains("7717"), "{}", said(&output));
    assert!(!said(&output).contains("hunter2"), "{}", said(&output));
    let output = coordinator(&["--check-config"], &folder.path().join("absent.toml"));
    assert!(!output.status.success() && said(&output).contains("absent.toml"), "{}", said(&output));
}
