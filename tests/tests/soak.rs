//! A short soak in every test run: random work, random faults, everything that was promised checked.
//! The same program runs for as long as somebody likes with `make soak`; see docs/reliability.md.

use std::process::Command;

/// Runs of the soak, some ten seconds each.
const RUNS: &str = "4";

fn soak(arguments: &[&str]) -> std::process::Output {
    Command::new(env!("CARGO_BIN_EXE_reeve-soak"))
        .args(arguments)
        .output()
        .expect("start reeve-soak")
}

#[test]
fn random_work_under_random_faults_keeps_every_promise() {
    reeve_tests::require_root("a reboot is another boot id, mounted over the kernel's");
    let folder = tempfile::tempdir().expect("a folder");
    let seed =
        std::env::var("REEVE_TEST_SEED").unwrap_or_else(|_| rand::random::<u64>().to_string());
    println!("again: make soak SEED={seed} RUNS={RUNS}");
    let path = folder.path().to_string_lossy();
    let output = soak(&[
        "--runs",
        RUNS,
        "--parallel",
        "2",
        "--seconds",
        "600",
        "--seed",
        &seed,
        "--folder",
        &path,
    ]);
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("good"), "{said}");
}
