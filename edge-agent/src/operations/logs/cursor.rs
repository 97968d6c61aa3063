//! Where a reader of a file was, so that it finds the place again whatever the file is called then.

use std::fmt::Write;

/// Bytes at the beginning of a file that tell it from others with its inode's number.
pub const HEAD_BYTES: usize = 256;
/// So many have to agree before a file with another inode is taken for the same one, copied.
const ENOUGH: usize = 16;

/// A place in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileCursor {
    pub device: u64,
    pub inode: u64,
    /// Bytes of the beginning that were hashed.
    pub head_bytes: usize,
    pub head_hash: u64,
    /// Behind the last line that was told.
    pub offset: u64,
}

/// A file as it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    pub device: u64,
    pub inode: u64,
    /// Bytes; of a packed file nobody knows.
    pub size: Option<u64>,
    /// Its first bytes, [`HEAD_BYTES`] at most; unpacked.
    pub head: Vec<u8>,
}

/// The hash of a beginning.
#[must_use]
pub fn hash(head: &[u8]) -> u64 {
    let hash = blake3::hash(head);
    let mut first = [0; 8];
    first.copy_from_slice(hash.as_bytes().first_chunk::<8>().unwrap_or(&[0; 8]));
    u64::from_be_bytes(first)
}

impl FileCursor {
    /// As text without anything that needs an escape.
    #[must_use]
    pub fn encode(&self) -> String {
        let mut text = self.encode_before_offset();
        // A String takes everything.
        let _ = write!(text, "{:x}", self.offset);
        text
    }

    /// The same up to the offset, which is what changes with each line.
    #[must_use]
    pub fn encode_before_offset(&self) -> String {
        format!("f:{:x}.{:x}.{:x}.{:x}.", self.device, self.inode, self.head_bytes, self.head_hash)
    }

    /// Back from text.
    #[must_use]
    pub fn decode(text: &str) -> Option<Self> {
        let mut parts = text.strip_prefix("f:")?.split('.').map(|part| {
            let valid = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_hexdigit());
            valid.then(|| u64::from_str_radix(part, 16).ok()).flatten()
        });
        let mut next = || parts.next().flatten();
        let cursor = Self {
            device: next()?,
            inode: next()?,
            head_bytes: usize::try_from(next()?).ok().filter(|bytes| *bytes <= HEAD_BYTES)?,
            head_hash: next()?,
            offset: next()?,
        };
        parts.next().is_none().then_some(cursor)
    }

    /// Whether this is the file it was in, and not one that got its number after it.
    #[must_use]
    pub fn is_same(&self, found: &Found) -> bool {
        (self.device, self.inode) == (found.device, found.inode) && self.begins_alike(found)
    }

    /// Whether this is another file with the same content: what was copied before it was emptied,
    /// or packed.
    #[must_use]
    pub fn is_copy(&self, found: &Found) -> bool {
        self.head_bytes >= ENOUGH
            && (self.device, self.inode) != (found.device, found.inode)
            && self.begins_alike(found)
    }

    fn begins_alike(&self, found: &Found) -> bool {
        found.size.is_none_or(|size| size >= self.offset)
            && found.head.get(..self.head_bytes).is_some_and(|head| hash(head) == self.head_hash)
    }
}

/// Where to go on in a log and the files that it was rotated to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Which of the files, by index, and from which offset.
    pub read: Vec<(usize, u64)>,
    /// Whether a place to go on from was found.
    pub found: bool,
}

