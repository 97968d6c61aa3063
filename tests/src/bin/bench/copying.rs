//! Files up and down, large and many, each beside what people use for it.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use reeve_tests::{Cluster, Sshd};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// Bytes of the large file.
pub const LARGE_BYTES: u64 = 1 << 30;

/// Small files in a folder.
pub const SMALL_FILES: usize = 10_000;

/// Bytes read and written at once by the plain copy.
const BLOCK: usize = 256 * 1024;

/// The two things that are copied.
pub struct Sources {
    folder: tempfile::TempDir,
}

/// What one repetition took.
#[derive(Clone, Copy, Default)]
pub struct Copied {
    pub up: Duration,
    pub down: Duration,
    pub scp_up: Duration,
    pub scp_down: Duration,
    pub rsync_up: Duration,
    pub rsync_down: Duration,
    pub tls: Duration,
    pub small_up: Duration,
    pub small_down: Duration,
    pub small_tar: Duration,
    pub small_rsync: Duration,
}

impl Sources {
    /// Makes a gigabyte that does not compress, and many small files.
    pub fn make() -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let mut random = File::open("/dev/urandom")?;
        let mut large = File::create(folder.path().join("large"))?;
        let mut block = vec![0; 1 << 20];
        for _ in 0..LARGE_BYTES >> 20 {
            random.read_exact(&mut block)?;
            large.write_all(&block)?;
        }
        large.sync_all()?;
        let small = folder.path().join("small");
        for number in 0..SMALL_FILES {
            let below = small.join(format!("{:02}", number % 100));
            fs::create_dir_all(&below)?;
            // Sizes as in /etc: from nothing to some KiB.
            let size = (number * 37) % 8192;
            fs::write(below.join(format!("{number}.conf")), &block[..size])?;
        }
        Ok(Self { folder })
    }

    /// Copies everything once.
    pub fn copy(&self, cluster: &Cluster, sshd: &Sshd) -> anyhow::Result<Copied> {
        let large = self.folder.path().join("large");
        let small = self.folder.path().join("small");
        let target = Target::new(self.folder.path())?;
        let remote = |path: &Path| format!("bench:{}", path.display());
        let ssh_remote = |path: &Path| format!("root@127.0.0.1:{}", path.display());
        let cp = |from: &str, to: &str, recursive: bool| -> anyhow::Result<Duration> {
            let mut line = vec!["cp"];
            if recursive {
                line.push("-r");
            }
            line.extend([from, to]);
            let run = cluster.reeve(line);
            ensure!(run.code == 0, "{run}");
            Ok(run.took)
        };
        let text = |path: &Path| path.display().to_string();
        let mut done = Copied::default();

        let to = target.fresh("up")?;
        done.up = cp(&text(&large), &remote(&to.join("large")), false)?;
        same(&large, &to.join("large"))?;
        let to = target.fresh("down")?;
        done.down = cp(&remote(&large), &text(&to.join("large")), false)?;
        same(&large, &to.join("large"))?;

        let mut port = vec!["-P".to_owned(), sshd.port().to_string()];
        port.extend(sshd.options());
        let to = target.fresh("scp")?;
        done.scp_up =
            timed(Command::new("scp").arg("-q").args(&port).arg(&large).arg(ssh_remote(&to)))?;
        let to = target.fresh("scp")?;
        done.scp_down =
            timed(Command::new("scp").arg("-q").args(&port).arg(ssh_remote(&large)).arg(&to))?;

        let shell = format!(
            "ssh -c aes128-gcm@openssh.com -p {} {}",
            sshd.port(),
            sshd.options().join(" ")
        );
        let rsync = |from: &str, to: &str| {
            timed(Command::new("rsync").args(["-aW", "-e", &shell, from, to]))
        };
        let to = target.fresh("rsync")?;
        done.rsync_up = rsync(&text(&large), &ssh_remote(&to.join("large")))?;
        let to = target.fresh("rsync")?;
        done.rsync_down = rsync(&ssh_remote(&large), &text(&to.join("large")))?;

        let to = target.fresh("tls")?;
        done.tls =
            copy_over_tls(&large, &to.join("large"), &cluster.coordinator.data().join("tls"))?;

        let to = target.fresh("small")?;
        done.small_up = cp(&text(&small), &remote(&to), true)?;
        ensure!(count_files(&to)? == SMALL_FILES, "files are missing above");
        let to = target.fresh("small")?;
        done.small_down = cp(&remote(&small), &text(&to), true)?;
        ensure!(count_files(&to)? == SMALL_FILES, "files are missing below");
        let to = target.fresh("small")?;
        let line = format!(
            "tar -C {} -cf - small | ssh -p {} {} root@127.0.0.1 tar -C {} -xf -",
            self.folder.path().display(),
            sshd.port(),
            sshd.options().join(" "),
            to.display()
        );
        done.small_tar = timed(Command::new("sh").args(["-c", &line]))?;
        ensure!(count_files(&to)? == SMALL_FILES, "tar lost files");
        let to = target.fresh("small")?;
        done.small_rsync = rsync(&text(&small), &ssh_remote(&to))?;
        Ok(done)
    }
}

