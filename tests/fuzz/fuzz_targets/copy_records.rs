//! Records of a copy, as either end reads them: no more memory than a record may have, a stream
//! that ends well adds up, and what is read is written as the same bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use reeve_protocol::ops::copy_stream::{
    CopyRecord, MAX_COPY_DATA, check_copy_path, copy_hole, is_beneath, is_told_before,
    link_leads_out, read_copy_record,
};
use reeve_protocol::ops::{FileEntry, RemotePath};

fuzz_target!(|data: &[u8]| {
    let mut rest = data;
    let mut buffer = Vec::new();
    let mut last: Option<RemotePath> = None;
    loop {
        let before = rest;
        match read_copy_record(&mut rest, &mut buffer) {
            Ok(Some(record)) => {
                assert!(buffer.len() <= MAX_COPY_DATA);
                let mut written = Vec::new();
                record.write(&mut written, &buffer).expect("written");
                assert_eq!(written, before[..before.len() - rest.len()]);
                match record {
                    CopyRecord::Hole => drop(copy_hole(&buffer)),
                    CopyRecord::Entry => {
                        if let Ok(entry) = serde_json::from_slice::<FileEntry>(&buffer) {
                            look(&entry, last.as_ref());
                            last = Some(entry.path);
                        }
                    }
                    _ => {}
                }
            }
            Ok(None) => {
                assert!(rest.is_empty());
                return;
            }
            Err(error) => {
                let _ = error.to_string();
                return;
            }
        }
    }
});

fn look(entry: &FileEntry, last: Option<&RemotePath>) {
    let path = &entry.path;
    if check_copy_path(path).is_err() {
        return;
    }
    // Beneath a folder of the receiver's, and nowhere else.
    for name in path.as_bytes().split(|byte| *byte == b'/') {
        assert!(name != b"..");
        assert!(!name.contains(&0));
    }
    assert_ne!(path.as_bytes().first(), Some(&b'/'));
    if let Some(target) = &entry.target {
        let _ = link_leads_out(path, target);
    }
    if let Some(last) = last {
        let same = is_told_before(path, last) && is_told_before(last, path);
        assert_eq!(same, path == last);
        if is_beneath(path, last) {
            assert!(!is_beneath(last, path));
        }
    }
}
