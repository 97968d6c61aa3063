//! What providers do that their documentation does not dwell on.

mod support;

use reeve_models::fakes::{Behaviour, FixedKeys};
use reeve_models::{Prompt, Stop};
use reeve_sdk::api::Wire;
use serde_json::json;
use support::{Bench, WIRES, code, prompt};

fn hello() -> Prompt {
    Prompt::text("", "Hello?")
}

async fn raw(wire: Wire, body: &str) -> Result<reeve_models::Answer, reeve_models::AskError> {
    let bench = Bench::with(wire, FixedKeys::none(), |provider| provider.retries = Some(0)).await;
    bench.fake.script([Behaviour::Raw(body.to_owned())]);
    bench.ask(&hello()).await
}

#[tokio::test]
async fn responses_without_deltas_are_read_from_their_items() {
    let answer = raw(
        Wire::OpenaiResponses,
        concat!(
            "data: {\"type\":\"response.created\",\"response\":{}}\n\n",
            "data: {\"type\":\"response.output_item.done\",\"output_index\":0,\"item\":{\"type\":\"message\",\"content\":[{\"type\":\"output_text\",\"text\":\"Hi.\"}]}}\n\n",
            "data: {\"type\":\"response.completed\",\"response\":{\"usage\":{\"input_tokens\":3,\"output_tokens\":2}}}\n\n",
        ),
    )
    .await
    .unwrap();
    assert_eq!((answer.text.as_str(), answer.usage.input), ("Hi.", 3));
}

#[tokio::test]
async fn responses_with_everything_at_the_end_are_read_once() {
    let answer = raw(
        Wire::OpenaiResponses,
        concat!(
            "data: {\"type\":\"response.output_text.delta\",\"output_index\":0,\"delta\":\"Hi.\"}\n\n",
            "data: {\"type\":\"response.output_item.done\",\"output_index\":0,\"item\":{\"type\":\"message\",\"content\":[{\"type\":\"output_text\",\"text\":\"Hi.\"}]}}\n\n",
            "data: {\"type\":\"response.completed\",\"response\":{\"output\":[{\"type\":\"message\",\"content\":[{\"type\":\"output_text\",\"text\":\"Hi.\"}]}]}}\n\n",
        ),
    )
    .await
    .unwrap();
    assert_eq!(answer.text, "Hi.");
}

#[tokio::test]
async fn finish_reason_with_content_in_one_chunk_and_no_done_is_a_whole_reply() {
    let answer = raw(
        Wire::OpenaiChat,
        "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hi.\"},\"finish_reason\":\"stop\"}]}\n\n",
    )
    .await
    .unwrap();
    assert_eq!((answer.text.as_str(), answer.stop), ("Hi.", Stop::End));
}

#[tokio::test]
async fn usage_in_a_chunk_without_choices_is_counted() {
    let answer = raw(
        Wire::OpenaiChat,
        concat!(
            "data: {\"choices\":[{\"delta\":{\"content\":\"Hi.\"},\"finish_reason\":\"stop\"}]}\n\n",
            "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":2}}\n\n",
            "data: [DONE]\n\n",
        ),
    )
    .await
    .unwrap();
    assert_eq!((answer.usage.input, answer.usage.output), (7, 2));
}

#[tokio::test]
async fn the_last_event_may_lack_its_empty_line_and_lines_may_end_as_on_windows() {
    let body = "data: {\"choices\":[{\"delta\":{\"content\":\"Hi.\"},\"finish_reason\":\"stop\"}]}\r\n\r\ndata: {\"choices\":[],\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":2}}";
    let answer = raw(Wire::OpenaiChat, body).await.unwrap();
    assert_eq!((answer.text.as_str(), answer.usage.input), ("Hi.", 7));
}

