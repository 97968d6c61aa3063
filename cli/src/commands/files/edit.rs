//! `reeve files edit`.

use std::ffi::{OsStr, OsString};
use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::PathBuf;

use clap::Args;
use reeve_protocol::ops::{Existing, FileRead, FileWrite, LinkRule};
use tempfile::TempDir;

use super::super::confirm;
use super::asking::Asker;
use super::content::Unread;
use super::diff::unified;
use super::shown::shown;
use crate::args::Global;
use crate::exit;
use crate::failure::Failure;
use crate::target::Remote;
use crate::terminal::{Screen, note};

const EXAMPLES: &str = "\
Examples:
  reeve files edit web-1:/etc/app.conf
  EDITOR='code --wait' reeve files edit web-1:/srv/app/config.toml
$VISUAL or $EDITOR is opened on a copy. What is unchanged is not written; of what is,
the difference is shown first. If the file was changed meanwhile nothing is
overwritten, and your text is kept here. reeve files history, restore: undo.";

/// Files up to this size are edited.
const MAX_BYTES: usize = 16 * 1024 * 1024;
/// When neither variable names an editor.
const USUAL_EDITOR: &str = "vi";

/// Edit a file in your editor
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Edit {
    /// MACHINE:/PATH; a file that is not there is made
    #[arg(value_name = "TARGET", value_parser = Remote::parser())]
    target: Remote,
    /// Do not ask before it is written back
    #[arg(short, long)]
    yes: bool,
}

/// The file here.
struct Copy {
    folder: TempDir,
    path: PathBuf,
}

impl Edit {
    pub async fn perform(self, global: &Global) -> Result<u8, Failure> {
        if self.target.may_be_many() {
            return Err(Failure::usage(format!(
                "'{}' may be many machines; edit one and copy it with 'reeve cp'",
                self.target.selector
            )));
        }
        let asker = Asker::new(global, &[&self.target])?;
        let machine = &self.target.selector;
        let ask = FileRead::new(self.target.path.clone());
        let (before, hash) = match asker.read_whole(machine, &ask, MAX_BYTES).await {
            Ok(content) => (content.bytes, Some(content.hash)),
            Err(Unread::Remote(failure)) if failure.code == "not_found" => (Vec::new(), None),
            Err(Unread::Remote(failure)) => {
                note(&format!("reeve: {machine}: {}", failure.message));
                return Ok(exit::SOME_FAILED);
            }
            Err(unread) => return Err(unread.into_failure(machine)),
        };
        let copy = Copy::make(&self.target, &before)?;
        if hash.is_none() {
            note(&format!("{} is not there yet", self.target));
        }
        if let Err(failure) = copy.open_editor() {
            return Err(copy.keep_if_changed(&before, failure));
        }
        let after = match fs::read(&copy.path) {
            Ok(after) => after,
            Err(error) => {
                return Err(copy.keep(&format!("what was edited cannot be read: {error}")));
            }
        };
        if after == before {
            note("unchanged; nothing was written");
            return Ok(exit::OK);
        }
        if after.len() > MAX_BYTES {
            return Err(copy.keep(&format!("it is larger than {} MiB now", MAX_BYTES >> 20)));
        }
        let screen = Screen::stderr(global.color);
        let label = self.target.to_string();
        let edited = format!("{label} (edited)");
        let text = unified(screen, (&label, &edited), (&before, &after), 3);
        let _ = io::stderr().write_all(&text);
        if let Err(failure) = confirm(self.yes, &format!("Writing this to {label}")) {
            return Err(copy.keep(&failure.to_string()));
        }
        self.write_back(&asker, copy, hash, &after).await
    }

    async fn write_back(
        &self,
        asker: &Asker,
        copy: Copy,
        hash: Option<String>,
        after: &[u8],
    ) -> Result<u8, Failure> {
        let is_new = hash.is_none();
        let write = FileWrite {
            existing: if is_new { Existing::Refuse } else { Existing::Replace },
            if_match: hash,
            // What was read is what a link leads to; so is what is written.
            link: LinkRule::Follow,
            ..FileWrite::new(self.target.path.clone())
        };
        let answers = match asker.write(&self.target.selector, write, after).await {
            Ok(answers) => answers,
            Err(failure) => return Err(copy.keep(&failure.to_string())),
        };
        let failed = answers.iter().find_map(|answer| answer.failure.as_ref());
        let Some(failure) = failed else {
            let undo =
                if is_new { "" } else { "; 'reeve files restore' brings back what was there" };
            note(&format!("written{undo}"));
            return Ok(asker.conclude(&answers));
        };
        let what = match failure.code.as_str() {
            "changed" | "exists" => format!(
                "{} was changed on the machine while you edited it; nothing was overwritten",
                shown(&self.target.path)
            ),
            _ => failure.message.clone(),
        };
        note(&format!("reeve: {}", copy.keep(&what)));
        Ok(exit::SOME_FAILED)
    }
}

impl Copy {
    /// Only its owner gets at it; editors see the name and what it ends with.
    fn make(target: &Remote, content: &[u8]) -> Result<Self, Failure> {
        let failed = |error: io::Error| {
            Failure::new(format!("cannot make a temporary file: {error}; set TMPDIR"))
        };
        let private = Permissions::from_mode(0o700);
        let mut builder = tempfile::Builder::new();
        let folder =
            builder.prefix("reeve-edit-").permissions(private).tempdir().map_err(failed)?;
        let name = target.file_name().filter(|name| is_plain(name));
        let path = folder.path().join(name.unwrap_or(OsStr::new("file")));
        let opened = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        opened.and_then(|mut file| file.write_all(content)).map_err(failed)?;
        Ok(Self { folder, path })
    }

    /// As git does: the variable is a line for the shell, the file its argument.
    fn open_editor(&self) -> Result<(), Failure> {
        let named = |name| std::env::var_os(name).filter(|value: &OsString| !value.is_empty());
        let editor = named("VISUAL").or_else(|| named("EDITOR"));
        let editor = editor.unwrap_or_else(|| USUAL_EDITOR.into());
        let mut line = editor.clone();
        line.push(" \"$@\"");
        #[allow(
            clippy::disallowed_methods,
            reason = "the user's own editor, on the user's machine"
        )]
        let mut command = std::process::Command::new("/bin/sh");
        let status = command.arg("-c").arg(line).arg("editor").arg(&self.path).status();
        let shown = editor.to_string_lossy();
        match status {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(Failure::new(format!(
                "the editor '{shown}' ended with {}; nothing was written",
                status.code().map_or_else(|| "a signal".to_owned(), |code| code.to_string())
            ))),
            Err(error) => Err(Failure::new(format!("cannot open the editor '{shown}': {error}"))),
        }
    }

    /// Why it ends, and where the text is.
    fn keep(self, why: &str) -> Failure {
        let path = self.path.clone();
        let _kept = self.folder.keep();
        Failure::new(format!("{why}; your text is in {}", path.display()))
    }

    fn keep_if_changed(self, before: &[u8], failure: Failure) -> Failure {
        match fs::read(&self.path) {
            Ok(now) if now != before => self.keep(&failure.to_string()),
            _ => failure,
        }
    }
}

/// A name that no editor takes for anything else.
fn is_plain(name: &OsStr) -> bool {
    let bytes = name.as_bytes();
    std::str::from_utf8(bytes).is_ok_and(|text| !text.chars().any(char::is_control))
}
