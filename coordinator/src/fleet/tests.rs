use reeve_protocol::{
    Challenge, Goodbye, GoodbyeReason, Heartbeat, Kind, Proof, Reject, RejectCode, VersionRange,
    Welcome, limits,
};
use reeve_sdk::api::{Machine, MachineState};
use reqwest::Method;
use serde_json::json;
use tokio_tungstenite::tungstenite::Message;

use super::testing::{Agent, Identity};
use crate::operations::testing::{Site, on_each_engine, sent};

async fn machine(site: &Site, name: &str) -> Machine {
    site.get(&format!("/api/machines/{name}")).await
}

/// Closed without a session.
async fn closed(agent: &mut Agent) {
    let heard = agent.hear_until_closed().await;
    assert!(!heard.iter().any(|one| one.kind == Kind::Welcome), "welcome: {heard:?}");
}

/// What it was told before the link was closed.
async fn rejection(agent: &mut Agent) -> RejectCode {
    let heard = agent.hear_until_closed().await;
    assert!(!heard.iter().any(|one| one.kind == Kind::Welcome), "welcome: {heard:?}");
    let last = heard.last().expect("a word before the end");
    last.open::<Reject>().expect("a rejection").code
}

#[tokio::test]
async fn only_the_right_key_on_this_very_connection_opens_a_session() {
    on_each_engine(|site| async move {
        let identity = site.join("web-1").await;
        let mut bystander = site.online("bystander").await;

        let mut agent = Agent::dial(&site.server).await;
        let stranger = Identity { machine: identity.machine, ..Identity::new() };
        agent.prove(&stranger).await;
        assert_eq!(rejection(&mut agent).await, RejectCode::BadProof);

        // A proof overheard elsewhere: another nonce, another TLS channel.
        let mut victim = Agent::dial(&site.server).await;
        victim.say(&identity.hello()).await;
        let challenge: Challenge = victim.hear().await;
        let overheard = victim.sign(&identity, &challenge);
        let mut agent = Agent::dial(&site.server).await;
        agent.say(&identity.hello()).await;
        let other: Challenge = agent.hear().await;
        assert_ne!(challenge.nonce, other.nonce);
        agent.say(&overheard).await;
        assert_eq!(rejection(&mut agent).await, RejectCode::BadProof);
        // The right nonce signed on another channel, as somebody in the middle would have it.
        let mut agent = Agent::dial(&site.server).await;
        agent.say(&identity.hello()).await;
        let challenge: Challenge = agent.hear().await;
        agent.say(&victim.sign(&identity, &challenge)).await;
        assert_eq!(rejection(&mut agent).await, RejectCode::BadProof);
        for signature in [vec![], vec![0; 64], vec![7; 63]] {
            let mut agent = Agent::dial(&site.server).await;
            agent.say(&identity.hello()).await;
            agent.hear::<Challenge>().await;
            agent.say(&Proof { signature }).await;
            assert_eq!(rejection(&mut agent).await, RejectCode::BadProof);
        }

        let mut agent = Agent::dial(&site.server).await;
        let versions = VersionRange { min: 1000, max: 1001 };
        agent.say(&reeve_protocol::Hello { versions, ..identity.hello() }).await;
        assert_eq!(rejection(&mut agent).await, RejectCode::Version);

        let mut agent = Agent::dial(&site.server).await;
        agent.prove(&Identity::new()).await;
        assert_eq!(rejection(&mut agent).await, RejectCode::UnknownMachine);

        assert_eq!(machine(&site, "web-1").await.state, MachineState::Offline);
        assert_eq!(Agent::connect(&site.server, &identity).await.epoch, 1);
        bystander.settle().await;
    })
    .await;
}

#[tokio::test]
async fn revoked_machine_is_sent_away_and_not_let_in_again() {
    on_each_engine(|site| async move {
        let identity = site.join("web-1").await;
        let mut agent = site.arrive(&identity).await;
        let id = site.run("web-1").await;
        agent.start().await;
        let path = "/api/machines/web-1/revoke";
        let _: Machine = sent(site.server.request_as(&site.admin, Method::POST, path)).await;
        let heard = agent.hear_until_closed().await;
        let goodbye = heard.iter().find_map(|one| one.open::<Goodbye>().ok()).expect("a goodbye");
        assert_eq!(goodbye.reason, GoodbyeReason::Revoked);
        let lost = site.wait_operation(id, reeve_sdk::api::OperationState::Lost).await;
        assert_eq!(lost.reason.expect("a reason").code, "machine_revoked");
        let mut agent = Agent::dial(&site.server).await;
        agent.prove(&identity).await;
        assert_eq!(rejection(&mut agent).await, RejectCode::Revoked);
        assert_eq!(machine(&site, "web-1").await.state, MachineState::Revoked);
    })
    .await;
}