/// Finds out where to go on: `files` are a log's, from the oldest to the one that is written now,
/// `after` the places reached. What is newer than the newest place is read whole, what is older
/// than the oldest was read already.
#[must_use]
pub fn plan(files: &[Found], after: &[FileCursor]) -> Plan {
    let mut starts: Vec<Option<u64>> = vec![None; files.len()];
    let mut newest = None;
    for cursor in after {
        let same = files.iter().position(|file| cursor.is_same(file));
        let Some(index) = same.or_else(|| files.iter().rposition(|file| cursor.is_copy(file)))
        else {
            continue;
        };
        if let Some(start) = starts.get_mut(index) {
            *start = Some(start.unwrap_or(0).max(cursor.offset));
        }
        newest = newest.max(Some(index));
    }
    // Nothing is known any more: what is written now is all that is surely new.
    let first_new = newest.map_or(files.len().saturating_sub(1), |newest| newest + 1);
    let read = starts
        .into_iter()
        .enumerate()
        .filter_map(|(index, start)| match start {
            Some(offset) => Some((index, offset)),
            None => (index >= first_new).then_some((index, 0)),
        })
        .collect();
    Plan { read, found: newest.is_some() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(inode: u64, content: &str) -> Found {
        let head = content.as_bytes()[..content.len().min(HEAD_BYTES)].to_vec();
        Found { device: 1, inode, size: Some(content.len() as u64), head }
    }

    fn at(file: &Found, offset: u64) -> FileCursor {
        FileCursor {
            device: file.device,
            inode: file.inode,
            head_bytes: file.head.len(),
            head_hash: hash(&file.head),
            offset,
        }
    }

    const OLD: &str = "first line of the old file\nsecond\n";
    const NEW: &str = "first line of the new file\n";

    #[test]
    fn cursors_survive_text_and_nonsense_is_none() {
        let cursor = at(&file(77, OLD), 1 << 40);
        assert_eq!(FileCursor::decode(&cursor.encode()), Some(cursor.clone()));
        assert!(cursor.encode().starts_with(&cursor.encode_before_offset()));
        for text in
            ["", "f:", "j:x", "f:1.2.3.4", "f:1.2.3.4.5.6", "f:1.2.ffff.4.5", "f:1.2.+3.4.5"]
        {
            assert_eq!(FileCursor::decode(text), None, "{text}");
        }
    }

    #[test]
    fn file_goes_on_where_it_was() {
        let log = file(1, OLD);
        let plan = plan(std::slice::from_ref(&log), &[at(&log, 27)]);
        assert_eq!((plan.read, plan.found), (vec![(0, 27)], true));
    }

    #[test]
    fn renamed_file_is_read_to_its_end_then_the_new_one() {
        let (old, new) = (file(1, OLD), file(2, NEW));
        let older = file(9, "something from before\n");
        let cursor = at(&old, 27);
        assert_eq!(plan(&[older, old, new], &[cursor]).read, [(1, 27), (2, 0)]);
    }

    #[test]
    fn files_rotated_twice_are_all_read() {
        let files = [file(1, OLD), file(2, NEW), file(3, "newest of all, really\n")];
        let cursor = at(&files[0], 5);
        assert_eq!(plan(&files, &[cursor]).read, [(0, 5), (1, 0), (2, 0)]);
    }

    #[test]
    fn copied_and_emptied_file_goes_on_in_the_copy() {
        // copytruncate: the copy has a new inode, the file its old one and another content.
        let before = file(1, OLD);
        let (copy, emptied) = (file(5, OLD), file(1, ""));
        assert_eq!(plan(&[copy.clone(), emptied], &[at(&before, 27)]).read, [(0, 27), (1, 0)]);
        let refilled = file(1, NEW);
        assert_eq!(plan(&[copy, refilled], &[at(&before, 27)]).read, [(0, 27), (1, 0)]);
    }

    #[test]
    fn copy_made_before_the_file_is_emptied_is_not_read() {
        let (copy, still) = (file(5, OLD), file(1, OLD));
        assert_eq!(plan(&[copy, still.clone()], &[at(&still, 27)]).read, [(1, 27)]);
    }

    #[test]
    fn packed_file_is_known_by_what_it_unpacks_to() {
        let before = file(1, OLD);
        let packed = Found { size: None, ..file(6, OLD) };
        let new = file(2, NEW);
        assert_eq!(plan(&[packed, new], &[at(&before, 27)]).read, [(0, 27), (1, 0)]);
    }

    #[test]
    fn number_of_a_gone_file_given_to_another_is_noticed() {
        let before = file(1, OLD);
        let plan = plan(&[file(1, NEW)], &[at(&before, 27)]);
        assert_eq!((plan.read, plan.found), (vec![(0, 0)], false));
    }

    #[test]
    fn file_that_was_empty_is_known_by_its_number() {
        let before = file(1, "");
        assert_eq!(plan(&[file(1, NEW)], &[at(&before, 0)]).read, [(0, 0)]);
        assert!(!at(&before, 0).is_copy(&file(2, NEW)), "nothing is no likeness");
    }

    #[test]
    fn finished_and_new_file_both_keep_their_places() {
        let (old, new) = (file(1, OLD), file(2, NEW));
        let after = [at(&old, OLD.len() as u64), at(&new, 4)];
        assert_eq!(plan(&[old, new], &after).read, [(0, OLD.len() as u64), (1, 4)]);
    }
}
