//! Output of a task's jobs while they run: lines with the machine's name before them. Only so many of
//! each machine: everything is kept, and can be read with `reeve jobs output`.

use std::collections::HashMap;

use reeve_protocol::OperationId;
use reeve_sdk::{Event, Follow};

use crate::output::print;
use crate::terminal::{Screen, escape_bytes};

/// Lines of one operation that are shown as they come.
const SHOWN_LINES: usize = 20;

/// Bytes of a line that has not ended which are kept for it.
const MAX_LINE: usize = 4096;

#[derive(Default)]
struct Shown {
    machine: String,
    /// What came behind the last line feed.
    rest: Vec<u8>,
    lines: usize,
    hidden: usize,
}

/// One job's live output.
pub struct Live {
    follow: Follow,
    operations: HashMap<OperationId, Shown>,
    screen: Screen,
    all: bool,
}

impl Live {
    /// `all`: every line, however many.
    pub fn new(follow: Follow, screen: Screen, all: bool) -> Self {
        Self { follow, operations: HashMap::new(), screen, all }
    }

    /// Shows until the job has ended. Output is for people here: that it breaks off is no failure of
    /// the task.
    pub async fn run(mut self) {
        while let Ok(Some(event)) = self.follow.next().await {
            match event {
                Event::Job(job) => {
                    if let Some(single) = job.single {
                        self.know(single.id, single.machine);
                    }
                }
                Event::Operation(operation) => self.know(operation.id, operation.machine.clone()),
                Event::Output(output) => self.show(output.operation, &output.bytes),
                Event::Gap { .. } | Event::Interrupted { .. } | Event::Resumed => {}
            }
        }
        let mut operations: Vec<(OperationId, Shown)> = self.operations.drain().collect();
        operations.sort_by_key(|(id, _)| *id);
        for (id, shown) in operations {
            let mut text = String::new();
            if !shown.rest.is_empty() && (self.all || shown.lines < SHOWN_LINES) {
                text.push_str(&line(self.screen, &shown.machine, &shown.rest));
            }
            if shown.hidden > 0 {
                let more = format!("… {} more lines: reeve jobs output {id}", shown.hidden);
                text.push_str(&format!(
                    "   {} {}\n",
                    crate::terminal::escape(&shown.machine),
                    self.screen.paint("2", &more)
                ));
            }
            let _ = print(&text);
        }
    }

    fn know(&mut self, id: OperationId, machine: String) {
        self.operations.entry(id).or_default().machine = machine;
    }

    fn show(&mut self, id: OperationId, bytes: &[u8]) {
        let shown = self.operations.entry(id).or_default();
        let mut text = String::new();
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let room = MAX_LINE.saturating_sub(shown.rest.len());
            shown.rest.extend_from_slice(piece.get(..room.min(piece.len())).unwrap_or_default());
            if piece.last() != Some(&b'\n') {
                continue;
            }
            if self.all || shown.lines < SHOWN_LINES {
                text.push_str(&line(self.screen, &shown.machine, &shown.rest));
            } else {
                shown.hidden += 1;
            }
            shown.lines += 1;
            shown.rest.clear();
        }
        let _ = print(&text);
    }
}

fn line(screen: Screen, machine: &str, bytes: &[u8]) -> String {
    let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    let bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
    let name = screen.paint("36", &format!("{}:", crate::terminal::escape(machine)));
    format!("   {name} {}\n", escape_bytes(bytes))
}
