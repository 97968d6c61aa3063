//! What is said of a task. Everything that comes from machines or models is escaped by whoever
//! prints it; here it is only put into words.

use reeve_protocol::ops::{Effect, Mode};
use reeve_sdk::api::{
    Approval, Attempt, ExecuteCommandRequest, Group, OperationRequest, PlannedCommand, Quote,
    Stall, StallAdvice, Subtask, SubtaskState, Summary, Task, TaskState, Verdict, VerdictOutcome,
};

use crate::durations;
use crate::terminal::{Screen, escape};

/// Names in a row are cut after this many.
const MAX_NAMES: usize = 12;

/// Quotes shown below a verdict.
const MAX_QUOTES: usize = 6;

const BOLD: &str = "1";
const DIM: &str = "2";
const RED: &str = "31";
const GREEN: &str = "32";
const YELLOW: &str = "33";

/// Machines in a row, cut when there are many.
pub fn machines(names: &[String]) -> String {
    let shown: Vec<&str> = names.iter().take(MAX_NAMES).map(String::as_str).collect();
    match names.len().saturating_sub(MAX_NAMES) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

fn count(names: &[String]) -> String {
    match names.len() {
        1 => "1 machine".to_owned(),
        many => format!("{many} machines"),
    }
}

/// The exact bytes of a command on one line, with what a terminal would hide made visible.
pub fn command_line(argv: Option<&[String]>, shell: Option<&str>) -> String {
    match (argv, shell) {
        (_, Some(line)) => visible(line),
        (Some(argv), None) => {
            let words: Vec<String> = argv.iter().map(|word| quoted(word)).collect();
            words.join(" ")
        }
        (None, None) => String::new(),
    }
}

/// A line feed in a shell line begins another command: it must be seen as one.
pub fn visible(text: &str) -> String {
    escape(text).replace('\n', "\n        ").replace('\t', "^I")
}

fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "@%+=:,./_-".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    visible(&format!("'{}'", word.replace('\'', "'\\''")))
}

fn effect(screen: Screen, effect: Effect) -> String {
    let color = match effect {
        Effect::Read => GREEN,
        Effect::Change => YELLOW,
        Effect::Destroy => RED,
    };
    screen.paint(color, effect.as_str())
}

/// A step of a plan.
pub fn subtask(screen: Screen, subtask: &Subtask) -> String {
    let Subtask { number, command, purpose, expected, .. } = subtask;
    let mut text = format!(
        "{} {} on {}\n",
        screen.paint(BOLD, &format!("{number}. {}", escape(purpose))),
        effect(screen, subtask.effect),
        escape(&machines(&subtask.machines)),
    );
    text.push_str(&format!("      $ {}\n", planned(command)));
    if let Some(surroundings) = surroundings(command) {
        text.push_str(&format!("        {}\n", escape(&surroundings)));
    }
    if !expected.is_empty() {
        text.push_str(&screen.paint(DIM, &format!("      expected: {}", escape(expected))));
        text.push('\n');
    }
    if subtask.effect != Effect::Read {
        for reason in &subtask.effect_reasons {
            text.push_str(&screen.paint(DIM, &format!("      because {}", escape(reason))));
            text.push('\n');
        }
        if let Some(undo) = &subtask.undo {
            text.push_str(&format!("      undo: {}\n", visible(undo)));
        }
    }
    if !subtask.depends_on.is_empty() {
        let numbers: Vec<String> = subtask.depends_on.iter().map(u32::to_string).collect();
        text.push_str(&screen.paint(DIM, &format!("      after {}", numbers.join(", "))));
        text.push('\n');
    }
    text
}

fn planned(command: &PlannedCommand) -> String {
    match &command.operation {
        Some(operation) => visible(&operation.to_line()),
        None => command_line(command.argv.as_deref(), command.shell.as_deref()),
    }
}

/// User, directory, environment and mode, where they are not the usual ones.
fn surroundings(command: &PlannedCommand) -> Option<String> {
    let mut parts = Vec::new();
    if let Some(user) = &command.user {
        parts.push(format!("as {user}"));
    }
    if let Some(cwd) = &command.cwd {
        parts.push(format!("in {cwd}"));
    }
    if command.mode == Mode::Inspect {
        parts.push("in inspect mode".to_owned());
    }
    (!parts.is_empty()).then(|| parts.join(", "))
}

