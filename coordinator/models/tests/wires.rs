//! Each wire: what is sent, what comes back, and that it is the same for all of them.

mod support;

use reeve_models::fakes::{Behaviour, FixedKeys};
use reeve_models::{Event, Prompt, Stop, TokenUsage};
use reeve_sdk::api::Wire;
use serde_json::json;
use support::{Bench, WIRES, code, prompt, text_of};

#[tokio::test]
async fn every_wire_streams_a_reply_with_usage_and_cost() {
    for wire in WIRES {
        let bench = Bench::new(wire).await;
        bench.fake.script([Behaviour::Thoughtful {
            thought: "Let me think about it.".to_owned(),
            text: "Grüße from a model — in small pieces. ✓".to_owned(),
        }]);
        let (result, events) = bench.ask_with(&Prompt::text("Be kind.", "Hello?")).await;
        assert_eq!(bench.fake.faults(), [""; 0], "{wire:?}");
        let answer = result.unwrap_or_else(|error| panic!("{wire:?}: {error}"));
        assert_eq!(answer.text, "Grüße from a model — in small pieces. ✓", "{wire:?}");
        assert_eq!(text_of(&events), answer.text, "{wire:?}");
        let texts = events.iter().filter(|event| matches!(event, Event::Text(_))).count();
        assert!(texts >= 3, "{wire:?}: it has to stream, {texts} pieces came");
        let thoughts: String = events
            .iter()
            .filter_map(|e| match e {
                Event::Reasoning(text) => Some(text.as_str()),
                _ => None,
            })
            .collect();
        assert_eq!(thoughts, "Let me think about it.", "{wire:?}");
        assert!(events.iter().any(|event| matches!(event, Event::Created { .. })), "{wire:?}");
        assert!(events.contains(&Event::ItemDone), "{wire:?}");
        assert_eq!(answer.stop, Stop::End);
        let (cached, reasoning) = match wire {
            Wire::Ollama => (0, 0),
            Wire::Anthropic => (40, 0),
            _ => (40, 5),
        };
        let usage = TokenUsage { input: 100, cached, output: 20, reasoning };
        assert_eq!(answer.usage, usage, "{wire:?}");
        let cost = ((100 - cached) as f64 + cached as f64 * 0.5 + 20.0 * 2.0) / 1e6;
        assert!((answer.cost - cost).abs() < 1e-12, "{wire:?}: {}", answer.cost);
        assert!(matches!(events.last(), Some(Event::Completed(c)) if c.usage == usage), "{wire:?}");
        let call = &answer.calls[0];
        assert_eq!((call.outcome.as_str(), call.http_status), ("ok", Some(200)));
        assert_eq!(call.prompt_sha256, Prompt::text("Be kind.", "Hello?").sha256());
        assert!(call.first_text_ms.is_some());
    }
}

#[tokio::test]
async fn every_wire_carries_system_conversation_schema_and_limits() {
    for wire in WIRES {
        let bench = Bench::new(wire).await;
        bench.fake.script([Behaviour::json(json!({"ok": true, "steps": [{"run": "df -h"}]}))]);
        let answer = bench
            .ask(&prompt())
            .await
            .unwrap_or_else(|error| panic!("{wire:?}: {error} {:?}", bench.fake.faults()));
        assert_eq!(bench.fake.faults(), [""; 0], "{wire:?}");
        assert_eq!(answer.json, Some(json!({"ok": true, "steps": [{"run": "df -h"}]})));
        let asked = &bench.fake.asked()[0];
        assert_eq!(asked.model, "fake-model");
        assert_eq!(asked.system, "You plan. Be brief.", "{wire:?}");
        assert_eq!(asked.messages.len(), 3, "{wire:?}");
        assert_eq!(asked.messages[2].1, "Steps, please.");
        assert_eq!(asked.temperature, Some(0.1), "{wire:?}");
        assert_eq!(asked.max_output, Some(500), "{wire:?}");
        assert_eq!(asked.key.as_deref(), Some("sk-canary-5d1f"), "{wire:?}");
        let schema = asked.schema.as_ref().unwrap_or_else(|| panic!("{wire:?} sends a schema"));
        assert_eq!(schema["properties"]["ok"], json!({"type": "boolean"}), "{wire:?}");
    }
}

