//! The line from `reeve tokens create`, pasted on another machine: only what was checked runs, and
//! running it again changes nothing.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use reeve_sdk::api::{EnrolmentTokenCreated, Machine, NewEnrolmentToken};
use reeve_tests::{Cluster, binaries, eventually};

/// A coordinator that serves an agent to install, and the script it serves.
struct Shop {
    cluster: Cluster,
    dist: PathBuf,
    script: PathBuf,
    _folder: tempfile::TempDir,
}

impl Shop {
    fn open() -> Self {
        let folder = tempfile::Builder::new().prefix("reeve-dist-").tempdir().expect("a folder");
        let dist = folder.path().join("dist");
        let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
        let made = Command::new("sh")
            .arg(workspace.join("tests/scripts/dist.sh"))
            .env("BIN", binaries::agent().parent().expect("a folder"))
            .env("DIST", &dist)
            .output()
            .expect("dist.sh");
        assert!(made.status.success(), "{}", said(&made));
        let cluster = Cluster::builder()
            .config(&format!("dist = {:?}\n", dist.display().to_string()))
            .start();
        let served = cluster.guest.get("/install.sh");
        assert_eq!(served.status, 200, "{served}");
        let script = folder.path().join("install.sh");
        fs::write(&script, &served.body).expect("write");
        Self { cluster, dist, script, _folder: folder }
    }

    fn token(&self) -> EnrolmentTokenCreated {
        self.cluster.api.post("/api/enrolment-tokens", &NewEnrolmentToken::default()).json()
    }

    /// Runs the served script; the token, when there is one, goes in on stdin.
    fn run(&self, shell: &[&str], root: &Path, arguments: &[&str], token: Option<&str>) -> Output {
        let mut command = Command::new(shell[0]);
        command
            .args(&shell[1..])
            .arg(&self.script)
            .arg("--root")
            .arg(root)
            .args(arguments)
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        if token.is_some() {
            command.arg("--token-stdin");
        }
        run_with_input(command, token.unwrap_or_default())
    }
}

fn run_with_input(mut command: Command, input: &str) -> Output {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("a shell");
    let _not_read = child.stdin.take().expect("a pipe").write_all(input.as_bytes());
    child.wait_with_output().expect("the shell's end")
}

fn said(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// Every file below a folder with what would tell a change.
fn look(folder: &Path) -> BTreeMap<PathBuf, (u64, i64, i64, u32)> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let meta = entry.metadata().expect("a file");
        found.insert(entry.path(), (meta.ino(), meta.mtime(), meta.mtime_nsec(), meta.mode()));
        if meta.is_dir() {
            found.extend(look(&entry.path()));
        }
    }
    found
}

const SHELLS: [&[&str]; 3] = [&["dash"], &["busybox", "sh"], &["bash", "--posix"]];

#[test]
fn installs_joins_and_changes_nothing_the_second_time_in_every_shell() {
    let shop = Shop::open();
    for shell in SHELLS {
        let root = tempfile::Builder::new().prefix("reeve-root-").tempdir().expect("a folder");
        let name = format!("installed-by-{}", shell[0]);
        let output = shop.run(shell, root.path(), &["--name", &name], Some(&shop.token().token));
        assert!(output.status.success(), "{shell:?}: {}", said(&output));
        let program = root.path().join("usr/local/bin/reeve-agent");
        assert_eq!(
            fs::read(&program).expect("the agent"),
            fs::read(binaries::agent()).expect("the agent")
        );
        assert_eq!(fs::metadata(&program).expect("the agent").permissions().mode() & 0o777, 0o755);
        assert!(root.path().join("etc/systemd/system/reeve-agent.service").is_file());
        assert!(root.path().join("etc/reeve/agent.toml").is_file());
        let state = root.path().join("var/lib/reeve-agent");
        assert_eq!(fs::metadata(&state).expect("state").permissions().mode() & 0o777, 0o700);
        let machine: Machine = shop.cluster.api.load(&format!("/api/machines/{name}"));
        assert_eq!(machine.name, name);

        let before = look(root.path());
        let output = shop.run(shell, root.path(), &["--name", &name], None);
        assert!(output.status.success(), "{shell:?}: {}", said(&output));
        assert!(said(&output).contains("nothing was changed"), "{}", said(&output));
        assert_eq!(look(root.path()), before);

        let output = shop.run(shell, root.path(), &["--uninstall"], None);
        assert!(output.status.success(), "{shell:?}: {}", said(&output));
        assert!(!program.exists() && state.join("identity.json").is_file());
        let output = shop.run(shell, root.path(), &["--purge"], None);
        assert!(output.status.success(), "{shell:?}: {}", said(&output));
        assert!(!state.exists() && !root.path().join("etc/reeve").exists());
    }
}