#[tokio::test]
async fn events_nobody_knows_and_comments_are_passed_over() {
    for (wire, body) in [
        (
            Wire::OpenaiResponses,
            "event: response.new_thing\ndata: {\"type\":\"response.new_thing\"}\n\ndata: {\"type\":\"response.output_text.delta\",\"delta\":\"Hi.\"}\n\ndata: {\"type\":\"response.completed\",\"response\":{}}\n\n",
        ),
        (
            Wire::OpenaiChat,
            ": OPENROUTER PROCESSING\n\ndata: {\"new\":1}\n\ndata: {\"choices\":[{\"delta\":{\"content\":\"Hi.\"},\"finish_reason\":\"stop\"}]}\n\n",
        ),
        (
            Wire::Anthropic,
            "event: ping\ndata: {\"type\":\"ping\"}\n\nevent: new\ndata: {\"type\":\"new\"}\n\ndata: {\"type\":\"content_block_delta\",\"delta\":{\"type\":\"new_delta\"}}\n\ndata: {\"type\":\"content_block_delta\",\"delta\":{\"type\":\"text_delta\",\"text\":\"Hi.\"}}\n\ndata: {\"type\":\"message_stop\"}\n\n",
        ),
        (
            Wire::Gemini,
            "data: {\"new\":{}}\n\ndata: {\"candidates\":[{\"content\":{\"parts\":[{\"thoughtSignature\":\"x\"},{\"text\":\"Hi.\"}]},\"finishReason\":\"STOP\"}]}\n\n",
        ),
        (
            Wire::Ollama,
            "{\"new\":1}\n\n{\"message\":{\"content\":\"Hi.\"},\"done\":false}\n{\"done\":true}",
        ),
    ] {
        let answer = raw(wire, body).await.unwrap_or_else(|error| panic!("{wire:?}: {error}"));
        assert_eq!(answer.text, "Hi.", "{wire:?}");
    }
}

#[tokio::test]
async fn an_error_event_after_a_good_status_is_an_error() {
    for (wire, body, expected) in [
        (
            Wire::Anthropic,
            "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"Overloaded\"}}\n\n",
            "model_busy",
        ),
        (
            Wire::OpenaiResponses,
            "data: {\"type\":\"response.failed\",\"response\":{\"error\":{\"code\":\"server_error\",\"message\":\"x\"}}}\n\n",
            "model_failing",
        ),
        (
            Wire::OpenaiResponses,
            "data: {\"type\":\"error\",\"code\":\"context_length_exceeded\",\"message\":\"too long\"}\n\n",
            "context_too_long",
        ),
        (
            Wire::OpenaiResponses,
            "data: {\"type\":\"response.failed\",\"response\":{\"error\":{\"code\":\"insufficient_quota\",\"message\":\"x\"}}}\n\n",
            "quota",
        ),
        (
            Wire::OpenaiResponses,
            "data: {\"type\":\"error\",\"error\":{\"type\":\"tokens\",\"code\":\"rate_limit_exceeded\",\"message\":\"Please try again in 1s\"}}\n\n",
            "model_busy",
        ),
        (
            Wire::OpenaiChat,
            "data: {\"error\":{\"code\":502,\"message\":\"upstream\"}}\n\n",
            "model_failing",
        ),
        (
            Wire::Gemini,
            "data: {\"error\":{\"code\":503,\"status\":\"UNAVAILABLE\",\"message\":\"overloaded\"}}\n\n",
            "model_failing",
        ),
        (Wire::Ollama, "{\"error\":\"llama runner process has terminated\"}\n", "model_failing"),
    ] {
        assert_eq!(code(&raw(wire, body).await), expected, "{wire:?} {body}");
    }
}

#[tokio::test]
async fn an_end_before_the_last_event_is_an_error() {
    for wire in WIRES {
        let bench =
            Bench::with(wire, FixedKeys::none(), |provider| provider.retries = Some(0)).await;
        bench.fake.script([Behaviour::EndsEarly]);
        let result = bench.ask(&hello()).await;
        assert_eq!(code(&result), "model_broken", "{wire:?}");
        assert_eq!(code(&raw(wire, "").await), "model_broken", "{wire:?}: nothing at all");
    }
}

#[tokio::test]
async fn a_refusal_is_its_own_error_on_every_wire() {
    for wire in [Wire::OpenaiResponses, Wire::OpenaiChat, Wire::Anthropic, Wire::Gemini] {
        let bench = Bench::new(wire).await;
        bench.fake.script([Behaviour::Refuses]);
        let result = bench.ask(&prompt()).await;
        assert_eq!(code(&result), "model_refused", "{wire:?}");
        assert_eq!(bench.fake.asked().len(), 1, "no other model is asked, nor this one again");
    }
}

