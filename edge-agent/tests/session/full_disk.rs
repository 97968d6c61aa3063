//! A disk that fills up, and has room again.

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use reeve_agent::host;
use reeve_agent::state::journal::{Event, Journal, Record};
use reeve_protocol::{OperationId, Outcome};

use crate::agent::{Got, Machine, shell, wait_until};

/// A file system of its own, unmounted when dropped.
struct Disk(PathBuf);

impl Disk {
    fn mount(path: &Path, mebibytes: u32) -> Self {
        std::fs::create_dir_all(path).expect("a folder");
        let options = format!("size={mebibytes}m,mode=700");
        mount(Some("tmpfs"), path, Some("tmpfs"), MsFlags::empty(), Some(options.as_str()))
            .expect("a tmpfs can be mounted: run the tests as root");
        Self(path.to_owned())
    }

    fn free(&self) -> u64 {
        host::metrics::measure_disk(&self.0).expect("mounted").1
    }

    /// Takes all space but so much; gives it back when the file is removed.
    fn fill(&self, but: u64) -> PathBuf {
        let path = self.0.join("filler");
        let mut file = File::create(&path).expect("made");
        while self.free() > but {
            match file.write_all(&[1; 4096]) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::StorageFull => break,
                Err(error) => panic!("{error}"),
            }
        }
        path
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = umount2(&self.0, MntFlags::MNT_DETACH);
    }
}

#[tokio::test]
async fn full_disk_blocks_the_command_and_loses_no_byte() {
    let machine = Machine::new();
    let disk = Disk::mount(&machine.state(), 8);
    let agent = machine.start().await;
    let mut coordinator = agent.connect().await;
    let filler = disk.fill(1024 * 1024);
    let copy = machine.folder.path().join("copy");
    let id = OperationId::new();
    let line = format!("head -c 3000000 /dev/urandom | tee {}; exit 7", copy.display());
    coordinator.request(id, &shell(&line));
    wait_until("the disk is full", || disk.free() == 0).await;
    // Other work is refused in clear words meanwhile; this goes on where it was once there is room.
    let other = OperationId::new();
    coordinator.request(other, &shell("true"));
    let mut got = Got::default();
    let mut refused = Got::default();
    while refused.results.is_empty() {
        let envelope = coordinator.hear().await;
        if envelope.id == Some(other) {
            refused.take(&envelope);
        } else if envelope.id == Some(id) {
            got.take(&envelope);
        }
    }
    assert!(matches!(refused.outcome(), Outcome::Refused(refusal) if refusal.code == "disk_full"));
    assert!(got.results.is_empty(), "{:?}", got.results);
    std::fs::remove_file(filler).expect("removed");
    coordinator.acknowledge(id, got.next, false);
    coordinator.say(id, &reeve_protocol::Credit::Output { until: 4_000_000 });
    coordinator.follow(id, &mut got, |got| !got.results.is_empty()).await;
    assert_eq!(got.outcome(), &Outcome::Exited { code: 7 });
    assert_eq!(got.stdout.len(), 3_000_000);
    assert!(got.stdout == std::fs::read(copy).expect("a copy"), "bytes differ");
}

#[tokio::test]
async fn nothing_starts_on_a_full_disk_and_everything_once_there_is_room() {
    let machine = Machine::new();
    let disk = Disk::mount(&machine.state(), 1);
    let agent = machine.start().await;
    let mut coordinator = agent.connect().await;
    let filler = disk.fill(0);
    let proof = machine.folder.path().join("proof");
    let command = shell(&format!("touch {}; exit 5", proof.display()));
    let id = OperationId::new();
    coordinator.request(id, &command);
    let mut got = Got::default();
    coordinator.follow(id, &mut got, |got| !got.results.is_empty()).await;
    let Outcome::Refused(refusal) = got.outcome() else { panic!("{:?}", got.outcome()) };
    assert_eq!(refusal.code, "disk_full");
    assert!(refusal.message.contains("free some space"), "{}", refusal.message);
    assert!(!proof.exists());
    assert!(agent.operations.list().is_empty());
    std::fs::remove_file(filler).expect("removed");
    let got = coordinator.run(OperationId::new(), &command).await;
    assert_eq!(got.outcome(), &Outcome::Exited { code: 5 });
    assert!(proof.exists());
}

#[test]
fn journal_on_a_full_disk_says_so_and_keeps_every_whole_record() {
    let temporary = tempfile::tempdir().expect("a folder");
    let disk = Disk::mount(&temporary.path().join("disk"), 1);
    let path = disk.0.join("journal");
    let mut journal = Journal::open(&path, 0).expect("opens");
    let filler = disk.fill(0);
    let mut written = Vec::new();
    let error = loop {
        let record = Record { id: OperationId::new(), time_us: 1, event: Event::Started };
        match journal.record(record) {
            Ok(()) => written.push(record),
            Err(error) => break error,
        }
        assert!(written.len() < 1000, "the disk is not full");
    };
    assert!(host::files::is_disk_full(&error), "{error}");
    std::fs::remove_file(filler).expect("removed");
    let record = Record { id: OperationId::new(), time_us: 1, event: Event::Started };
    journal.record(record).expect("there is room");
    written.push(record);
    let journal = Journal::open(&path, 0).expect("opens");
    for record in written {
        assert_eq!(journal.find(record.id).expect("read"), Some(record));
    }
}
