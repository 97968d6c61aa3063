//! Somebody looks at a machine without being able to change it.

use reeve_sdk::api::OperationState;
use reeve_tests::Cluster;

#[test]
fn inspection_shows_the_machine_and_changes_nothing() {
    let cluster = Cluster::start();
    let _web = cluster.agent("web-1").start();
    cluster
        .reeve(["machines", "show", "web-1"])
        .expect_code(0)
        .expect_says("inspect mode")
        .expect_says("yes (namespaces, capabilities, seccomp");
    cluster
        .reeve(["run", "web-1", "--inspect", "--shell", "ls -d /root && id -u"])
        .expect_code(0)
        .expect_says("/root");
    let folder = tempfile::tempdir().expect("a folder");
    let target = folder.path().join("made");
    let line = format!("touch {}", target.display());
    cluster.reeve(["run", "web-1", "--inspect", "--shell", &line]).expect_code(1);
    assert!(!target.exists());
    cluster.reeve(["run", "web-1", "--shell", &line]).expect_code(0);
    assert!(target.exists());
    cluster
        .reeve(["run", "web-1", "--inspect", "--network", "view", "--", "ip", "-o", "link"])
        .expect_code(0);
    assert_eq!(cluster.last_operation().state, OperationState::Succeeded);
}

#[test]
fn policy_for_looking_only_is_the_last_word() {
    let cluster = Cluster::start();
    let _web = cluster.agent("web-1").policy("[allow]\nexec = \"inspect\"\n").start();
    cluster.reeve(["run", "web-1", "--", "true"]).expect_code(255);
    let operation = cluster.last_operation();
    assert_eq!(operation.reason.map(|reason| reason.code).as_deref(), Some("policy_exec"));
    cluster
        .reeve(["run", "web-1", "--inspect", "--", "echo", "seen"])
        .expect_code(0)
        .expect_stdout("seen\n");
}
