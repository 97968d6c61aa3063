//! One operation on one WebSocket.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use http::StatusCode;
use reeve_protocol::{Control, Credit, OperationId, Outcome, Stream};
use reeve_sdk::api::channel::{self, close};
use reeve_sdk::api::{Job, JobRequest, Operation, OperationState, Role, Ticket};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

use super::super::submit::{Asking, Submitted};
use super::super::testing::{Site, on_each_engine, shell, with};
use crate::fleet::testing::{Agent, LIMIT};

/// A client's end.
struct Wire(WebSocketStream<TlsStream<TcpStream>>);

/// What came.
#[derive(Debug, PartialEq, Eq)]
enum Heard {
    Output(u8, u64, Vec<u8>),
    State(OperationState),
    Received(u64, bool),
    Gap(u64, u64),
    Closed(u16),
}

impl Wire {
    async fn try_open(
        site: &Site,
        token: &str,
        id: OperationId,
        query: &str,
    ) -> Result<Self, StatusCode> {
        let ticket: Ticket = site.server.post(token, "/api/auth/ticket", &json!({})).await;
        let path = format!("/ws/operations/{id}?ticket={}{query}", ticket.ticket);
        Agent::try_websocket(&site.server, &path, None).await.map(Self)
    }

    async fn open(site: &Site, id: OperationId, query: &str) -> Self {
        Self::try_open(site, &site.admin, id, query).await.expect("a channel")
    }

    async fn say(&mut self, bytes: &[u8]) {
        self.0.send(Message::binary(bytes.to_vec())).await.expect("sent");
    }

    async fn next(&mut self) -> Heard {
        loop {
            let message = tokio::time::timeout(LIMIT, self.0.next()).await.expect("in time");
            let bytes = match message.expect("a message").expect("no error") {
                Message::Binary(bytes) => bytes,
                Message::Close(frame) => return Heard::Closed(frame.expect("a code").code.into()),
                _ => continue,
            };
            let offset = u64::from_be_bytes(bytes[1..9].try_into().expect("an offset"));
            let rest = &bytes[9..];
            return match bytes[0] {
                channel::STATE => {
                    let operation: Operation = serde_json::from_slice(rest).expect("an operation");
                    Heard::State(operation.state)
                }
                channel::RECEIVED => Heard::Received(offset, rest == [1]),
                channel::GAP => {
                    Heard::Gap(offset, u64::from_be_bytes(rest.try_into().expect("an offset")))
                }
                kind => Heard::Output(kind, offset, rest.to_vec()),
            };
        }
    }

    /// Everything from the next output on.
    async fn output_to_end(&mut self) -> (Vec<u8>, Vec<Heard>) {
        let (mut bytes, mut rest) = (Vec::new(), Vec::new());
        loop {
            match self.next().await {
                Heard::Output(_, _, more) => bytes.extend_from_slice(&more),
                Heard::Closed(code) => {
                    rest.push(Heard::Closed(code));
                    return (bytes, rest);
                }
                other => rest.push(other),
            }
        }
    }
}

fn interactive() -> Value {
    with(
        shell("web-1"),
        json!({ "operation": { "execute_command": { "shell": "cat", "stdin": true } } }),
    )
}

