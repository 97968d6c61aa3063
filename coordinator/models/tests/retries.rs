//! When a call is made again, after how long, and when it is not.

mod support;

use std::time::Duration;

use reeve_models::fakes::{Behaviour, Delay, FakeModel, FixedKeys, Trouble, roles_of};
use reeve_models::{Ask, AskError, Models, Prompt, Urgency};
use reeve_sdk::api::{ModelRole, Wire};
use std::sync::Arc;
use support::{Bench, WIRES, ask, code, outcomes, restarts, text_of};

fn hello() -> Prompt {
    Prompt::text("", "Hello?")
}

fn millis(pauses: &[Duration]) -> Vec<u128> {
    pauses.iter().map(Duration::as_millis).collect()
}

#[tokio::test]
async fn errors_of_the_server_are_tried_again_four_times_with_growing_random_pauses() {
    for wire in WIRES {
        for trouble in [Trouble::Overloaded, Trouble::Server(500), Trouble::Server(503)] {
            let bench = Bench::new(wire).await;
            bench.fake.script(vec![Behaviour::Trouble(trouble.clone()); 4]);
            let answer =
                bench.ask(&hello()).await.unwrap_or_else(|e| panic!("{wire:?} {trouble:?}: {e}"));
            assert_eq!(answer.calls.len(), 5, "{wire:?}");
            let pauses = bench.clock.pauses();
            assert_eq!(pauses.len(), 4);
            for (pause, most) in pauses.iter().zip([500, 1_000, 2_000, 4_000]) {
                assert!(*pause <= Duration::from_millis(most), "{pauses:?}");
            }
            let mut other = pauses.clone();
            other.dedup();
            assert_eq!(other.len(), 4, "they are random: {pauses:?}");
        }
    }
}

#[tokio::test]
async fn after_the_fifth_call_it_is_given_up() {
    let bench = Bench::new(Wire::OpenaiChat).await;
    bench.fake.script(vec![Behaviour::Trouble(Trouble::RateLimit(Delay::Unsaid)); 9]);
    let result = bench.ask(&hello()).await;
    assert_eq!(code(&result), "model_busy");
    assert_eq!(outcomes(&result), ["model_busy"; 5]);
}

#[tokio::test]
async fn a_provider_may_have_its_own_number_of_retries() {
    let bench = Bench::with(Wire::OpenaiChat, FixedKeys::none(), |p| p.retries = Some(1)).await;
    bench.fake.script(vec![Behaviour::Trouble(Trouble::Server(500)); 9]);
    assert_eq!(outcomes(&bench.ask(&hello()).await).len(), 2);
}

#[tokio::test]
async fn pauses_never_exceed_thirty_seconds() {
    let bench = Bench::with(Wire::OpenaiChat, FixedKeys::none(), |p| p.retries = Some(10)).await;
    bench.fake.script(vec![Behaviour::Trouble(Trouble::RateLimit(Delay::Unsaid)); 10]);
    bench.ask(&hello()).await.unwrap();
    let pauses = bench.clock.pauses();
    assert_eq!(pauses.len(), 10);
    assert!(pauses.iter().all(|pause| *pause <= Duration::from_secs(30)), "{pauses:?}");
    assert!(pauses[6..].iter().any(|pause| *pause > Duration::from_secs(4)), "{pauses:?}");
}

#[tokio::test]
async fn a_delay_the_server_asks_for_is_kept_and_made_longer_by_a_fifth_at_most() {
    let date = "Thu, 01 Jan 2026 00:00:10 GMT".to_owned();
    for (wire, delay, least) in [
        (Wire::OpenaiChat, Delay::Seconds(7), 7_000),
        (Wire::OpenaiResponses, Delay::Millis(1_500), 1_500),
        (Wire::Anthropic, Delay::Seconds(12), 12_000),
        (Wire::Anthropic, Delay::Date(date), 10_000),
        (Wire::OpenaiChat, Delay::Words("1.5s".to_owned()), 1_500),
        (Wire::OpenaiChat, Delay::Words("6m0s".to_owned()), 360_000),
        (Wire::Gemini, Delay::Seconds(34), 34_000),
    ] {
        let bench = Bench::new(wire).await;
        bench.fake.script([Behaviour::Trouble(Trouble::RateLimit(delay.clone()))]);
        let prompt = hello();
        let wanted = Ask {
            urgency: Urgency::Batch,
            deadline: Duration::from_secs(600),
            ..Ask::new(ModelRole::Planner, &prompt)
        };
        let (result, _) = ask(&bench.models, &wanted).await;
        if least > 300_000 {
            assert_eq!(code(&result), "model_busy", "more than 300 s is for another model");
            continue;
        }
        result.unwrap_or_else(|error| panic!("{wire:?} {delay:?}: {error}"));
        let pauses = millis(&bench.clock.pauses());
        assert_eq!(pauses.len(), 1);
        assert!(pauses[0] >= least && pauses[0] <= least * 12 / 10, "{delay:?}: {pauses:?}");
    }
}

