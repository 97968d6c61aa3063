//! Getting a yes for a part of a try, and using it.

use std::sync::Arc;

use reeve_protocol::{ApprovalId, JobId};
use reeve_sdk::api::{Approval, ApprovalState, Decide, Reason, Role, TaskEventKind, Yes};

use super::super::record::{Part, Try, reason};
use super::gate::gated_effect;
use super::submit::{job_key, operation};
use super::{Runner, Stop};
use crate::approvals::{Origin, Requirement, Ruling, Wanted};
use crate::machines::Known;
use crate::problem::ApiError;
use crate::users::Principal;

impl Runner {
    /// The job of a part that the policy is asked about: at once where it allows that, or when
    /// enough people have said yes. The reason when it will not run.
    pub(super) async fn get_approved(
        &self,
        step: u32,
        each: &Try,
        part: &Part,
        at: usize,
    ) -> Result<Result<JobId, Reason>, Stop> {
        let approval = match part.approval {
            Some(approval) => approval,
            None => match self.ask_for_yes(step, each, part, at).await? {
                Ok(Some(approval)) => approval,
                Ok(None) => {
                    let submitted = self.submit(step, each, part).await?;
                    return Ok(submitted.map_err(|error| reason(error.code(), error.full_detail())));
                }
                Err(why) => return Ok(Err(why)),
            },
        };
        self.await_yes(step, each, part, approval).await
    }

    /// Asks the policy; records what has to be waited for, if anything.
    async fn ask_for_yes(
        &self,
        step: u32,
        each: &Try,
        part: &Part,
        at: usize,
    ) -> Result<Result<Option<ApprovalId>, Reason>, Stop> {
        let principal = self.principal(&part.machines).await?;
        let effect = gated_effect(each, part);
        let registry = self.assistant.0.machines.registry();
        let targets: Vec<Arc<Known>> =
            part.machines.iter().filter_map(|machine| registry.find(machine.id)).collect();
        if targets.len() != part.machines.len() {
            return Ok(Err(reason("machine_gone", "a machine of this step is gone")));
        }
        let approvals = &self.assistant.0.approvals;
        let mut requirement = match approvals.judge(Origin::Task, effect, &targets) {
            Ruling::Allowed => return Ok(Ok(None)),
            Ruling::Refused { rule } => {
                return Ok(Err(reason("policy", format!("refused by {rule}"))));
            }
            Ruling::Needs(_) if step == 0 => {
                return Ok(Err(reason("needs_yes", "it needs a yes, and only looks around")));
            }
            Ruling::Needs(requirement) => requirement,
        };
        if let Some(because) = &part.because {
            requirement.rule = because.clone();
        }
        let found = self.ledger.read(|record| record.step(step).map(|s| s.planned.clone())).await;
        let (purpose, undo) =
            found.map_or_else(Default::default, |planned| (planned.purpose, planned.undo));
        let said = self.ledger.read(|record| record.task.request.yes).await;
        let counts = counts_in_advance(said, effect, &requirement, principal.role);
        let wanted = Wanted {
            requester: principal.clone(),
            operation: operation(&each.command, part.mode),
            targets,
            effect,
            effect_reasons: each.effect_reasons.clone(),
            purpose,
            undo: undo.filter(|_| each.number == 1),
            task: Some((self.id, step)),
            requirement,
        };
        let approval = match self.find_asked(step, &wanted).await? {
            Some(approval) => approval,
            None => match self.ask_once(wanted).await? {
                Ok(approval) => approval,
                Err(why) => return Ok(Err(why)),
            },
        };
        // Before it is told: whoever watches is asked only for what is still waited for.
        let approval = if counts { self.say_yes(&principal, approval).await } else { approval };
        let id = approval.id;
        self.change_part(step, each.number, at, |draft, part| {
            part.approval = Some(id);
            part.waits = approval.state == ApprovalState::Pending;
            if part.waits {
                draft.tell(TaskEventKind::Approval(Box::new(approval)));
            }
        })
        .await?;
        Ok(Ok(Some(id)))
    }

    /// The asker's yes in advance. Where it does not count it waits for people, as if nothing had
    /// been said.
    async fn say_yes(&self, principal: &Principal, approval: Approval) -> Approval {
        let decide = Decide {
            digest: approval.digest.clone(),
            password: None,
            reason: "said with the request".to_owned(),
        };
        match self.assistant.0.approvals.decide(principal, approval.id, true, decide).await {
            Ok(decided) => decided,
            Err(error) => {
                tracing::debug!(task = %self.id, ?error, "the yes in advance does not count");
                approval
            }
        }
    }

