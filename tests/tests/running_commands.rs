//! Somebody asks, a machine runs it, every byte and the true exit code come back.

use std::time::Duration;

use reeve_sdk::api::OperationState;
use reeve_tests::{Cluster, Database, on_each_containment, on_each_database};
use sha2::{Digest, Sha256};

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Bytes that do not compress and are the same in every run.
fn noise(length: usize, seed: u64) -> Vec<u8> {
    use rand::{RngExt, SeedableRng};
    let mut bytes = vec![0; length];
    rand::rngs::StdRng::seed_from_u64(seed).fill(&mut bytes[..]);
    bytes
}

on_each_database! {
    fn machine_joins_with_a_token_and_runs_a_command(builder) {
        let cluster = builder.start();
        let _web = cluster.agent("web-1").label("role", "web").start();
        cluster
            .reeve(["run", "web-1", "--", "echo", "hello"])
            .expect_code(0)
            .expect_stdout("hello\n");
        let operation = cluster.last_operation();
        assert_eq!(operation.state, OperationState::Succeeded);
        assert_eq!((operation.exit_code, operation.output.stdout), (Some(0), 6));
        cluster.reeve(["machines", "list"]).expect_code(0).expect_says("web-1").expect_says("role=web");
        let status: reeve_sdk::api::Status = cluster.api.load("/api/status");
        let expected = if cluster.database == Database::Sqlite { "sqlite" } else { "postgres" };
        assert_eq!((status.database.as_str(), status.machines.online), (expected, 1));
    }
}

on_each_containment! {
    fn stdout_and_stderr_stay_apart_and_exit_codes_are_true(containment) {
        let cluster = Cluster::start();
        let _web = cluster.agent("web-1").containment(containment).start();
        let run = cluster.reeve(["run", "web-1", "--shell", "echo out; echo err >&2; exit 3"]);
        run.expect_code(3).expect_stdout("out\n");
        assert!(run.stderr.contains("err\n") && !run.stderr.contains("out"), "{run}");
        assert_eq!(cluster.last_operation().containment, Some(containment.wire()));

        cluster.reeve(["run", "web-1", "--", "true"]).expect_code(0).expect_stdout("");
        cluster.reeve(["run", "web-1", "--shell", "exit 255"]).expect_code(255);
        cluster
            .reeve(["run", "web-1", "--", "no-such-program-here"])
            .expect_code(127)
            .expect_says("no-such-program-here");
        cluster.reeve(["run", "web-1", "--", "/etc/passwd"]).expect_code(126).expect_says("/etc/passwd");
        cluster.reeve(["run", "web-1", "--shell", "kill -TERM $$"]).expect_code(128 + 15);
        cluster.reeve(["run", "web-1", "--shell", "kill -KILL $$"]).expect_code(128 + 9);
        assert_eq!(cluster.last_operation().signal, Some(9));
    }

    fn time_is_up_means_124_and_nothing_left(containment) {
        let cluster = Cluster::start();
        let _web = cluster.agent("web-1").containment(containment).start();
        // Its own: the other containment's sleeper, or another run's, may be alive just now.
        let marker = format!("31536.{}", std::process::id());
        let run = cluster.reeve(["run", "web-1", "--timeout", "1s", "--", "sleep", &marker]);
        run.expect_code(124);
        assert!(run.took >= Duration::from_secs(1) && run.took < Duration::from_secs(15), "{run}");
        assert_eq!(cluster.last_operation().state, OperationState::TimedOut);
        assert!(reeve_tests::processes::with_argument(&marker).is_empty());
    }
}

#[test]
fn arguments_arrive_as_they_were_typed() {
    let cluster = Cluster::start();
    let _web = cluster.agent("web-1").start();
    let odd = ["a b", "$HOME", "*", "", "\"'\\", "--help", "ünïcode", "line\nbreak"];
    let mut line = vec!["run", "web-1", "--", "printf", "[%s]"];
    line.extend(odd);
    let expected: String = odd.iter().map(|argument| format!("[{argument}]")).collect();
    cluster.reeve(line).expect_code(0).expect_stdout(&expected);
}

