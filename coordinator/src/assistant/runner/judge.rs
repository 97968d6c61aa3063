//! What came of a try: outputs read back, like ones grouped, each judged with evidence.

use std::collections::BTreeMap;

use reeve_protocol::{MachineId, Stream};
use reeve_runbooks::{Expect, Outcome};
use reeve_sdk::api::{Group, OperationState, Quote, Verdict, VerdictOutcome};
use reeve_stages::compact::Compactor;
use reeve_stages::group::{Class, Grouper};
use reeve_stages::summary::Level;
use reeve_stages::{Sample, validate};

use super::super::record::{Finding, Try};
use super::{Runner, Stop};
use crate::operations::OperationRow;

/// Bytes of each stream that are read back: rules look at no more.
const READ_BYTES: usize = 1024 * 1024;

/// Bytes of a quote.
const QUOTE_BYTES: usize = 200;

/// Bytes of an excerpt for people, of the beginning and of the end.
const EXCERPT_BYTES: usize = 1000;

/// Evidence of one verdict.
const MAX_EVIDENCE: usize = 10;

/// Findings kept of one machine.
const MAX_FINDINGS: usize = 20;

/// What one command came to.
pub(super) struct Looked {
    pub row: OperationRow,
    pub sample: Sample,
    /// By rules, where the step says what to expect.
    checked: Option<(Verdict, Vec<Finding>)>,
}

impl Runner {
    /// Judges a try and writes the end of it.
    pub(super) async fn judge(&self, step: u32, number: u32) -> Result<(), Stop> {
        let found = self
            .ledger
            .read(|record| {
                let planned = record.step(step)?.planned.clone();
                Some((planned, record.attempt(step, number)?.clone()))
            })
            .await;
        let Some((planned, each)) = found else { return Ok(()) };
        let expect: Option<Expect> =
            planned.expect.and_then(|expect| serde_json::from_value(expect).ok());
        let (classes, looked) = self.look(&each, expect.as_ref()).await?;
        let mut groups = Vec::new();
        let mut findings: BTreeMap<MachineId, Vec<Finding>> = BTreeMap::new();
        for (class, members) in split(&classes, &looked) {
            let Some(first) = members.first().and_then(|at| looked.get(*at)) else { continue };
            let verdict = match &first.checked {
                Some((verdict, _)) => verdict.clone(),
                None => self.validate(step, number, groups.len(), first, &members, &looked).await?,
            };
            for at in &members {
                if let Some(Looked { row, checked: Some((_, found)), .. }) = looked.get(*at) {
                    findings.insert(row.machine_id, found.clone());
                }
            }
            groups.push(Group {
                machines: members
                    .iter()
                    .filter_map(|at| looked.get(*at).map(|one| one.row.machine.clone()))
                    .collect(),
                operation: first.row.id,
                state: first.row.state,
                exit_code: first.row.exit_code,
                outlier: class.outlier,
                verdict: Some(verdict),
                excerpt: excerpt(&first.sample),
            });
        }
        groups.sort_by_key(|group| std::cmp::Reverse(group.machines.len()));
        self.ledger
            .change(|draft| {
                let now_us = draft.now_us();
                if let Some(each) = draft.attempt(step, number) {
                    each.groups = groups;
                    each.findings = findings;
                    each.finished_us = Some(now_us);
                }
            })
            .await?;
        Ok(())
    }

    /// Reads what a try's commands wrote, and puts like outputs into classes.
    pub(super) async fn look(
        &self,
        each: &Try,
        expect: Option<&Expect>,
    ) -> Result<(Vec<Class>, Vec<Looked>), Stop> {
        let mut grouper = Grouper::default();
        let mut looked = Vec::new();
        for job in each.jobs() {
            for row in self.rows_of(job).await? {
                // Another part of the try did it, with a yes.
                let code = row.reason.as_ref().map_or("", |reason| reason.code.as_str());
                if row.state == OperationState::Refused && code == "inspect_unavailable" {
                    continue;
                }
                let stdout = self.read(&row, Stream::Stdout).await?;
                let stderr = self.read(&row, Stream::Stderr).await?;
                let mut output = grouper.output(&[&row.machine]);
                let mut excerpts = Vec::new();
                for (stream, bytes, total) in [
                    (Stream::Stdout, &stdout, row.durable.stdout),
                    (Stream::Stderr, &stderr, row.durable.stderr),
                ] {
                    let rest = total.saturating_sub(bytes.len() as u64);
                    output.push(stream, bytes);
                    output.skip(stream, rest);
                    let mut compactor = Compactor::new(reeve_stages::compact::MAX_BYTES);
                    compactor.push(bytes);
                    compactor.skip(rest);
                    excerpts.push(compactor.finish());
                }
                grouper.add(&row.machine, row.id, row.state, row.exit_code, output);
                let checked = expect.map(|expect| check(expect, &row, &stdout, &stderr));
                let mut excerpts = excerpts.into_iter();
                let sample = Sample {
                    operation: row.id,
                    machine: row.machine.clone(),
                    machines: vec![row.machine.clone()],
                    count: 1,
                    outlier: false,
                    state: row.state,
                    exit_code: row.exit_code,
                    reason: row.reason.as_ref().map(|reason| reason.message.clone()),
                    stdout: excerpts.next().unwrap_or_default(),
                    stderr: excerpts.next().unwrap_or_default(),
                };
                looked.push(Looked { row, sample, checked });
            }
        }
        Ok((grouper.finish(), looked))
    }

