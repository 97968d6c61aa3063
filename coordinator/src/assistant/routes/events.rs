//! What happens to a task, as server-sent events (HTML standard, section 9.2).
//!
//! An event's id is its sequence number; with `Last-Event-ID` those behind it are sent first, so
//! nothing is missed and nothing comes twice. Pieces of a plan being written (`plan_delta`) have no
//! id and are not kept.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::Stream;
use http::HeaderMap;
use reeve_protocol::TaskId;
use reeve_sdk::api::{Problem, TaskEvent, TaskEventKind, TaskState};
use tokio::sync::{broadcast, mpsc};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::super::record::TaskRow;
use super::super::{Assistant, store};
use super::task_id;
use crate::AppState;
use crate::db::DbError;
use crate::events::TaskNews;
use crate::http::{ApiError, Path};
use crate::users::Principal;

/// Events waiting for a viewer.
const QUEUE: usize = 64;

/// Events read from the database at once.
const PAGE: i64 = 200;

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(task_events))
}

/// Events of a task
///
/// `id` is the event's sequence number, `event` its kind, `data` the event (`TaskEvent`). When the
/// task has ended or waits for an answer, and everything was sent, an event `end` closes the stream.
#[utoipa::path(get, path = "/api/tasks/{id}/events", tag = "tasks",
    params(("id" = String, Path, description = "The task's id"),
        ("Last-Event-ID" = Option<u64>, Header, description = "The last event seen")),
    responses((status = 200, body = TaskEvent, content_type = "text/event-stream"),
        (status = 404, body = Problem)))]
async fn task_events(
    State(state): State<AppState>,
    principal: Principal,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, ApiError> {
    let id = task_id(&id)?;
    // Before anything is read, so that no event falls in between.
    let news = state.events.watch_tasks();
    state.assistant.find(&principal, id).await?;
    let seen = headers
        .get("last-event-id")
        .and_then(|id| id.to_str().ok())
        .and_then(|id| id.parse().ok())
        .unwrap_or(0);
    let (sender, receiver) = mpsc::channel(QUEUE);
    let watcher = Watcher { assistant: state.assistant.clone(), id, seen, sender };
    let users = state.users.clone();
    state.tasks.spawn("task events", async move {
        tokio::select! {
            _ = watcher.run(news) => {}
            // Whoever loses the right to see must not go on seeing.
            () = users.ended(&principal) => {}
        }
    });
    let stream = futures_util::stream::unfold(receiver, |mut receiver| async move {
        receiver.recv().await.map(|event| (Ok(event), receiver))
    });
    Ok(Sse::new(stream).keep_alive(KeepAlive::new().interval(Duration::from_secs(15))))
}

struct Watcher {
    assistant: Assistant,
    id: TaskId,
    /// The last event sent.
    seen: u64,
    sender: mpsc::Sender<Event>,
}

/// The viewer is gone, or nothing can be read for it.
struct Over;

impl Watcher {
    async fn run(mut self, mut news: broadcast::Receiver<TaskNews>) -> Result<(), Over> {
        let stop = self.assistant.0.operations.draining();
        loop {
            // What is recorded, which is also what was missed by being too slow.
            if self.catch_up().await? {
                return Ok(());
            }
            loop {
                let heard = tokio::select! {
                    heard = news.recv() => heard,
                    () = self.sender.closed() => return Err(Over),
                    () = stop.cancelled() => return Err(Over),
                };
                match heard {
                    Ok(heard) if heard.event.task_id != self.id => {}
                    Ok(heard) if heard.event.sequence == 0 => self.send(&heard.event).await?,
                    Ok(heard) if heard.event.sequence <= self.seen => {}
                    Ok(heard) if heard.event.sequence == self.seen + 1 => {
                        self.seen += 1;
                        self.send(&heard.event).await?;
                        if is_end(&heard.event) {
                            break;
                        }
                    }
                    Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => break,
                    Err(broadcast::error::RecvError::Closed) => return Err(Over),
                }
            }
        }
    }

    /// Sends what is recorded behind the last event sent. Whether nothing follows.
    async fn catch_up(&mut self) -> Result<bool, Over> {
        loop {
            let (task, events) = self.read().await.map_err(|_| Over)?.ok_or(Over)?;
            if events.is_empty() {
                let over = task.state.is_terminal() || task.state == TaskState::NeedsAnswer;
                if over && self.seen >= task.last_event {
                    // What ends without it was broken off.
                    let end = Event::default().event("end").data("{}");
                    self.sender.send(end).await.map_err(|_| Over)?;
                    return Ok(true);
                }
                return Ok(false);
            }
            for event in events {
                self.seen = event.sequence;
                self.send(&event).await?;
            }
        }
    }

    /// The connection is given back before anything is sent: a slow viewer must not hold one.
    async fn read(&self) -> Result<Option<(TaskRow, Vec<TaskEvent>)>, DbError> {
        let mut conn = self.assistant.0.db.reader().await?;
        // The task first: what happens behind it is among the events, or is heard of.
        let Some(task) = store::load_task(&mut conn, self.id).await? else { return Ok(None) };
        let events = store::list_events(&mut conn, self.id, self.seen, PAGE).await?;
        Ok(Some((task, events)))
    }

    async fn send(&self, event: &TaskEvent) -> Result<(), Over> {
        let json = serde_json::to_value(event).map_err(|_| Over)?;
        let kind = json.get("kind").and_then(serde_json::Value::as_str).unwrap_or("note");
        let mut sent = Event::default().event(kind).data(json.to_string());
        if event.sequence > 0 {
            sent = sent.id(event.sequence.to_string());
        }
        self.sender.send(sent).await.map_err(|_| Over)
    }
}

fn is_end(event: &TaskEvent) -> bool {
    matches!(&event.what, TaskEventKind::State { state, .. }
        if state.is_terminal() || *state == TaskState::NeedsAnswer)
}