#[test]
fn directory_environment_and_user_are_the_ones_asked_for() {
    let cluster = Cluster::start();
    let _web = cluster.agent("web-1").start();
    cluster
        .reeve([
            "run",
            "web-1",
            "--cwd",
            "/usr/share",
            "--env",
            "WHO=me=you",
            "--shell",
            "pwd; echo $WHO",
        ])
        .expect_code(0)
        .expect_stdout("/usr/share\nme=you\n");
    if nix::unistd::geteuid().is_root() {
        cluster
            .reeve(["run", "web-1", "--user", "nobody", "--", "id", "-un"])
            .expect_code(0)
            .expect_stdout("nobody\n");
    }
    let run = cluster.reeve(["run", "web-1", "--user", "no-such-user", "--", "id"]);
    run.expect_says("no-such-user");
    assert_ne!(run.code, 0, "{run}");
    assert_eq!(cluster.last_operation().state, OperationState::Refused);
    cluster
        .reeve(["run", "web-1", "--cwd", "/no/such/folder", "--", "pwd"])
        .expect_says("/no/such/folder");
    assert_ne!(cluster.last_operation().state, OperationState::Succeeded);
}

#[test]
fn machines_own_policy_has_the_last_word() {
    let cluster = Cluster::start();
    let _a = cluster.agent("no-exec").policy("[allow]\nexec = false\n").start();
    let _b = cluster.agent("no-root").policy("[exec]\nusers = [\"nobody\"]\n").start();
    let run = cluster.reeve(["run", "no-exec", "--", "true"]);
    assert_ne!(run.code, 0, "{run}");
    let operation = cluster.last_operation();
    assert_eq!(operation.state, OperationState::Refused);
    assert_eq!(operation.reason.map(|reason| reason.code).as_deref(), Some("policy_exec"));
    cluster.reeve(["run", "no-root", "--user", "root", "--", "true"]);
    let operation = cluster.last_operation();
    assert_eq!(operation.reason.map(|reason| reason.code).as_deref(), Some("policy_user"));
}

#[test]
fn any_bytes_come_back_as_they_were_written() {
    let cluster = Cluster::start();
    let _web = cluster.agent("web-1").start();
    let every_byte: Vec<u8> = (0..=255).collect();
    let run =
        cluster.reeve_with_input(["run", "web-1", "--stdin", "--", "cat"], every_byte.clone());
    run.expect_code(0);
    assert_eq!(run.stdout, every_byte);
}

#[test]
fn sixteen_mebibytes_of_stdin_come_back_through_cat() {
    let cluster = Cluster::start();
    let _web = cluster.agent("web-1").start();
    let bytes = noise(16 << 20, 1);
    let run = cluster.reeve_with_input(["run", "web-1", "--stdin", "--", "cat"], bytes.clone());
    run.expect_code(0);
    assert_eq!((run.stdout.len(), sha256(&run.stdout)), (bytes.len(), sha256(&bytes)));
}

#[test]
fn command_that_closes_its_stdin_ends_the_sending() {
    let cluster = Cluster::start();
    let _web = cluster.agent("web-1").start();
    let run = cluster
        .reeve_with_input(["run", "web-1", "--stdin", "--", "head", "-c", "5"], noise(8 << 20, 2));
    run.expect_code(0);
    assert_eq!(run.stdout, noise(8 << 20, 2)[..5]);
}

/// REEVE_TEST_MEBIBYTES says how many instead of 1024.
#[test]
fn gibibyte_of_random_bytes_arrives_whole() {
    let mebibytes = std::env::var("REEVE_TEST_MEBIBYTES").unwrap_or_else(|_| "1024".to_owned());
    let cluster = Cluster::start();
    let _web = cluster.agent("web-1").start();
    // `tee` hashes on the machine what goes out: the sum arrives on stderr, the bytes on stdout.
    let line = format!(
        "mkfifo \"$PIPE\"; sha256sum < \"$PIPE\" >&2 & head -c {mebibytes}M /dev/urandom | tee \"$PIPE\"; wait"
    );
    let pipe = cluster.folder().join("pipe");
    let pipe = format!("PIPE={}", pipe.display());
    let run = cluster.spawn_reeve(["run", "web-1", "--env", &pipe, "--shell", &line]);
    let run = run.finish_within(Duration::from_secs(500));
    assert_eq!(run.code, 0, "{}", run.stderr);
    let expected: usize = mebibytes.parse::<usize>().expect("a number") << 20;
    assert_eq!(run.stdout.len(), expected);
    let sum = sha256(&run.stdout);
    assert!(run.stderr.contains(&sum), "{sum} is not what the machine sent: {}", run.stderr);
    println!("{mebibytes} MiB in {:?}", run.took);
}
