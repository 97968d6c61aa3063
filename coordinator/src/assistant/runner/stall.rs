//! Commands that hang: what the machine finds out about them, and what follows from it. Advice goes
//! to the user; nothing is typed for anybody, and a password least of all.

use std::time::Duration;

use reeve_sdk::api::{ModelRole, Stall, StallAdvice, TaskEventKind};
use reeve_stages::stall::{self, Diagnosis};

use super::super::record::MachineRef;
use super::think::{Question, Thought};
use super::{Runner, Stop};
use crate::operations::OperationRow;

/// The machine looks for less than this, with a slow link and a busy disk.
const PATIENCE: Duration = Duration::from_secs(30);

impl Runner {
    /// Looks into a command that is silent, and tells what was found.
    pub(super) async fn explain(
        &self,
        step: u32,
        number: u32,
        row: &OperationRow,
    ) -> Result<(), Stop> {
        let machine = MachineRef { id: row.machine_id, name: row.machine.clone() };
        let principal = self.principal(&[machine]).await?;
        let explaining = self.assistant.0.operations.explain(&principal, row.id);
        let explained = tokio::select! {
            () = self.token().cancelled() => return Err(Stop::Halted),
            explained = tokio::time::timeout(PATIENCE, explaining) => explained,
        };
        let findings = match explained {
            Ok(Ok((_, findings))) => findings,
            // It has just ended, or its machine is away: then there is nothing to tell.
            Ok(Err(error)) => {
                tracing::debug!(task = %self.id, operation = %row.id, ?error, "not explained");
                return Ok(());
            }
            Err(_) => return Ok(()),
        };
        let diagnosis = stall::diagnose(&findings);
        let mut found = diagnosis.clone().into_stall(&findings, row.id, &row.machine);
        let mut password = diagnosis.password;
        if !diagnosis.confident
            && !password
            && let Some((advised, by)) =
                self.ask_analyst(step, number, &findings, &diagnosis).await?
        {
            password = advised.password;
            found = Stall {
                cause: advised.cause,
                explanation: advised.explanation,
                advice: advised.advice,
                by,
                ..found
            };
        }
        let advice = found.advice;
        self.ledger
            .change(|draft| {
                if let Some(each) = draft.attempt(step, number) {
                    each.stalls.push(found.clone());
                }
                draft.tell(TaskEventKind::Stall(Box::new(found)));
            })
            .await?;
        if advice == StallAdvice::Kill && !password && self.assistant.0.settings.stall_kill {
            let why = "it will not come to an end (assistant.stall_kill)";
            let ended = self.assistant.0.operations.cancel_operation(&principal, row.id, why).await;
            if let Err(error) = ended {
                tracing::debug!(task = %self.id, operation = %row.id, ?error, "was not ended");
            }
        }
        Ok(())
    }

    /// What a model makes of what rules are not sure of; none without one.
    async fn ask_analyst(
        &self,
        step: u32,
        number: u32,
        findings: &reeve_protocol::ops::Findings,
        diagnosis: &Diagnosis,
    ) -> Result<Option<(stall::Advised, String)>, Stop> {
        if self.window(ModelRole::Analyst).is_none() {
            return Ok(None);
        }
        let found = self
            .ledger
            .read(|record| {
                let each = record.attempt(step, number)?;
                let request = record.task.request.prompt.clone();
                Some((request, each.command.clone(), each.stalls.len()))
            })
            .await;
        let Some((request, command, before)) = found else { return Ok(None) };
        let name = format!("stall-{step}-{number}-{before}");
        let nonce = self.nonce(&name).await;
        let question = Question {
            name,
            ask: stall::ask(&request, &command, findings, diagnosis, &nonce),
            input: serde_json::json!({ "request": request, "command": command, "findings": findings }),
            nonce,
        };
        let read = |text: &str, _: &str| {
            stall::read(findings, diagnosis, text).map_err(|error| error.to_string())
        };
        match self.think(question, None, read).await? {
            Thought::Said(advised, by) => Ok(Some((advised, by))),
            Thought::Builtin(_) => Ok(None),
            Thought::Failed { code, message } => {
                self.note_fallback("stall", code, &message).await?;
                Ok(None)
            }
        }
    }
}
