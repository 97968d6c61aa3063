//! Where keys go, and where they do not.

#![allow(clippy::unwrap_used)] // Helpers of tests, which fail by it.

mod support;

use std::sync::{Arc, Mutex};

use reeve_models::fakes::{Behaviour, FakeModel, FixedKeys};
use reeve_models::{ErrorCode, Prompt, check_settings};
use reeve_sdk::api::{ProviderSettings, Wire};
use serde_json::json;
use support::Bench;

fn hello() -> Prompt {
    Prompt::text("", "Hello?")
}

#[tokio::test]
async fn redirects_are_not_followed_and_the_key_goes_nowhere_else() {
    let elsewhere = FakeModel::start().await.unwrap();
    let bench = Bench::new(Wire::OpenaiChat).await;
    bench.fake.script([Behaviour::Redirects(format!(
        "{}/chat/completions",
        elsewhere.base_url(Wire::OpenaiChat)
    ))]);
    let error = bench.ask(&hello()).await.unwrap_err();
    assert_eq!(error.code(), "model_settings");
    assert!(error.to_string().contains("redirects"), "{error}");
    assert!(elsewhere.asked().is_empty());
}

#[tokio::test]
async fn a_self_signed_server_is_refused() {
    let signed = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let key =
        rustls::pki_types::PrivateKeyDer::try_from(signed.signing_key.serialize_der()).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![signed.cert.der().clone()], key)
        .unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let bench = Bench::with(Wire::OpenaiChat, FixedKeys::key("sk-canary-5d1f"), |provider| {
        provider.base_url = Some(format!("https://localhost:{port}/v1"));
    })
    .await;
    let prompt = hello();
    let served = async {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            if acceptor.accept(socket).await.is_ok() {
                panic!("the client took the certificate");
            }
        }
    };
    let error = tokio::select! { result = bench.ask(&prompt) => result.unwrap_err(), () = served => unreachable!() };
    assert_eq!((error.code(), error.calls().len()), ("model_unreachable", 1));
    assert!(error.to_string().to_lowercase().contains("certificate"), "{error}");
}

