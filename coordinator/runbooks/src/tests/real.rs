//! The catalogue's looks, really run on the machine of the test.
//!
//! What says `tested = ["debian 12"]` has passed here on Debian 12 with systemd as init; on another
//! system the commands have to be there and end, and what they find may differ.

use std::process::{Command, Stdio};

use reeve_protocol::ops::{Effect, Network};

use super::{examples, samples};
use crate::runbook::{Runbook, RunbookStep};
use crate::{Outcome, catalogue, check, expect::Expect};

/// What the runner of tasks sets (see `docs/runbooks.md`).
const ENVIRONMENT: [(&str, &str); 6] = [
    ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
    ("LC_ALL", "C.UTF-8"),
    ("TERM", "dumb"),
    ("PAGER", "cat"),
    ("SYSTEMD_PAGER", ""),
    ("DEBIAN_FRONTEND", "noninteractive"),
];

fn looks() -> impl Iterator<Item = (&'static Runbook, &'static RunbookStep)> {
    catalogue()
        .runbooks
        .iter()
        // Looks behind a change see nothing without it.
        .filter(|runbook| !runbook.changes())
        .filter(|runbook| runbook.tested.iter().any(|system| system == "debian 12"))
        .flat_map(|runbook| runbook.step.iter().map(move |step| (runbook, step)))
        .filter(|(_, step)| step.effect == Effect::Read)
        // The public network is not part of a test.
        .filter(|(_, step)| step.network != Network::Use)
}

// The test is about these commands on a machine; the crate itself starts nothing.
#[allow(clippy::disallowed_methods)]
#[test]
fn looks_that_say_they_were_tested_run_and_are_understood() {
    let machine = examples::machine("here", "test");
    let mut wrong = Vec::new();
    let mut ran = 0;
    for (runbook, step) in looks() {
        let Some(template) = step.command_for(&machine) else { continue };
        let line = samples::line(runbook, template);
        let output = Command::new("/bin/sh")
            .args(["-c", &line])
            .env_clear()
            .envs(ENVIRONMENT)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        ran += 1;
        let expect = Expect {
            fine: step.fine.clone(),
            empty: step.empty.clone(),
            noisy: step.noisy,
            ..Expect::default()
        };
        let checked = check(&expect, output.status.code(), &output.stdout, &output.stderr);
        let stderr = String::from_utf8_lossy(&output.stderr);
        let missing = stderr.contains("not found") && !step.noisy;
        let long = output.stdout.len() > 256 * 1024;
        if checked.outcome == Outcome::NotMet || missing || long {
            wrong.push(format!(
                "{}: {line}\n    {} {} bytes {}",
                runbook.id,
                checked.reason,
                output.stdout.len(),
                stderr.lines().next().unwrap_or_default()
            ));
        }
    }
    assert!(ran > 60, "only {ran} commands");
    assert!(wrong.is_empty(), "{} of {ran} wrong:\n{}", wrong.len(), wrong.join("\n"));
}
