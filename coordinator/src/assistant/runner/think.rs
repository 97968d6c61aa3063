//! Asking a model: what was answered before is taken from the record, what is asked now is recorded
//! with all it was made from.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use reeve_models::{
    Allowance, AskError, CallRecord, ErrorCode, Event, Message, ModelError, Prompt, Schema,
    Speaker, Urgency,
};
use reeve_sdk::api::{ModelRole, TaskEventKind};
use reeve_stages::{Nonce, Window};
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;

use super::super::store::{self, Call};
use super::{Runner, Stop};
use crate::models::Caller;

/// The whole time for one question, tries and other models included.
const DEADLINE: Duration = Duration::from_secs(180);

/// Randomness of answers, where a model takes it.
const TEMPERATURE: f64 = 0.1;

/// Pieces of a plan on their way to whoever watches; more are left out.
const DELTAS: usize = 256;

/// A stage's question.
pub(super) struct Question {
    /// Which call of the task: an answer to it is never asked for again.
    pub name: String,
    pub ask: reeve_stages::Ask,
    /// The stage's input: with it and the nonce the question can be made again.
    pub input: serde_json::Value,
    pub nonce: Nonce,
}

/// What came of a question.
pub(super) enum Thought<T> {
    /// This, by that `provider/model`.
    Said(T, String),
    /// No model is to answer; why those that were asked did not.
    Builtin(Option<String>),
    /// No model could.
    Failed { code: &'static str, message: String },
}

/// What models may still cost: for one task, and for its asker today.
pub(super) struct Budget {
    taken: Mutex<Taken>,
    hard: f64,
}

/// In the currency of the prices, calls under way included.
struct Taken {
    by_task: f64,
    day_left: f64,
}

impl Budget {
    pub(super) fn new(spent: f64, hard: f64) -> Self {
        let taken = Taken { by_task: spent, day_left: f64::INFINITY };
        Self { taken: Mutex::new(taken), hard }
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Allowance for Budget {
    fn reserve(&self, model: &str, most: f64) -> Result<(), ModelError> {
        let mut taken = self.taken();
        let reached = |whose: &str, left: f64| {
            let text = format!(
                "a call to {model} may cost {most:.4}, and of {whose} {:.4} is left",
                left.max(0.0)
            );
            Err(ModelError::new(ErrorCode::BudgetReached, text))
        };
        if taken.by_task + most > self.hard {
            let whose = format!("the task's budget of {:.2} (assistant.budget_hard)", self.hard);
            return reached(&whose, self.hard - taken.by_task);
        }
        if most > taken.day_left {
            return reached("today's budget of the asker (models.user_day_budget)", taken.day_left);
        }
        taken.by_task += most;
        taken.day_left -= most;
        Ok(())
    }

    fn settle(&self, _model: &str, most: f64, spent: f64) {
        let mut taken = self.taken();
        taken.by_task += spent - most;
        taken.day_left += most - spent;
    }
}

/// What an asked model came to.
enum Asked {
    Text { text: String, by: String },
    Builtin(Option<String>),
    Failed { code: &'static str, message: String },
}

impl Runner {
    /// The markers of a call: random for whoever does not know the task's seed, the same each time
    /// the call is made again from the record.
    pub(super) async fn nonce(&self, name: &str) -> Nonce {
        let seed = self.ledger.read(|record| record.task.seed.clone()).await;
        let digest =
            Sha256::new().chain_update(seed).chain_update([0]).chain_update(name).finalize();
        let mut random = [0; 16];
        random.copy_from_slice(digest.get(..16).unwrap_or(&[0; 16]));
        Nonce::new(random)
    }

    /// What a role's models can read; `None` when no model has the role.
    pub(super) fn window(&self, role: ModelRole) -> Option<Window> {
        self.assistant.0.models.window(role).map(Window)
    }

    /// Asks, and once more when the answer cannot be read.
    pub(super) async fn think<T>(
        &self,
        question: Question,
        only: Option<&str>,
        read: impl Fn(&str, &str) -> Result<T, String>,
    ) -> Result<Thought<T>, Stop> {
        let Question { name, mut ask, input, nonce } = question;
        let mut complaint = String::new();
        for attempt in 1..=2_u32 {
            let name = format!("{name}-{attempt}");
            let asked = match self.find_answer(&name).await? {
                Some(call) => Asked::Text {
                    text: call.response.unwrap_or_default(),
                    by: format!("{}/{}", call.provider, call.model),
                },
                None => self.ask(&name, &ask, &input, &nonce, only).await?,
            };
            let (text, by) = match asked {
                Asked::Text { text, by } => (text, by),
                Asked::Builtin(why) => return Ok(Thought::Builtin(why)),
                Asked::Failed { code, message } => return Ok(Thought::Failed { code, message }),
            };
            match read(&text, &by) {
                Ok(said) => return Ok(Thought::Said(said, by)),
                Err(why) => {
                    complaint = format!("{by} answered what cannot be used: {why}");
                    ask = ask.again(&text, &why);
                }
            }
        }
        Ok(Thought::Failed { code: "model_schema", message: complaint })
    }

    async fn find_answer(&self, name: &str) -> Result<Option<Call>, Stop> {
        loop {
            let found = async {
                let mut conn = self.assistant.0.db.reader().await?;
                store::find_call(&mut conn, self.id, name).await
            };
            match found.await {
                Ok(found) => return Ok(found),
                Err(error) => self.wait_out(&error.into()).await?,
            }
        }
    }

    async fn ask(
        &self,
        name: &str,
        ask: &reeve_stages::Ask,
        input: &serde_json::Value,
        nonce: &Nonce,
        only: Option<&str>,
    ) -> Result<Asked, Stop> {
        let user = self.principal(&[]).await?.user_name;
        self.ask_day_budget(&user).await?;
        let prompt = prompt(ask);
        let (sender, receiver) = mpsc::channel(DELTAS);
        let shows = ask.stage == reeve_stages::Stage::Plan;
        let asking = async {
            // Dropped behind the answer, which ends the showing.
            let sender = sender;
            let mut events = |event: Event| {
                if shows {
                    // A viewer who misses a piece sees the plan when it is there.
                    let _ = sender.try_send(event);
                }
            };
            let question = reeve_models::Ask {
                role: ask.role,
                only,
                prompt: &prompt,
                urgency: Urgency::Interactive,
                deadline: DEADLINE,
                allowance: &self.budget,
            };
            self.assistant.0.models.models().ask(question, &mut events).await
        };
        let answered = tokio::select! {
            () = self.token().cancelled() => return Err(Stop::Halted),
            (answered, ()) = async { tokio::join!(asking, self.show(receiver)) } => answered,
        };
        let request = serde_json::json!({
            "input": input, "nonce": nonce, "system": ask.system, "messages": ask.messages,
            "schema_name": ask.schema_name,
        });
        let (calls, response, asked) = match answered {
            Ok(answer) => {
                let by = format!("{}/{}", answer.provider, answer.model);
                (answer.calls, Some(answer.text.clone()), Asked::Text { text: answer.text, by })
            }
            Err(AskError::Builtin { calls, tried }) => {
                let why = tried.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
                (calls, None, Asked::Builtin((!why.is_empty()).then_some(why)))
            }
            Err(AskError::Failed { code, message, calls, text, .. }) => {
                let by = calls
                    .last()
                    .map_or_else(String::new, |c| format!("{}/{}", c.provider, c.model));
                match text.filter(|_| matches!(code, ErrorCode::Schema | ErrorCode::Truncated)) {
                    // It can be told what was wrong with it.
                    Some(text) => (calls, Some(text.clone()), Asked::Text { text, by }),
                    None => (calls, None, Asked::Failed { code: code.as_str(), message }),
                }
            }
        };
        self.record_calls(name, ask, &request, &calls, response, &user).await?;
        Ok(asked)
    }

    /// Tells pieces of a plan as they come.
    async fn show(&self, mut events: mpsc::Receiver<Event>) {
        let mut deltas = reeve_stages::plan::Deltas::default();
        while let Some(event) = events.recv().await {
            let text = match event {
                Event::Text(piece) => deltas.push(&piece),
                Event::Restarted { model, .. } => {
                    deltas = reeve_stages::plan::Deltas::default();
                    format!("\n({model} is asked now)\n")
                }
                _ => continue,
            };
            if !text.is_empty() {
                self.ledger.tell_now(TaskEventKind::PlanDelta { text }).await;
            }
        }
    }

    async fn record_calls(
        &self,
        name: &str,
        ask: &reeve_stages::Ask,
        request: &serde_json::Value,
        calls: &[CallRecord],
        response: Option<String>,
        user: &str,
    ) -> Result<(), Stop> {
        let soft = self.assistant.0.settings.budget_soft;
        let last = calls.len().saturating_sub(1);
        self.ledger
            .change(|draft| {
                let before = draft.record().usage.cost;
                for (at, call) in calls.iter().enumerate() {
                    draft.add_call(Call {
                        id: uuid::Uuid::now_v7(),
                        name: name.to_owned(),
                        stage: ask.stage.as_str().to_owned(),
                        role: ask.role.as_str().to_owned(),
                        at_us: call.started_us,
                        prompt_sha256: call.prompt_sha256.clone(),
                        request: request.clone(),
                        response: response.clone().filter(|_| at == last),
                        provider: call.provider.clone(),
                        model: call.model.clone(),
                        outcome: call.outcome.clone(),
                        input_tokens: call.usage.input,
                        cached_tokens: call.usage.cached,
                        output_tokens: call.usage.output,
                        cost: call.cost,
                        latency_ms: call.latency_ms,
                    });
                }
                let after = draft.record().usage.cost;
                if before < soft && after >= soft {
                    draft.note("budget_soft", format!("models have cost {after:.2} for this task"));
                }
            })
            .await?;
        let caller =
            Caller { user, task: Some(self.id), stage: ask.stage.as_str(), role: ask.role };
        if let Err(error) = self.assistant.0.models.record(caller, calls).await {
            tracing::warn!(task = %self.id, %error, "what models used was not counted");
        }
        Ok(())
    }

    /// What the asker may still spend today.
    async fn ask_day_budget(&self, user: &str) -> Result<(), Stop> {
        loop {
            match self.assistant.0.models.day_budget(user).await {
                Ok(budget) => {
                    self.budget.taken().day_left = budget.limit - budget.spent;
                    return Ok(());
                }
                Err(error) => self.wait_out(&error.into()).await?,
            }
        }
    }

    /// Notes that rules do what a model was to do.
    pub(super) async fn note_fallback(
        &self,
        stage: &str,
        code: &str,
        message: &str,
    ) -> Result<(), Stop> {
        self.ledger
            .change(|draft| {
                draft.note(code, format!("{stage}: rules instead of a model: {message}"))
            })
            .await?;
        Ok(())
    }
}

fn prompt(ask: &reeve_stages::Ask) -> Prompt {
    Prompt {
        system: ask.system.clone(),
        messages: ask
            .messages
            .iter()
            .map(|(speaker, text)| Message {
                speaker: match speaker {
                    reeve_stages::Speaker::User => Speaker::User,
                    reeve_stages::Speaker::Assistant => Speaker::Assistant,
                },
                text: text.clone(),
            })
            .collect(),
        schema: Some(Schema { name: ask.schema_name.clone(), json: ask.schema.clone() }),
        max_output_tokens: None,
        temperature: Some(TEMPERATURE),
    }
}
