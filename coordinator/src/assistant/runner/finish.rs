//! The end of a task whose steps have all ended: what it came to.

use reeve_sdk::api::{Reason, SubtaskState, Summary, TaskEventKind, TaskState};
use reeve_stages::Window;
use reeve_stages::summary::{self, Done, DoneGroup};

use super::super::record::{Record, Step, reason};
use super::{Runner, Stop};

/// Names of machines given to a summary for one group or finding.
const MAX_NAMES: usize = 8;

impl Runner {
    /// Sums up, and ends the task.
    pub(super) async fn finish(&self) -> Result<(), Stop> {
        self.check()?;
        let (state, why, input) = self
            .ledger
            .read(|record| {
                let (state, why) = conclude(record);
                let input = summary_input(record, why.as_ref());
                (state, why, input)
            })
            .await;
        let summary = match self.ask_summariser(&input).await? {
            Some(summary) => summary,
            None => summary::by_rules(&input),
        };
        self.ledger
            .change(|draft| {
                set_summary(draft, summary);
                draft.task().reason = why;
                draft.set_state(state);
            })
            .await?;
        Ok(())
    }

    /// Ends the task, or lets it ask.
    pub(super) async fn end(&self, state: TaskState, why: Reason, question: Option<String>) {
        let done = self
            .ledger
            .change(|draft| {
                draft.task().reason = Some(why);
                draft.task().question = question;
                draft.set_state(state);
            })
            .await;
        if done.is_err() {
            tracing::debug!(task = %self.id, "the coordinator stops before the end is written");
        }
    }
}

fn set_summary(draft: &mut super::super::ledger::Draft, summary: Summary) {
    draft.tell(TaskEventKind::Summary(Box::new(summary.clone())));
    draft.task().summary = Some(summary);
}

/// The state a task ends in, and why, when its steps have ended.
fn conclude(record: &Record) -> (TaskState, Option<Reason>) {
    let bad: Vec<&Step> = record
        .steps
        .iter()
        .filter(|step| match step.state {
            SubtaskState::Met => false,
            SubtaskState::Skipped => {
                step.reason.as_ref().is_none_or(|reason| reason.code != "not_needed")
            }
            _ => true,
        })
        .collect();
    let find = |state: SubtaskState| bad.iter().find(|step| step.state == state);
    let told = |step: &Step| {
        let why = step.reason.as_ref().map_or("", |reason| reason.message.as_str());
        format!("step {}: {why}", step.number)
    };
    if let Some(step) = find(SubtaskState::NotMet).or_else(|| find(SubtaskState::Inconclusive)) {
        return (TaskState::Failed, Some(reason("step_failed", told(step))));
    }
    if let Some(step) = find(SubtaskState::Refused) {
        let code = step.reason.as_ref().map_or("", |reason| reason.code.as_str());
        return match code {
            "approval_rejected" => {
                (TaskState::Cancelled, Some(reason("approval_rejected", told(step))))
            }
            "approval_expired" => (TaskState::Failed, Some(reason("approval_expired", told(step)))),
            "policy" => (TaskState::Failed, Some(reason("plan_refused", told(step)))),
            _ => (TaskState::Failed, Some(reason("step_failed", told(step)))),
        };
    }
    match bad.first() {
        Some(step) => (TaskState::Failed, Some(reason("step_failed", told(step)))),
        None => (TaskState::Completed, None),
    }
}

/// What a summary is made of; outputs to cite are added where a model reads it.
fn summary_input(record: &Record, stopped: Option<&Reason>) -> summary::Input {
    let mut findings: Vec<summary::Finding> = Vec::new();
    for step in &record.steps {
        for each in &step.tries {
            for (machine, found) in &each.findings {
                let name = step
                    .planned
                    .machines
                    .iter()
                    .find(|other| other.id == *machine)
                    .map_or_else(|| machine.to_string(), |other| other.name.clone());
                for one in found {
                    let same = findings
                        .iter_mut()
                        .find(|other| other.message == one.message && other.level == one.level);
                    match same {
                        Some(other) => {
                            other.count += 1;
                            if other.machines.len() < MAX_NAMES {
                                other.machines.push(name.clone());
                            }
                        }
                        None => findings.push(summary::Finding {
                            level: one.level,
                            message: one.message.clone(),
                            machines: vec![name.clone()],
                            count: 1,
                            quote: one.quote.clone(),
                        }),
                    }
                }
            }
        }
    }
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.level));
    summary::Input {
        request: record.task.request.prompt.clone(),
        plan: record.task.plan_summary.clone().unwrap_or_default(),
        steps: record.steps.iter().map(done).collect(),
        findings,
        stopped: stopped.filter(|why| why.code != "step_failed").map(|why| why.message.clone()),
        samples: Vec::new(),
        window: Window::default(),
    }
}

fn done(step: &Step) -> Done {
    let last = step.tries.last();
    Done {
        number: step.number,
        purpose: step.planned.purpose.clone(),
        command: last.map_or_else(|| step.planned.command.clone(), |each| each.command.clone()),
        effect: last.map_or(step.planned.effect, |each| each.effect),
        state: step.state,
        reason: step.reason.as_ref().map(|reason| reason.message.clone()),
        undo: step.planned.undo.clone(),
        attempts: u32::try_from(step.tries.len()).unwrap_or(u32::MAX),
        groups: last.map(|each| each.groups.iter().map(done_group).collect()).unwrap_or_default(),
    }
}

fn done_group(group: &reeve_sdk::api::Group) -> DoneGroup {
    DoneGroup {
        machines: group.machines.iter().take(MAX_NAMES).cloned().collect(),
        count: group.machines.len() as u64,
        state: group.state,
        exit_code: group.exit_code,
        outlier: group.outlier,
        verdict: group.verdict.clone(),
    }
}