    async fn read(&self, row: &OperationRow, stream: Stream) -> Result<Vec<u8>, Stop> {
        loop {
            match self.assistant.0.operations.read_head(row, stream, READ_BYTES).await {
                Ok(bytes) => return Ok(bytes),
                Err(error) if error.status().as_u16() == 503 => self.wait_out(&error).await?,
                Err(error) => {
                    tracing::warn!(operation = %row.id, ?error, "output could not be read back");
                    return Ok(Vec::new());
                }
            }
        }
    }

    /// A verdict on one class: a model's with evidence that is checked, or by how it ended.
    async fn validate(
        &self,
        step: u32,
        number: u32,
        group: usize,
        first: &Looked,
        members: &[usize],
        looked: &[Looked],
    ) -> Result<Verdict, Stop> {
        let mut sample = first.sample.clone();
        let names =
            members.iter().filter_map(|at| looked.get(*at)).map(|one| one.row.machine.clone());
        sample.machines = names.take(8).collect();
        sample.count = members.len() as u64;
        match self.ask_validator(step, number, group, &sample).await? {
            Some(verdict) => Ok(verdict),
            None => Ok(validate::by_rules(&sample)),
        }
    }
}

/// Classes, split where rules conclude differently of alike outputs: they read numbers that
/// grouping looks past. Each with the places of its members.
fn split<'a>(classes: &'a [Class], looked: &[Looked]) -> Vec<(&'a Class, Vec<usize>)> {
    let mut found = Vec::new();
    for class in classes {
        let mut parts: Vec<(String, Vec<usize>)> = Vec::new();
        for (at, one) in looked.iter().enumerate() {
            if !class.operations.contains(&one.row.id) {
                continue;
            }
            let key = one.checked.as_ref().map_or_else(String::new, |(verdict, findings)| {
                let ids: Vec<&str> = findings.iter().map(|found| found.id.as_str()).collect();
                format!("{:?} {}", verdict.outcome, ids.join(" "))
            });
            match parts.iter_mut().find(|(other, _)| *other == key) {
                Some((_, members)) => members.push(at),
                None => parts.push((key, vec![at])),
            }
        }
        found.extend(parts.into_iter().map(|(_, members)| (class, members)));
    }
    found
}

/// What rules make of a result.
fn check(
    expect: &Expect,
    row: &OperationRow,
    stdout: &[u8],
    stderr: &[u8],
) -> (Verdict, Vec<Finding>) {
    let checked = reeve_runbooks::check(expect, row.exit_code, stdout, stderr);
    let mut outcome = match checked.outcome {
        Outcome::Met => VerdictOutcome::Met,
        Outcome::NotMet => VerdictOutcome::NotMet,
        Outcome::Inconclusive => VerdictOutcome::Inconclusive,
    };
    let mut reason = checked.reason;
    // What did not run to its end shows nothing, whatever it wrote before.
    if !matches!(row.state, OperationState::Succeeded | OperationState::Failed) {
        outcome = match row.state {
            OperationState::TimedOut | OperationState::Refused | OperationState::Expired => {
                VerdictOutcome::NotMet
            }
            _ => VerdictOutcome::Inconclusive,
        };
        reason = format!("it was {}", row.state.as_str());
        if let Some(why) = &row.reason {
            reason = format!("{reason}: {}", why.message);
        }
    }
    let findings: Vec<Finding> = checked
        .findings
        .iter()
        .take(MAX_FINDINGS)
        .map(|found| {
            let (stream, bytes) = match found.stream {
                reeve_runbooks::Stream::Stdout => (Stream::Stdout, stdout),
                reeve_runbooks::Stream::Stderr => (Stream::Stderr, stderr),
            };
            Finding {
                id: found.id.clone(),
                level: match found.level {
                    reeve_runbooks::Level::Ok => Level::Ok,
                    reeve_runbooks::Level::Notice => Level::Notice,
                    reeve_runbooks::Level::Problem => Level::Problem,
                },
                message: found.message.clone(),
                quote: quote(row, stream, bytes, found.from, found.to),
            }
        })
        .collect();
    let evidence =
        findings.iter().filter_map(|found| found.quote.clone()).take(MAX_EVIDENCE).collect();
    let verdict = Verdict {
        outcome,
        evidence,
        reason,
        by: "rules".to_owned(),
        disagreement: checked.disagreement,
    };
    (verdict, findings)
}

/// The bytes at a place, as evidence; at most so many that a person reads them.
fn quote(row: &OperationRow, stream: Stream, bytes: &[u8], from: u64, to: u64) -> Option<Quote> {
    let start = usize::try_from(from).ok()?;
    let end = usize::try_from(to).ok()?.min(start + QUOTE_BYTES);
    let bytes = bytes.get(start..end).filter(|bytes| !bytes.is_empty())?;
    Some(Quote {
        operation: row.id,
        machine: row.machine.clone(),
        stream,
        from,
        to: from + bytes.len() as u64,
        quote: String::from_utf8_lossy(bytes).into_owned(),
    })
}

/// The beginning and end of what was written, for people.
fn excerpt(sample: &Sample) -> String {
    let mut text = String::new();
    for stream in [&sample.stdout, &sample.stderr] {
        let bytes: Vec<u8> = stream.parts.iter().flat_map(|part| part.bytes.clone()).collect();
        let all = String::from_utf8_lossy(&bytes);
        if all.is_empty() {
            continue;
        }
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        if all.len() <= 2 * EXCERPT_BYTES {
            text.push_str(&all);
        } else {
            let head = all.get(..all.floor_char_boundary(EXCERPT_BYTES)).unwrap_or_default();
            let from = all.ceil_char_boundary(all.len() - EXCERPT_BYTES);
            text.push_str(head);
            text.push_str("\n…\n");
            text.push_str(all.get(from..).unwrap_or_default());
        }
    }
    text
}
