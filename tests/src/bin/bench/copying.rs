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

use crate::table::{Figure, Goal, Table, Unit};

/// Bytes of the large file.
const LARGE_BYTES: u64 = 1 << 30;

/// Small files in a folder.
const SMALL_FILES: usize = 10_000;

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

    /// Copies the gigabyte once each way.
    pub fn copy_large(
        &self,
        cluster: &Cluster,
        sshd: &Sshd,
        done: &mut Copied,
    ) -> anyhow::Result<()> {
        let large = self.folder.path().join("large");
        let target = Target::new(self.folder.path())?;
        let cp = |from: &str, to: &str| copy_with_reeve(cluster, &[from, to]);
        let to = target.fresh("up")?;
        done.up = cp(&text(&large), &remote(&to.join("large")))?;
        same(&large, &to.join("large"))?;
        let to = target.fresh("down")?;
        done.down = cp(&remote(&large), &text(&to.join("large")))?;
        same(&large, &to.join("large"))?;

        let mut port = vec!["-P".to_owned(), sshd.port().to_string()];
        port.extend(sshd.options());
        let to = target.fresh("scp")?;
        done.scp_up =
            timed(Command::new("scp").arg("-q").args(&port).arg(&large).arg(ssh_remote(&to)))?;
        let to = target.fresh("scp")?;
        done.scp_down =
            timed(Command::new("scp").arg("-q").args(&port).arg(ssh_remote(&large)).arg(&to))?;

        let rsync = |from: &str, to: &str| copy_with_rsync(sshd, from, to);
        let to = target.fresh("rsync")?;
        done.rsync_up = rsync(&text(&large), &ssh_remote(&to.join("large")))?;
        let to = target.fresh("rsync")?;
        done.rsync_down = rsync(&ssh_remote(&large), &text(&to.join("large")))?;

        let to = target.fresh("tls")?;
        done.tls =
            copy_over_tls(&large, &to.join("large"), &cluster.coordinator.data().join("tls"))?;
        Ok(())
    }

    /// Copies the folder of small files once each way.
    pub fn copy_small(
        &self,
        cluster: &Cluster,
        sshd: &Sshd,
        done: &mut Copied,
    ) -> anyhow::Result<()> {
        let small = self.folder.path().join("small");
        let target = Target::new(self.folder.path())?;
        let cp = |from: &str, to: &str| copy_with_reeve(cluster, &["-r", from, to]);
        let to = target.fresh("small")?;
        done.small_up = cp(&text(&small), &remote(&to))?;
        ensure!(count_files(&to)? == SMALL_FILES, "files are missing above");
        let to = target.fresh("small")?;
        done.small_down = cp(&remote(&small), &text(&to))?;
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
        done.small_rsync = copy_with_rsync(sshd, &text(&small), &ssh_remote(&to))?;
        Ok(())
    }
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

fn remote(path: &Path) -> String {
    format!("bench:{}", path.display())
}

fn ssh_remote(path: &Path) -> String {
    format!("root@127.0.0.1:{}", path.display())
}

fn copy_with_reeve(cluster: &Cluster, arguments: &[&str]) -> anyhow::Result<Duration> {
    let run = cluster.reeve([&["cp"], arguments].concat());
    ensure!(run.code == 0, "{run}");
    Ok(run.took)
}

fn copy_with_rsync(sshd: &Sshd, from: &str, to: &str) -> anyhow::Result<Duration> {
    let options = sshd.options().join(" ");
    let shell = format!("ssh -c aes128-gcm@openssh.com -p {} {options}", sshd.port());
    timed(Command::new("rsync").args(["-aW", "-e", &shell, from, to]))
}

/// Measures the gigabyte alone; the figures as JSON.
pub fn measure(repetitions: usize) -> anyhow::Result<serde_json::Value> {
    let cluster = Cluster::start();
    let _agent = cluster.agent("bench").start();
    let folder = tempfile::tempdir()?;
    let sshd = Sshd::start(folder.path());
    let sources = Sources::make()?;
    let mut copied = Vec::new();
    for repetition in 0..=repetitions {
        let mut each = Copied::default();
        sources.copy_large(&cluster, &sshd, &mut each)?;
        // The first one warms everything up.
        if repetition > 0 {
            copied.push(each);
        }
    }
    let mut table = Table::new(&format!("Files: medians of {repetitions} repetitions"));
    report_large(&mut table, &copied);
    Ok(table.end())
}

/// Rows of it.
pub fn report(table: &mut Table, copied: &[Copied]) {
    report_large(table, copied);
    report_small(table, copied);
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

fn report_large(table: &mut Table, copied: &[Copied]) {
    let rate = |of: fn(&Copied) -> Duration| {
        Figure::rate((LARGE_BYTES >> 20) as f64, copied.iter().map(of))
    };
    let (up, down, tls) = (rate(|c| c.up), rate(|c| c.down), rate(|c| c.tls));
    let mut large = |key: &str, what: &str, ours: &Figure, theirs: &Figure, beside, goal| {
        table.row(key, what, Unit::MebibytesPerSecond, ours, (theirs, beside), goal);
    };
    let (twice, more) = (Goal::AtLeast(2.0), Goal::AtLeast(1.2));
    large("up_scp", "1 GiB up, verified", &up, &rate(|c| c.scp_up), "scp", twice);
    large("up_rsync", "", &up, &rate(|c| c.rsync_up), "rsync, aes128-gcm", more);
    large("up_tls", "", &up, &tls, "plain TLS copy", Goal::None);
    large("down_scp", "1 GiB down, verified", &down, &rate(|c| c.scp_down), "scp", twice);
    large("down_rsync", "", &down, &rate(|c| c.rsync_down), "rsync, aes128-gcm", more);
    large("down_tls", "", &down, &tls, "plain TLS copy", Goal::None);
}

fn report_small(table: &mut Table, copied: &[Copied]) {
    let small =
        |of: fn(&Copied) -> Duration| Figure::rate(SMALL_FILES as f64, copied.iter().map(of));
    let (small_up, small_down) = (small(|c| c.small_up), small(|c| c.small_down));
    let (tar, rsync) = (small(|c| c.small_tar), small(|c| c.small_rsync));
    let mut small = |key: &str, what: &str, ours: &Figure, beside: (&Figure, &str)| {
        table.row(key, what, Unit::PerSecond, ours, beside, Goal::None);
    };
    small("small_up_tar", "10,000 small files up", &small_up, (&tar, "tar | ssh tar"));
    small("small_up_rsync", "", &small_up, (&rsync, "rsync"));
    small("small_down_tar", "10,000 small files down", &small_down, (&tar, "tar | ssh tar"));
}