/// Everything a yes is bound to.
pub fn approval(screen: Screen, approval: &Approval) -> String {
    let names: Vec<String> = approval.machines.iter().map(|machine| machine.name.clone()).collect();
    let title = format!("Wants to {} {}", approval.effect.as_str(), count(&names));
    let mut text = screen.paint(YELLOW, &title);
    if !approval.purpose.is_empty() {
        text.push_str(&format!(": {}", escape(&approval.purpose)));
    }
    text.push('\n');
    let mut line = |name: &str, value: &str| {
        if !value.is_empty() {
            text.push_str(&format!("    {name:9} {value}\n"));
        }
    };
    match &approval.operation {
        OperationRequest::ExecuteCommand(command) => {
            line("command", &request_line(command));
            line("as", &escape(command.user.as_deref().unwrap_or("the agent's own user")));
            line("in", &escape(command.cwd.as_deref().unwrap_or("the user's home")));
            let pairs = command.env.iter().map(|(name, value)| quoted(&format!("{name}={value}")));
            line("with", &pairs.collect::<Vec<_>>().join(" "));
        }
        OperationRequest::ExplainOperation(asked) => {
            line("explain", &asked.operation.to_string());
        }
        // Exactly what it is; what it means is among the reasons.
        operation => line("operation", &visible(&operation.to_line())),
    }
    line("machines", &escape(&names.join(", ")));
    for reason in &approval.effect_reasons {
        line("because", &escape(reason));
    }
    line("undo", &approval.undo.as_deref().map(visible).unwrap_or_default());
    line("rule", &escape(&approval.rule));
    if approval.needed > 1 || approval.other_than_requester {
        let given = approval.decisions.iter().filter(|decision| decision.approved).count();
        let others = if approval.other_than_requester { ", others than who asked" } else { "" };
        line("needs", &format!("{} people{others}; {given} so far", approval.needed));
    }
    line("expires", &durations::age(approval.expires));
    line("id", &approval.id.to_string());
    line("digest", &escape(&approval.digest));
    text
}

/// A command of a request on one line.
pub fn request_line(command: &ExecuteCommandRequest) -> String {
    command_line(command.argv.as_deref(), command.shell.as_deref())
}

/// What was concluded of a step.
pub fn verdict(screen: Screen, subtask: &Subtask) -> String {
    let (color, word) = match subtask.state {
        SubtaskState::Met => (GREEN, "met"),
        SubtaskState::NotMet => (RED, "not met"),
        SubtaskState::Inconclusive => (YELLOW, "inconclusive"),
        SubtaskState::Skipped => (DIM, "skipped"),
        SubtaskState::Refused => (RED, "refused"),
        SubtaskState::Cancelled => (YELLOW, "cancelled"),
        SubtaskState::Waiting
        | SubtaskState::AwaitingApproval
        | SubtaskState::Running
        | SubtaskState::Judging => return String::new(),
    };
    let mut text = screen.paint(color, &format!("   {}. {word}", subtask.number));
    if let Some(reason) = &subtask.reason {
        text.push_str(&format!(": {}", escape(&reason.message)));
    }
    text.push('\n');
    if let Some(attempt) = subtask.attempts.last() {
        text.push_str(&groups(screen, attempt));
    }
    text
}

fn groups(screen: Screen, attempt: &Attempt) -> String {
    let mut text = String::new();
    let several = attempt.groups.len() > 1;
    for group in &attempt.groups {
        if several {
            let mark =
                if group.outlier { screen.paint(YELLOW, " (differs)") } else { String::new() };
            let ended = match group.exit_code {
                Some(code) => format!("exit {code}"),
                None => group.state.as_str().to_owned(),
            };
            text.push_str(&format!(
                "      {}: {ended}{mark}\n",
                escape(&machines(&group.machines))
            ));
        }
        if let Some(found) = &group.verdict {
            text.push_str(&conclusion(screen, group, found));
        }
    }
    text
}