#[tokio::test]
async fn an_oauth_token_is_a_bearer_on_every_wire() {
    for wire in WIRES {
        let bench = Bench::with(wire, FixedKeys::token("ya29.token", "x"), |_| {}).await;
        bench.ask(&Prompt::text("", "Hello?")).await.unwrap();
        let asked = &bench.fake.asked()[0];
        assert_eq!(asked.headers["authorization"], "Bearer ya29.token", "{wire:?}");
        assert!(!asked.headers.contains_key("x-api-key"));
        assert!(!asked.headers.contains_key("x-goog-api-key"));
    }
}

#[tokio::test]
async fn without_a_key_no_key_header_is_sent() {
    for wire in WIRES {
        let bench = Bench::with(wire, FixedKeys::none(), |_| {}).await;
        bench.ask(&Prompt::text("", "Hello?")).await.unwrap();
        assert_eq!(bench.fake.asked()[0].key, None, "{wire:?}");
    }
}

#[tokio::test]
async fn models_that_reason_get_no_temperature() {
    for wire in WIRES {
        let bench =
            Bench::with(wire, FixedKeys::none(), |provider| provider.models[0].reasoning = true)
                .await;
        bench.ask(&Prompt { temperature: Some(0.1), ..Prompt::text("", "Hello?") }).await.unwrap();
        assert_eq!(bench.fake.asked()[0].temperature, None, "{wire:?}");
    }
}

#[tokio::test]
async fn own_headers_and_those_of_the_environment_are_sent() {
    let keys = FixedKeys::none().with_variable("ACME_TEAM", "team-7");
    let bench = Bench::with(Wire::OpenaiChat, keys, |provider| {
        provider.headers.insert("X-Title".to_owned(), "Reeve".to_owned());
        provider.env_headers.insert("X-Team".to_owned(), "ACME_TEAM".to_owned());
    })
    .await;
    bench.ask(&Prompt::text("", "Hello?")).await.unwrap();
    let asked = &bench.fake.asked()[0];
    assert_eq!(asked.headers["x-title"], "Reeve");
    assert_eq!(asked.headers["x-team"], "team-7");

    let bench = Bench::with(Wire::OpenaiChat, FixedKeys::none(), |provider| {
        provider.env_headers.insert("X-Team".to_owned(), "ACME_TEAM".to_owned());
    })
    .await;
    let error = bench.ask(&Prompt::text("", "Hello?")).await.unwrap_err();
    assert_eq!(error.code(), "model_key");
    assert!(error.to_string().contains("ACME_TEAM"), "{error}");
}

#[tokio::test]
async fn a_refused_parameter_is_left_out_once_and_remembered() {
    for (wire, field) in [
        (Wire::OpenaiChat, "max_tokens"),
        (Wire::OpenaiChat, "temperature"),
        (Wire::OpenaiChat, "stream_options"),
        (Wire::OpenaiChat, "json_schema"),
        (Wire::OpenaiChat, "response_format"),
        (Wire::OpenaiResponses, "temperature"),
        (Wire::OpenaiResponses, "json_schema"),
        (Wire::Anthropic, "temperature"),
        (Wire::Anthropic, "output_config"),
        (Wire::Gemini, "responseJsonSchema"),
    ] {
        let bench = Bench::new(wire).await;
        let refuses = || Behaviour::RefusesField(field.to_owned(), json!({"ok": true}));
        bench.fake.answer_with(move |_| refuses());
        let result = bench.ask(&prompt()).await;
        assert_eq!(bench.fake.faults(), [""; 0], "{wire:?} {field}");
        let answer = result.unwrap_or_else(|error| panic!("{wire:?} {field}: {error}"));
        assert_eq!(answer.json, Some(json!({"ok": true})));
        assert!(answer.calls.len() >= 2);
        assert_eq!(bench.clock.pauses(), [], "a request put right is no retry after bad luck");
        let before = bench.fake.asked().len();
        bench.ask(&prompt()).await.unwrap();
        assert_eq!(bench.fake.asked().len(), before + 1, "{wire:?} {field} is not tried again");
    }
}

