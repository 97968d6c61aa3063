//! A coordinator with scripted agents: what tests of jobs and operations begin with.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use bytes::{Buf, BytesMut};
use reeve_protocol::{Gap, JobId, OperationId};
use reeve_sdk::api::follow::{FrameKind, HEADER_BYTES, Header};
use reeve_sdk::api::{EnrolmentTokenCreated, Job, JobState, Operation, OperationState, Page, Role};
use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};

use crate::clock::Clock;
use crate::config::Config;
use crate::db::testing::postgres_url;
use crate::db::{Db, Tx};
use crate::fleet::testing::{Agent, Identity, LIMIT};
use crate::testing::{TestCoordinator, good};

/// A coordinator and the token of its admin.
pub struct Site {
    pub server: TestCoordinator,
    pub admin: String,
}

/// Runs a test on SQLite, then on PostgreSQL.
pub async fn on_each_engine<F, Fut>(test: F)
where
    F: Fn(Site) -> Fut,
    Fut: Future<Output = ()>,
{
    on_each_engine_with(|_| {}, test).await;
}

/// As [`on_each_engine`], with some settings changed.
pub async fn on_each_engine_with<F, Fut>(change: impl Fn(&mut Config), test: F)
where
    F: Fn(Site) -> Fut,
    Fut: Future<Output = ()>,
{
    eprintln!("engine: sqlite");
    Box::pin(test(Site::start(&change).await)).await;
    eprintln!("engine: postgres");
    let url = postgres_url().await;
    let change = |config: &mut Config| {
        config.database.url.clone_from(&url);
        change(config);
    };
    Box::pin(test(Site::start(change).await)).await;
}

/// The coordinator's clock, which the test puts forward.
#[derive(Clone, Default)]
pub struct ShiftedTime(Arc<AtomicI64>);

impl ShiftedTime {
    /// So much later.
    pub fn go_on(&self, by: Duration) {
        let by = i64::try_from(by.as_micros()).expect("no ages");
        self.0.fetch_add(by, Ordering::Relaxed);
    }

    fn clock(&self) -> Clock {
        let (real, ahead) = (Clock::system(), Arc::clone(&self.0));
        Clock::from_fn(move || real.micros() + ahead.load(Ordering::Relaxed))
    }
}

/// As [`on_each_engine`], with a clock of the test's own.
pub async fn on_each_engine_at<F, Fut>(test: F)
where
    F: Fn(Site, ShiftedTime) -> Fut,
    Fut: Future<Output = ()>,
{
    for url in [None, Some(postgres_url().await)] {
        eprintln!("engine: {}", if url.is_none() { "sqlite" } else { "postgres" });
        let time = ShiftedTime::default();
        let change = |config: &mut Config| {
            if let Some(url) = url {
                config.database.url = url;
            }
        };
        let site = Site::start_at(time.clock(), change).await;
        Box::pin(test(site, time)).await;
    }
}

