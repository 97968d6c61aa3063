//! Connections from a machine: real ssh, scp and rsync go through them to a real sshd.

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;
use reeve_sdk::api::{AuditEntry, Page};
use reeve_tests::proxy::{Direction, Fault, Proxy};
use reeve_tests::{Cluster, Running, Sshd, binaries, eventually};

const ALLOWED: &str = "[allow]\ntunnels = [\"localhost:*\"]\n";

fn hash(path: &Path) -> String {
    blake3::hash(&fs::read(path).expect("a file")).to_string()
}

/// Bytes that do not compress and tell where they are.
fn write_large(path: &Path, megabytes: usize) {
    let mut bytes = Vec::with_capacity(megabytes << 20);
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"large").finalize_xof().fill({
        bytes.resize(megabytes << 20, 0);
        &mut bytes
    });
    fs::write(path, bytes).expect("written");
}

/// `ssh`, `scp` or `rsync` with our proxy command.
fn through(cluster: &Cluster, sshd: &Sshd, program: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    let proxy =
        format!("ProxyCommand={} ssh-proxy web-1 {}", binaries::reeve().display(), sshd.port());
    let mut options = sshd.options();
    options.extend(["-o".to_owned(), proxy]);
    if program == "rsync" {
        let quoted: Vec<String> = options.iter().map(|word| format!("'{word}'")).collect();
        command.args(["-e", &format!("ssh {}", quoted.join(" "))]);
    } else {
        command.args(options);
    }
    command
        .args(arguments)
        .stdin(Stdio::null())
        .env("REEVE_URL", cluster.coordinator.url())
        .env("REEVE_API_KEY", cluster.api.token().expect("logged in"))
        .env("REEVE_CA_PIN", cluster.coordinator.pin());
    command
}

