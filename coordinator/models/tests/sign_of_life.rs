//! What `reeve models test` says.

#![allow(clippy::unwrap_used)] // Helpers of tests, which fail by it.

mod support;

use reeve_models::fakes::{Behaviour, FixedKeys, Trouble};
use reeve_sdk::api::Wire;
use serde_json::json;
use support::{Bench, two};

#[tokio::test]
async fn a_sign_of_life_says_what_is_wrong_and_how_to_mend_it() {
    let bench = Bench::with(Wire::Anthropic, FixedKeys::key("sk-x"), |provider| {
        provider.vault_entry = Some("acme-key".to_owned());
    })
    .await;
    let tested = bench.models.test("acme", None).await.unwrap();
    assert!(tested.report.ok, "{}", tested.report.message);
    assert_eq!(
        (tested.report.model.as_str(), tested.report.input_tokens),
        ("acme/fake-model", 100)
    );
    assert!(tested.report.cost > 0.0 && tested.report.first_text_ms.is_some());
    assert_eq!(tested.calls.len(), 1);
    for (behaviour, words) in [
        (Behaviour::Trouble(Trouble::BadKey), "reeve vault add acme-key"),
        (Behaviour::Trouble(Trouble::NoModel), "reeve models list"),
        (Behaviour::Trouble(Trouble::Quota), "used up"),
        (Behaviour::Trouble(Trouble::Overloaded), "overloaded"),
        (Behaviour::Trouble(Trouble::Server(500)), "their trouble"),
        (Behaviour::json(json!({"yes": 1})), "keep to a schema"),
        (Behaviour::text("Hello!"), "keep to a schema"),
        (Behaviour::WebPage, "base_url"),
        (Behaviour::Redirects("https://example.org/".to_owned()), "base_url"),
        (Behaviour::EndsEarly, "wire"),
        (Behaviour::Truncated("{\"o".to_owned()), "reasoning"),
        (Behaviour::Refuses, "another model"),
    ] {
        bench.fake.script([behaviour.clone()]);
        let tested = bench.models.test("acme", Some("fake-model")).await.unwrap();
        assert!(!tested.report.ok);
        assert!(tested.report.message.contains(words), "{behaviour:?}: {}", tested.report.message);
        assert_eq!(tested.calls.len(), 1, "one call, no retry: {behaviour:?}");
    }
    assert!(bench.models.test("nobody", None).await.is_err());
    assert!(bench.models.test("acme", Some("nothing")).await.is_err());
}

#[tokio::test]
async fn a_sign_of_life_is_asked_for_although_the_breaker_is_open() {
    let two = two(&["one/fake-model", "two/fake-model"]).await;
    two.first.script(vec![Behaviour::Trouble(Trouble::Server(500)); 5]);
    two.ask().await.unwrap();
    assert_eq!(two.models.statuses()[0].breaker, "open");
    assert!(two.models.test("one", None).await.unwrap().report.ok);
    assert_eq!(two.models.statuses()[0].breaker, "closed");
}