#[tokio::test]
async fn nonsense_before_the_welcome_closes_that_link_only() {
    on_each_engine(|site| async move {
        let identity = site.join("web-1").await;
        let mut bystander = site.online("bystander").await;
        let large = identity.hello();
        let large = reeve_protocol::Hello { operations: vec!["x".repeat(100); 100], ..large };
        assert!(reeve_protocol::encode(&large).expect("bytes").len() > limits::MAX_HANDSHAKE_BYTES);
        let long = reeve_protocol::Hello { agent_version: "v".repeat(200), ..identity.hello() };
        let no_boot = reeve_protocol::Hello { boot_id: String::new(), ..identity.hello() };
        let many = reeve_protocol::Hello { max_concurrent: u32::MAX, ..identity.hello() };
        let mut agent = Agent::dial(&site.server).await;
        agent.say(&large).await;
        closed(&mut agent).await;
        for hello in [long, no_boot, many] {
            let mut agent = Agent::dial(&site.server).await;
            agent.say(&hello).await;
            assert_eq!(rejection(&mut agent).await, RejectCode::Malformed);
        }
        for bytes in [vec![], vec![0xC1; 100], vec![0x91; 8000]] {
            let mut agent = Agent::dial(&site.server).await;
            agent.send(bytes).await;
            closed(&mut agent).await;
        }
        // A frame of an open session has no place here.
        let mut agent = Agent::dial(&site.server).await;
        agent.report(vec![]).await;
        assert_eq!(rejection(&mut agent).await, RejectCode::Malformed);
        let mut agent = Agent::dial(&site.server).await;
        agent.send_message(Message::text("hello")).await;
        closed(&mut agent).await;
        let mut agent = Agent::dial(&site.server).await;
        agent.send(vec![0; 2 * limits::MAX_FRAME_BYTES]).await;
        closed(&mut agent).await;
        bystander.settle().await;
        Agent::connect(&site.server, &identity).await;
    })
    .await;
}

#[tokio::test]
async fn stranger_who_takes_too_long_is_closed() {
    let site = Site::start(|_| {}).await;
    let mut bystander = site.online("bystander").await;
    let mut silent = Agent::dial(&site.server).await;
    let mut slow = Agent::dial(&site.server).await;
    slow.say(&site.join("web-1").await.hello()).await;
    slow.hear::<Challenge>().await;
    let begun = std::time::Instant::now();
    tokio::join!(silent.hear_until_closed(), slow.hear_until_closed());
    assert!(begun.elapsed() < limits::HANDSHAKE_TIMEOUT * 2, "{:?}", begun.elapsed());
    bystander.settle().await;
}

#[tokio::test]
async fn second_agent_with_a_key_puts_both_out_until_somebody_decides() {
    on_each_engine(|site| async move {
        let identity = site.join("web-1").await;
        let mut first = site.arrive(&identity).await;
        let mut second = Agent::dial(&site.server).await;
        second.prove(&identity).await;
        let probe = first.wait_for("a probe", |one| one.open::<Heartbeat>().ok()?.probe).await;
        first.say(&Heartbeat { time_us: 0, probe: Some(probe), ..Heartbeat::default() }).await;
        assert_eq!(rejection(&mut second).await, RejectCode::Cloned);
        let heard = first.hear_until_closed().await;
        let goodbye = heard.iter().find_map(|one| one.open::<Goodbye>().ok()).expect("a goodbye");
        assert_eq!(goodbye.reason, GoodbyeReason::Cloned);
        assert_eq!(machine(&site, "web-1").await.state, MachineState::Quarantined);
        let mut agent = Agent::dial(&site.server).await;
        agent.prove(&identity).await;
        assert_eq!(rejection(&mut agent).await, RejectCode::Cloned);

        // Not forgotten by a restart.
        let site = site.restart().await;
        let mut agent = Agent::dial(&site.server).await;
        agent.prove(&identity).await;
        assert_eq!(rejection(&mut agent).await, RejectCode::Cloned);
        let request = site.server.request_as(&site.admin, Method::PATCH, "/api/machines/web-1");
        let _: Machine = sent(request.json(&json!({ "quarantined": false }))).await;
        let _agent = site.arrive(&identity).await;
        assert_eq!(machine(&site, "web-1").await.state, MachineState::Online);
    })
    .await;
}

#[tokio::test]
async fn session_that_does_not_answer_is_replaced_by_the_next() {
    on_each_engine(|site| async move {
        let identity = site.join("web-1").await;
        let mut first = site.arrive(&identity).await;
        // The first is still open and says nothing.
        let mut second = Agent::dial(&site.server).await;
        second.prove(&identity).await;
        second.epoch = second.hear::<Welcome>().await.epoch;
        assert!(second.epoch > first.epoch, "{} {}", second.epoch, first.epoch);
        let heard = first.hear_until_closed().await;
        let goodbye = heard.iter().find_map(|one| one.open::<Goodbye>().ok()).expect("a goodbye");
        assert_eq!(goodbye.reason, GoodbyeReason::Replaced);
        second.report(vec![]).await;
        site.run("web-1").await;
        let script = second.start().await;
        second.finish(&script, reeve_protocol::Outcome::Exited { code: 0 }).await;
        assert_eq!(machine(&site, "web-1").await.state, MachineState::Online);
    })
    .await;
}

#[tokio::test]
async fn putting_a_machine_in_quarantine_ends_its_session() {
    on_each_engine(|site| async move {
        let identity = site.join("web-1").await;
        let mut agent = site.arrive(&identity).await;
        let request = site.server.request_as(&site.admin, Method::PATCH, "/api/machines/web-1");
        let _: Machine = sent(request.json(&json!({ "quarantined": true }))).await;
        agent.hear_until_closed().await;
        site.wait_until_gone(&identity).await;
    })
    .await;
}