#[tokio::test]
async fn more_than_sixty_seconds_of_delay_means_the_next_model_while_somebody_waits() {
    for (urgency, seconds, moves_on) in [
        (Urgency::Interactive, 60, false),
        (Urgency::Interactive, 61, true),
        (Urgency::Batch, 61, false),
        (Urgency::Batch, 300, false),
        (Urgency::Batch, 301, true),
    ] {
        let bench = Bench::new(Wire::Anthropic).await;
        let other = FakeModel::start().await.unwrap();
        let providers = vec![
            bench.fake.provider("acme", Wire::Anthropic),
            other.provider("other", Wire::Gemini),
        ];
        bench.models.set(providers, roles_of(&["acme/fake-model", "other/fake-model"]));
        bench.fake.script([Behaviour::Trouble(Trouble::RateLimit(Delay::Seconds(seconds)))]);
        let prompt = hello();
        let wanted = Ask {
            urgency,
            deadline: Duration::from_secs(900),
            ..Ask::new(ModelRole::Planner, &prompt)
        };
        let answer = ask(&bench.models, &wanted).await.0.unwrap();
        let expected = if moves_on { "other" } else { "acme" };
        assert_eq!(answer.provider, expected, "{urgency:?} {seconds}");
        assert_eq!(bench.clock.pauses().len(), usize::from(!moves_on));
        if moves_on {
            // And it is left alone for as long as it asked.
            let answer = ask(&bench.models, &wanted).await.0.unwrap();
            assert_eq!((answer.provider.as_str(), bench.fake.asked().len()), ("other", 1));
            assert!(bench.models.statuses()[0].retry_at.is_some());
            bench.clock.advance(Duration::from_secs(seconds));
            assert_eq!(ask(&bench.models, &wanted).await.0.unwrap().provider, "acme");
        }
    }
}

#[tokio::test]
async fn what_cannot_get_better_is_never_tried_again() {
    for wire in WIRES {
        for (trouble, expected) in [
            (Trouble::BadRequest("messages: wrong".to_owned()), "model_request"),
            (Trouble::BadKey, "model_key"),
            (Trouble::Forbidden, "model_key"),
            (Trouble::NoModel, "model_unknown"),
            (Trouble::TooLarge, "context_too_long"),
            (Trouble::ContextTooLong, "context_too_long"),
            (Trouble::Quota, "quota"),
        ] {
            let bench = Bench::new(wire).await;
            bench.fake.script([Behaviour::Trouble(trouble.clone())]);
            let result = bench.ask(&hello()).await;
            assert_eq!(code(&result), expected, "{wire:?} {trouble:?}");
            assert_eq!(bench.fake.asked().len(), 1, "{wire:?} {trouble:?}");
            assert_eq!(bench.models.statuses()[0].breaker, "closed");
        }
    }
}

#[tokio::test]
async fn a_context_that_is_too_long_is_told_at_once_and_no_other_model_is_asked() {
    let bench = Bench::new(Wire::OpenaiChat).await;
    bench.models.set(
        vec![bench.fake.provider("acme", Wire::OpenaiChat)],
        roles_of(&["acme/fake-model", "builtin"]),
    );
    bench.fake.script([Behaviour::Trouble(Trouble::ContextTooLong)]);
    assert_eq!(code(&bench.ask(&hello()).await), "context_too_long");
}

