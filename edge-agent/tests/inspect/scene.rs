//! What attacks are made on: files, sockets and a process that belong to the test.

#![allow(clippy::disallowed_methods, reason = "the attacker is compiled, the victim started")]

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use reeve_agent::host;
use reeve_agent::host::sandbox::Walls;
use rustix::fs::{CWD, FileType, Mode};

/// The attacking program, compiled.
pub struct Attacker {
    folder: tempfile::TempDir,
}

impl Attacker {
    pub fn compile() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/inspect/attacks");
        let files = ["main.c", "files.c", "mounts.c", "processes.c", "kernel.c", "network.c"];
        let status = Command::new("cc")
            .args(["-O1", "-Wall", "-Wextra", "-Werror", "-o"])
            .arg(folder.path().join("breakout"))
            .args(files.map(|name| sources.join(name)))
            .status()
            .expect("cc is there: install gcc");
        assert!(status.success(), "the attacks do not compile");
        fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).expect("chmod");
        Self { folder }
    }

    pub fn path(&self) -> PathBuf {
        self.folder.path().join("breakout")
    }
}

/// What a file of the scene is like: mode, owner, size, time, contents, attributes.
type Look = (u32, u32, u32, u64, i64, Vec<u8>, Vec<u8>);

pub struct Scene {
    folder: tempfile::TempDir,
    victim: Child,
    pub environment: BTreeMap<String, String>,
    memory: u64,
    /// Held open so that the other ends have somebody to talk to.
    _open: (Vec<UnixListener>, UnixDatagram, std::net::TcpListener, fs::File),
}

impl Scene {
    /// A fresh one. Everything that can belong to the attacker does.
    pub fn make(attacker: &Attacker, walls: &Walls) -> Self {
        let folder = tempfile::tempdir_in("/var/tmp").expect("a folder");
        let at = |name: &str| folder.path().join(name);
        let give = |name: &str, mode| {
            fs::set_permissions(at(name), Permissions::from_mode(mode)).expect("chmod");
            chown(at(name), Some(walls.uid), Some(walls.uid)).expect("chown");
        };
        fs::write(at("file"), "as it was").expect("written");
        fs::create_dir(at("folder")).expect("made");
        for (name, mode) in [("file", 0o666), ("folder", 0o777)] {
            give(name, mode);
        }
        fs::create_dir(at("blocked")).expect("made");
        fs::write(at("blocked/secret"), "secret").expect("written");
        fs::write(at("blocked-file"), "secret").expect("written");
        fs::copy(attacker.path(), at("setuid-root")).expect("copied");
        fs::set_permissions(at("setuid-root"), Permissions::from_mode(0o4755)).expect("chmod");
        let all = Mode::from_raw_mode(0o666);
        rustix::fs::mknodat(CWD, at("pipe"), FileType::Fifo, all, 0).expect("a pipe");
        give("pipe", 0o666);
        let reader = fs::OpenOptions::new().read(true).write(true).open(at("pipe")).expect("open");
        fs::create_dir(at("private")).expect("made");
        let mut listeners: Vec<UnixListener> = [
            ("bus", 0o666),
            ("system-bus", 0o666),
            ("docker.sock", 0o660),
            ("private/socket", 0o777),
        ]
        .into_iter()
        .map(|(name, mode)| {
            let listener = UnixListener::bind(at(name)).expect("a socket");
            fs::set_permissions(at(name), Permissions::from_mode(mode)).expect("chmod");
            listener
        })
        .collect();
        fs::set_permissions(at("private"), Permissions::from_mode(0o700)).expect("chmod");
        let abstract_name = format!("reeve-{}", uuid::Uuid::now_v7());
        let address = SocketAddr::from_abstract_name(&abstract_name).expect("a name");
        listeners.push(UnixListener::bind_addr(&address).expect("a socket"));
        let log = UnixDatagram::bind(at("log")).expect("a socket");
        fs::set_permissions(at("log"), Permissions::from_mode(0o666)).expect("chmod");
        let port = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let number = port.local_addr().expect("an address").port();
        fs::set_permissions(folder.path(), Permissions::from_mode(0o777)).expect("chmod");
        chown(folder.path(), Some(walls.uid), Some(walls.uid)).expect("chown");

        let mut victim = Command::new(attacker.path())
            .arg("victim")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the victim starts");
        let mut line = String::new();
        let said = victim.stdout.take().expect("a pipe");
        BufReader::new(said).read_line(&mut line).expect("it speaks");
        let words: Vec<&str> = line.split_whitespace().collect();
        let handle = Command::new(attacker.path())
            .arg("handle")
            .arg(at("blocked/secret"))
            .output()
            .expect("a handle");
        let root_group = host::cgroup::find_mount().expect("cgroup v2").join("cgroup.procs");
        let environment = [
            ("SCENE", folder.path().display().to_string()),
            ("ATTACKER", attacker.path().display().to_string()),
            ("VICTIM", words[0].to_owned()),
            ("ADDRESS", words[1].to_owned()),
            ("SEGMENT", words[2].to_owned()),
            ("HANDLE", String::from_utf8_lossy(&handle.stdout).trim().to_owned()),
            ("PORT", number.to_string()),
            ("ABSTRACT", abstract_name),
            ("ROOT_GROUP", root_group.display().to_string()),
        ]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect();
        let digits = words[1].trim_start_matches("0x");
        let memory = u64::from_str_radix(digits, 16).expect("an address");
        Self { folder, victim, environment, memory, _open: (listeners, log, port, reader) }
    }