/// Folders to copy into. What was there is gone before the clock starts.
struct Target(std::path::PathBuf);

impl Target {
    fn new(folder: &Path) -> anyhow::Result<Self> {
        let path = folder.join("target");
        fs::create_dir_all(&path)?;
        Ok(Self(path))
    }

    fn fresh(&self, name: &str) -> anyhow::Result<std::path::PathBuf> {
        fs::remove_dir_all(&self.0)?;
        let path = self.0.join(name);
        fs::create_dir_all(&path)?;
        nix::unistd::sync();
        Ok(path)
    }
}

fn timed(command: &mut Command) -> anyhow::Result<Duration> {
    let start = Instant::now();
    let done = command.stdin(Stdio::null()).output().context("start it")?;
    ensure!(done.status.success(), "{command:?}: {}", String::from_utf8_lossy(&done.stderr));
    Ok(start.elapsed())
}

fn same(one: &Path, other: &Path) -> anyhow::Result<()> {
    let done = Command::new("cmp").arg(one).arg(other).status()?;
    ensure!(done.success(), "{} and {} differ", one.display(), other.display());
    Ok(())
}

fn count_files(folder: &Path) -> anyhow::Result<usize> {
    let mut count = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        count += if entry.file_type()?.is_dir() { count_files(&entry.path())? } else { 1 };
    }
    Ok(count)
}

/// The same bytes through TLS over loopback into a file that is synced: nothing is checked, recorded
/// or resumed.
fn copy_over_tls(from: &Path, to: &Path, tls: &Path) -> anyhow::Result<Duration> {
    let chain =
        CertificateDer::pem_file_iter(tls.join("leaf.pem"))?.collect::<Result<Vec<_>, _>>()?;
    let key = PrivateKeyDer::from_pem_file(tls.join("leaf.key"))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut server = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    // Nobody would read them, and a socket closed with something unread resets its connection.
    server.send_tls13_tickets = 0;
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(tls.join("ca.pem"))? {
        roots.add(certificate?)?;
    }
    let client = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let start = Instant::now();
    let (mut source, to) = (File::open(from)?, to.to_owned());
    let writing = std::thread::spawn(move || -> anyhow::Result<()> {
        let (socket, _) = listener.accept()?;
        let connection = rustls::ServerConnection::new(Arc::new(server))?;
        let mut stream = rustls::StreamOwned::new(connection, socket);
        let mut file = File::create(to)?;
        let mut buffer = vec![0; BLOCK];
        loop {
            match stream.read(&mut buffer)? {
                0 => break,
                count => file.write_all(&buffer[..count])?,
            }
        }
        Ok(file.sync_all()?)
    });
    let socket = TcpStream::connect(address)?;
    let name = rustls_pki_types::ServerName::try_from("127.0.0.1")?;
    let connection = rustls::ClientConnection::new(Arc::new(client), name)?;
    let mut stream = rustls::StreamOwned::new(connection, socket);
    let mut buffer = vec![0; BLOCK];
    loop {
        match source.read(&mut buffer)? {
            0 => break,
            count => stream.write_all(&buffer[..count])?,
        }
    }
    stream.conn.send_close_notify();
    stream.flush()?;
    drop(stream);
    writing.join().map_err(|_| anyhow::anyhow!("the receiving end panicked"))??;
    Ok(start.elapsed())
}
