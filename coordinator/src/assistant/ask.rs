//! A new task: checked, its machines resolved once, recorded.

use std::sync::Arc;

use reeve_protocol::TaskId;
use reeve_sdk::api::{Reason, Task, TaskEvent, TaskEventKind, TaskRequest, TaskState, Time};
use sha2::{Digest, Sha256};

use super::record::{Asker, MachineRef, TaskRow, reason};
use super::{Assistant, store};
use crate::audit;
use crate::hex;
use crate::machines::Known;
use crate::problem::ApiError;
use crate::users::{Principal, Via};

/// The longest request in words, bytes.
pub const MAX_PROMPT: usize = 16 * 1024;

/// The longest `Idempotency-Key`, bytes.
const MAX_KEY: usize = 255;

/// What is kept of words that are too long, characters.
const KEPT_OF_LONG: usize = 200;

/// What creating came to.
pub(super) struct Created {
    pub task: Task,
    /// It was there already, made with the same key.
    pub existed: bool,
}

/// How a task begins.
struct Beginning {
    state: TaskState,
    reason: Option<Reason>,
    question: Option<String>,
    machines: Vec<MachineRef>,
}

impl Beginning {
    fn failed(code: &str, message: impl Into<String>) -> Self {
        let (state, reason) = (TaskState::Failed, Some(reason(code, message)));
        Self { state, reason, question: None, machines: Vec::new() }
    }

    fn pending(machines: Vec<MachineRef>) -> Self {
        Self { state: TaskState::Pending, reason: None, question: None, machines }
    }
}

impl Assistant {
    /// Records what somebody wants. What makes no sense is recorded as failed, or as needing an
    /// answer, with its reason: whoever asks sees the same thing whichever way they ask.
    ///
    /// # Errors
    /// 422 for a key that is none or was used for something else; when nothing can be recorded.
    pub(super) async fn create(
        &self,
        principal: &Principal,
        mut request: TaskRequest,
        key: Option<String>,
    ) -> Result<Created, ApiError> {
        let key = key.map(|key| check_key(key, &request)).transpose()?;
        if let Some(created) = self.find_asked(principal, key.as_ref()).await? {
            return Ok(created);
        }
        self.0.operations.check_ready()?;
        let beginning = self.begin(principal, &request);
        if request.prompt.len() > MAX_PROMPT {
            request.prompt = request.prompt.chars().take(KEPT_OF_LONG).collect();
        }
        request.prompt = request.prompt.replace('\0', "");
        let now_us = self.0.clock.micros();
        let ended = beginning.state.is_terminal();
        let mut row = TaskRow {
            id: TaskId::new(),
            asker: asker(principal),
            request,
            machines: beginning.machines,
            seed: hex(&rand::random::<[u8; 32]>()),
            state: beginning.state,
            reason: beginning.reason,
            question: beginning.question,
            answers: Vec::new(),
            planner: None,
            plan_summary: None,
            summary: None,
            created_us: now_us,
            started_us: None,
            finished_us: ended.then_some(now_us),
            waiting_us: None,
            waited_us: 0,
            cancelled: None,
            last_event: 1,
        };
        let event = TaskEvent {
            task_id: row.id,
            sequence: 1,
            at: Time::from_micros(now_us),
            what: TaskEventKind::State { state: row.state, reason: row.reason.clone() },
        };
        let mut tx = self.0.db.begin().await?;
        if let Err(error) = store::insert_task(&mut tx, &row, key.as_ref()).await {
            drop(tx);
            // The same request came twice at once.
            let found = self.find_asked(principal, key.as_ref()).await?;
            return found.ok_or_else(|| error.into());
        }
        store::update_task(&mut tx, &row).await?;
        store::insert_event(&mut tx, &event).await?;
        audit::record(
            &mut tx,
            &audit::Entry {
                principal: &principal.name,
                action: "task.create",
                target: &format!("task:{}", row.id),
                detail: serde_json::json!({
                    "prompt": row.request.prompt, "selector": row.request.selector,
                    "user": row.request.user, "yes": row.request.yes,
                    "plan_only": row.request.plan_only, "machines": row.machines.len(),
                    "state": row.state,
                }),
            },
        )
        .await?;
        tx.commit().await?;
        row.last_event = event.sequence;
        self.0.hub.tell_task(crate::events::TaskNews {
            event: Arc::new(event),
            asker: row.asker.name.as_str().into(),
            machines: row.machines.iter().map(|machine| machine.id).collect(),
        });
        self.0.wake.notify_one();
        Ok(Created { task: self.describe(row.id).await?, existed: false })
    }

    /// The task that was asked for before with the same key.
    async fn find_asked(
        &self,
        principal: &Principal,
        key: Option<&(String, [u8; 32])>,
    ) -> Result<Option<Created>, ApiError> {
        let Some((key, hash)) = key else { return Ok(None) };
        let found = {
            let mut conn = self.0.db.reader().await?;
            store::find_by_key(&mut conn, &principal.name, key).await?
        };
        match found {
            Some((_, old)) if old != hash => Err(mismatch()),
            Some((id, _)) => Ok(Some(Created { task: self.describe(id).await?, existed: true })),
            None => Ok(None),
        }
    }

