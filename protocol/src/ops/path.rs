//! Paths on a machine, as bytes: Linux allows any but NUL and has no encoding (path_resolution(7)).

use std::fmt;

use serde::de::{self, MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The longest path, bytes without the NUL behind it (PATH_MAX).
pub const MAX_PATH_BYTES: usize = 4095;

/// A path on a machine. In text formats a string, or `{"hex": "…"}` when its bytes are no UTF-8;
/// in MessagePack a string or bytes.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RemotePath(Vec<u8>);

/// What is wrong with a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum InvalidPath {
    #[error("a path is empty")]
    Empty,
    #[error("a path holds a NUL byte, which none can (path_resolution(7))")]
    Nul,
    #[error("a path is longer than {MAX_PATH_BYTES} bytes")]
    Long,
    #[error("a path has to begin with '/'")]
    Relative,
    #[error("a path must not have '..' in it; say where it leads")]
    Parent,
}

impl RemotePath {
    /// Takes bytes as they are; [`RemotePath::check`] says whether they will do.
    #[must_use]
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(bytes.into())
    }

    /// Its bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// For people: what is no UTF-8 is replaced, control characters are escaped.
    #[must_use]
    pub fn display(&self) -> String {
        let text = String::from_utf8_lossy(&self.0);
        let mut shown = String::with_capacity(text.len());
        for c in text.chars() {
            if c.is_control() {
                shown.extend(c.escape_default());
            } else {
                shown.push(c);
            }
        }
        shown
    }

    /// Whether an operation can be asked for it: from the root, without `..`, of a length that the
    /// kernel takes.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(&self) -> Result<(), InvalidPath> {
        if self.0.is_empty() {
            Err(InvalidPath::Empty)
        } else if self.0.contains(&0) {
            Err(InvalidPath::Nul)
        } else if self.0.len() > MAX_PATH_BYTES {
            Err(InvalidPath::Long)
        } else if self.0.first() != Some(&b'/') {
            Err(InvalidPath::Relative)
        } else if self.0.split(|byte| *byte == b'/').any(|part| part == b"..") {
            Err(InvalidPath::Parent)
        } else {
            Ok(())
        }
    }

    /// Whether it is the root folder, however it is written.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.0.split(|byte| *byte == b'/').all(|part| matches!(part, b"" | b"."))
    }

    /// The path of something in this folder.
    #[must_use]
    pub fn join(&self, name: &[u8]) -> Self {
        let mut bytes = self.0.clone();
        if bytes.last() != Some(&b'/') {
            bytes.push(b'/');
        }
        bytes.extend_from_slice(name);
        Self(bytes)
    }
}

impl From<&str> for RemotePath {
    fn from(text: &str) -> Self {
        Self(text.as_bytes().to_vec())
    }
}

impl From<String> for RemotePath {
    fn from(text: String) -> Self {
        Self(text.into_bytes())
    }
}

impl fmt::Debug for RemotePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0.escape_ascii())
    }
}

impl Serialize for RemotePath {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match std::str::from_utf8(&self.0) {
            Ok(text) => serializer.serialize_str(text),
            Err(_) if serializer.is_human_readable() => {
                let hex: String = self.0.iter().map(|byte| format!("{byte:02x}")).collect();
                let mut map = serializer.serialize_map(Some(1))?;
                map.serialize_entry("hex", &hex)?;
                map.end()
            }
            Err(_) => serializer.serialize_bytes(&self.0),
        }
    }
}

impl<'de> Deserialize<'de> for RemotePath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(PathVisitor)
    }
}

struct PathVisitor;

impl<'de> Visitor<'de> for PathVisitor {
    type Value = RemotePath;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a path: text, or {\"hex\": \"…\"} for bytes that are no UTF-8")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<RemotePath, E> {
        Ok(RemotePath::from(text))
    }

    fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<RemotePath, E> {
        Ok(RemotePath::new(bytes))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RemotePath, A::Error> {
        let Some((key, hex)) = map.next_entry::<String, String>()? else {
            return Err(de::Error::missing_field("hex"));
        };
        if key != "hex" || map.next_entry::<String, String>()?.is_some() {
            return Err(de::Error::unknown_field(&key, &["hex"]));
        }
        let digits = hex.as_bytes().chunks_exact(2);
        if !digits.remainder().is_empty() {
            return Err(de::Error::custom("hex has an odd number of digits"));
        }
        digits
            .map(|pair| {
                let pair = std::str::from_utf8(pair).ok().filter(|pair| !pair.starts_with('+'));
                pair.and_then(|pair| u8::from_str_radix(pair, 16).ok())
            })
            .collect::<Option<Vec<u8>>>()
            .map(RemotePath)
            .ok_or_else(|| de::Error::custom("hex has something else than hexadecimal digits"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_bytes_survive_both_encodings() {
        for bytes in [&b"/srv/a b"[..], b"/caf\xc3\xa9", b"/bad\xff\x80name", b"/new\nline"] {
            let path = RemotePath::new(bytes);
            let json = serde_json::to_string(&path).expect("JSON");
            assert_eq!(serde_json::from_str::<RemotePath>(&json).expect("read"), path, "{json}");
            let wire = crate::encode(&path).expect("encodes");
            assert_eq!(crate::decode::<RemotePath>(&wire).expect("decodes"), path);
        }
    }

    #[test]
    fn paths_that_lead_elsewhere_are_refused() {
        for (bytes, error) in [
            (&b""[..], InvalidPath::Empty),
            (b"srv", InvalidPath::Relative),
            (b"/a\0b", InvalidPath::Nul),
            (b"/srv/../etc", InvalidPath::Parent),
        ] {
            assert_eq!(RemotePath::new(bytes).check(), Err(error));
        }
        assert_eq!(RemotePath::new(vec![b'/'; 4096]).check(), Err(InvalidPath::Long));
        assert_eq!(RemotePath::from("/srv/..hidden").check(), Ok(()));
        for (path, is_root) in [("/", true), ("//./", true), ("/a", false), ("/..a", false)] {
            assert_eq!(RemotePath::from(path).is_root(), is_root, "{path}");
        }
    }

    #[test]
    fn hex_that_is_none_is_refused() {
        for json in
            [r#"{"hex":"0"}"#, r#"{"hex":"+1"}"#, r#"{"hex":"zz"}"#, r#"{"other":"00"}"#, "7"]
        {
            assert!(serde_json::from_str::<RemotePath>(json).is_err(), "{json}");
        }
    }
}
