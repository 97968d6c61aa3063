//! Several providers: fall-back, and the breaker of each.

#![allow(clippy::unwrap_used)] // Helpers of tests, which fail by it.

mod support;

use std::sync::Arc;
use std::time::Duration;

use reeve_models::fakes::{Behaviour, Delay, FixedKeys, Trouble, roles_of};
use reeve_models::{Ask, AskError, ErrorCode, Event, ModelError, Models, Prompt};
use reeve_sdk::api::{ModelRole, Wire};
use support::{Bench, ask, code, outcomes, restarts, two};

fn hello() -> Prompt {
    Prompt::text("", "Hello?")
}

#[tokio::test]
async fn without_providers_every_role_is_builtin() {
    let models = Models::new(Default::default(), Arc::new(FixedKeys::none())).unwrap();
    for role in ModelRole::ALL {
        assert_eq!(models.list(role), ["builtin"]);
        let prompt = hello();
        let (result, events) = ask(&models, &Ask::new(role, &prompt)).await;
        assert!(matches!(result, Err(AskError::Builtin { ref calls, .. }) if calls.is_empty()));
        assert!(events.is_empty());
    }
}

#[tokio::test]
async fn the_next_model_answers_when_the_first_cannot() {
    for trouble in [Trouble::BadKey, Trouble::Quota, Trouble::NoModel, Trouble::Forbidden] {
        let two = two(&["one/fake-model", "two/fake-model"]).await;
        two.first.script([Behaviour::Trouble(trouble.clone())]);
        let answer = two.ask().await.unwrap();
        assert_eq!((answer.provider.as_str(), answer.calls.len()), ("two", 2), "{trouble:?}");
    }
}

#[tokio::test]
async fn text_of_a_model_that_broke_is_void_when_the_next_one_answers() {
    let two = two(&["one/fake-model", "two/fake-model"]).await;
    two.first.script(vec![Behaviour::CutMidEvent; 5]);
    let prompt = hello();
    let (result, events) = ask(&two.models, &Ask::new(ModelRole::Planner, &prompt)).await;
    assert_eq!(result.unwrap().provider, "two");
    assert_eq!(restarts(&events), 5);
    let last = events.iter().rev().find_map(|event| match event {
        Event::Restarted { model, reason } => Some((model.clone(), reason.clone())),
        _ => None,
    });
    let (model, reason) = last.unwrap();
    assert_eq!(model, "two/fake-model");
    assert!(reason.contains("one"), "{reason}");
}

#[tokio::test]
async fn builtin_in_the_list_is_handed_back_with_what_was_tried() {
    let two = two(&["one/fake-model", "builtin", "two/fake-model"]).await;
    two.first.script([Behaviour::Trouble(Trouble::BadKey)]);
    let Err(AskError::Builtin { calls, tried }) = two.ask().await else { panic!("builtin") };
    assert_eq!((calls.len(), tried[0].code), (1, ErrorCode::Key));
    assert!(two.second.asked().is_empty());
}

#[tokio::test]
async fn when_all_fail_the_trouble_a_person_can_mend_is_told_and_every_entry_named() {
    let two = two(&["one/fake-model", "two/fake-model", "three/x"]).await;
    two.first.script(vec![Behaviour::Trouble(Trouble::Server(500)); 9]);
    two.second.script([Behaviour::Trouble(Trouble::BadKey)]);
    let result = two.ask().await;
    assert_eq!(code(&result), "model_key");
    let text = result.unwrap_err().to_string();
    assert!(text.contains("one") && text.contains("two") && text.contains("three"), "{text}");
}

#[tokio::test]
async fn a_sealed_vault_is_its_own_state() {
    let sealed =
        ModelError::new(ErrorCode::VaultSealed, "the vault is sealed; `reeve vault unlock`");
    let bench = Bench::with(Wire::OpenaiChat, FixedKeys::failing(sealed), |_| {}).await;
    let result = bench.ask(&hello()).await;
    assert_eq!(code(&result), "vault_sealed");
    assert!(bench.fake.asked().is_empty());
    let status = &bench.models.statuses()[0];
    assert!(status.last_error.as_ref().is_some_and(|error| error.contains("sealed")));
}

#[tokio::test]
async fn only_one_model_is_asked_when_only_one_is_wanted() {
    let two = two(&["one/fake-model"]).await;
    let prompt = hello();
    let wanted = Ask { only: Some("two/fake-model"), ..Ask::new(ModelRole::Planner, &prompt) };
    assert_eq!(ask(&two.models, &wanted).await.0.unwrap().provider, "two");
    let wanted = Ask { only: Some("two/other"), ..Ask::new(ModelRole::Planner, &prompt) };
    assert_eq!(code(&ask(&two.models, &wanted).await.0), "model_settings");
}

