//! An agent that may open few files.

use std::fs;
use std::time::Duration;

use reeve_sdk::api::{JobState, MachineState, OperationState};
use reeve_sdk::command;
use reeve_tests::{Cluster, Gate, eventually};

const LIMIT: Duration = Duration::from_secs(120);

#[test]
fn agent_without_descriptors_says_so_for_what_it_cannot_start_and_goes_on() {
    let cluster = Cluster::start();
    let web = cluster.agent("web-1").through(&["prlimit", "--nofile=64:64"]).start();
    let gate = Gate::in_folder(cluster.folder());
    let jobs: Vec<_> =
        (0..60).map(|_| cluster.submit(&command("web-1", ["sh", "-c", &gate.wait()])).id).collect();
    let operation = |job| cluster.operations(job).remove(0);
    // Each of them runs by now, waits for its turn, or was told why not.
    eventually("nothing is under way any more", LIMIT, || {
        jobs.iter().all(|job| {
            let operation = operation(*job);
            !matches!(operation.state, OperationState::Sent)
        })
    });
    gate.open();
    for job in &jobs {
        eventually("it has ended", LIMIT, || cluster.job(*job).state != JobState::Running);
        let operation = operation(*job);
        if operation.state != OperationState::Succeeded {
            let reason =
                operation.reason.unwrap_or_else(|| panic!("no reason: {:?}", operation.state));
            assert!(
                reason.message.contains("files") || reason.message.contains("descriptors"),
                "{reason:?}"
            );
            assert_eq!(reason.message.lines().count(), 1, "{reason:?}");
        }
    }
    assert_eq!(web.machine().state, MachineState::Online);
    cluster.reeve(["run", "web-1", "--", "echo", "well"]).expect_code(0).expect_stdout("well\n");
}

#[test]
fn ten_thousand_files_and_deep_folders_are_worked_on_with_few_descriptors() {
    let cluster = Cluster::start();
    let _web = cluster.agent("web-1").through(&["prlimit", "--nofile=64:64"]).start();
    let folder = tempfile::tempdir_in("/dev/shm").expect("a folder");
    let many = folder.path().join("many");
    fs::create_dir(&many).expect("a folder");
    for number in 0..10_000 {
        fs::write(many.join(format!("{number}")), "needle\n").expect("a file");
    }
    // Deeper than there are descriptors.
    let mut deep = folder.path().join("deep");
    for _ in 0..200 {
        deep.push("d");
    }
    fs::create_dir_all(&deep).expect("folders");
    fs::write(deep.join("last"), "needle\n").expect("a file");
    let at = |name: &str| format!("web-1:{}", folder.path().join(name).display());
    let near = folder.path().join("near");
    fs::create_dir(&near).expect("a folder");
    let grep = cluster.reeve(["files", "grep", "-c", "needle", &at("many")]);
    assert_eq!(grep.expect_code(0).text().lines().count(), 10_000);
    for (name, last) in [
        ("many", "many/9999".to_owned()),
        ("deep", "deep/".to_owned() + &"d/".repeat(200) + "last"),
    ] {
        let here = near.display().to_string();
        let down = cluster.reeve(["cp", "-r", &at(name), &here]);
        // What cannot be done is one clear line, and nothing is half done.
        if down.code != 0 {
            down.expect_says("oo many open files");
        } else {
            assert_eq!(fs::read(near.join(&last)).expect("there"), b"needle\n");
        }
        let up = cluster.reeve([
            "cp",
            "-r",
            &folder.path().join(name).display().to_string(),
            &at("far"),
        ]);
        if up.code != 0 {
            up.expect_says("oo many open files");
            assert_eq!(up.stderr.lines().count(), 1, "{up}");
        }
        let find = cluster.reeve(["files", "find", "-n", "last", &at(name)]);
        if find.code != 0 {
            find.expect_says("oo many open files");
        }
        let removed = cluster.reeve(["files", "rm", "-r", "--yes", "--no-version", &at(name)]);
        if removed.code != 0 {
            removed.expect_says("oo many open files");
            assert_eq!(removed.stderr.lines().count(), 1, "{removed}");
        }
    }
    cluster.reeve(["run", "web-1", "--", "true"]).expect_code(0);
}