fn conclusion(screen: Screen, group: &Group, verdict: &Verdict) -> String {
    let mut text = String::new();
    if !verdict.reason.is_empty() {
        text.push_str(&format!("      {}\n", escape(&verdict.reason)));
    }
    if let Some(disagreement) = &verdict.disagreement {
        let line = format!("      ! {}", escape(disagreement));
        text.push_str(&screen.paint(YELLOW, &line));
        text.push('\n');
    }
    for found in verdict.evidence.iter().take(MAX_QUOTES) {
        text.push_str(&screen.paint(DIM, &format!("      {}", quote(found))));
        text.push('\n');
    }
    if verdict.outcome == VerdictOutcome::Inconclusive && verdict.evidence.is_empty() {
        let line = format!("      nothing {} wrote shows it", escape(&machines(&group.machines)));
        text.push_str(&screen.paint(DIM, &line));
        text.push('\n');
    }
    text
}

/// Output with the place where it stands.
pub fn quote(quote: &Quote) -> String {
    let stream = match quote.stream {
        reeve_protocol::Stream::Stdout => "stdout",
        reeve_protocol::Stream::Stderr => "stderr",
    };
    let words = quote.quote.trim_end().replace('\n', " ⏎ ");
    escape(&format!("“{words}” {} {stream} {}–{}", quote.machine, quote.from, quote.to))
}

/// Why a command hangs.
pub fn stall(screen: Screen, stall: &Stall) -> String {
    let silent = durations::length(stall.silent_ms);
    let title = format!("No output from {} for {silent}", escape(&stall.machine));
    let mut text = format!("{}: {}\n", screen.paint(YELLOW, &title), escape(&stall.explanation));
    for fact in &stall.facts {
        text.push_str(&screen.paint(DIM, &format!("      {}", escape(fact))));
        text.push('\n');
    }
    let id = stall.operation;
    text.push_str(&match stall.advice {
        StallAdvice::Wait => "      best: wait\n".to_owned(),
        StallAdvice::Answer => {
            format!("      best: answer it, or end it with: reeve jobs cancel {id}\n")
        }
        StallAdvice::Kill => format!("      best: end it: reeve jobs cancel {id}\n"),
    });
    text
}

/// The last words.
pub fn summary(screen: Screen, summary: &Summary) -> String {
    let mut text =
        format!("{}\n{}\n", screen.paint(BOLD, "Summary"), escape(summary.text.trim_end()));
    for (number, found) in summary.quotes.iter().enumerate() {
        text.push_str(&screen.paint(DIM, &format!("  [{}] {}", number + 1, quote(found))));
        text.push('\n');
    }
    text
}

/// How a task stands, on one line.
pub fn state(task: &Task) -> String {
    let mut text = match task.state {
        TaskState::Completed if task.plan_only => "the plan is there; nothing was run".to_owned(),
        state => state.as_str().replace('_', " "),
    };
    if let Some(reason) = &task.reason {
        text.push_str(&format!(": {}", reason.message));
    }
    text
}

/// All of a task, as it is now.
pub fn task(screen: Screen, task: &Task) -> String {
    let mut text = String::new();
    if let Some(summary) = &task.plan_summary {
        let by = task.planner.as_deref().unwrap_or("builtin");
        text.push_str(&format!("{} (planned by {})\n", escape(summary), escape(by)));
    }
    for step in &task.subtasks {
        text.push_str(&subtask(screen, step));
        text.push_str(&verdict(screen, step));
    }
    if let Some(last) = &task.summary {
        text.push('\n');
        text.push_str(&summary(screen, last));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hidden_bytes_of_a_command_are_seen() {
        let line = |text: &str| command_line(None, Some(text));
        assert_eq!(line("ls\r\x1b[2K; rm x"), "ls^M^[[2K; rm x");
        assert_eq!(line("ls\nrm x"), "ls\n        rm x");
        assert_eq!(line("a\u{202e}b"), "a\\u{202e}b");
        let argv = |words: &[&str]| {
            let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
            command_line(Some(&words), None)
        };
        assert_eq!(argv(&["ls", "-l", "a b", "it's", ""]), "ls -l 'a b' 'it'\\''s' ''");
        assert_eq!(argv(&["echo", "a\x1bb"]), "echo 'a^[b'");
    }

    #[test]
    fn many_machines_are_counted_and_not_listed() {
        let names: Vec<String> = (1..=14).map(|n| format!("web-{n}")).collect();
        assert!(machines(&names).ends_with("web-12 and 2 more"));
        assert_eq!(machines(&names[..2]), "web-1, web-2");
    }
}