#[tokio::test]
async fn a_parameter_refused_in_every_form_is_an_error_and_no_loop() {
    let bench = Bench::new(Wire::OpenaiChat).await;
    bench.fake.answer_with(|_| {
        Behaviour::Trouble(reeve_models::fakes::Trouble::BadRequest(
            "Unsupported parameter: 'temperature'".to_owned(),
        ))
    });
    let result = bench.ask(&prompt()).await;
    assert_eq!(code(&result), "model_request");
    assert_eq!(bench.fake.asked().len(), 2);
}

#[tokio::test]
async fn anthropic_without_output_config_is_made_to_call_a_tool() {
    let bench = Bench::new(Wire::Anthropic).await;
    bench
        .fake
        .answer_with(|_| Behaviour::RefusesField("output_config".to_owned(), json!({"ok": true})));
    bench.ask(&prompt()).await.unwrap();
    let body = &bench.fake.asked()[1].body;
    assert_eq!(body["tool_choice"]["name"], "plan");
    assert_eq!(body["tools"][0]["input_schema"]["properties"]["note"]["minLength"], 1);
}

#[tokio::test]
async fn a_model_without_schemas_gets_it_in_words() {
    let bench = Bench::new(Wire::OpenaiChat).await;
    bench.fake.answer_with(|_| {
        Behaviour::RefusesField("response_format".to_owned(), json!({"ok": true}))
    });
    bench.ask(&prompt()).await.unwrap();
    let last = bench.fake.asked().pop().unwrap();
    assert!(last.body.get("response_format").is_none());
    assert!(
        last.system.contains("JSON Schema") && last.system.contains("\"steps\""),
        "{}",
        last.system
    );
}

#[tokio::test]
async fn a_server_that_does_not_stream_is_understood() {
    for wire in WIRES {
        let bench = Bench::new(wire).await;
        bench.fake.script([Behaviour::NotStreamed("All at once.".to_owned())]);
        let answer = bench
            .ask(&Prompt::text("", "Hello?"))
            .await
            .unwrap_or_else(|error| panic!("{wire:?}: {error}"));
        assert_eq!((answer.text.as_str(), answer.usage.input), ("All at once.", 100), "{wire:?}");
    }
}

#[tokio::test]
async fn ollama_gets_a_context_that_holds_the_prompt() {
    let bench = Bench::new(Wire::Ollama).await;
    bench.ask(&Prompt::text("", "Hello?")).await.unwrap();
    bench.ask(&Prompt::text("", "x ".repeat(20_000))).await.unwrap();
    let asked = bench.fake.asked();
    assert_eq!(asked[0].body["options"]["num_ctx"], 16_384);
    assert_eq!(asked[1].body["options"]["num_ctx"], 32_768);
    let bench =
        Bench::with(Wire::Ollama, FixedKeys::none(), |p| p.models[0].context_tokens = Some(4_096))
            .await;
    let error = bench.ask(&Prompt::text("", "word ".repeat(20_000))).await.unwrap_err();
    assert_eq!(error.code(), "context_too_long");
    assert!(bench.fake.asked().is_empty(), "it would have cut the beginning off");
}

#[tokio::test]
async fn what_a_provider_says_about_limits_is_kept_and_told() {
    for (wire, what) in [
        (Wire::OpenaiChat, "tokens"),
        (Wire::OpenaiResponses, "tokens"),
        (Wire::Anthropic, "input_tokens"),
    ] {
        let bench = Bench::new(wire).await;
        let (result, events) = bench.ask_with(&Prompt::text("", "Hello?")).await;
        result.unwrap();
        let status = &bench.models.statuses()[0];
        assert_eq!((status.name.as_str(), status.breaker), ("acme", "closed"));
        let windows = &status.rate_limits;
        assert_eq!(windows.len(), 2, "{wire:?}");
        assert_eq!((windows[0].what.as_str(), windows[0].used_percent), ("requests", 25.0));
        assert_eq!((windows[1].what.as_str(), windows[1].used_percent), (what, 2.5));
        let reset = windows[0].resets_at.unwrap().to_string();
        assert_eq!(reset, "2026-01-01T00:06:00Z", "{wire:?}");
        assert!(events.contains(&Event::RateLimits(windows.clone())));
    }
}