#[tokio::test]
async fn channel_carries_output_stdin_size_and_end() {
    on_each_engine(|site| async move {
        let mut agent = site.online("web-1").await;
        let job = site.submit(&interactive()).await;
        let id = job.single.expect("one machine").id;
        let mut wire = Wire::open(&site, id, "&mode=write").await;
        assert!(matches!(wire.next().await, Heard::State(_)));
        let mut script = agent.start().await;
        // Whatever is said of its stdin comes when its machine has it.
        wire.say(b"\x01\0\0\0\0\0\0\0\0hello").await;
        let input = agent.control(id).await;
        assert_eq!(input, Control::Input { offset: 0, bytes: b"hello".to_vec() });
        agent.say_about(id, &Credit::Stdin { received: 5, until: 1 << 20, closed: false }).await;
        loop {
            match wire.next().await {
                Heard::Received(5, false) => break,
                Heard::State(_) | Heard::Received(0, false) => {}
                other => panic!("{other:?}"),
            }
        }
        wire.say(b"\x02\0\x50\0\x18").await;
        assert_eq!(agent.control(id).await, Control::Resize { columns: 80, rows: 24 });
        agent.write(&mut script, Stream::Stdout, b"hello").await;
        agent.write(&mut script, Stream::Stderr, b"!").await;
        loop {
            match wire.next().await {
                Heard::Output(channel::STDOUT, 0, bytes) => break assert_eq!(bytes, b"hello"),
                Heard::State(OperationState::Running) => {}
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(wire.next().await, Heard::Output(channel::STDERR, 5, b"!".to_vec()));
        wire.say(b"\x03\0\0\0\0\0\0\0\x05").await;
        assert_eq!(agent.control(id).await, Control::CloseInput { offset: 5 });
        let gap = agent.drop_output(&mut script, 4, 0).await;
        agent.write(&mut script, Stream::Stdout, b"end").await;
        agent.finish(&script, Outcome::Exited { code: 0 }).await;
        // The state comes behind the last byte, the end behind that.
        let mut heard = Vec::new();
        while !matches!(heard.last(), Some(Heard::Closed(_))) {
            heard.push(wire.next().await);
        }
        // That stdin is over may be heard anywhere before the end.
        heard.retain(|each| !matches!(each, Heard::Received(..)));
        let [.., a, b, c, d] = &heard[..] else { panic!("{heard:?}") };
        assert_eq!(*a, Heard::Gap(gap.from, gap.to), "{heard:?}");
        assert_eq!(*b, Heard::Output(channel::STDOUT, gap.to, b"end".to_vec()), "{heard:?}");
        assert_eq!(*c, Heard::State(OperationState::Succeeded));
        assert_eq!(*d, Heard::Closed(close::ENDED));

        // Again from the middle, and from near the end.
        let (bytes, _) = Wire::open(&site, id, "&from=3").await.output_to_end().await;
        assert_eq!(bytes, b"lo!end");
        let (bytes, _) = Wire::open(&site, id, "&from=tail:2").await.output_to_end().await;
        assert_eq!(bytes, b"nd");
    })
    .await;
}

#[tokio::test]
async fn channel_is_for_those_who_may() {
    on_each_engine(|site| async move {
        let mut agent = site.online("web-1").await;
        let job = site.submit(&interactive()).await;
        let id = job.single.expect("one machine").id;
        let script = agent.start().await;
        let viewer = site.add_user("looks", Role::Viewer, "@all").await;
        let refused = Wire::try_open(&site, &viewer, id, "&mode=write").await.err();
        assert_eq!(refused, Some(StatusCode::FORBIDDEN));
        let elsewhere = site.add_user("elsewhere", Role::Operator, "db-*").await;
        let refused = Wire::try_open(&site, &elsewhere, id, "").await.err();
        assert_eq!(refused, Some(StatusCode::NOT_FOUND));
        for path in [format!("/ws/operations/{id}"), format!("/ws/operations/{id}?ticket=x")] {
            let refused = Agent::try_websocket(&site.server, &path, None).await.err();
            assert!(refused.is_some_and(|status| status.is_client_error()), "{refused:?}");
        }
        let refused = Wire::try_open(&site, &site.admin, id, "&from=tail").await.err();
        assert_eq!(refused, Some(StatusCode::BAD_REQUEST));

        // Whoever looks cannot write, whatever the role.
        for token in [&viewer, &site.admin] {
            let mut wire = Wire::try_open(&site, token, id, "&mode=read").await.expect("a channel");
            wire.say(b"\x01\0\0\0\0\0\0\0\0rm").await;
            assert_eq!(wire.output_to_end().await.1.pop(), Some(Heard::Closed(close::DENIED)));
        }
        let mut wire = Wire::open(&site, id, "&mode=write").await;
        wire.say(b"\x09").await;
        assert_eq!(wire.output_to_end().await.1.pop(), Some(Heard::Closed(close::MALFORMED)));
        agent.settle().await;
        assert_eq!(agent.kept(&reeve_protocol::Kind::Control), 0);
        agent.finish(&script, Outcome::Exited { code: 0 }).await;
        let audit: Value = site.get("/api/audit").await;
        let attached = audit["items"].as_array().expect("entries").iter();
        assert_eq!(attached.filter(|entry| entry["action"] == "operation.attach").count(), 1);
    })
    .await;
}

#[tokio::test]
async fn relayed_operation_has_one_channel_and_ends_with_it() {
    on_each_engine(|site| async move {
        let mut agent = site.online("web-1").await;
        let relayed = with(interactive(), json!({ "relay": true }));
        let job: Job = site.submit(&relayed).await;
        let id = job.single.expect("one machine").id;
        let mut script = agent.start().await;
        agent.write(&mut script, Stream::Stdout, b"early").await;
        let other = site.add_user("other", Role::Operator, "@all").await;
        let refused = Wire::try_open(&site, &other, id, "").await.err();
        assert_eq!(refused, Some(StatusCode::CONFLICT));
        let mut wire = Wire::open(&site, id, "&mode=write").await;
        let refused = Wire::try_open(&site, &site.admin, id, "").await.err();
        assert_eq!(refused, Some(StatusCode::CONFLICT));
        while wire.next().await != Heard::Output(channel::STDOUT, 0, b"early".to_vec()) {}
        wire.say(b"\x01\0\0\0\0\0\0\0\0ping").await;
        assert!(matches!(agent.control(id).await, Control::Input { .. }));
        drop(wire);
        let Control::Cancel { reason } = agent.control(id).await else { panic!("no cancel") };
        assert!(reason.contains("its reader is gone"), "{reason}");
        agent.finish(&script, Outcome::Cancelled { exit_code: None, signal: Some(15) }).await;
        assert_eq!(site.operation(id).await.state, OperationState::Cancelled);
    })
    .await;
}

#[tokio::test]
async fn relayed_operation_that_nobody_comes_for_is_cancelled() {
    on_each_engine(|site| async move {
        let mut agent = site.online("web-1").await;
        let state = &site.server.running.state;
        let principal = state.users.authenticate(&site.admin).await.expect("the admin");
        let relayed = with(shell("web-1"), json!({ "relay": true }));
        let request: JobRequest = serde_json::from_value(relayed).expect("a request");
        let submitted =
            state.operations.submit(&principal, request, Asking::default()).await.expect("a job");
        let Submitted::Relayed(job, reader) = submitted else { panic!("not relayed") };
        let within = Duration::from_millis(20);
        state.operations.leave_for_channel(&job, reader, within).expect("room");
        let script = agent.start().await;
        let Control::Cancel { reason } = agent.control(script.id).await else {
            panic!("no cancel")
        };
        assert!(reason.contains("nobody came"), "{reason}");
        let refused = Wire::try_open(&site, &site.admin, script.id, "").await.err();
        assert_eq!(refused, Some(StatusCode::CONFLICT));
        agent.finish(&script, Outcome::Cancelled { exit_code: None, signal: Some(15) }).await;
    })
    .await;
}
