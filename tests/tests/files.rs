//! Files on machines: looked at, read, written, kept.

use reeve_protocol::ops::{FileEntry, FileKind, FileStat, RemotePath};
use reeve_tests::Cluster;

#[test]
fn stat_tells_what_is_at_a_path() {
    let cluster = Cluster::start();
    let _web = cluster.agent("web-1").start();
    let folder = tempfile::TempDir::new().expect("a folder");
    let path = folder.path().join("odd \"name\"\n");
    std::fs::write(&path, b"content").expect("a file");
    let path = RemotePath::from(path.to_str().expect("text"));
    let asked = FileStat { path: path.clone(), follow: false, hash: true };
    let answers = cluster.perform("web-1", asked);
    assert!(answers[0].failure.is_none(), "{answers:?}");
    let entry: FileEntry = serde_json::from_slice(&answers[0].stdout).expect("an entry");
    assert_eq!((entry.path, entry.kind, entry.size), (path, FileKind::File, 7));
    // b3sum(1) says so.
    let hash = blake3::hash(b"content").to_hex().to_string();
    assert_eq!(entry.hash, Some(hash));

    let asked = FileStat { path: RemotePath::from("/no/such"), follow: false, hash: false };
    let answers = cluster.perform("web-1", asked);
    let failure = answers[0].failure.as_ref().expect("a failure");
    assert_eq!(failure.code, "not_found", "{failure:?}");
}
