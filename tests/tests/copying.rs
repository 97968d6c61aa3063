//! Content on its way to machines and back.

use std::path::Path;

use reeve_protocol::ops::copy_stream::{
    COPY_FORMAT, CopiedFile, CopyEnd, CopyRecord, CopyStart, read_copy_record,
};
use reeve_protocol::ops::{FileEntry, FileRead, FileWrite, RemotePath, WriteAnswer};
use reeve_sdk::api::JobRequest;
use reeve_sdk::{Answered, Event};
use reeve_tests::Cluster;

fn remote(path: &Path) -> RemotePath {
    use std::os::unix::ffi::OsStrExt;
    RemotePath::new(path.as_os_str().as_bytes())
}

/// A stream of one file.
fn stream_of(content: &[u8], hash: &str) -> Vec<u8> {
    let mut wire = Vec::new();
    let mut put = |record: CopyRecord, json: serde_json::Value| {
        let bytes = serde_json::to_vec(&json).expect("JSON");
        record.write(&mut wire, &bytes).expect("written");
    };
    let start = CopyStart { format: COPY_FORMAT, ..CopyStart::default() };
    put(CopyRecord::Start, serde_json::to_value(start).expect("JSON"));
    let entry = serde_json::json!({
        "path": "any", "kind": "file", "size": content.len(), "mode": 0o640, "uid": 0, "gid": 0,
        "modified_ns": 1_000_000_000,
    });
    put(CopyRecord::Entry, entry);
    CopyRecord::Data.write(&mut wire, content).expect("written");
    let mut put = |record: CopyRecord, json: serde_json::Value| {
        let bytes = serde_json::to_vec(&json).expect("JSON");
        record.write(&mut wire, &bytes).expect("written");
    };
    let end = CopiedFile { size: content.len() as u64, hash: hash.to_owned(), changed: false };
    put(CopyRecord::FileEnd, serde_json::to_value(end).expect("JSON"));
    let end = CopyEnd { entries: 1, skipped: 0 };
    put(CopyRecord::End, serde_json::to_value(end).expect("JSON"));
    wire
}

fn hash_of(content: &[u8]) -> String {
    blake3::hash(content).to_hex().to_string()
}

/// Has a stream written, as a program would that knows nothing of the SDK's transfers.
fn write(cluster: &Cluster, operation: FileWrite, wire: Vec<u8>) -> Answered {
    let client = cluster.client();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let mut follow = client.run(&JobRequest::new("web-1", operation)).expect("a request");
        let (mut sent, mut last) = (None, None);
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        while let Some(event) = follow.next().await.expect("followed") {
            match event {
                Event::Operation(operation) => {
                    let id = operation.id;
                    last = Some(*operation);
                    if sent.is_none() {
                        let (client, wire) = (client.clone(), wire.clone());
                        sent = Some(tokio::spawn(async move {
                            client.send_input(id, wire.as_slice()).await
                        }));
                    }
                }
                Event::Output(output) => match output.stream {
                    reeve_protocol::Stream::Stdout => stdout.extend_from_slice(&output.bytes),
                    reeve_protocol::Stream::Stderr => stderr.extend_from_slice(&output.bytes),
                },
                _ => {}
            }
        }
        Answered::new(last.expect("an operation"), stdout, &stderr)
    })
}

fn leftovers(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).expect("a folder");
    let names = entries.map(|entry| entry.expect("an entry").file_name());
    let names = names.map(|name| name.to_string_lossy().into_owned());
    names.filter(|name| name.starts_with(".reeve-")).collect()
}

#[test]
fn a_file_is_read_as_a_stream_with_its_hash() {
    let cluster = Cluster::start();
    let _web = cluster.agent("web-1").start();
    let folder = tempfile::TempDir::new().expect("a folder");
    let path = folder.path().join("file");
    let content: Vec<u8> = (0..3_000_000_u32).flat_map(u32::to_le_bytes).collect();
    std::fs::write(&path, &content).expect("a file");
    for compress in [false, true] {
        let read = FileRead { compress, ..FileRead::new(remote(&path)) };
        let answer = cluster.perform("web-1", read).remove(0);
        assert!(answer.failure.is_none(), "{:?}", answer.failure);
        let (mut wire, mut buffer, mut records) =
            (answer.stdout.as_slice(), Vec::new(), Vec::new());
        let mut bytes = Vec::new();
        while let Some(record) = read_copy_record(&mut wire, &mut buffer).expect("a stream") {
            match record {
                CopyRecord::Entry => {
                    let entry: FileEntry = serde_json::from_slice(&buffer).expect("an entry");
                    assert_eq!(entry.size, content.len() as u64);
                }
                CopyRecord::Data => bytes.extend_from_slice(&buffer),
                CopyRecord::FileEnd => {
                    let end: CopiedFile = serde_json::from_slice(&buffer).expect("an end");
                    assert_eq!(end.hash, hash_of(&content));
                }
                _ => {}
            }
            records.push(record);
        }
        if compress {
            assert!(records.contains(&CopyRecord::Packed), "{records:?}");
        } else {
            assert!(bytes == content, "{} bytes", bytes.len());
        }
        assert_eq!(records.last(), Some(&CopyRecord::End));
    }
    let answer = cluster.perform("web-1", FileRead::new(remote(folder.path()))).remove(0);
    assert_eq!(answer.failure.expect("a failure").code, "is_a_directory");
}

#[test]
fn a_file_is_written_whole_or_not_at_all() {
    let cluster = Cluster::start();
    let _web = cluster.agent("web-1").start();
    let folder = tempfile::TempDir::new().expect("a folder");
    let path = folder.path().join("file");
    let content = b"what is to be there".repeat(10_000);
    let wire = stream_of(&content, &hash_of(&content));
    let answer = write(&cluster, FileWrite::new(remote(&path)), wire.clone());
    assert!(answer.failure.is_none(), "{:?}", answer.failure);
    assert!(std::fs::read(&path).expect("the file") == content);
    let last = answer.stdout.split(|byte| *byte == b'\n').rfind(|line| !line.is_empty());
    match serde_json::from_slice(last.expect("a line")).expect("an answer") {
        WriteAnswer::Written(done) => assert_eq!(done.hash, Some(hash_of(&content))),
        other => panic!("{other:?}"),
    }

    let refused = |operation: FileWrite, wire: Vec<u8>| {
        let answer = write(&cluster, operation, wire);
        let failure = answer.failure.expect("a failure");
        assert!(std::fs::read(&path).expect("the file") == content, "touched: {failure:?}");
        assert_eq!(leftovers(folder.path()), Vec::<String>::new(), "{failure:?}");
        failure.code
    };
    let other = b"something else".to_vec();
    let bad = stream_of(&other, &hash_of(b"another thing"));
    assert_eq!(refused(FileWrite::new(remote(&path)), bad), "hash_mismatch");
    let cut = wire[..wire.len() / 2].to_vec();
    assert_eq!(refused(FileWrite::new(remote(&path)), cut), "cut");
    let good = stream_of(&other, &hash_of(&other));
    let if_match = Some(hash_of(b"something older"));
    let operation = FileWrite { if_match, ..FileWrite::new(remote(&path)) };
    assert_eq!(refused(operation, good.clone()), "changed");
    let existing = reeve_protocol::ops::Existing::Refuse;
    let operation = FileWrite { existing, ..FileWrite::new(remote(&path)) };
    assert_eq!(refused(operation, good), "exists");
    assert_eq!(refused(FileWrite::new(remote(&path)), b"no stream at all".to_vec()), "bad_stream");
}
