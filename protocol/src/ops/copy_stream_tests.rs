use super::*;
use proptest::prelude::*;

fn entry(path: &str, kind: FileKind, size: u64) -> FileEntry {
    let json = serde_json::json!({
        "path": path, "kind": kind, "size": size, "mode": 0o644, "uid": 0, "gid": 0,
        "modified_ns": 0,
    });
    serde_json::from_value(json).expect("an entry")
}

fn begun(tree: bool, from: u64) -> CopyOrder {
    let mut order = CopyOrder::new();
    let start = CopyStart { format: COPY_FORMAT, tree, from, ..CopyStart::default() };
    order.start(&start).expect("a start");
    order
}

fn end_of(size: u64) -> CopiedFile {
    CopiedFile { size, hash: String::new(), changed: false }
}

#[test]
fn records_come_out_as_they_went_in() {
    let mut wire = Vec::new();
    CopyRecord::Data.write(&mut wire, b"some bytes").expect("written");
    CopyRecord::Hole.write(&mut wire, &7_u64.to_be_bytes()).expect("written");
    let (mut from, mut buffer) = (wire.as_slice(), Vec::new());
    assert_eq!(read_copy_record(&mut from, &mut buffer).expect("read"), Some(CopyRecord::Data));
    assert_eq!(buffer, b"some bytes");
    assert_eq!(read_copy_record(&mut from, &mut buffer).expect("read"), Some(CopyRecord::Hole));
    assert_eq!(copy_hole(&buffer).expect("a hole"), 7);
    assert_eq!(read_copy_record(&mut from, &mut buffer).expect("read"), None);
}

#[test]
fn a_stream_that_is_cut_anywhere_is_never_taken_for_whole() {
    let mut wire = Vec::new();
    CopyRecord::Entry.write(&mut wire, b"{\"path\":\"a\"}").expect("written");
    for length in 1..wire.len() {
        let read = read_copy_record(&mut &wire[..length], &mut Vec::new());
        assert!(matches!(read, Err(BadStream::Cut)), "{length}: {read:?}");
    }
}

#[test]
fn a_record_that_claims_too_much_is_refused_before_anything_is_read_of_it() {
    for (kind, length) in [(2_u8, 0x0001_0001_u32), (3, 0x0010_0001), (4, 7), (6, u32::MAX), (9, 0)]
    {
        let mut wire = vec![kind];
        wire.extend_from_slice(&length.to_be_bytes());
        let mut buffer = Vec::new();
        let read = read_copy_record(&mut wire.as_slice(), &mut buffer);
        assert!(matches!(read, Err(BadStream::Length(..) | BadStream::Kind(9))), "{read:?}");
        assert_eq!(buffer.capacity(), 0);
    }
}

#[test]
fn paths_that_lead_out_of_the_tree_are_refused() {
    for bad in ["/etc", "..", "a/../b", "a//b", "a/", ".", "./a", "a\0b"] {
        assert!(check_copy_path(&RemotePath::from(bad)).is_err(), "{bad}");
    }
    assert!(check_copy_path(&RemotePath::from("a/".repeat(600) + "b")).is_err());
    assert!(check_copy_path(&RemotePath::from("n".repeat(256))).is_err());
    for good in ["", "a", "a/b", "..a", "-rf", "new\nline"] {
        assert!(check_copy_path(&RemotePath::from(good)).is_ok(), "{good}");
    }
    assert!(check_copy_path(&RemotePath::new(&b"bad\xff"[..])).is_ok());
}

#[test]
fn trees_are_told_folder_by_folder_in_the_order_of_names() {
    let told = ["a", "a/b", "a/b/c", "a/d", "a.txt", "b"].map(RemotePath::from);
    for (at, path) in told.iter().enumerate() {
        for (other_at, other) in told.iter().enumerate() {
            assert_eq!(is_told_before(path, other), at <= other_at, "{path:?} {other:?}");
        }
    }
    let beneath = |path: &str, folder: &str| is_beneath(&path.into(), &folder.into());
    assert!(beneath("a/b/c", "a") && beneath("a/b", "a"));
    assert!(!beneath("a.txt", "a") && !beneath("a", "a"));
}

