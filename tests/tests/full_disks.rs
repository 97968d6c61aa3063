//! Disks without room: said before where it is known, met on the way where it is not. What was there
//! stays, what came half goes, and there is one clear line.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

use reeve_sdk::api::{NewUpload, Upload, UploadState};
use reeve_tests::proxy::{Direction, Proxy};
use reeve_tests::{Cluster, Database, Finished, SmallDisk, eventually};

const MIB: u64 = 1024 * 1024;

/// What there is to copy: more than a small disk takes.
fn noise(bytes: u64) -> Vec<u8> {
    let mut content = vec![0; usize::try_from(bytes).expect("a size")];
    rand::fill(&mut content[..]);
    content
}

fn temporary(folder: &Path) -> Vec<String> {
    let names =
        fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("one").file_name());
    let names = names.map(|name| name.to_string_lossy().into_owned());
    names.filter(|name| name.starts_with(".reeve-")).collect()
}

#[track_caller]
fn expect_one_line(run: &Finished, code: i32, says: &str) {
    run.expect_code(code).expect_says(says);
    assert_eq!(run.stderr.lines().count(), 1, "{run}");
}

#[test]
fn machine_whose_disk_fills_during_an_upload_keeps_what_it_had() {
    let disk = SmallDisk::of("48m");
    let cluster = Cluster::start();
    let proxy = Proxy::to(cluster.coordinator.address());
    let _web = cluster.agent("web-1").dials(&proxy.url()).start();
    let near = tempfile::TempDir::new().expect("a folder");
    let source = near.path().join("big");
    // With a hole, so that no room is taken for it before.
    let file = fs::File::create(&source).expect("a file");
    file.write_all_at(&noise(24 * MIB), 0).expect("written");
    file.set_len(64 * MIB).expect("a hole");
    fs::write(disk.folder().join("big"), "before").expect("a file");
    proxy.throttle(Some(8 * MIB));
    let words =
        ["cp", &source.display().to_string(), &format!("web-1:{}/", disk.folder().display())];
    let run = cluster.spawn_reeve(words);
    eventually("a part has come", Duration::from_secs(60), || {
        proxy.passed(Direction::Down) > 6 * MIB
    });
    assert_eq!(temporary(disk.folder()).len(), 1, "it has come whole already");
    disk.fill(4 * MIB);
    expect_one_line(&run.finish(), 1, "no space");
    assert_eq!(fs::read(disk.folder().join("big")).expect("there"), b"before");
    assert_eq!(temporary(disk.folder()), Vec::<String>::new());
    // With room again the same command does it.
    fs::remove_file(disk.folder().join("ballast")).expect("removed");
    proxy.throttle(None);
    cluster.reeve(words).expect_code(0);
    let (there, here) = (fs::read(disk.folder().join("big")), fs::read(&source));
    assert!(there.expect("there") == here.expect("here"));
}

#[test]
fn folder_that_fills_the_machines_disk_leaves_whole_files_and_nothing_else() {
    let disk = SmallDisk::of("8m");
    let cluster = Cluster::start();
    let _web = cluster.agent("web-1").start();
    let near = tempfile::TempDir::new().expect("a folder");
    let content = noise(MIB / 2);
    for number in 0..32 {
        fs::write(near.path().join(format!("{number:02}")), &content).expect("a file");
    }
    fs::write(disk.folder().join("31"), "before").expect("a file");
    let from = format!("{}/", near.path().display());
    let run = cluster.reeve(["cp", "-r", &from, &format!("web-1:{}", disk.folder().display())]);
    expect_one_line(&run, 1, "no space");
    assert_eq!(fs::read(disk.folder().join("31")).expect("there"), b"before");
    let mut whole = 0;
    for entry in fs::read_dir(disk.folder()).expect("a folder").map(|entry| entry.expect("one")) {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name != "31" {
            assert!(fs::read(entry.path()).expect("there") == content, "{name} is not whole");
            whole += 1;
        }
    }
    assert!((1..31).contains(&whole), "{whole} files came");
}

#[test]
fn this_sides_full_disk_ends_a_download_and_takes_what_came_with_it() {
    let disk = SmallDisk::of("8m");
    let cluster = Cluster::start();
    let _web = cluster.agent("web-1").start();
    let far = tempfile::TempDir::new().expect("a folder");
    fs::write(far.path().join("big"), noise(24 * MIB)).expect("a file");
    fs::write(disk.folder().join("big"), "before").expect("a file");
    let here = disk.folder().display().to_string();
    let file = format!("web-1:{}", far.path().join("big").display());
    expect_one_line(&cluster.reeve(["cp", &file, &here]), 255, "No space left");
    assert_eq!(fs::read(disk.folder().join("big")).expect("there"), b"before");
    assert_eq!(temporary(disk.folder()), Vec::<String>::new());
    let all = format!("web-1:{}/", far.path().display());
    expect_one_line(&cluster.reeve(["cp", "-r", &all, &here]), 255, "No space left");
    assert_eq!(fs::read(disk.folder().join("big")).expect("there"), b"before");
    assert_eq!(temporary(disk.folder()), Vec::<String>::new());
}

#[test]
fn coordinator_whose_disk_fills_during_an_upload_keeps_what_came_and_goes_on_later() {
    let disk = SmallDisk::of("40m");
    let cluster = Cluster::builder().database(Database::Sqlite).data(disk.folder()).start();
    let _web = cluster.agent("web-1").start();
    let bytes = noise(24 * MIB);
    let hash = blake3::hash(&bytes).to_hex().to_string();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let client = cluster.client();
    let half = usize::try_from(8 * MIB).expect("a size");
    let upload = runtime.block_on(async {
        let new = NewUpload { blake3: Some(hash.clone()), ..NewUpload::new(bytes.len() as u64) };
        let upload = client.create_upload(&new).await.expect("announced");
        let first = bytes[..half].to_vec().into();
        client.append_upload(upload.id, 0, first).await.expect("there is room for that")
    });
    disk.fill(3 * MIB);
    let rest = bytes[half..].to_vec().into();
    let full = runtime.block_on(client.append_upload(upload.id, half as u64, rest));
    let full = full.expect_err("there is no room");
    assert_eq!(full.code(), Some("disk_full"), "{full}");
    let now: Upload = cluster.api.load(&format!("/api/uploads/{}", upload.id));
    assert_eq!(now.state, UploadState::Open, "{now:?}");
    assert!(now.received >= half as u64 && now.received < bytes.len() as u64, "{now:?}");
    disk.grow("512m");
    let sent =
        runtime.block_on(client.send_upload(upload.id, std::io::Cursor::new(&bytes), |_| {}));
    let sent = sent.expect("it goes on where it was");
    assert_eq!((sent.state, sent.blake3), (UploadState::Complete, Some(hash)));
    eventually("it takes work again", Duration::from_secs(30), || {
        cluster.reeve(["run", "web-1", "--", "true"]).code == 0
    });
}
