//! What is shown of a job: raw bytes of one machine, lines of many, or JSON.

use std::collections::BTreeMap;
use std::time::Instant;

use base64::Engine;
use bytes::Bytes;
use reeve_protocol::{Gap, OperationId, Stream};
use reeve_sdk::api::{Job, Operation, OperationState};
use reeve_sdk::{Client, Output, Which};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::Options;
use super::lines::{Lines, Written};
use super::sink::Sink;
use super::summary;
use crate::args::Format;
use crate::exit;
use crate::failure::Failure;
use crate::output;
use crate::terminal::Screen;

/// With `-o json` and `yaml`: kept of each stream of each machine, bytes. The rest is counted and
/// can be had with `reeve jobs output`.
const KEPT_PER_STREAM: usize = 1024 * 1024;
/// And of all of them together.
const KEPT_IN_ALL: usize = 256 * 1024 * 1024;

/// Output of one operation, kept for a document or as a fingerprint.
#[derive(Default)]
struct Seen {
    stdout: Sha256,
    stderr: Sha256,
    kept: [Vec<u8>; 2],
    truncated: [bool; 2],
}

/// How it is shown.
enum Style {
    /// Before the job is known.
    Undecided,
    Raw,
    Lines,
    /// Of many: nothing before the end.
    Fold,
    JsonLines,
    Document,
}

pub struct View {
    options: Options,
    style: Style,
    lines: Lines,
    operations: BTreeMap<OperationId, Operation>,
    /// Only of jobs with many operations, and for documents.
    seen: BTreeMap<OperationId, Seen>,
    kept: usize,
}

impl View {
    pub fn new(options: Options) -> Self {
        let stdout = Screen::stdout(options.color);
        let stderr = Screen::stderr(options.color);
        Self {
            options,
            style: Style::Undecided,
            lines: Lines::new(options.prefix, stdout, stderr),
            operations: BTreeMap::new(),
            seen: BTreeMap::new(),
            kept: 0,
        }
    }

    fn name(&self, id: OperationId) -> String {
        match self.operations.get(&id) {
            Some(operation) => operation.machine.clone(),
            None => id.to_string(),
        }
    }

    pub async fn job(&mut self, sink: &Sink, job: &Job) -> Result<(), Failure> {
        if matches!(self.style, Style::Undecided) {
            self.style = match self.options.format {
                Format::Jsonl => Style::JsonLines,
                Format::Json | Format::Yaml => Style::Document,
                _ if job.counts.total <= 1 => Style::Raw,
                _ if self.options.fold => Style::Fold,
                _ => Style::Lines,
            };
        }
        if let Style::JsonLines = self.style {
            emit(sink, &json!({"event": "job", "job": job})).await?;
        }
        if let Some(single) = &job.single {
            self.know(sink, single.as_ref().clone()).await;
        }
        Ok(())
    }

    pub async fn operation(&mut self, sink: &Sink, operation: Operation) -> Result<(), Failure> {
        if let Style::JsonLines = self.style {
            emit(sink, &json!({"event": "operation", "operation": operation})).await?;
        }
        self.know(sink, operation).await;
        Ok(())
    }

    /// Machines that cannot be reached are named at once, not at the end.
    async fn know(&mut self, sink: &Sink, operation: Operation) {
        let ended = self.operations.get(&operation.id).is_some_and(|o| o.state.is_terminal());
        if ended && !operation.state.is_terminal() {
            // What has ended stays so, whatever an older picture of the job shows.
            return;
        }
        let away = |operation: &Operation| {
            operation.state == OperationState::Expired
                || (operation.state == OperationState::Queued && operation.reachable == Some(false))
        };
        let told = self
            .operations
            .get(&operation.id)
            .is_some_and(|before| away(before) && before.state == operation.state);
        self.lines.know(&operation.machine);
        if away(&operation) && !told {
            let one = matches!(self.style, Style::Raw);
            let quiet = matches!(self.style, Style::JsonLines | Style::Document);
            match operation.state {
                OperationState::Queued => {
                    sink.note(&format!("reeve: {} is offline; waiting for it", operation.machine))
                        .await;
                }
                // Of one machine the last line says it.
                _ if one || quiet => {}
                _ => {
                    let why = operation.reason.as_ref().map_or("offline", |r| r.message.as_str());
                    sink.note(&format!("reeve: {}: not reachable: {why}", operation.machine)).await;
                }
            }
        }
        self.operations.insert(operation.id, operation);
    }

