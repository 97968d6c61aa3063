//! `MACHINE:PATH`, `SELECTOR:PATH`, a file here, or `-`: what is written where files are named.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use clap::builder::{OsStringValueParser, TypedValueParser, ValueParser};
use reeve_protocol::ops::RemotePath;

/// A path on machines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remote {
    /// Which machines.
    pub selector: String,
    /// Where on them.
    pub path: RemotePath,
}

/// Whatever may be named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// On machines.
    Remote(Remote),
    /// Here.
    Local(PathBuf),
    /// `-`: stdin or stdout.
    Standard,
}

/// Why a text names nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTarget {
    #[error("it is empty")]
    Empty,
    #[error("no machine is named before the ':'; write MACHINE:PATH, or ./{0} for a file here")]
    NoMachine(String),
    #[error("no path is named behind the ':'; write {0}:/ for everything there is")]
    NoPath(String),
    #[error(
        "a path on a machine begins with '/': write {0}:/{1}, or ./{0}:{1} if a file here is meant"
    )]
    Relative(String, String),
    #[error("the machine's name is no UTF-8; write ./ before a file here")]
    NotText,
    #[error("{0}")]
    Path(#[from] reeve_protocol::ops::InvalidPath),
    #[error("name a path on a machine, as MACHINE:/PATH")]
    NotRemote,
}

impl Target {
    /// Reads one. As with scp(1), what has a '/' before its first ':' is a file here, and so is
    /// what has no ':' at all. A selector goes up to the first `:/`, for a label may have a ':'.
    pub fn parse(text: &OsStr) -> Result<Self, InvalidTarget> {
        let bytes = text.as_bytes();
        if bytes.is_empty() {
            return Err(InvalidTarget::Empty);
        }
        if bytes == b"-" {
            return Ok(Self::Standard);
        }
        let Some(colon) = bytes.iter().position(|byte| *byte == b':') else {
            return Ok(Self::Local(text.into()));
        };
        let slash = bytes.iter().position(|byte| *byte == b'/');
        if slash.is_some_and(|slash| slash < colon) || bytes.starts_with(b"~") {
            return Ok(Self::Local(text.into()));
        }
        let rooted = bytes.windows(2).position(|pair| pair == b":/");
        let split = rooted.unwrap_or(colon);
        let (selector, path) = bytes.split_at(split);
        let path = path.get(1..).unwrap_or_default();
        let shown = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if selector.is_empty() {
            return Err(InvalidTarget::NoMachine(shown(bytes)));
        }
        if path.is_empty() {
            return Err(InvalidTarget::NoPath(shown(selector)));
        }
        if rooted.is_none() {
            return Err(InvalidTarget::Relative(shown(selector), shown(path)));
        }
        let selector = std::str::from_utf8(selector).map_err(|_| InvalidTarget::NotText)?;
        let path = RemotePath::new(path);
        path.check()?;
        Ok(Self::Remote(Remote { selector: selector.to_owned(), path }))
    }

    /// For clap: any of them.
    pub fn parser() -> ValueParser {
        OsStringValueParser::new().try_map(|text| Self::parse(&text)).into()
    }
}

impl Remote {
    /// For clap: a path on machines and nothing else.
    pub fn parser() -> ValueParser {
        let parse = |text: OsString| match Target::parse(&text)? {
            Target::Remote(remote) => Ok(remote),
            Target::Local(_) | Target::Standard => Err(InvalidTarget::NotRemote),
        };
        OsStringValueParser::new().try_map(parse).into()
    }

    /// Whether the selector can stand for more than one machine.
    pub fn may_be_many(&self) -> bool {
        self.selector.contains(['*', '?', '[', '=', '@', ','])
    }

    /// The last part of the path; nothing for the root.
    pub fn file_name(&self) -> Option<&OsStr> {
        Path::new(OsStr::from_bytes(self.path.as_bytes())).file_name()
    }

    /// Whether a folder is meant, because a '/' is behind its name.
    #[allow(dead_code, reason = "`reeve cp` asks it")]
    pub fn is_folder(&self) -> bool {
        self.path.as_bytes().ends_with(b"/")
    }
}

impl fmt::Display for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.selector, self.path.display())
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Remote(remote) => remote.fmt(f),
            Self::Local(path) => {
                let bytes = path.clone().into_os_string().into_vec();
                f.write_str(&RemotePath::new(bytes).display())
            }
            Self::Standard => f.write_str("-"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Target, InvalidTarget> {
        Target::parse(OsStr::new(text))
    }

    fn remote(selector: &str, path: &str) -> Result<Target, InvalidTarget> {
        Ok(Target::Remote(Remote { selector: selector.to_owned(), path: RemotePath::from(path) }))
    }

    #[test]
    fn machines_and_selectors_are_told_from_their_paths() {
        assert_eq!(parse("web-1:/etc/hosts"), remote("web-1", "/etc/hosts"));
        assert_eq!(parse("web-1:/a b:c/"), remote("web-1", "/a b:c/"));
        assert_eq!(parse("role=web,env!=prod:/etc/"), remote("role=web,env!=prod", "/etc/"));
        assert_eq!(parse("web-1,db-*:/"), remote("web-1,db-*", "/"));
        assert_eq!(parse("@all:/srv"), remote("@all", "/srv"));
        assert_eq!(parse("zone=a:b:/srv"), remote("zone=a:b", "/srv"));
    }

    #[test]
    fn files_here_are_what_scp_takes_for_them() {
        for text in ["a", "./a:b", "/a:/b", "../a:/b", "~/a:/b", "dir/a:/b", ".", "-x", "--", "…"]
        {
            assert_eq!(parse(text), Ok(Target::Local(PathBuf::from(text))), "{text}");
        }
        assert_eq!(parse("-"), Ok(Target::Standard));
    }

    #[test]
    fn what_may_be_meant_otherwise_is_refused_with_its_remedy() {
        let error = |text: &str| parse(text).expect_err(text).to_string();
        assert!(error("web-1:etc").contains("web-1:/etc"), "{}", error("web-1:etc"));
        assert!(error("notes:2024").contains("./notes:2024"));
        assert!(error("web-1:").contains("web-1:/"));
        assert!(error(":/etc").contains("MACHINE:PATH"));
        assert!(error("").contains("empty"));
        assert!(error("web-1:/a/../b").contains(".."));
    }

    #[test]
    fn bytes_that_are_no_text_are_paths_and_never_selectors() {
        let target = Target::parse(OsStr::from_bytes(b"web-1:/bad\xff"));
        let path = RemotePath::new(&b"/bad\xff"[..]);
        assert_eq!(target, Ok(Target::Remote(Remote { selector: "web-1".to_owned(), path })));
        let target = Target::parse(OsStr::from_bytes(b"\xff:/a"));
        assert_eq!(target, Err(InvalidTarget::NotText));
    }
}