    /// What was asked for the same before the coordinator ended, and not written down here.
    async fn find_asked(&self, step: u32, wanted: &Wanted) -> Result<Option<Approval>, Stop> {
        let known: Vec<ApprovalId> = self
            .ledger
            .read(|record| {
                let parts = record.tries().flat_map(|(_, each)| &each.parts);
                parts.filter_map(|part| part.approval).collect()
            })
            .await;
        let found = loop {
            match self.assistant.0.approvals.list_of_task(self.id).await {
                Ok(found) => break found,
                Err(error) => self.wait_out(&error).await?,
            }
        };
        let same = |approval: &Approval| {
            approval.subtask == Some(step)
                && approval.operation == wanted.operation
                && approval.machines.len() == wanted.targets.len()
                && approval
                    .machines
                    .iter()
                    .all(|machine| wanted.targets.iter().any(|known| known.id == machine.id))
        };
        Ok(found.into_iter().find(|approval| !known.contains(&approval.id) && same(approval)))
    }

    async fn ask_once(&self, wanted: Wanted) -> Result<Result<Approval, Reason>, Stop> {
        loop {
            self.check()?;
            match self.assistant.0.approvals.ask(wanted.clone()).await {
                Ok(approval) => return Ok(Ok(approval)),
                Err(error) if is_away(&error) => self.wait_out(&error).await?,
                Err(error) => return Ok(Err(reason(error.code(), error.full_detail()))),
            }
        }
    }

    /// Waits for the people, then uses their yes.
    async fn await_yes(
        &self,
        step: u32,
        each: &Try,
        part: &Part,
        id: ApprovalId,
    ) -> Result<Result<JobId, Reason>, Stop> {
        let approvals = &self.assistant.0.approvals;
        // Before anything is read, so that no change falls in between.
        let mut changes = approvals.watch();
        loop {
            self.check()?;
            let approval = match approvals.load(id).await {
                Ok(approval) => approval,
                Err(error) if is_away(&error) => {
                    self.wait_out(&error).await?;
                    continue;
                }
                Err(error) => return Ok(Err(reason(error.code(), error.full_detail()))),
            };
            if let (ApprovalState::Used, Some(job)) = (approval.state, approval.job_id) {
                return Ok(Ok(job));
            }
            match approval.state {
                ApprovalState::Pending => {}
                // Used without a job: the coordinator ended in between. The same key goes on.
                ApprovalState::Approved | ApprovalState::Used => {
                    let principal = self.principal(&part.machines).await?;
                    let key = job_key(self.id, step, each.number, &part.name);
                    match approvals.redeem(&principal, id, &key).await {
                        Ok(job) => return Ok(Ok(job)),
                        Err(error) if is_away(&error) => {
                            self.wait_out(&error).await?;
                            continue;
                        }
                        Err(error) => return Ok(Err(reason(error.code(), error.full_detail()))),
                    }
                }
                ApprovalState::Rejected => {
                    return Ok(Err(reason("approval_rejected", rejected_text(&approval))));
                }
                ApprovalState::Expired => {
                    return Ok(Err(reason(
                        "approval_expired",
                        format!("nobody had said yes by {}", approval.expires),
                    )));
                }
                ApprovalState::Withdrawn => {
                    return Ok(Err(reason("approval_withdrawn", "it was withdrawn")));
                }
            }
            let look_again = std::time::Duration::from_secs(5);
            loop {
                tokio::select! {
                    () = self.token().cancelled() => return Err(Stop::Halted),
                    // Expiry is told by nobody.
                    () = tokio::time::sleep(look_again) => break,
                    changed = changes.recv() => match changed {
                        Ok(other) if other != id => {}
                        _ => break,
                    },
                }
            }
        }
    }
}

/// Whether the asker's yes in advance is one: as far as it goes, where the policy lets the asker
/// decide and wants no password, and only if they may approve.
fn counts_in_advance(
    said: Yes,
    effect: reeve_protocol::ops::Effect,
    requirement: &Requirement,
    role: Role,
) -> bool {
    use reeve_protocol::ops::Effect;
    let enough = match effect {
        Effect::Read => true,
        Effect::Change => said >= Yes::Change,
        Effect::Destroy => said >= Yes::All,
    };
    enough && !requirement.other_than_requester && !requirement.step_up && role >= Role::Approver
}

fn rejected_text(approval: &Approval) -> String {
    approval.decisions.iter().rev().find(|decision| !decision.approved).map_or_else(
        || "somebody said no".to_owned(),
        |decision| match decision.reason.as_str() {
            "" => format!("{} said no", decision.by),
            why => format!("{} said no: {why}", decision.by),
        },
    )
}

fn is_away(error: &ApiError) -> bool {
    error.status().as_u16() == 503
}