    pub fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    /// What the machine's owner blocks in it.
    pub fn blocked(&self) -> Vec<String> {
        ["blocked", "blocked-file"].map(|name| self.path(name)).to_vec()
    }

    /// Everything about its files.
    pub fn look(&self) -> BTreeMap<PathBuf, Look> {
        fn walk(path: &Path, found: &mut BTreeMap<PathBuf, Look>) {
            let about = fs::symlink_metadata(path).expect("there");
            let contents =
                if about.is_file() { fs::read(path).expect("readable") } else { Vec::new() };
            let mut names = vec![0; 4096];
            let count = rustix::fs::llistxattr(path, &mut names).unwrap_or(0);
            names.truncate(count);
            let times = about.mtime() * 1_000_000 + about.mtime_nsec() / 1000;
            let look =
                (about.mode(), about.uid(), about.gid(), about.nlink(), times, contents, names);
            found.insert(path.to_owned(), look);
            if about.is_dir() {
                for entry in fs::read_dir(path).expect("a folder") {
                    walk(&entry.expect("an entry").path(), found);
                }
            }
        }
        let mut found = BTreeMap::new();
        walk(self.folder.path(), &mut found);
        found
    }

    /// That nobody touched the victim.
    #[track_caller]
    pub fn check_victim(&mut self, attack: &str) {
        assert!(self.victim.try_wait().expect("ours").is_none(), "{attack}: the victim died");
        let pid = self.victim.id();
        let read = |name: &str| fs::read_to_string(format!("/proc/{pid}/{name}")).expect("there");
        assert!(read("stat").contains(") S "), "{attack}: the victim was stopped");
        assert_eq!(read("oom_score_adj"), read_own_score(), "{attack}");
        let memory = fs::File::open(format!("/proc/{pid}/mem")).expect("readable by root");
        let mut text = [0; 9];
        std::os::unix::fs::FileExt::read_exact_at(&memory, &mut text, self.memory).expect("read");
        assert_eq!(&text, b"untouched", "{attack}");
    }
}

fn read_own_score() -> String {
    fs::read_to_string("/proc/self/oom_score_adj").expect("there")
}

impl Drop for Scene {
    fn drop(&mut self) {
        // It ends when its stdin does, unless it was stopped.
        drop(self.victim.stdin.take());
        let id = self.victim.id();
        host::process::signal(id, host::process::Signal::CONT);
        let _ = self.victim.wait();
    }
}