    pub async fn output(&mut self, sink: &Sink, output: Output) -> Result<(), Failure> {
        match self.style {
            Style::Raw | Style::Undecided => sink.write(output.stream, output.bytes).await,
            Style::Lines => {
                self.fingerprint(&output);
                let name = self.name(output.operation);
                let mut out = Written::default();
                let now = Instant::now();
                self.lines.push(
                    output.operation,
                    &name,
                    output.stream,
                    &output.bytes,
                    now,
                    &mut out,
                );
                write(sink, out).await;
            }
            Style::Fold => self.fingerprint(&output),
            Style::Document => self.keep(&output),
            Style::JsonLines => {
                let mut line = json!({
                    "event": "output",
                    "machine": self.name(output.operation),
                    "operation": output.operation,
                    "stream": output.stream,
                    "offset": output.offset,
                    "all": output.all,
                });
                put_bytes(&mut line, "text", "base64", &output.bytes);
                emit(sink, &line).await?;
            }
        }
        Ok(())
    }

    fn fingerprint(&mut self, output: &Output) {
        let seen = self.seen.entry(output.operation).or_default();
        match output.stream {
            Stream::Stdout => seen.stdout.update(&output.bytes),
            Stream::Stderr => seen.stderr.update(&output.bytes),
        }
    }

    fn keep(&mut self, output: &Output) {
        let seen = self.seen.entry(output.operation).or_default();
        let index = usize::from(output.stream == Stream::Stderr);
        let Some(kept) = seen.kept.get_mut(index) else { return };
        let room = KEPT_PER_STREAM
            .saturating_sub(kept.len())
            .min(KEPT_IN_ALL.saturating_sub(self.kept))
            .min(output.bytes.len());
        kept.extend_from_slice(output.bytes.get(..room).unwrap_or_default());
        self.kept += room;
        if room < output.bytes.len()
            && let Some(truncated) = seen.truncated.get_mut(index)
        {
            *truncated = true;
        }
    }

    pub async fn gap(&mut self, sink: &Sink, id: OperationId, gap: Gap) -> Result<(), Failure> {
        let machine = self.name(id);
        if let Style::JsonLines = self.style {
            return emit(
                sink,
                &json!({"event": "gap", "machine": machine, "operation": id, "gap": gap}),
            )
            .await;
        }
        let bytes = crate::durations::size(gap.to.saturating_sub(gap.from));
        sink.note(&format!("reeve: {machine}: {bytes} of output were dropped here")).await;
        Ok(())
    }

    pub fn next_idle(&self) -> Option<Instant> {
        self.lines.next_idle()
    }

    pub async fn show_idle(&mut self, sink: &Sink) {
        self.flush(sink, Some(Instant::now())).await;
    }

    async fn flush(&mut self, sink: &Sink, before: Option<Instant>) {
        let mut out = Written::default();
        let operations = &self.operations;
        let name = |id: OperationId| {
            operations
                .get(&id)
                .map_or_else(|| id.to_string(), |operation| operation.machine.clone())
        };
        self.lines.flush(before, name, &mut out);
        write(sink, out).await;
    }

    /// Says how it went; the exit code.
    pub async fn conclude(
        mut self,
        client: &Client,
        sink: &Sink,
        job: &Job,
    ) -> Result<u8, Failure> {
        self.flush(sink, None).await;
        if self.operations.len() < job.counts.total as usize {
            return Err(Failure::new(format!(
                "the coordinator told the end of {} of {} operations only; see 'reeve jobs show {}'",
                self.operations.len(),
                job.counts.total,
                job.id
            )));
        }
        let code = exit::of_job(self.operations.values());
        match self.style {
            Style::Undecided | Style::Raw => {
                for operation in self.operations.values() {
                    if let Some(sentence) = summary::sentence(operation) {
                        sink.note(&format!("reeve: {sentence}")).await;
                    }
                    if operation.leftovers_killed > 0 {
                        let count = operation.leftovers_killed;
                        sink.note(&format!(
                            "reeve: {}: {count} process{} it left running {} killed",
                            operation.machine,
                            if count == 1 { "" } else { "es" },
                            if count == 1 { "was" } else { "were" },
                        ))
                        .await;
                    }
                }
            }
            Style::Lines | Style::Fold => self.sum_up(client, sink, job).await?,
            Style::JsonLines => {
                emit(sink, &json!({"event": "end", "job": job.id, "exit_code": code})).await?;
            }
            Style::Document => {
                let document = self.document(job)?;
                let text = match self.options.format {
                    Format::Yaml => serde_yaml_ng::to_string(&document)
                        .map_err(|error| Failure::new(format!("cannot write YAML: {error}")))?,
                    _ => output::json(&document)?,
                };
                sink.write(Stream::Stdout, text).await;
            }
        }
        Ok(code)
    }

