//! What the words of `reeve cp` name.

use std::ffi::OsString;

/// The last name of a source, and whether what is in it is meant rather than itself, as a slash
/// behind it says.
pub fn name_of(path: &[u8]) -> (Option<Vec<u8>>, bool) {
    let contents = path.last() == Some(&b'/');
    let end = path.iter().rposition(|byte| *byte != b'/').map_or(0, |last| last + 1);
    let path = path.get(..end).unwrap_or_default();
    let start = path.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
    let name = path.get(start..).unwrap_or_default();
    match name {
        b"" | b"." | b".." => (None, true),
        _ => (Some(name.to_vec()), contents),
    }
}

/// A machine's name as the name of a folder here.
pub fn folder_of(machine: &str) -> OsString {
    let name: String =
        machine.chars().map(|c| if c == '/' || c == '\0' { '_' } else { c }).collect();
    match name.as_str() {
        "" | "." | ".." => OsString::from("_"),
        _ => OsString::from(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slash_behind_means_what_is_in_it() {
        assert_eq!(name_of(b"/var/log/"), (Some(b"log".to_vec()), true));
        assert_eq!(name_of(b"/var/log"), (Some(b"log".to_vec()), false));
        assert_eq!(name_of(b"file"), (Some(b"file".to_vec()), false));
        assert_eq!(name_of(b"."), (None, true));
        assert_eq!(name_of(b"/"), (None, true));
    }

    #[test]
    fn a_machines_name_stays_one_folder() {
        assert_eq!(folder_of(".."), "_");
        assert_eq!(folder_of("a/b"), "a_b");
    }
}
