//! `reeve files diff`, and unified differences.

use std::io::Read;
use std::path::Path;

use clap::Args;
use reeve_protocol::ops::{FileHistory, FileRead, FileVersion};
use similar::{ChangeTag, TextDiff};

use super::asking::{Asker, read_lines};
use super::content::Unread;
use super::shown::{shown, write};
use crate::args::Global;
use crate::exit;
use crate::failure::Failure;
use crate::target::{Remote, Target};
use crate::terminal::{Screen, escape_bytes};

const EXAMPLES: &str = "\
Examples:
  reeve files diff web-1:/etc/app.conf                 the last change
  reeve files diff web-1:/etc/app.conf --version 12    since version 12
  reeve files diff web-1:/etc/app.conf --version 9 --version 12
  reeve files diff web-1:/etc/app.conf web-2:/etc/app.conf
  reeve files diff ./app.conf web-1:/etc/app.conf
Exit: 0 the same, 1 different, 2 something could not be read, 255 Reeve failed.";

/// Files up to this size are compared, each held in memory.
const MAX_BYTES: usize = 32 * 1024 * 1024;
/// Comparing takes no longer than this; then it becomes coarser.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(10);
/// Something could not be read, as diff(1) says it.
const TROUBLE: u8 = 2;

/// Compare versions, machines, and files here
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Diff {
    /// MACHINE:/PATH, or a file here ('-' is stdin)
    #[arg(value_name = "FILE", value_parser = Target::parser())]
    old: Target,
    /// The other one; left out: the same file, in another version
    #[arg(value_name = "FILE", value_parser = Target::parser())]
    new: Option<Target>,
    /// A version of it, as history tells; twice: one against the other
    #[arg(long = "version", value_name = "ID")]
    versions: Vec<u64>,
    /// Lines around each difference
    #[arg(short = 'U', long, value_name = "LINES", default_value_t = 3)]
    #[arg(hide_default_value = true)]
    unified: usize,
}

/// One side.
struct Side {
    label: String,
    bytes: Vec<u8>,
}

impl Diff {
    pub async fn perform(self, global: &Global) -> Result<u8, Failure> {
        let remotes: Vec<&Remote> = [Some(&self.old), self.new.as_ref()]
            .into_iter()
            .flatten()
            .filter_map(|target| match target {
                Target::Remote(remote) => Some(remote),
                Target::Local(_) | Target::Standard => None,
            })
            .collect();
        if remotes.is_empty() {
            return Err(Failure::usage("at least one file has to be on a machine; else use diff"));
        }
        if let Some(many) = remotes.iter().find(|remote| remote.may_be_many()) {
            return Err(Failure::usage(format!(
                "'{}' may be many machines; name one; 'reeve files stat --hash' compares many",
                many.selector
            )));
        }
        let asker = Asker::new(global, &remotes)?;
        let sides = match self.sides(&asker).await {
            Ok(sides) => sides,
            Err(Unread::Remote(failure)) => {
                crate::terminal::note(&format!("reeve: {}", failure.message));
                return Ok(TROUBLE);
            }
            Err(Unread::Here(failure)) => return Err(failure),
        };
        let [old, new] = &sides;
        if old.bytes == new.bytes {
            return Ok(exit::OK);
        }
        let screen = Screen::stdout(global.color);
        let names = (old.label.as_str(), new.label.as_str());
        write(&unified(screen, names, (&old.bytes, &new.bytes), self.unified))?;
        Ok(exit::SOME_FAILED)
    }

    async fn sides(&self, asker: &Asker) -> Result<[Side; 2], Unread> {
        let version = |index: usize| self.versions.get(index).copied();
        let remote = match (&self.old, &self.new) {
            (_, Some(_)) if !self.versions.is_empty() => {
                return Err(Failure::usage("--version is about one file; name one").into());
            }
            (old, Some(new)) => {
                return Ok([load(asker, old, None).await?, load(asker, new, None).await?]);
            }
            (Target::Remote(remote), None) => remote,
            (_, None) => {
                return Err(Failure::usage("name the file it is compared with").into());
            }
        };
        let first = match (version(0), version(1), version(2)) {
            (_, _, Some(_)) => {
                return Err(Failure::usage("two versions can be compared, not more").into());
            }
            (Some(first), _, _) => first,
            (None, ..) => newest(asker, remote).await?,
        };
        let old = load(asker, &self.old, Some(first)).await?;
        Ok([old, load(asker, &self.old, version(1)).await?])
    }
}

async fn newest(asker: &Asker, remote: &Remote) -> Result<u64, Unread> {
    let mut answers = asker.ask(&remote.selector, FileHistory::new(remote.path.clone())).await?;
    let Some(answer) = answers.pop() else {
        return Err(Failure::new("no machine answered").into());
    };
    if let Some(failure) = answer.failure {
        return Err(Unread::Remote(failure));
    }
    let versions: Vec<FileVersion> = read_lines(&answer)?;
    versions.iter().map(|version| version.id).max().ok_or_else(|| {
        Failure::new(format!("no version of {remote} is kept; name what it is compared with"))
            .into()
    })
}

