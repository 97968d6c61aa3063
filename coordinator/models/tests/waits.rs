//! Every wait ends, and when.

#![allow(clippy::unwrap_used)] // Helpers of tests, which fail by it.

mod support;

use std::time::Duration;

use reeve_models::fakes::{Behaviour, FakeModel, FixedKeys};
use reeve_models::{Ask, Clock as _, Event, Prompt};
use reeve_sdk::api::{ModelRole, Wire};
use support::{Bench, WIRES, code};

/// Asks; once the request hangs and `ready` events came, time passes by `waits`, one after the other.
async fn ask_while_time_passes(bench: &Bench, texts: usize, waits: &[u64]) -> (String, String) {
    let prompt = Prompt::text("", "Hello?");
    let seen = tokio::sync::watch::Sender::new(0);
    let mut events = |event: Event| {
        if matches!(event, Event::Text(_)) {
            seen.send_modify(|count| *count += 1);
        }
    };
    let wanted =
        Ask { deadline: Duration::from_secs(3600), ..Ask::new(ModelRole::Planner, &prompt) };
    let asking = bench.models.ask(wanted, &mut events);
    tokio::pin!(asking);
    let time = async {
        let mut texts_seen = seen.subscribe();
        texts_seen.wait_for(|count| *count >= texts).await.unwrap();
        bench.fake.hung().await;
        for wait in waits {
            tokio::task::yield_now().await;
            bench.clock.advance(Duration::from_millis(*wait));
        }
        std::future::pending::<()>().await;
    };
    let result = tokio::select! { result = &mut asking => result, () = time => unreachable!() };
    (code(&result).to_owned(), result.map_or_else(|error| error.to_string(), |_| String::new()))
}

async fn silent(wire: Wire, behaviour: Behaviour, reasoning: bool) -> Bench {
    let bench = Bench::with(wire, FixedKeys::none(), |provider| {
        provider.retries = Some(0);
        provider.models[0].reasoning = reasoning;
    })
    .await;
    bench.fake.script([behaviour]);
    bench
}

#[tokio::test]
async fn no_first_byte_within_sixty_seconds_is_a_timeout() {
    for wire in WIRES {
        let bench = silent(wire, Behaviour::NeverFirstByte, false).await;
        let (code, text) = ask_while_time_passes(&bench, 0, &[59_999, 1]).await;
        assert_eq!(
            (code.as_str(), text.contains("within 60 s")),
            ("model_timeout", true),
            "{text}"
        );
        assert!(bench.clock.limits().contains(&Duration::from_secs(60)));
    }
}

#[tokio::test]
async fn models_that_reason_have_two_minutes_to_the_first_byte() {
    let bench = silent(Wire::OpenaiResponses, Behaviour::NeverFirstByte, true).await;
    let (code, text) = ask_while_time_passes(&bench, 0, &[60_000, 60_000]).await;
    assert_eq!((code.as_str(), text.contains("within 120 s")), ("model_timeout", true), "{text}");
}

#[tokio::test]
async fn nothing_between_events_for_two_minutes_is_a_timeout() {
    for wire in WIRES {
        let bench = silent(wire, Behaviour::HangsAfterText, false).await;
        let (code, text) = ask_while_time_passes(&bench, 3, &[119_999, 1]).await;
        assert_eq!(
            (code.as_str(), text.contains("nothing for 120 s")),
            ("model_timeout", true),
            "{wire:?} {text}"
        );
    }
}

#[tokio::test]
async fn models_that_reason_may_be_silent_for_five_minutes() {
    let bench = silent(Wire::Anthropic, Behaviour::HangsAfterText, true).await;
    let (code, text) = ask_while_time_passes(&bench, 3, &[120_000, 180_000]).await;
    assert_eq!(
        (code.as_str(), text.contains("nothing for 300 s")),
        ("model_timeout", true),
        "{text}"
    );
}

#[tokio::test]
async fn timeouts_of_a_provider_go_before() {
    let bench = Bench::with(Wire::OpenaiChat, FixedKeys::none(), |provider| {
        provider.retries = Some(0);
        provider.first_byte_timeout_ms = Some(1_500);
    })
    .await;
    bench.fake.script([Behaviour::NeverFirstByte]);
    let (code, text) = ask_while_time_passes(&bench, 0, &[1_500]).await;
    assert_eq!((code.as_str(), text.contains("within 1.5 s")), ("model_timeout", true), "{text}");
}