/// Looks again and again until there is something to see.
pub async fn eventually<T, Fut>(what: &str, look: impl Fn() -> Fut) -> T
where
    Fut: Future<Output = Option<T>>,
{
    let deadline = Instant::now() + LIMIT;
    loop {
        if let Some(seen) = look().await {
            return seen;
        }
        assert!(Instant::now() < deadline, "never happened: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A request for a shell command.
pub fn shell(selector: &str) -> Value {
    json!({ "selector": selector, "operation": { "execute_command": { "shell": "true" } } })
}

/// `base` with `more` put over it.
pub fn with(mut base: Value, more: Value) -> Value {
    if let (Some(base), Value::Object(more)) = (base.as_object_mut(), more) {
        base.extend(more);
    }
    base
}

impl Site {
    /// On SQLite.
    pub async fn start(change: impl FnOnce(&mut Config)) -> Self {
        Self::start_at(Clock::system(), change).await
    }

    async fn start_at(clock: Clock, change: impl FnOnce(&mut Config)) -> Self {
        let server = Box::pin(TestCoordinator::start_at(clock, |config| {
            config.limits.requests_per_minute = 1_000_000;
            change(config);
        }))
        .await;
        let admin = server.set_up().await;
        Self { server, admin }
    }

    /// Ends the coordinator and starts it again on the same data.
    pub async fn restart(self) -> Self {
        Self { server: Box::pin(self.server.restart()).await, admin: self.admin }
    }

    /// A machine that has joined and is not here.
    pub async fn join(&self, name: &str) -> Identity {
        self.join_as(name, &[]).await
    }

    /// Likewise, with labels.
    pub async fn join_as(&self, name: &str, labels: &[(&str, &str)]) -> Identity {
        let labels: BTreeMap<_, _> = labels.iter().copied().collect();
        let token: EnrolmentTokenCreated = self
            .server
            .post(&self.admin, "/api/enrolment-tokens", &json!({ "name": name, "labels": labels }))
            .await;
        Identity::join(&self.server, &token.token).await
    }

    /// A machine that is here and holds nothing.
    pub async fn online(&self, name: &str) -> Agent {
        self.arrive(&self.join(name).await).await
    }

    /// A machine's agent connects and holds nothing.
    pub async fn arrive(&self, identity: &Identity) -> Agent {
        let mut agent = Agent::connect(&self.server, identity).await;
        agent.report(vec![]).await;
        agent.settle().await;
        agent
    }

    /// Waits until the coordinator knows that a machine is gone.
    pub async fn wait_until_gone(&self, identity: &Identity) {
        let fleet = &self.server.running.state.fleet;
        eventually("the session's end", || async {
            (!fleet.is_online(identity.machine)).then_some(())
        })
        .await;
    }

    pub async fn get<T: serde::de::DeserializeOwned>(&self, path: &str) -> T {
        self.server.get(&self.admin, path).await
    }

    /// Asks for a job.
    pub async fn submit(&self, request: &Value) -> Job {
        self.server.post(&self.admin, "/api/jobs", request).await
    }

    /// Asks for a shell command on one machine; the operation's id.
    pub async fn run(&self, selector: &str) -> OperationId {
        self.submit(&shell(selector)).await.single.expect("one machine").id
    }

    pub async fn job(&self, id: JobId) -> Job {
        self.get(&format!("/api/jobs/{id}")).await
    }

    pub async fn operation(&self, id: OperationId) -> Operation {
        self.get(&format!("/api/operations/{id}")).await
    }

    /// Operations of a job, in order.
    pub async fn operations(&self, id: JobId) -> Vec<Operation> {
        self.get::<Page<Operation>>(&format!("/api/jobs/{id}/operations?limit=1000")).await.items
    }

    /// Waits for a state, which must come.
    pub async fn wait_operation(&self, id: OperationId, state: OperationState) -> Operation {
        eventually(&format!("operation {}", state.as_str()), || async {
            let operation = self.operation(id).await;
            let wrong = operation.state.is_terminal() && operation.state != state;
            assert!(!wrong, "wanted {}: {operation:?}", state.as_str());
            (operation.state == state).then_some(operation)
        })
        .await
    }

    /// Waits for a state of a job.
    pub async fn wait_job(&self, id: JobId, state: JobState) -> Job {
        eventually(&format!("job {state:?}"), || async {
            let job = self.job(id).await;
            (job.state == state).then_some(job)
        })
        .await
    }

    /// Cancels a job or an operation (`jobs/ID` or `operations/ID`).
    pub async fn cancel(&self, what: &str) -> Value {
        let path = format!("/api/{what}/cancel");
        self.server.post(&self.admin, &path, &json!({ "reason": "enough" })).await
    }

    /// What is stored of an operation's output.
    pub async fn output(&self, id: OperationId, query: &str) -> Vec<u8> {
        let path = format!("/api/operations/{id}/output?{query}");
        let request = self.server.request_as(&self.admin, Method::GET, &path);
        let answer = request.send().await.expect("an answer");
        assert_eq!(answer.status(), StatusCode::OK);
        answer.bytes().await.expect("a whole body").to_vec()
    }

    /// Somebody who may see some machines only.
    pub async fn add_user(&self, name: &str, role: Role, scope: &str) -> String {
        self.server.add_user(&self.admin, name, role, scope).await
    }

    /// Follows a job.
    pub async fn follow(&self, token: &str, job: JobId, request: &Value) -> Viewer {
        let path = format!("/api/jobs/{job}/follow");
        let request = self.server.request_as(token, Method::POST, &path).json(request);
        Viewer::of(request.send().await.expect("an answer"))
    }

    /// Keeps everybody else from writing to the database until it is dropped.
    pub async fn hold_database(&self) -> Tx {
        let db = Db::connect(&self.server.running.state.config.database.url).await.expect("open");
        let mut tx = db.begin().await.expect("the write lock");
        if db.kind() == "postgres" {
            sqlx::query("lock table jobs, operations, machines, audit_head in exclusive mode")
                .execute(&mut *tx)
                .await
                .expect("the locks");
        }
        tx
    }
}

/// A follow stream, frame by frame.
pub struct Viewer {
    response: Response,
    arrived: BytesMut,
}

impl Viewer {
    pub fn of(response: Response) -> Self {
        assert!(response.status().is_success(), "{}", response.status());
        Self { response, arrived: BytesMut::new() }
    }

    /// The next frame but for signs of life; nothing when the stream has ended or broken.
    pub async fn next(&mut self) -> Option<(Header, Vec<u8>)> {
        loop {
            let header = self.arrived.get(..HEADER_BYTES).map(|bytes| {
                Header::parse(bytes.try_into().expect("a header")).expect("a good header")
            });
            if let Some(header) = header
                && self.arrived.len() >= HEADER_BYTES + header.length as usize
            {
                self.arrived.advance(HEADER_BYTES);
                let payload = self.arrived.split_to(header.length as usize);
                if header.kind != FrameKind::KeepAlive {
                    return Some((header, payload.to_vec()));
                }
                continue;
            }
            let chunk = tokio::time::timeout(LIMIT, self.response.chunk()).await;
            self.arrived.extend_from_slice(&chunk.expect("a frame in time").ok()??);
        }
    }

    /// The next frame of a kind; others before it are passed over.
    pub async fn wait_for(&mut self, kind: FrameKind) -> (Header, Vec<u8>) {
        loop {
            let frame = self.next().await.unwrap_or_else(|| panic!("ended before {kind:?}"));
            if frame.0.kind == kind {
                return frame;
            }
        }
    }

    /// Everything to the end, which has to come.
    pub async fn all(&mut self) -> Vec<(Header, Vec<u8>)> {
        let mut frames = Vec::new();
        loop {
            let frame = self.next().await.expect("an end frame");
            let ended = frame.0.kind == FrameKind::End;
            frames.push(frame);
            if ended {
                assert!(self.next().await.is_none(), "something behind the end");
                return frames;
            }
        }
    }
}

/// The bytes of output frames, whatever their stream, each at its offset.
pub fn output_of(frames: &[(Header, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut next = BTreeMap::new();
    for (header, payload) in frames {
        let reached = match header.kind {
            FrameKind::Output(_) => {
                let hole = next.get(&header.operation).is_some_and(|next| *next != header.all);
                assert!(!hole, "a hole before {header:?}");
                bytes.extend_from_slice(payload);
                header.all + payload.len() as u64
            }
            FrameKind::Gap => serde_json::from_slice::<Gap>(payload).expect("a gap").to,
            _ => continue,
        };
        next.insert(header.operation, reached);
    }
    bytes
}

/// Server-sent events.
pub struct Events {
    response: Response,
    arrived: String,
}

/// One of them.
#[derive(Debug)]
pub struct SeenEvent {
    pub name: String,
    pub id: Option<String>,
    pub data: Value,
}

impl Events {
    pub async fn open(site: &Site, token: &str, path: &str, last: Option<&str>) -> Self {
        let mut request = site.server.request_as(token, Method::GET, path);
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        let response = request.send().await.expect("an answer");
        assert_eq!(response.status(), StatusCode::OK);
        Self { response, arrived: String::new() }
    }

    /// The next event; nothing at the end.
    pub async fn next(&mut self) -> Option<SeenEvent> {
        loop {
            if let Some(end) = self.arrived.find("\n\n") {
                let text: String = self.arrived.drain(..end + 2).collect();
                let field = |name: &str| {
                    text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim)
                };
                let Some(name) = field("event:") else { continue };
                return Some(SeenEvent {
                    name: name.to_owned(),
                    id: field("id:").map(str::to_owned),
                    data: serde_json::from_str(field("data:").expect("data")).expect("JSON"),
                });
            }
            let chunk = tokio::time::timeout(LIMIT, self.response.chunk()).await;
            let chunk = chunk.expect("an event in time").ok()??;
            self.arrived.push_str(std::str::from_utf8(&chunk).expect("text"));
        }
    }

    /// Every event to the end.
    pub async fn all(&mut self) -> Vec<SeenEvent> {
        let mut events = Vec::new();
        while let Some(event) = self.next().await {
            events.push(event);
        }
        events
    }
}

/// The body of a request that must be answered well.
pub async fn sent<T: serde::de::DeserializeOwned>(request: reqwest::RequestBuilder) -> T {
    good(request.send().await.expect("an answer")).await
}