#[tokio::test]
async fn a_refused_token_is_renewed_once() {
    let keys = Arc::new(FixedKeys::token("old", "new"));
    let fake = FakeModel::start().await.unwrap();
    fake.require_key("new");
    let models = Models::new(support::options(&Default::default()), keys.clone()).unwrap();
    models.set(vec![fake.provider("acme", Wire::Anthropic)], roles_of(&["acme/fake-model"]));
    let prompt = hello();
    let wanted = Ask::new(ModelRole::Planner, &prompt);
    let answer = ask(&models, &wanted).await.0.unwrap();
    assert_eq!(answer.calls.len(), 2);
    assert_eq!(keys.renewals(), 1);

    fake.require_key("neither");
    let result = ask(&models, &wanted).await.0;
    assert_eq!((code(&result), keys.renewals()), ("model_key", 2), "once for each question");
}

#[tokio::test]
async fn a_refused_api_key_is_not_renewed_and_the_message_says_how_to_mend_it() {
    let bench = Bench::with(Wire::OpenaiChat, FixedKeys::key("sk-wrong"), |provider| {
        provider.vault_entry = Some("acme-key".to_owned());
    })
    .await;
    bench.fake.require_key("sk-right");
    let error = bench.ask(&hello()).await.unwrap_err();
    assert_eq!((error.code(), bench.fake.asked().len()), ("model_key", 1));
    let text = error.to_string();
    assert!(text.contains("acme") && text.contains("reeve vault add acme-key"), "{text}");
}

#[tokio::test]
async fn a_broken_stream_is_started_anew_and_the_partial_text_is_void() {
    for wire in WIRES {
        for broken in [
            Behaviour::CutMidEvent,
            Behaviour::EndsEarly,
            Behaviour::ErrorAfterText,
            Behaviour::HalfJson,
            Behaviour::Garbage,
        ] {
            let bench = Bench::new(wire).await;
            let has_text = !matches!(broken, Behaviour::HalfJson | Behaviour::Garbage);
            bench.fake.script([broken.clone(), Behaviour::text("Whole again.")]);
            let (result, events) = bench.ask_with(&hello()).await;
            let answer = result.unwrap_or_else(|error| panic!("{wire:?} {broken:?}: {error}"));
            assert_eq!(answer.text, "Whole again.", "{wire:?} {broken:?}");
            assert_eq!(text_of(&events), "Whole again.");
            assert_eq!(restarts(&events), usize::from(has_text), "{wire:?} {broken:?}");
            assert_eq!(bench.clock.pauses().len(), 1, "it counts as a retry");
        }
    }
}

#[tokio::test]
async fn the_deadline_holds_for_tries_and_pauses_together() {
    let bench = Bench::new(Wire::OpenaiChat).await;
    bench.fake.script(vec![Behaviour::Trouble(Trouble::RateLimit(Delay::Seconds(50))); 9]);
    let prompt = hello();
    let (result, _) = ask(&bench.models, &Ask::new(ModelRole::Planner, &prompt)).await;
    assert_eq!(code(&result), "model_busy");
    let all: Duration = bench.clock.pauses().iter().sum();
    assert!(all < Duration::from_secs(180), "{all:?}");
    assert!(outcomes(&result).len() < 5);
}

#[tokio::test]
async fn a_question_without_time_asks_nobody() {
    let bench = Bench::new(Wire::OpenaiChat).await;
    let prompt = hello();
    let wanted = Ask { deadline: Duration::ZERO, ..Ask::new(ModelRole::Planner, &prompt) };
    let (result, _) = ask(&bench.models, &wanted).await;
    assert_eq!(code(&result), "model_deadline");
    assert!(bench.fake.asked().is_empty());
}

#[tokio::test]
async fn failed_calls_are_recorded_with_the_answer() {
    let bench = Bench::new(Wire::Anthropic).await;
    bench.fake.script([Behaviour::Trouble(Trouble::Overloaded), Behaviour::CutMidEvent]);
    let answer = bench.ask(&hello()).await.unwrap();
    let outcomes: Vec<&str> = answer.calls.iter().map(|call| call.outcome.as_str()).collect();
    assert_eq!(outcomes, ["model_busy", "model_broken", "ok"]);
    let statuses: Vec<_> = answer.calls.iter().map(|call| call.http_status).collect();
    assert_eq!(statuses, [Some(529), Some(200), Some(200)]);
    assert!(answer.calls[1].usage.input > 0, "what a broken call took is known and paid");
    assert_eq!(answer.usage.input, answer.calls.iter().map(|c| c.usage.input).sum::<u64>());
    let failed: Result<_, AskError> = Ok(answer);
    assert_eq!(code(&failed), "ok");
}