async fn load(asker: &Asker, target: &Target, version: Option<u64>) -> Result<Side, Unread> {
    match target {
        Target::Remote(remote) => {
            let ask = FileRead { version, ..FileRead::new(remote.path.clone()) };
            let content = asker.read_whole(&remote.selector, &ask, MAX_BYTES).await?;
            let of = version.map(|version| format!(" (version {version})")).unwrap_or_default();
            let label = format!("{}:{}{of}", remote.selector, shown(&remote.path));
            Ok(Side { label, bytes: content.bytes })
        }
        Target::Local(path) => Ok(Side { label: target.to_string(), bytes: load_here(path)? }),
        Target::Standard => {
            let mut bytes = Vec::new();
            let most = MAX_BYTES as u64 + 1;
            let read = std::io::stdin().lock().take(most).read_to_end(&mut bytes);
            read.map_err(|error| Failure::new(format!("cannot read stdin: {error}")))?;
            Ok(Side { label: "-".to_owned(), bytes: check_size(bytes, "stdin")? })
        }
    }
}

fn load_here(path: &Path) -> Result<Vec<u8>, Failure> {
    let failed = |error| Failure::new(format!("cannot read {}: {error}", path.display()));
    let file = std::fs::File::open(path).map_err(failed)?;
    let mut bytes = Vec::new();
    file.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes).map_err(failed)?;
    check_size(bytes, &path.display().to_string())
}

fn check_size(bytes: Vec<u8>, name: &str) -> Result<Vec<u8>, Failure> {
    if bytes.len() > MAX_BYTES {
        let most = MAX_BYTES / (1024 * 1024);
        return Err(Failure::new(format!("{name} is larger than {most} MiB")));
    }
    Ok(bytes)
}

/// The difference as diff(1) with `-u` writes it: for a terminal in colours and tame, else its bytes
/// as they are, for patch(1).
pub fn unified(
    screen: Screen,
    (old_name, new_name): (&str, &str),
    (old, new): (&[u8], &[u8]),
    around: usize,
) -> Vec<u8> {
    if old.contains(&0) || new.contains(&0) {
        return format!("Binary files {old_name} and {new_name} differ\n").into_bytes();
    }
    let diff = TextDiff::configure().timeout(PATIENCE).diff_lines(old, new);
    let mut out = Vec::new();
    let mut put = |color: &str, text: &str| {
        out.extend_from_slice(screen.paint(color, text).as_bytes());
        out.push(b'\n');
    };
    put("1", &format!("--- {old_name}"));
    put("1", &format!("+++ {new_name}"));
    for hunk in diff.unified_diff().context_radius(around).iter_hunks() {
        let header = screen.paint("36", &hunk.header().to_string());
        out.extend_from_slice(header.as_bytes());
        out.push(b'\n');
        for change in hunk.iter_changes() {
            let (mark, color) = match change.tag() {
                ChangeTag::Delete => (b'-', "31"),
                ChangeTag::Insert => (b'+', "32"),
                ChangeTag::Equal => (b' ', ""),
            };
            let value: &[u8] = change.value();
            let line = value.strip_suffix(b"\n").unwrap_or(value);
            if screen.terminal || screen.color {
                let text = format!("{}{}", char::from(mark), escape_bytes(line));
                let text = if color.is_empty() { text } else { screen.paint(color, &text) };
                out.extend_from_slice(text.as_bytes());
            } else {
                out.push(mark);
                out.extend_from_slice(line);
            }
            out.push(b'\n');
            if line.len() == value.len() {
                out.extend_from_slice(b"\\ No newline at end of file\n");
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn diff(screen: Screen, old: &[u8], new: &[u8]) -> String {
        String::from_utf8(unified(screen, ("a", "b"), (old, new), 1)).expect("text")
    }

    #[test]
    fn differences_are_written_as_diff_does() {
        let plain = Screen::default();
        assert_eq!(
            diff(plain, b"1\n2\n3\n4\n", b"1\n2\nthree\n4\n"),
            "--- a\n+++ b\n@@ -2,3 +2,3 @@\n 2\n-3\n+three\n 4\n"
        );
        assert_eq!(
            diff(plain, b"x", b"x\n"),
            "--- a\n+++ b\n@@ -1 +1 @@\n-x\n\\ No newline at end of file\n+x\n"
        );
        assert_eq!(diff(plain, b"a\0", b"b"), "Binary files a and b differ\n");
    }

    #[test]
    fn terminals_get_colours_and_nothing_they_obey() {
        let screen = Screen { terminal: true, color: true };
        let text = diff(screen, b"a\n", b"\x1b[2J\n");
        assert!(text.contains("\x1b[32m+^[[2J\x1b[0m\n"), "{text:?}");
        let bytes = unified(Screen::default(), ("a", "b"), (b"\xff\n", b"\xfe\n"), 3);
        assert!(bytes.ends_with(b"-\xff\n+\xfe\n"), "{bytes:?}");
    }
}