    fn begin(&self, principal: &Principal, request: &TaskRequest) -> Beginning {
        let words = request.prompt.trim();
        if words.is_empty() {
            return Beginning::failed(
                "prompt_empty",
                "there are no words in the request; say what you want, such as \"why is the disk full?\"",
            );
        }
        if request.prompt.len() > MAX_PROMPT {
            return Beginning::failed(
                "prompt_too_long",
                format!(
                    "the request has {} bytes and may have {MAX_PROMPT}; shorten it, and let commands read what is long",
                    request.prompt.len()
                ),
            );
        }
        if request.user.as_ref().is_some_and(|user| user.is_empty() || user.len() > 256) {
            return Beginning::failed("invalid_user", "the user name is empty or too long");
        }
        if request.budget.is_some_and(|budget| !budget.is_finite() || budget < 0.0) {
            return Beginning::failed(
                "invalid_budget",
                "the budget has to be an amount of 0 or more",
            );
        }
        if let Some(model) = &request.model
            && let Err(error) = self.0.models.check_model(model)
        {
            return Beginning::failed("model_unknown", error.full_detail());
        }
        let found = match &request.selector {
            Some(selector) => self.0.machines.resolve(principal, selector),
            None => return self.begin_by_words(principal, words),
        };
        match found {
            Ok(found) => self.with_machines(&found),
            Err(error) => Beginning::failed("no_machine", error.full_detail()),
        }
    }

    /// Without a selector the words name the machines, and nothing else may add one.
    fn begin_by_words(&self, principal: &Principal, words: &str) -> Beginning {
        match self.name_machines(principal, words) {
            Ok(found) => self.with_machines(&found),
            Err(Unnamed::NoMachines) => Beginning::failed(
                "no_machine",
                "no machine exists for you yet; 'reeve tokens create' lets one join",
            ),
            Err(Unnamed::Mistyped(names, nearest)) => {
                Beginning::failed("no_machine", mistyped(&names, &nearest))
            }
            Err(Unnamed::Several(some)) => Beginning {
                state: TaskState::NeedsAnswer,
                reason: Some(reason("no_machine", "the request names no machine")),
                question: Some(format!(
                    "On which machines? Name them or a label, such as {}; or ask with a selector.",
                    some.join(", ")
                )),
                machines: Vec::new(),
            },
        }
    }

    fn with_machines(&self, found: &[Arc<Known>]) -> Beginning {
        let most = self.0.settings.max_machines as usize;
        if found.len() > most {
            return Beginning::failed(
                "too_many_machines",
                format!(
                    "these are {} machines and a task may have {most} (assistant.max_machines); select fewer",
                    found.len()
                ),
            );
        }
        Beginning::pending(refer(found))
    }

    /// The machines that words name, by name or label, among those that exist for the caller; the
    /// only one when there is only one.
    pub(super) fn name_machines(
        &self,
        principal: &Principal,
        words: &str,
    ) -> Result<Vec<Arc<Known>>, Unnamed> {
        let visible = self.0.machines.registry().list(|known| {
            known.revoked_us.is_none()
                && principal.scope.matches(known.id, &known.name, &known.labels)
        });
        let shown: Vec<reeve_runbooks::Machine> = visible
            .iter()
            .map(|known| reeve_runbooks::Machine {
                name: known.name.clone(),
                labels: known.labels.clone(),
                ..reeve_runbooks::Machine::default()
            })
            .collect();
        let named = reeve_runbooks::machines_in(words, &shown);
        let found: Vec<Arc<Known>> =
            named.machines.iter().filter_map(|at| visible.get(*at).cloned()).collect();
        if !found.is_empty() {
            return Ok(found);
        }
        if !named.nearest.is_empty() {
            return Err(Unnamed::Mistyped(named.unknown, named.nearest));
        }
        match visible.as_slice() {
            [] => Err(Unnamed::NoMachines),
            [only] => Ok(vec![Arc::clone(only)]),
            several => Err(Unnamed::Several(
                several.iter().take(5).map(|known| known.name.clone()).collect(),
            )),
        }
    }
}

/// Why words name no machine.
pub(super) enum Unnamed {
    /// There is none.
    NoMachines,
    /// There are several, such as these.
    Several(Vec<String>),
    /// These names are near ones that exist.
    Mistyped(Vec<String>, Vec<String>),
}

/// A line for names that fit no machine.
pub(super) fn mistyped(names: &[String], nearest: &[String]) -> String {
    let mut text = format!("there is no machine '{}' for you", names.join("', '"));
    if !nearest.is_empty() {
        text.push_str(&format!("; did you mean {}?", nearest.join(" or ")));
    }
    text
}

pub(super) fn refer(found: &[Arc<Known>]) -> Vec<MachineRef> {
    found.iter().map(|known| MachineRef { id: known.id, name: known.name.clone() }).collect()
}

fn asker(principal: &Principal) -> Asker {
    Asker {
        name: principal.name.clone(),
        user: principal.user,
        key: match principal.via {
            Via::Key(_) => Some(principal.key),
            Via::Session => None,
        },
    }
}

fn check_key(key: String, request: &TaskRequest) -> Result<(String, [u8; 32]), ApiError> {
    if key.is_empty() || key.len() > MAX_KEY || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(ApiError::invalid(
            "an Idempotency-Key is 1 to 255 visible ASCII characters; a UUID will do",
        ));
    }
    let bytes = serde_json::to_vec(request).map_err(ApiError::internal)?;
    Ok((key, Sha256::digest(bytes).into()))
}

fn mismatch() -> ApiError {
    ApiError::new(
        http::StatusCode::UNPROCESSABLE_ENTITY,
        "idempotency_mismatch",
        "this Idempotency-Key was used for another request; use a new key",
    )
}
