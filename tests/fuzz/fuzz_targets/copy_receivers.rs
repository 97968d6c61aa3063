//! Streams of copies as both ends take them in, with real files: whatever comes, nothing outside of
//! the target is made or changed, and an error leaves no partial file that nobody can go on with.
#![no_main]

use std::collections::BTreeMap;
use std::fs;
use std::io::{Seek as _, Write as _};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use reeve_agent::host::paths::Rules;
use reeve_agent::operations::worker::{Order, Perform as _, Worker};
use reeve_agent::policy::VersionRules;
use reeve_fuzz::choose;
use reeve_protocol::OperationId;
use reeve_protocol::ops::copy_stream::{
    COPY_FORMAT, CopiedFile, CopyEnd, CopyRecord, CopyStart, MAX_COPY_DATA, copy_hole,
    read_copy_record,
};
use reeve_protocol::ops::{FileEntry, FileKind, FileWrite, PARTIAL_PREFIX, Work as _};
use reeve_sdk::transfer::Unwatched;
use reeve_sdk::transfer::local_target::Placing;
use reeve_sdk::transfer::local_tree::TreeSink;
use reeve_sdk::transfer::stream::receive;
use uuid::Uuid;

/// Names that meet each other, and those that ought to get nowhere.
const NAMES: &[&str] = &[
    "", "a", "b", "a/b", "a/c", "a/b/c", "d", "link", "link/x", "../out/x", "/abs", "a/../b", ".",
    "a//b", "a\0b", "z",
];
const TARGETS: &[&str] = &["a", "../out", "/etc", "..", "b/../../out", "x", "", "a/b"];

/// Bytes as a stream: taken as they are, or as a list of records to be made, which gets further.
fn stream(data: &[u8]) -> Vec<u8> {
    let Some((first, mut rest)) = choose(data) else { return Vec::new() };
    if first & 1 == 0 {
        return rest.to_vec();
    }
    let mut out = Vec::new();
    let tree = first & 2 == 0;
    let put = |out: &mut Vec<u8>, record: CopyRecord, bytes: &[u8]| {
        record.write(out, bytes).expect("written");
    };
    let start = CopyStart { format: COPY_FORMAT, tree, ..CopyStart::default() };
    put(&mut out, CopyRecord::Start, &serde_json::to_vec(&start).expect("json"));
    let mut entries = 0;
    while let Some((head, behind)) = rest.split_first_chunk::<4>() {
        let [kind, name, size, other] = *head;
        rest = behind;
        let name = NAMES[usize::from(name) % NAMES.len()];
        let mut entry: FileEntry = serde_json::from_value(serde_json::json!({
            "path": if tree { name } else { "" },
            "kind": "file",
            "size": u64::from(size),
            "mode": u32::from(other) << 4,
            "uid": 0,
            "gid": 0,
            "modified_ns": i64::from(other) * 1_000_000_007,
        }))
        .unwrap_or_else(|error| panic!("an entry: {error}"));
        match kind % 8 {
            0..=2 => {
                put(&mut out, CopyRecord::Entry, &serde_json::to_vec(&entry).expect("json"));
                let bytes = vec![other; usize::from(size)];
                if kind & 8 == 0 {
                    put(&mut out, CopyRecord::Data, &bytes);
                }
                if kind & 16 == 0 {
                    let hash = blake3_of(&bytes);
                    let end = CopiedFile { size: size.into(), hash, changed: kind & 32 != 0 };
                    put(&mut out, CopyRecord::FileEnd, &serde_json::to_vec(&end).expect("json"));
                }
                entries += 1;
            }
            3 => {
                entry.kind = FileKind::Directory;
                put(&mut out, CopyRecord::Entry, &serde_json::to_vec(&entry).expect("json"));
                entries += 1;
            }
            4 => {
                entry.kind = FileKind::Symlink;
                entry.target = Some(TARGETS[usize::from(size) % TARGETS.len()].into());
                put(&mut out, CopyRecord::Entry, &serde_json::to_vec(&entry).expect("json"));
                entries += 1;
            }
            5 => {
                let length = u64::from(size) << (other % 16);
                put(&mut out, CopyRecord::Hole, &length.to_be_bytes());
            }
            6 => {
                // All that came so far, once more and packed.
                let packed = zstd::bulk::compress(&out[out.len().min(40)..], 1).expect("packed");
                put(&mut out, CopyRecord::Packed, &packed[..packed.len().min(1 << 20)]);
            }
            _ => put(&mut out, CopyRecord::Data, &[other; 16]),
        }
    }
    let end = CopyEnd { entries, skipped: 0 };
    put(&mut out, CopyRecord::End, &serde_json::to_vec(&end).expect("json"));
    out
}

