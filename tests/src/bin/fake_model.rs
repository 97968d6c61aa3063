//! A model that is none: speaks the wires of all providers on one port and replies from a script,
//! so that `reeve models add` and `reeve ask` can be tried without a provider.

use std::sync::Mutex;

use anyhow::{Context, bail};
use reeve_models::Speaker;
use reeve_models::fakes::{Asked, Behaviour, Delay, FakeModel, Trouble};
use reeve_sdk::api::Wire;
use serde::Deserialize;

const USAGE: &str = "Usage: reeve-fake-model LISTEN [SCRIPT]      (such as 127.0.0.1:9100 script.json)

SCRIPT is a JSON list; the first entry that fits answers:
  [{\"when\": \"disk\", \"json\": {…}},       only when the prompt has this text
   {\"trouble\": \"overloaded\", \"times\": 2},  busy | overloaded | error | quota | context | key | model
   {\"text\": \"Hello.\"}]
Without one it says {\"ok\": true} when a schema is asked for, else Hello.";

/// An entry of the script.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    when: Option<String>,
    times: Option<u64>,
    text: Option<String>,
    json: Option<serde_json::Value>,
    trouble: Option<String>,
}

impl Entry {
    fn behaviour(&self) -> anyhow::Result<Behaviour> {
        match (&self.text, &self.json, &self.trouble) {
            (Some(text), None, None) => Ok(Behaviour::text(text)),
            (None, Some(json), None) => Ok(Behaviour::json(json.clone())),
            (None, None, Some(word)) => Ok(Behaviour::Trouble(match word.as_str() {
                "busy" => Trouble::RateLimit(Delay::Seconds(2)),
                "overloaded" => Trouble::Overloaded,
                "error" => Trouble::Server(500),
                "quota" => Trouble::Quota,
                "context" => Trouble::ContextTooLong,
                "key" => Trouble::BadKey,
                "model" => Trouble::NoModel,
                other => bail!("no trouble is called '{other}'"),
            })),
            _ => bail!("an entry has one of text, json, trouble"),
        }
    }
}

/// The entries left, with how often each may still answer.
struct Script(Mutex<Vec<(Entry, Behaviour)>>);

impl Script {
    fn read(text: &str) -> anyhow::Result<Self> {
        let mut known = Vec::new();
        for entry in serde_json::from_str::<Vec<Entry>>(text)? {
            let behaviour = entry.behaviour()?;
            known.push((entry, behaviour));
        }
        Ok(Self(Mutex::new(known)))
    }

    fn answer(&self, asked: &Asked) -> Behaviour {
        let mut prompt = asked.system.clone();
        for (speaker, text) in &asked.messages {
            if *speaker == Speaker::User {
                prompt.push_str(text);
            }
        }
        let mut entries = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        for (entry, behaviour) in entries.iter_mut() {
            let fits = entry.when.as_ref().is_none_or(|when| prompt.contains(when));
            if fits && entry.times != Some(0) {
                entry.times = entry.times.map(|times| times - 1);
                return behaviour.clone();
            }
        }
        match asked.schema {
            Some(_) => Behaviour::json(serde_json::json!({"ok": true})),
            None => Behaviour::text("Hello."),
        }
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (listen, script) = match arguments.as_slice() {
        [listen] if !listen.starts_with('-') => (listen, "[]".to_owned()),
        [listen, file] => {
            (listen, std::fs::read_to_string(file).with_context(|| format!("cannot read {file}"))?)
        }
        _ => {
            eprintln!("{USAGE}");
            std::process::exit(2);
        }
    };
    let script = Script::read(&script).context("the script is not usable")?;
    let fake = FakeModel::start_at(listen.parse().context("LISTEN is ADDRESS:PORT")?).await?;
    fake.answer_with(move |asked| {
        println!("{} asks {}: {} messages", asked.wire.as_str(), asked.model, asked.messages.len());
        script.answer(asked)
    });
    for wire in
        [Wire::OpenaiResponses, Wire::OpenaiChat, Wire::Anthropic, Wire::Gemini, Wire::Ollama]
    {
        println!(
            "reeve models add fake --wire {} --base-url {} --model fake-model",
            wire.as_str(),
            fake.base_url(wire)
        );
    }
    tokio::signal::ctrl_c().await?;
    Ok(())
}