#[tokio::test]
async fn a_key_is_in_no_error_debug_text_or_log() {
    let canary = "sk-canary-5d1f";
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(log.clone())
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let mut seen = String::new();
    for wire in support::WIRES {
        let keys = FixedKeys::key(canary).with_variable("TEAM", "team-canary-77");
        let bench = Bench::with(wire, keys, |provider| {
            provider.env_headers.insert("x-team".to_owned(), "TEAM".to_owned());
        })
        .await;
        bench.fake.answer_with(|asked| {
            let team = asked.headers["x-team"].to_str().unwrap().to_owned();
            let key = asked.key.clone().unwrap_or_default();
            Behaviour::Reply {
                status: 401,
                headers: vec![],
                body: format!("{{\"error\":{{\"message\":\"bad key {key} of {team}\"}}}}")
                    .into_bytes(),
            }
        });
        let (result, events) = bench.ask_with(&hello()).await;
        assert_eq!(
            bench.fake.asked()[0].key.as_deref(),
            Some(canary),
            "it is shown where it belongs"
        );
        seen.push_str(&format!(
            "{result:?} {} {events:?} {:?} {:?}",
            result.as_ref().unwrap_err(),
            bench.models,
            bench.models.statuses()
        ));
        bench.fake.answer_with(|_| Behaviour::CutMidEvent);
        seen.push_str(&format!("{:?}", bench.ask(&hello()).await));
        seen.push_str(&format!("{:?}", bench.models.test("acme", None).await));
    }
    assert!(seen.contains("[key]"), "the server's text was passed on: {seen}");
    seen.push_str(&String::from_utf8_lossy(&log.0.lock().unwrap()));
    assert!(
        !seen.contains("canary"),
        "{}",
        &seen[seen.find("canary").unwrap().saturating_sub(200)..]
    );
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl tracing_subscriber::fmt::MakeWriter<'_> for Log {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

#[tokio::test]
async fn a_key_with_a_line_end_inside_is_told_without_showing_it() {
    let bench = Bench::with(Wire::Anthropic, FixedKeys::key("sk-can\nary"), |_| {}).await;
    let error = bench.ask(&hello()).await.unwrap_err();
    assert_eq!(error.code(), "model_key");
    assert!(!format!("{error:?}").contains("ary"), "{error:?}");
    let bench = Bench::with(Wire::Anthropic, FixedKeys::key("sk-trailing\n"), |_| {}).await;
    bench.ask(&hello()).await.unwrap();
    assert_eq!(bench.fake.asked()[0].key.as_deref(), Some("sk-trailing"));
}

fn settings(change: serde_json::Value) -> ProviderSettings {
    let mut all = json!({"name": "acme", "wire": "openai_chat"});
    all.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
    serde_json::from_value(all).unwrap()
}

#[test]
fn settings_where_a_key_would_go_astray_are_refused() {
    for (change, word) in [
        (json!({"base_url": "http://192.0.2.7/v1"}), "public"),
        (json!({"base_url": "http://[2001:db8::1]/v1"}), "public"),
        (json!({"base_url": "http://169.254.169.254/"}), "public"),
        (json!({"base_url": "ftp://example.org"}), "ftp"),
        (json!({"base_url": "https://user:pw@example.org/v1"}), "password"),
        (json!({"base_url": "https://example.org/v1?key=x"}), "query"),
        (json!({"base_url": "example.org"}), "no address"),
        (json!({"base_url": "file:///etc/passwd"}), "no host"),
        (json!({"name": "Acme"}), "no name"),
        (json!({"name": ""}), "no name"),
        (json!({"name": "builtin"}), "no name"),
        (json!({"name": "a/b"}), "no name"),
        (json!({"wire": "builtin"}), "builtin"),
        (json!({"headers": {"host": "x"}}), "cannot be set"),
        (json!({"headers": {"Transfer-Encoding": "x"}}), "cannot be set"),
        (json!({"headers": {"a b": "x"}}), "no header name"),
        (json!({"headers": {"x-a": "a\nb"}}), "characters"),
        (json!({"models": [{"name": ""}]}), "no name"),
        (json!({"models": [{"name": "a"}, {"name": "a"}]}), "twice"),
        (json!({"models": [{"name": "a", "price": {"input": -1.0, "output": 1.0}}]}), "price"),
        (json!({"models": [{"name": "a", "max_output_tokens": 0}]}), "tokens"),
        (json!({"retries": 11}), "retries"),
        (json!({"idle_timeout_ms": 0}), "idle_timeout_ms"),
    ] {
        let error = check_settings(&settings(change.clone())).expect_err(&change.to_string());
        assert_eq!(error.code, ErrorCode::Settings);
        assert!(error.message.contains(word), "{change}: {}", error.message);
    }
    for good in [
        json!({}),
        json!({"base_url": "http://127.0.0.1:8000/v1"}),
        json!({"base_url": "http://10.1.2.3:11434"}),
        json!({"base_url": "http://[fd00::1]:8080"}),
        json!({"base_url": "http://localhost:1234/v1"}),
        json!({"base_url": "https://api.example.org/v1/"}),
        json!({"headers": {"HTTP-Referer": "https://reeve.example"}}),
        json!({"models": [{"name": "vendor/model:free"}]}),
    ] {
        check_settings(&settings(good.clone())).unwrap_or_else(|error| panic!("{good}: {error}"));
    }
}

#[tokio::test]
async fn unusable_settings_fail_when_asked_with_the_reason() {
    let bench = Bench::with(Wire::OpenaiChat, FixedKeys::none(), |provider| {
        provider.base_url = Some("http://192.0.2.7/v1".to_owned());
    })
    .await;
    let error = bench.ask(&hello()).await.unwrap_err();
    assert_eq!(error.code(), "model_settings");
    assert!(error.to_string().contains("public"), "{error}");
}

#[test]
fn the_settings_in_the_documentation_are_usable() {
    let text = include_str!("../../../docs/models.md");
    let (_, rest) = text.split_once("```toml\n").unwrap();
    let (block, _) = rest.split_once("```").unwrap();
    let settings: toml::Table = toml::from_str(block).unwrap();
    let providers = settings["models"]["provider"].as_array().unwrap();
    assert_eq!(providers.len(), 6);
    for provider in providers {
        let provider: ProviderSettings = provider.clone().try_into().unwrap();
        check_settings(&provider).unwrap();
    }
}