#[track_caller]
fn succeed(mut command: Command) -> Output {
    let output = command.output().expect("started");
    assert!(
        output.status.success(),
        "{command:?}: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

fn user() -> String {
    nix::unistd::User::from_uid(nix::unistd::geteuid()).expect("users").expect("a user").name
}

#[test]
fn ssh_scp_and_rsync_go_through_and_the_audit_knows_who() {
    let cluster = Cluster::start();
    let _web = cluster.agent("web-1").policy(ALLOWED).start();
    let sshd = Sshd::start(cluster.folder());
    let host = format!("{}@web-1", user());
    let ran = succeed(through(&cluster, &sshd, "ssh", &[&host, "echo hello; echo oops >&2"]));
    assert_eq!(ran.stdout, b"hello\n");
    let failed = through(&cluster, &sshd, "ssh", &[&host, "exit 7"]).output().expect("started");
    assert_eq!(failed.status.code(), Some(7));

    let source = cluster.folder().join("large");
    write_large(&source, 20);
    let (copied, back) = (cluster.folder().join("copied"), cluster.folder().join("back"));
    let remote = format!("{host}:{}", copied.display());
    succeed(through(&cluster, &sshd, "scp", &["-q", source.to_str().expect("text"), &remote]));
    assert_eq!(hash(&copied), hash(&source));
    succeed(through(&cluster, &sshd, "scp", &["-q", &remote, back.to_str().expect("text")]));
    assert_eq!(hash(&back), hash(&source));

    let folder = cluster.folder().join("tree");
    fs::create_dir_all(folder.join("deep/er")).expect("made");
    for number in 0..50 {
        fs::write(folder.join(format!("deep/er/{number}")), format!("{number}\n").repeat(1000))
            .expect("written");
    }
    fs::copy(&source, folder.join("large")).expect("copied");
    let mirror = cluster.folder().join("mirror");
    let remote = format!("{host}:{}/", mirror.display());
    let from = format!("{}/", folder.display());
    succeed(through(&cluster, &sshd, "rsync", &["-a", &from, &remote]));
    assert_eq!(hash(&mirror.join("large")), hash(&source));
    assert_eq!(hash(&mirror.join("deep/er/49")), hash(&folder.join("deep/er/49")));

    let audit: Page<AuditEntry> = cluster.api.load("/api/audit?limit=1000");
    let opened = audit.items.iter().filter(|entry| {
        entry.action == "job.create"
            && entry.detail["operation"]["open_tunnel"]["port"] == sshd.port()
    });
    assert!(opened.count() >= 5, "{:?}", audit.items.first());
}

#[test]
fn transfer_goes_on_when_the_machines_link_comes_back() {
    let cluster = Cluster::start();
    let proxy = Proxy::to(cluster.coordinator.address());
    let _web = cluster.agent("web-1").policy(ALLOWED).dials(&proxy.url()).start();
    let sshd = Sshd::start(cluster.folder());
    let host = format!("{}@web-1", user());
    let source = cluster.folder().join("large");
    write_large(&source, 12);
    let copied = cluster.folder().join("copied");
    for (direction, number) in [(Direction::Down, 1), (Direction::Up, 2)] {
        let _ = fs::remove_file(&copied);
        let (from, to) = (source.to_str().expect("text"), copied.to_str().expect("text"));
        let remote = if direction == Direction::Down { to } else { from };
        let remote = format!("{host}:{remote}");
        proxy.after(direction, 5_000_000, Fault::Reset);
        let arguments =
            if direction == Direction::Down { ["-q", from, &remote] } else { ["-q", &remote, to] };
        succeed(through(&cluster, &sshd, "scp", &arguments));
        assert_eq!(hash(&copied), hash(&source), "{direction:?}");
        assert_eq!(proxy.faults(), number, "the cut did not happen");
    }
}

/// Starts `reeve forward` and finds out where it listens.
fn forward(cluster: &Cluster, to: &str) -> (Running, TcpStream) {
    let (running, address) = forward_only(cluster, to);
    let socket = TcpStream::connect(&address).expect("a connection");
    socket.set_read_timeout(Some(Duration::from_secs(30))).expect("a limit");
    (running, socket)
}

fn forward_only(cluster: &Cluster, to: &str) -> (Running, String) {
    let mut running = cluster.spawn_reeve(["forward", "web-1", &format!("0:{to}")]);
    running.wait_for(" from web-1\n");
    let line = String::from_utf8(running.stdout()).expect("text");
    (running, line.split(' ').next().expect("an address").to_owned())
}

#[test]
fn tunnels_are_denied_unless_the_machines_owner_says_where_they_may_lead() {
    let cluster = Cluster::start();
    let _web = cluster.agent("web-1").start();
    let _db = cluster.agent("db-1").policy("[allow]\ntunnels = [\"10.0.0.0/8:*\"]\n").start();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port().to_string();
    for machine in ["web-1", "db-1"] {
        let refused = cluster.reeve(["ssh-proxy", machine, &port]);
        refused.expect_code(255).expect_stdout("").expect_says("policy").expect_says("tunnels");
    }
    listener.set_nonblocking(true).expect("set");
    assert!(listener.accept().is_err(), "somebody connected");
}

#[test]
fn target_that_refuses_or_has_no_name_is_said_to() {
    let cluster = Cluster::start();
    let _web = cluster.agent("web-1").policy("[allow]\ntunnels = [\"*:*\"]\n").start();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port().to_string();
    drop(listener);
    let refused = cluster.reeve(["ssh-proxy", "web-1", &port]);
    refused.expect_code(255).expect_stdout("").expect_says("refused the connection");
    let unknown = cluster.reeve(["ssh-proxy", "web-1", "22", "--host", "nobody.invalid"]);
    unknown.expect_code(255).expect_stdout("").expect_says("nobody.invalid");
}

#[test]
fn each_half_of_a_connection_ends_by_itself() {
    let cluster = Cluster::start();
    let _web = cluster.agent("web-1").policy(ALLOWED).start();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let (running, mut socket) = forward(&cluster, &format!("localhost:{port}"));
    let address = socket.peer_addr().expect("an address");
    // We end first, and the answer comes behind that.
    socket.write_all(b"question").expect("sent");
    socket.shutdown(Shutdown::Write).expect("shut");
    let (mut target, _) = listener.accept().expect("a connection");
    let mut heard = Vec::new();
    target.read_to_end(&mut heard).expect("an end");
    assert_eq!(heard, b"question");
    target.write_all(b"answer").expect("sent");
    drop(target);
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer).expect("an end");
    assert_eq!(answer, b"answer");

    // The other end ends first, and hears us still.
    let mut socket = TcpStream::connect(address).expect("a connection");
    socket.set_read_timeout(Some(Duration::from_secs(30))).expect("a limit");
    let (mut target, _) = listener.accept().expect("a connection");
    target.write_all(b"first").expect("sent");
    target.shutdown(Shutdown::Write).expect("shut");
    let mut first = Vec::new();
    socket.read_to_end(&mut first).expect("an end");
    assert_eq!(first, b"first");
    socket.write_all(b"last").expect("sent");
    drop(socket);
    let mut last = Vec::new();
    target.read_to_end(&mut last).expect("an end");
    assert_eq!(last, b"last");
    running.signal(Signal::SIGINT);
    running.finish().expect_code(130);
}

#[test]
fn side_that_does_not_read_holds_the_other_back_and_frees_it_when_it_is_gone() {
    let cluster = Cluster::start();
    let web = cluster.agent("web-1").policy(ALLOWED).start();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let (_running, socket) = forward(&cluster, &format!("localhost:{port}"));
    let (mut target, _) = listener.accept().expect("a connection");
    target.set_write_timeout(Some(Duration::from_secs(5))).expect("a limit");
    let piece = vec![7; 1 << 20];
    let mut written = 0_usize;
    // Nobody reads, so at some time nothing more is taken.
    while target.write_all(&piece).is_ok() {
        written += piece.len();
        assert!(written < 256 << 20, "{written} bytes went somewhere");
    }
    drop(socket);
    eventually("the tunnel is gone from the machine", Duration::from_secs(60), || {
        web.keepers().is_empty()
    });
}

#[test]
fn new_connections_work_after_the_coordinator_was_restarted() {
    let mut cluster = Cluster::start();
    let web = cluster.agent("web-1").policy(ALLOWED).start();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let (_running, mut socket) = forward(&cluster, &format!("localhost:{port}"));
    let (_target, _) = listener.accept().expect("a connection");
    let address = socket.peer_addr().expect("an address");
    cluster.coordinator.kill9();
    // What went through it has broken, and says so.
    let mut rest = Vec::new();
    let _ = socket.read_to_end(&mut rest);
    cluster.coordinator.start();
    web.wait_until(reeve_sdk::api::MachineState::Online);
    let mut socket = TcpStream::connect(address).expect("a connection");
    socket.set_read_timeout(Some(Duration::from_secs(30))).expect("a limit");
    socket.write_all(b"hello").expect("sent");
    let (mut target, _) = listener.accept().expect("a connection");
    let mut hello = [0; 5];
    target.read_exact(&mut hello).expect("bytes");
    assert_eq!(&hello, b"hello");
}