#[test]
fn links_that_lead_out_are_known_by_what_they_say() {
    for (path, target) in [("l", "/etc"), ("l", ".."), ("a/l", "../../b"), ("l", "a/../../b")] {
        assert!(link_leads_out(&path.into(), &target.into()), "{path} -> {target}");
    }
    for (path, target) in [("l", "a"), ("a/l", "../b"), ("l", "./a/.."), ("a/b/l", "../../c")] {
        assert!(!link_leads_out(&path.into(), &target.into()), "{path} -> {target}");
    }
}

#[test]
fn a_file_of_unknown_length_ends_where_it_says() {
    let mut order = CopyOrder::new();
    let start = CopyStart { format: COPY_FORMAT, any_size: true, ..CopyStart::default() };
    order.start(&start).expect("a start");
    order.entry(&entry("-", FileKind::File, 0)).expect("an entry");
    order.bytes(CopyRecord::Data, 9).expect("data");
    assert!(order.clone().file_end(&end_of(8)).is_err());
    order.file_end(&end_of(9)).expect("its end");
}

#[test]
fn a_file_has_as_many_bytes_as_it_says() {
    let mut order = begun(false, 3);
    order.entry(&entry("/f", FileKind::File, 10)).expect("an entry");
    order.bytes(CopyRecord::Data, 5).expect("data");
    assert!(order.clone().bytes(CopyRecord::Data, 3).is_err(), "more than there are");
    assert!(order.clone().bytes(CopyRecord::Hole, u64::MAX).is_err(), "an overflow");
    assert!(order.clone().file_end(&end_of(8)).is_err(), "less than there are");
    assert!(order.clone().file_end(&CopiedFile { changed: true, ..end_of(8) }).is_ok(), "owned up");
    order.bytes(CopyRecord::Hole, 2).expect("a hole");
    order.file_end(&end_of(10)).expect("its end");
    order.end(&CopyEnd { entries: 1, skipped: 0 }).expect("the end");
    assert!(order.has_ended());
}

#[test]
fn nothing_comes_where_it_does_not_belong() {
    let mut order = CopyOrder::new();
    assert!(order.entry(&entry("/f", FileKind::File, 1)).is_err(), "before the start");
    assert!(order.end(&CopyEnd::default()).is_err(), "an end without a start");
    let newer = CopyStart { format: COPY_FORMAT + 1, ..CopyStart::default() };
    assert!(matches!(order.start(&newer), Err(BadStream::Format(_))));
    let mut order = begun(false, 0);
    assert!(order.bytes(CopyRecord::Data, 1).is_err(), "data of nothing");
    assert!(order.entry(&entry("/d", FileKind::Directory, 0)).is_err(), "no file");
    order.entry(&entry("/f", FileKind::File, 1)).expect("an entry");
    assert!(order.entry(&entry("/g", FileKind::File, 1)).is_err(), "in the middle of another");
    assert!(order.end(&CopyEnd { entries: 1, skipped: 0 }).is_err(), "in the middle of a file");
    let mut order = begun(true, 0);
    assert!(order.entry(&entry("../up", FileKind::File, 1)).is_err());
    order.entry(&entry("d", FileKind::Directory, 0)).expect("a folder");
    assert!(order.end(&CopyEnd { entries: 2, skipped: 0 }).is_err(), "an entry is missing");
}

proptest! {
    #[test]
    fn nonsense_is_an_error_and_no_panic(wire in proptest::collection::vec(any::<u8>(), 0..64)) {
        let (mut from, mut buffer) = (wire.as_slice(), Vec::new());
        while let Ok(Some(record)) = read_copy_record(&mut from, &mut buffer) {
            if record == CopyRecord::Hole {
                prop_assert!(copy_hole(&buffer).is_ok());
            }
        }
    }
}
