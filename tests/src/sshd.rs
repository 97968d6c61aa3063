//! An SSH server of this test's own on loopback, with keys that nobody else has: the yardstick, and
//! what tunnels lead to.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::wait::eventually;

/// A running `sshd`; it ends with this value.
#[derive(Debug)]
pub struct Sshd {
    server: Child,
    port: u16,
    key: PathBuf,
}

impl Sshd {
    /// Starts one whose files are in `folder`. Whoever has its key may log in as this process's user.
    ///
    /// # Panics
    /// When it does not start: `openssh-server` has to be installed.
    #[must_use]
    pub fn start(folder: &Path) -> Self {
        let folder = folder.join("sshd");
        fs::create_dir_all(&folder).expect("make sshd's folder");
        // Its privilege separation wants an empty folder there, wherever it runs.
        let _ = fs::create_dir_all("/run/sshd");
        let (host, key) = (folder.join("host"), folder.join("user"));
        for path in [&host, &key] {
            let made = Command::new("ssh-keygen")
                .args(["-q", "-t", "ed25519", "-N", "", "-f"])
                .arg(path)
                .stdin(Stdio::null())
                .status()
                .expect("start ssh-keygen");
            assert!(made.success(), "ssh-keygen");
        }
        fs::copy(key.with_extension("pub"), folder.join("authorized")).expect("the public key");
        let port = TcpListener::bind("127.0.0.1:0")
            .and_then(|listener| listener.local_addr())
            .expect("a free port")
            .port();
        // Bash reads its settings, whatever they start, in the first shell that sshd starts (SHLVL).
        let settings = format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey {}\nAuthorizedKeysFile {}\n\
             StrictModes no\nUsePAM no\nPermitRootLogin yes\nPasswordAuthentication no\n\
             PidFile none\nSubsystem sftp internal-sftp\nMaxStartups 1000\nSetEnv SHLVL=1\n",
            host.display(),
            folder.join("authorized").display(),
        );
        let config = folder.join("config");
        fs::write(&config, settings).expect("its settings");
        let server = Command::new("/usr/sbin/sshd")
            .args(["-D", "-e", "-f"])
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(folder.join("log")).expect("its log"))
            .spawn()
            .expect("start /usr/sbin/sshd: install openssh-server");
        let this = Self { server, port, key };
        eventually("sshd listens", Duration::from_secs(20), || {
            TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        this
    }

    /// Where it listens on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The key that may log in there.
    #[must_use]
    pub fn key(&self) -> &Path {
        &self.key
    }

    /// The process that listens; those of connections are its children.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.server.id().cast_signed()
    }

    /// Options that make `ssh`, `scp` and others log in there with its key and touch nothing of this
    /// user's own.
    #[must_use]
    pub fn options(&self) -> Vec<String> {
        let mut options: Vec<String> =
            ["-F", "/dev/null", "-i"].map(str::to_owned).into_iter().collect();
        options.push(self.key.display().to_string());
        for option in [
            "StrictHostKeyChecking=no",
            "UserKnownHostsFile=/dev/null",
            "IdentitiesOnly=yes",
            "BatchMode=yes",
            "LogLevel=ERROR",
        ] {
            options.push("-o".to_owned());
            options.push(option.to_owned());
        }
        options
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}