#[test]
fn installed_agent_runs_what_it_is_asked() {
    let shop = Shop::open();
    let root = tempfile::Builder::new().prefix("reeve-root-").tempdir().expect("a folder");
    let output = shop.run(&["sh"], root.path(), &["--name", "fresh"], Some(&shop.token().token));
    assert!(output.status.success(), "{}", said(&output));
    let mut agent = Command::new(root.path().join("usr/local/bin/reeve-agent"))
        .arg("run")
        .arg("--state")
        .arg(root.path().join("var/lib/reeve-agent"))
        .arg("--config")
        .arg(root.path().join("etc/reeve/agent.toml"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the agent");
    eventually("the installed agent answers", Duration::from_secs(30), || {
        shop.cluster.reeve(["run", "fresh", "--", "echo", "here"]).text() == "here\n"
    });
    agent.kill().expect("kill");
    agent.wait().expect("wait");
}

#[test]
fn pasted_line_checks_the_script_before_it_runs_it() {
    let shop = Shop::open();
    let made = shop.token();
    assert!(
        made.install.contains("TOKEN") && made.install.contains("sha256sum"),
        "{}",
        made.install
    );
    let root = tempfile::Builder::new().prefix("reeve-root-").tempdir().expect("a folder");
    let paste = |line: &str| {
        let line = line
            .replace("TOKEN", &made.token)
            .replace("--token-stdin", &format!("--token-stdin --root {}", root.path().display()));
        let mut command = Command::new("sh");
        command.arg("-c").arg(line);
        run_with_input(command, "")
    };
    // A script that is not the one the line was made for does not run.
    let sum = made.install.split(|c: char| !c.is_ascii_hexdigit()).find(|word| word.len() == 64);
    let wrong = made.install.replace(sum.expect("a SHA-256 in the line"), &"0".repeat(64));
    let output = paste(&wrong);
    assert!(!output.status.success(), "{}", said(&output));
    assert!(look(root.path()).is_empty(), "{:?}", look(root.path()));
    let output = paste(&made.install);
    assert!(output.status.success(), "{}\n{}", made.install, said(&output));
    assert!(root.path().join("var/lib/reeve-agent/identity.json").is_file());
}

#[test]
fn tampered_agent_is_refused_before_anything_changes() {
    let shop = Shop::open();
    let root = tempfile::Builder::new().prefix("reeve-root-").tempdir().expect("a folder");
    let name = format!("reeve-agent-linux-{}", std::env::consts::ARCH);
    let mut file = fs::File::options().append(true).open(shop.dist.join(name)).expect("the agent");
    file.write_all(b"x").expect("tamper");
    let token = shop.token();
    let output = shop.run(&["sh"], root.path(), &[], Some(&token.token));
    assert!(
        !output.status.success() && said(&output).contains("nothing was changed"),
        "{}",
        said(&output)
    );
    assert!(look(root.path()).is_empty(), "{:?}", look(root.path()));
}

#[test]
fn wrong_pin_is_refused_before_anything_is_sent() {
    let shop = Shop::open();
    let root = tempfile::Builder::new().prefix("reeve-root-").tempdir().expect("a folder");
    let token = shop.token();
    let output = shop.run(&["sh"], root.path(), &["--ca-pin", &"1".repeat(64)], Some(&token.token));
    assert!(!output.status.success() && said(&output).contains("CA pin"), "{}", said(&output));
    assert!(look(root.path()).is_empty());
    // A token for another coordinator is noticed before it is shown to this one.
    let foreign = token.token.replace(&shop.cluster.coordinator.pin(), &"2".repeat(64));
    let output = shop.run(&["sh"], root.path(), &[], Some(&foreign));
    assert!(
        !output.status.success() && said(&output).contains("another coordinator"),
        "{}",
        said(&output)
    );
    assert!(look(root.path()).is_empty());
}

#[test]
fn check_only_looks() {
    let shop = Shop::open();
    let root = tempfile::Builder::new().prefix("reeve-root-").tempdir().expect("a folder");
    let output = shop.run(&["sh"], root.path(), &["--check"], None);
    assert!(output.status.success() && said(&output).contains("would"), "{}", said(&output));
    assert!(look(root.path()).is_empty());
    let output = shop.run(&["sh"], root.path(), &["--frobnicate"], None);
    assert!(
        !output.status.success() && said(&output).contains("--frobnicate"),
        "{}",
        said(&output)
    );
}
