//! What a copy came to.

use std::time::Duration;

use reeve_protocol::ops::{RemotePath, WriteDeed};
use reeve_sdk::transfer::{TransferError, Transferred};
use serde::Serialize;

use super::Cp;
use crate::args::{Format, Global};
use crate::exit;
use crate::failure::Failure;
use crate::output::print_one;
use crate::terminal::note;

/// What became of one thing on one machine.
pub struct Ended {
    pub machine: String,
    /// As asked for.
    pub path: RemotePath,
    pub outcome: Result<Transferred, TransferError>,
    /// Somebody was told already why it failed.
    pub is_told: bool,
}

/// One thing that was copied, as JSON shows it.
#[derive(Serialize)]
struct Copied {
    machine: String,
    path: RemotePath,
    #[serde(skip_serializing_if = "Option::is_none")]
    deed: Option<WriteDeed>,
    entries: u64,
    bytes: u64,
    sent: u64,
    skipped: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    hash: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

#[derive(Serialize)]
struct Summary {
    copied: Vec<Copied>,
    bytes: u64,
    seconds: f64,
}

/// Tells of it, and gives the exit code.
pub fn sum_up(cp: &Cp, global: &Global, ended: &[Ended], took: Duration) -> Result<u8, Failure> {
    let several = ended.len() > 1;
    let seconds = took.as_secs_f64();
    let mut code = exit::OK;
    let mut failed = 0;
    let (mut bytes, mut skipped) = (0, 0);
    for each in ended {
        match &each.outcome {
            Ok(done) => {
                bytes += done.bytes;
                skipped += done.skipped;
                each.tell(done, several);
            }
            Err(error) => {
                failed += 1;
                code = if several { exit::SOME_FAILED } else { code_of(error) };
                if !each.is_told {
                    note(&why(&each.machine, &each.path, error));
                }
            }
        }
    }
    if skipped > 0 && code == exit::OK {
        code = exit::SOME_FAILED;
    }
    if global.output != Format::Table && global.output != Format::Wide {
        let copied = ended.iter().map(Ended::copied).collect();
        print_one(global.output, &Summary { copied, bytes, seconds }, "", &[])?;
    } else if !cp.quiet && failed < ended.len() && !cp.dry_run {
        let rate = if seconds > 0.0 { bytes as f64 / seconds } else { 0.0 };
        let mut text = format!(
            "{} in {seconds:.1} s, {}/s",
            indicatif::BinaryBytes(bytes),
            indicatif::BinaryBytes(rate as u64)
        );
        if several {
            text = format!("{} of {} copied: {text}", ended.len() - failed, ended.len());
        }
        if skipped > 0 {
            text.push_str(&format!(", {skipped} left out"));
        }
        note(&text);
    }
    Ok(code)
}

/// Why a machine does not have it, on one line.
pub fn why(machine: &str, path: &RemotePath, error: &TransferError) -> String {
    let title = format!("{machine}:{}", path.display());
    match error {
        // Its name is there already.
        TransferError::Machine(failure, _) => format!("reeve: {title}: {}", failure.message),
        error => format!("reeve: {title}: {error}"),
    }
}

impl Ended {
    fn tell(&self, done: &Transferred, several: bool) {
        let name = if several { format!("{}: ", self.machine) } else { String::new() };
        for (path, deed, size) in &done.would {
            note(&format!("{name}{}: {} ({size} bytes)", path.display(), deed_word(*deed)));
        }
        if done.deed == Some(WriteDeed::Kept) {
            note(&format!("{name}{}: is there and stays as it is", done.path.display()));
        }
    }

    fn copied(&self) -> Copied {
        let done = self.outcome.as_ref().ok().cloned().unwrap_or_default();
        Copied {
            machine: self.machine.clone(),
            path: if done.path.as_bytes().is_empty() { self.path.clone() } else { done.path },
            deed: done.deed,
            entries: done.entries,
            bytes: done.bytes,
            sent: done.sent,
            skipped: done.skipped,
            hash: done.hash,
            error: self.outcome.as_ref().err().map(ToString::to_string),
        }
    }
}

fn deed_word(deed: WriteDeed) -> &'static str {
    match deed {
        WriteDeed::New => "would be new",
        WriteDeed::Overwritten => "would be overwritten",
        WriteDeed::Same => "is the same already",
        WriteDeed::Kept => "would stay as it is",
        WriteDeed::Unknown => "unknown",
    }
}

/// The machine's no is its command's no; everything else is Reeve's own.
fn code_of(error: &TransferError) -> u8 {
    match error {
        TransferError::Machine(..) => exit::SOME_FAILED,
        TransferError::Ended(operation) => exit::of_operation(operation),
        _ => exit::OWN_FAILURE,
    }
}