#[tokio::test]
async fn a_reply_cut_by_the_limit_of_tokens_is_told_when_it_is_no_json() {
    for wire in WIRES {
        let bench = Bench::new(wire).await;
        bench.fake.script([Behaviour::Truncated("{\"ok\": tr".to_owned())]);
        let result = bench.ask(&prompt()).await;
        assert_eq!(code(&result), "model_truncated", "{wire:?}");
        bench.fake.script([Behaviour::Truncated("Once upon".to_owned())]);
        let answer = bench.ask(&hello()).await.unwrap();
        assert_eq!((answer.text.as_str(), answer.stop), ("Once upon", Stop::Length), "{wire:?}");
    }
}

#[tokio::test]
async fn a_reply_that_is_not_the_schema_is_told_with_place_and_text() {
    for wire in WIRES {
        let bench = Bench::new(wire).await;
        bench.fake.script([Behaviour::json(json!({"ok": "perhaps"}))]);
        let error = bench.ask(&prompt()).await.unwrap_err();
        let reeve_models::AskError::Failed { code, message, text, calls, .. } = error else {
            panic!()
        };
        assert_eq!(code.as_str(), "model_schema", "{wire:?}");
        assert!(message.contains("at /ok: a boolean is expected, a string found"), "{message}");
        assert_eq!(text.as_deref(), Some("{\"ok\":\"perhaps\"}"));
        assert_eq!(calls[0].outcome, "model_schema");
        assert!(calls[0].cost > 0.0, "it was paid for");
    }
}

#[tokio::test]
async fn json_with_a_fence_and_words_around_it_is_understood() {
    for wire in WIRES {
        let bench = Bench::new(wire).await;
        bench.fake.script([Behaviour::fenced(&json!({"ok": true}))]);
        assert_eq!(bench.ask(&prompt()).await.unwrap().json, Some(json!({"ok": true})), "{wire:?}");
    }
}

#[tokio::test]
async fn null_for_what_was_left_out_is_as_left_out() {
    let bench = Bench::new(Wire::OpenaiResponses).await;
    bench
        .fake
        .script([Behaviour::json(json!({"ok": true, "note": null, "steps": null, "kind": null}))]);
    assert_eq!(bench.ask(&prompt()).await.unwrap().json, Some(json!({"ok": true})));
}

#[tokio::test]
async fn too_much_of_anything_ends_the_call_at_once() {
    for wire in WIRES {
        for behaviour in [Behaviour::Floods, Behaviour::GiantEvent] {
            let bench = Bench::new(wire).await;
            bench.fake.script([behaviour.clone()]);
            let error = bench.ask(&hello()).await.unwrap_err();
            assert_eq!(error.code(), "model_broken", "{wire:?} {behaviour:?}");
            let text = error.to_string();
            let bound =
                if matches!(behaviour, Behaviour::Floods) { "8192 KiB" } else { "1024 KiB" };
            assert!(text.contains(bound), "{text}");
            assert_eq!(bench.fake.asked().len(), 1, "what is too much once is too much again");
        }
    }
}

#[tokio::test]
async fn of_an_error_only_the_beginning_is_read() {
    let bench = Bench::with(Wire::OpenaiChat, FixedKeys::none(), |p| p.retries = Some(0)).await;
    bench.fake.script([Behaviour::Reply {
        status: 400,
        headers: vec![],
        body: vec![b'x'; 50 << 20],
    }]);
    let error = bench.ask(&hello()).await.unwrap_err();
    assert_eq!(error.code(), "model_request");
    assert!(error.to_string().len() < 1000, "{}", error.to_string().len());
}

#[tokio::test]
async fn a_web_page_a_compressed_body_and_bytes_are_told_apart() {
    for (behaviour, expected, word) in [
        (Behaviour::WebPage, "model_settings", "base_url"),
        (Behaviour::Compressed, "model_broken", "compressed"),
        (Behaviour::Garbage, "model_broken", "acme"),
        (Behaviour::HalfJson, "model_broken", "no JSON"),
    ] {
        let bench = Bench::with(Wire::Anthropic, FixedKeys::none(), |p| p.retries = Some(0)).await;
        bench.fake.script([behaviour.clone()]);
        let error = bench.ask(&hello()).await.unwrap_err();
        assert_eq!(error.code(), expected, "{behaviour:?}");
        assert!(error.to_string().contains(word), "{error}");
    }
}
