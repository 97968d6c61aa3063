//! Going through all there is beneath a path, with what is asked for and against: names that are
//! left out, kernels' own file systems, and warnings that are counted.

use reeve_protocol::ops::{Failure, RemotePath};

use super::chosen::Chosen;
use crate::host::paths::{LastLink, MAX_WALK_DEPTH, Place, Rules, Step, WalkOptions};
use crate::operations::worker;

/// Warnings of one kind that are told one by one; then they are counted.
const TOLD: u64 = 20;

/// What a walk leaves out by itself.
pub struct Bounds<'a> {
    pub exclude: &'a Chosen,
    /// 0 is what is at the path alone.
    pub max_depth: Option<u32>,
    pub skip_hidden: bool,
    pub one_file_system: bool,
}

/// Something that was come by.
pub struct Found<'a> {
    pub place: &'a Place,
    pub path: &'a RemotePath,
}

/// Whether a walk goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    Further,
    Stop,
}

/// What was left out, to be told at the end.
#[derive(Default)]
pub struct LeftOut {
    blocked: u64,
    unreadable: u64,
}

impl LeftOut {
    /// Takes note of what could not be had; the first of a kind are told at once.
    pub fn add(&mut self, failure: &Failure) {
        match failure.code.as_str() {
            "policy_path" => self.blocked += 1,
            // It was there when its folder was read, and is not any more.
            "not_found" => {}
            _ => {
                self.unreadable += 1;
                if self.unreadable <= TOLD {
                    worker::tell(failure);
                }
            }
        }
    }

    /// Tells what was only counted.
    pub fn tell(&self) {
        if self.blocked > 0 {
            worker::tell(&Failure::new(
                "policy_path",
                format!(
                    "{} left out, because this machine's policy does not let Reeve touch {}",
                    counted(self.blocked, "file or folder was", "files or folders were"),
                    if self.blocked == 1 { "it" } else { "them" },
                ),
            ));
        }
        if self.unreadable > TOLD {
            let more = counted(self.unreadable - TOLD, "file", "files");
            let message = format!("{more} more could not be read");
            worker::tell(&Failure::new("unreadable", message));
        }
    }
}

fn counted(count: u64, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

/// Visits what is at a path and, when that is a folder, all there is beneath it. A link at the path
/// itself is followed when it has a '/' behind it.
///
/// # Errors
/// When the path itself cannot be had, or the visitor fails.
pub fn walk(
    rules: &Rules,
    base: &RemotePath,
    bounds: &Bounds<'_>,
    left_out: &mut LeftOut,
    mut visit: impl FnMut(&Found<'_>, &mut LeftOut) -> Result<Next, Failure>,
) -> Result<(), Failure> {
    let last = if base.as_bytes().ends_with(b"/") { LastLink::Follow } else { LastLink::Keep };
    let place = rules.find(base, last)?;
    if visit(&Found { place: &place, path: base }, left_out)? == Next::Stop
        || !place.about.is_folder()
        || bounds.max_depth == Some(0)
    {
        return Ok(());
    }
    let options = WalkOptions {
        depth: bounds.max_depth.unwrap_or(MAX_WALK_DEPTH),
        one_file_system: bounds.one_file_system,
        skip_hidden: bounds.skip_hidden,
        ..WalkOptions::default()
    };
    let mut steps = rules.walk(&place, base, options)?;
    while let Some(step) = steps.next() {
        let found = match step {
            Step::Found(found) => found,
            Step::Left(_) => continue,
            Step::Skipped(failure) => {
                left_out.add(&failure);
                continue;
            }
        };
        if bounds.exclude.has(&found.path, base) {
            steps.skip_folder();
            continue;
        }
        let here = Found { place: &found.place, path: &found.path };
        if visit(&here, left_out)? == Next::Stop {
            return Ok(());
        }
        let is_elsewhere = found.place.about.device != place.about.device;
        if found.place.about.is_folder() && is_elsewhere && found.place.is_of_kernel() {
            steps.skip_folder();
            left_out.add(&Failure::at(
                "kernel_files",
                &found.path,
                format!(
                    "what is in {} is the kernel's and no files; name it to go into it",
                    found.path.display()
                ),
            ));
        }
    }
    Ok(())
}
