//! What the assistant itself takes, no model being asked: from the words to the plan, and between a
//! command's end and what is said of it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use reeve_sdk::Client;
use reeve_sdk::api::{SubtaskState, TaskEventKind, TaskRequest, TaskState, Time};

/// Tasks in a repetition.
pub const TASKS: usize = 10;

/// The words. A runbook knows them, and every command it has only looks.
const WORDS: &str = "what is the load of this machine?";

/// One task, stage by stage.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stages {
    /// From sending the words to hearing the plan, as the asker sees it.
    pub to_plan: Duration,
    /// From taking the task up to its plan being recorded.
    pub plan: Duration,
    /// From the plan to its first job.
    pub dispatch: Duration,
    /// From the end of a step's last command to its verdict, the longest of all steps.
    pub judge: Duration,
    /// From the last verdict to the summary.
    pub summary: Duration,
    /// All of it, commands included, as the asker sees it.
    pub whole: Duration,
}

/// Asks once.
pub async fn ask(client: &Client, machine: &str) -> anyhow::Result<Stages> {
    let request = TaskRequest {
        prompt: WORDS.to_owned(),
        selector: Some(machine.to_owned()),
        ..TaskRequest::default()
    };
    let start = Instant::now();
    let task = client.create_task(&request).await?;
    let mut stages = Stages::default();
    let mut events = client.task_events(task.id, 0);
    let (mut planning, mut planned, mut last_verdict) = (task.created, None, None);
    let (mut jobs, mut verdicts) = (BTreeMap::new(), BTreeMap::new());
    while let Some(event) = events.next().await? {
        match event.what {
            TaskEventKind::State { state: TaskState::Planning, .. } => planning = event.at,
            TaskEventKind::State { state, reason } => ensure!(
                matches!(state, TaskState::Pending | TaskState::Running | TaskState::Completed),
                "{state:?} {reason:?}"
            ),
            TaskEventKind::Plan { .. } => {
                stages.to_plan = start.elapsed();
                stages.plan = between(planning, event.at);
                planned = Some(event.at);
            }
            TaskEventKind::Job { job, subtask, .. } => {
                if stages.dispatch.is_zero() {
                    stages.dispatch = between(planned.context("a plan first")?, event.at);
                }
                jobs.insert(subtask, job);
            }
            TaskEventKind::Subtask(step) if step.state.is_terminal() => {
                ensure!(step.state == SubtaskState::Met, "{step:?}");
                verdicts.insert(step.number, event.at);
                last_verdict = Some(event.at);
            }
            TaskEventKind::Summary(_) => {
                stages.summary = between(last_verdict.context("a verdict first")?, event.at);
            }
            _ => {}
        }
    }
    stages.whole = start.elapsed();
    for (step, job) in jobs {
        let ended = client.job(job).await?.finished.context("a job that has ended")?;
        let judged = verdicts.get(&step).context("a verdict for each job")?;
        stages.judge = stages.judge.max(between(ended, *judged));
    }
    ensure!(!stages.judge.is_zero() && !stages.summary.is_zero(), "a stage is missing: {stages:?}");
    Ok(stages)
}

fn between(from: Time, to: Time) -> Duration {
    Duration::from_micros(u64::try_from(to.as_micros() - from.as_micros()).unwrap_or(0))
}