/// Whether zeros that take hours to be hashed are announced. That is no fault: files with such holes
/// exist, and whoever copies one can cancel it.
fn is_long(mut bytes: &[u8]) -> bool {
    let mut buffer = Vec::new();
    while let Ok(Some(record)) = read_copy_record(&mut bytes, &mut buffer) {
        let long = match record {
            CopyRecord::Hole => copy_hole(&buffer).is_ok_and(|length| length > 1 << 24),
            CopyRecord::Packed => zstd::bulk::decompress(&buffer, MAX_COPY_DATA)
                .is_ok_and(|unpacked| is_long(&unpacked)),
            _ => false,
        };
        if long {
            return true;
        }
    }
    false
}

fn blake3_of(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex().to_string()
}

/// Everything in a folder: names, kinds and contents.
fn picture(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("read") {
            let path = entry.expect("an entry").path();
            let about = fs::symlink_metadata(&path).expect("there");
            if about.is_dir() {
                folders.push(path.clone());
                found.insert(path, b"folder".to_vec());
            } else if about.is_file() {
                // A hole may be longer than what can be read.
                let content = if about.len() < 1 << 20 {
                    fs::read(&path).unwrap_or_default()
                } else {
                    vec![]
                };
                found.insert(path, content);
            } else {
                found.insert(path, b"other".to_vec());
            }
        }
    }
    found
}

struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let folder = reeve_fuzz::folder();
        for name in ["in", "in/t", "out", "state"] {
            fs::create_dir(folder.path().join(name)).expect("made");
        }
        fs::write(folder.path().join("out/x"), "x").expect("written");
        fs::write(folder.path().join("in/beside"), "beside").expect("written");
        symlink("../../out", folder.path().join("in/t/link")).expect("made");
        Self { folder }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn check(&self, resumes: bool, failed: bool) {
        assert_eq!(picture(&self.at("out")).len(), 1);
        assert_eq!(fs::read(self.at("out/x")).expect("there"), b"x");
        assert_eq!(fs::read(self.at("in/beside")).expect("there"), b"beside");
        let names: Vec<_> = fs::read_dir(self.folder.path()).expect("read").collect();
        assert_eq!(names.len(), 3, "something was made outside");
        if failed && resumes {
            return;
        }
        for path in picture(&self.at("in")).keys() {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            assert!(!name.starts_with(PARTIAL_PREFIX), "{name} was left behind");
        }
    }
}

fn agent(bytes: &[u8], flags: u8) {
    let place = Place::new();
    let allowed = [place.at("in").to_str().expect("text").to_owned()];
    let rules = Rules::new(&allowed, &[], &place.at("state")).expect("rules");
    let order = Order {
        id: OperationId(Uuid::from_u128(9)),
        name: "file_write".to_owned(),
        body: Vec::new(),
        allowed: Vec::new(),
        blocked: Vec::new(),
        state: place.at("state"),
        policy: place.at("policy"),
        versions: VersionRules::default(),
        tunnels: Vec::new(),
    };
    let mut stdin = tempfile::tempfile_in("/dev/shm").expect("a file");
    stdin.write_all(bytes).expect("written");
    stdin.rewind().expect("rewound");
    let answer = tempfile::tempfile_in("/dev/shm").expect("a file");
    let mut path = Rules::to_remote(&place.at("in"));
    path = path.join(if flags & 1 == 0 { b"t" } else { b"new" });
    let mut write: FileWrite = serde_json::from_value(serde_json::json!({
        "path": path,
        "recursive": flags & 2 == 0,
        "preserve": flags & 4 != 0,
        "outward_links": flags & 8 != 0,
        "no_version": flags & 16 != 0,
    }))
    .expect("a request");
    if flags & 32 != 0 {
        write.resume = Some("0123456789abcdef".to_owned());
    }
    if write.validate().is_err() {
        return;
    }
    let resumes = write.resume.is_some();
    let mut worker = Worker::between(order, rules, stdin, answer);
    let done = write.perform(&mut worker);
    drop(worker);
    place.check(resumes, done.is_err());
}

fn here(bytes: &[u8], flags: u8) {
    let place = Place::new();
    let root = place.at(if flags & 1 == 0 { "in/t" } else { "in/new" });
    let placing =
        Placing { outward_links: flags & 8 != 0, preserve: flags & 4 != 0, ..Placing::default() };
    let token = "0123456789abcdef".to_owned();
    let sink = TreeSink::new(root, token, placing, flags & 64 != 0, Arc::new(Unwatched));
    let Ok(mut sink) = sink else { return };
    let received = receive(&mut &bytes[..], &mut sink);
    let failed = received.is_err();
    let done = received.is_ok() && sink.finish().is_ok();
    if failed {
        sink.interrupt();
    }
    drop(sink);
    place.check(true, !done);
}

fuzz_target!(|data: &[u8]| {
    let Some((flags, rest)) = choose(data) else { return };
    let bytes = stream(rest);
    if is_long(&bytes) {
        return;
    }
    if flags & 128 == 0 {
        agent(&bytes, flags);
    } else {
        here(&bytes, flags);
    }
});