    async fn sum_up(&mut self, client: &Client, sink: &Sink, job: &Job) -> Result<(), Failure> {
        let mut seen = std::mem::take(&mut self.seen);
        let mut digests = Vec::new();
        for operation in self.operations.values() {
            let found = seen.remove(&operation.id);
            if found.is_none() && operation.started.is_none() && operation.output.all == 0 {
                continue;
            }
            let found = found.unwrap_or_default();
            let stdout = <[u8; 32]>::from(found.stdout.finalize());
            let stderr = <[u8; 32]>::from(found.stderr.finalize());
            digests.push((operation, (stdout, stderr)));
        }
        let groups = summary::groups(digests.into_iter());
        if let Style::Fold = self.style {
            for group in &groups {
                sink.write(Stream::Stdout, format!("── {} ──\n", summary::group_title(group)))
                    .await;
                if let Some(first) = group.first() {
                    show_body(client, sink, first).await?;
                }
            }
        } else if let Some(line) = summary::fold_line(&groups) {
            sink.note(&line).await;
        }
        for operation in self.operations.values() {
            if let OperationState::Refused | OperationState::Lost = operation.state
                && let Some(sentence) = summary::sentence(operation)
            {
                sink.note(&format!("reeve: {sentence}")).await;
            }
        }
        sink.note(&summary::aggregate(self.operations.values())).await;
        if let Some(hint) = summary::retry_hint(job, self.operations.values()) {
            sink.note(&hint).await;
        }
        Ok(())
    }

    fn document(&mut self, job: &Job) -> Result<Value, Failure> {
        let failed = |error| Failure::new(format!("cannot write JSON: {error}"));
        let mut operations = Vec::new();
        for operation in self.operations.values() {
            let mut value = serde_json::to_value(operation).map_err(failed)?;
            let seen = self.seen.remove(&operation.id).unwrap_or_default();
            let [stdout, stderr] = &seen.kept;
            put_bytes(&mut value, "stdout", "stdout_base64", stdout);
            put_bytes(&mut value, "stderr", "stderr_base64", stderr);
            let [stdout_truncated, stderr_truncated] = seen.truncated;
            put(&mut value, "stdout_truncated", json!(stdout_truncated));
            put(&mut value, "stderr_truncated", json!(stderr_truncated));
            operations.push(value);
        }
        Ok(json!({"job": job, "operations": operations}))
    }
}

/// The stored output of one machine stands for its whole group.
async fn show_body(client: &Client, sink: &Sink, operation: &Operation) -> Result<(), Failure> {
    let screen = Screen::stdout(crate::args::Color::Never);
    let mut stream = client.output(operation.id, Which::All, 0, false);
    let mut at_line_start = true;
    while let Some(bytes) = stream.next().await? {
        at_line_start = bytes.last() == Some(&b'\n');
        let bytes = if screen.terminal {
            Bytes::from(crate::terminal::escape_bytes(&bytes))
        } else {
            bytes
        };
        sink.write(Stream::Stdout, bytes).await;
    }
    if !at_line_start {
        sink.write(Stream::Stdout, "\n").await;
    }
    Ok(())
}

async fn write(sink: &Sink, out: Written) {
    sink.write(Stream::Stdout, out.stdout).await;
    sink.write(Stream::Stderr, out.stderr).await;
}

async fn emit(sink: &Sink, value: &Value) -> Result<(), Failure> {
    sink.write(Stream::Stdout, output::json_line(value)?).await;
    Ok(())
}

fn put(value: &mut Value, key: &str, item: Value) {
    if let Value::Object(fields) = value {
        fields.insert(key.to_owned(), item);
    }
}

/// Bytes as text when they are UTF-8, else as base64 under another key, so that nothing is lost.
fn put_bytes(value: &mut Value, text_key: &str, base64_key: &str, bytes: &[u8]) {
    match std::str::from_utf8(bytes) {
        Ok(text) => put(value, text_key, json!(text)),
        Err(_) => {
            let encoded = base64::engine::general_purpose::STANDARD.encode(bytes);
            put(value, base64_key, json!(encoded));
        }
    }
}