#[tokio::test]
async fn five_failures_in_a_minute_open_the_breaker_and_one_probe_closes_it() {
    let two = two(&["one/fake-model", "two/fake-model"]).await;
    two.first.answer_with(|_| Behaviour::Trouble(Trouble::Server(500)));
    assert_eq!(two.ask().await.unwrap().provider, "two");
    assert_eq!(two.first.asked().len(), 5, "the fifth failure opens it");
    assert_eq!(two.models.statuses()[0].breaker, "open");
    let retry_at = two.models.statuses()[0].retry_at;
    assert!(retry_at.is_some());

    assert_eq!(two.ask().await.unwrap().provider, "two");
    assert_eq!(two.first.asked().len(), 5, "an open breaker lets nothing through");

    two.clock.advance(Duration::from_secs(30));
    assert_eq!(two.models.statuses()[0].breaker, "half_open");
    assert_eq!(two.ask().await.unwrap().provider, "two");
    assert_eq!(two.first.asked().len(), 6, "one probe, which failed");
    two.clock.advance(Duration::from_secs(30));
    assert_eq!(two.models.statuses()[0].breaker, "open", "the pause grows");

    two.clock.advance(Duration::from_secs(30));
    two.first.answer_with(|_| Behaviour::text("Well again."));
    assert_eq!(two.ask().await.unwrap().provider, "one");
    assert_eq!(two.models.statuses()[0].breaker, "closed");
}

#[tokio::test]
async fn failures_far_apart_do_not_open_the_breaker() {
    let two = two(&["one/fake-model"]).await;
    for _ in 0..10 {
        two.first.script([Behaviour::Trouble(Trouble::Server(500))]);
        two.ask().await.unwrap();
        two.clock.advance(Duration::from_secs(13));
        assert_eq!(two.models.statuses()[0].breaker, "closed");
    }
}

#[tokio::test]
async fn limits_of_rate_do_not_open_the_breaker() {
    let two = two(&["one/fake-model"]).await;
    two.first.script(vec![Behaviour::Trouble(Trouble::RateLimit(Delay::Millis(1))); 20]);
    for _ in 0..3 {
        let _ = two.ask().await;
    }
    assert_eq!(two.models.statuses()[0].breaker, "closed");
}

#[tokio::test]
async fn while_a_probe_is_under_way_nobody_else_is_let_through() {
    let two = two(&["one/fake-model", "two/fake-model"]).await;
    two.first.answer_with(|_| Behaviour::Trouble(Trouble::Server(500)));
    two.ask().await.unwrap();
    two.clock.advance(Duration::from_secs(30));
    two.first.script([Behaviour::NeverFirstByte]);
    let prompt = hello();
    let mut nothing = |_: Event| {};
    {
        let probe = two.models.ask(Ask::new(ModelRole::Planner, &prompt), &mut nothing);
        tokio::select! { _ = probe => unreachable!(), () = async {
            two.first.hung().await;
            assert_eq!(two.ask().await.unwrap().provider, "two");
            assert_eq!(two.first.asked().len(), 6);
        } => {} }
    }
    two.first.answer_with(|_| Behaviour::text("Well."));
    assert_eq!(two.ask().await.unwrap().provider, "one", "a probe that was given up is no probe");
}

#[tokio::test]
async fn a_breaker_stays_open_when_settings_change() {
    let two = two(&["one/fake-model", "two/fake-model"]).await;
    two.first.answer_with(|_| Behaviour::Trouble(Trouble::Server(500)));
    two.ask().await.unwrap();
    let mut changed = two.first.provider("one", Wire::Anthropic);
    changed.retries = Some(1);
    two.models.set(vec![changed], roles_of(&["one/fake-model"]));
    assert_eq!(code(&two.ask().await), "model_paused");
    assert_eq!(two.models.statuses()[0].breaker, "open");
}

#[tokio::test]
async fn many_questions_at_once_get_each_their_own_answer() {
    let two = two(&["one/fake-model"]).await;
    two.first.answer_with(|asked| Behaviour::text(format!("You said {}", asked.messages[0].1)));
    let questions = (0..32).map(|n| {
        let models = two.models.clone();
        async move {
            let prompt = Prompt::text("", format!("number {n}"));
            let answer = ask(&models, &Ask::new(ModelRole::Analyst, &prompt)).await.0.unwrap();
            assert_eq!(answer.text, format!("You said number {n}"));
        }
    });
    futures_util::future::join_all(questions).await;
    assert_eq!(two.first.asked().len(), 32);
    assert_eq!(outcomes(&two.ask().await), ["ok"]);
}