#[tokio::test]
async fn bytes_that_make_no_event_do_not_count_as_life() {
    let bench = silent(Wire::OpenaiChat, Behaviour::Drips, false).await;
    let prompt = Prompt::text("", "Hello?");
    let mut events = |_: Event| {};
    let asking = bench.models.ask(Ask::new(ModelRole::Planner, &prompt), &mut events);
    let time = async {
        // It reads while time goes on; each advance is far below any limit.
        for _ in 0..2_000 {
            tokio::time::sleep(Duration::from_micros(500)).await;
            bench.clock.advance(Duration::from_millis(250));
        }
        std::future::pending::<()>().await;
    };
    let result = tokio::select! { result = asking => result, () = time => unreachable!() };
    assert_eq!(code(&result), "model_timeout", "{result:?}");
}

#[tokio::test]
async fn the_deadline_ends_a_call_under_way_and_asks_no_other() {
    let bench = silent(Wire::Gemini, Behaviour::HangsAfterText, false).await;
    let prompt = Prompt::text("", "Hello?");
    let seen = tokio::sync::Notify::new();
    let mut events = |event: Event| {
        if matches!(event, Event::Text(_)) {
            seen.notify_one();
        }
    };
    let wanted = Ask { deadline: Duration::from_secs(30), ..Ask::new(ModelRole::Planner, &prompt) };
    let asking = bench.models.ask(wanted, &mut events);
    let time = async {
        seen.notified().await;
        bench.fake.hung().await;
        bench.clock.advance(Duration::from_secs(30));
        std::future::pending::<()>().await;
    };
    let result = tokio::select! { result = asking => result, () = time => unreachable!() };
    assert_eq!(code(&result), "model_deadline");
    assert!(result.unwrap_err().to_string().contains("within 30 s"));
}

#[tokio::test]
async fn a_server_that_never_closes_is_left_after_five_seconds_with_the_whole_reply() {
    for wire in [Wire::OpenaiChat, Wire::Gemini, Wire::Anthropic] {
        let bench = Bench::new(wire).await;
        bench.fake.script([Behaviour::NeverCloses("All there.".to_owned())]);
        let prompt = Prompt::text("", "Hello?");
        let mut events = |_: Event| {};
        let asking = bench.models.ask(Ask::new(ModelRole::Planner, &prompt), &mut events);
        let time = async {
            bench.fake.hung().await;
            loop {
                tokio::time::sleep(Duration::from_millis(1)).await;
                bench.clock.advance(Duration::from_millis(100));
            }
        };
        let result = tokio::select! { result = asking => result, () = time => unreachable!() };
        assert_eq!(result.unwrap().text, "All there.", "{wire:?}");
        assert!(bench.clock.elapsed() >= Duration::from_secs(5), "{wire:?}");
    }
}

#[tokio::test]
async fn nobody_there_is_unreachable_and_says_where() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let bench = Bench::with(Wire::OpenaiChat, FixedKeys::none(), |provider| {
        provider.base_url = Some(format!("http://{free}/v1"));
        provider.retries = Some(1);
    })
    .await;
    let error = bench.ask(&Prompt::text("", "Hello?")).await.unwrap_err();
    assert_eq!((error.code(), error.calls().len()), ("model_unreachable", 2));
    let text = error.to_string();
    assert!(text.contains("acme") && text.contains("127.0.0.1"), "{text}");
}

#[tokio::test]
async fn a_connection_that_does_not_come_about_ends_by_its_own_limit() {
    // Nobody accepts, and the queue of those who wait is full: what comes then is not answered.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let full = socket.listen(1).unwrap();
    let address = full.local_addr().unwrap();
    let mut waiting = Vec::new();
    loop {
        let attempt = tokio::net::TcpStream::connect(address);
        match tokio::time::timeout(Duration::from_millis(300), attempt).await {
            Ok(stream) => waiting.push(stream.unwrap()),
            Err(_) => break,
        }
        assert!(waiting.len() < 100, "the queue has an end");
    }
    let bench = Bench::with(Wire::OpenaiChat, FixedKeys::none(), |provider| {
        provider.base_url = Some(format!("http://{address}/v1"));
        provider.retries = Some(0);
        provider.connect_timeout_ms = Some(200);
    })
    .await;
    let error = bench.ask(&Prompt::text("", "Hello?")).await.unwrap_err();
    assert_eq!(error.code(), "model_unreachable", "{error}");
}

#[tokio::test]
async fn a_question_that_is_given_up_leaves_nothing_behind() {
    let bench = silent(Wire::Anthropic, Behaviour::HangsAfterText, false).await;
    let prompt = Prompt::text("", "Hello?");
    let mut events = |_: Event| {};
    {
        let asking = bench.models.ask(Ask::new(ModelRole::Planner, &prompt), &mut events);
        tokio::select! { _ = asking => unreachable!(), () = bench.fake.hung() => {} }
    }
    assert_eq!(bench.models.statuses()[0].breaker, "closed");
    let other = FakeModel::start().await.unwrap();
    drop(other);
    bench.ask(&prompt).await.unwrap();
}
