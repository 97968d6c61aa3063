//! How a job ended, in the words of its last lines.

use std::collections::BTreeMap;

use reeve_sdk::api::{ExecuteCommandRequest, Job, Operation, OperationRequest, OperationState};

use crate::durations;

/// Names in a row are cut after this many.
const MAX_NAMES: usize = 20;

/// What became of one operation, for counting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Ok,
    Failed,
    Unreachable,
    Skipped,
    Cancelled,
    Open,
}

fn kind(operation: &Operation) -> Kind {
    let stopped = operation.reason.as_ref().is_some_and(|reason| reason.code == "rollout_stopped");
    match operation.state {
        OperationState::Succeeded => Kind::Ok,
        OperationState::Expired | OperationState::Cancelled if stopped => Kind::Skipped,
        OperationState::Expired => Kind::Unreachable,
        OperationState::Cancelled => Kind::Cancelled,
        OperationState::Failed
        | OperationState::TimedOut
        | OperationState::Refused
        | OperationState::Lost => Kind::Failed,
        OperationState::Queued | OperationState::Sent | OperationState::Running => Kind::Open,
    }
}

/// A few words: `exit 3`, `signal 9`, `timed out`.
pub fn short(operation: &Operation) -> String {
    match operation.state {
        OperationState::TimedOut => "timed out".to_owned(),
        OperationState::Refused => match &operation.reason {
            Some(reason) => format!("refused: {}", reason.code),
            None => "refused".to_owned(),
        },
        OperationState::Failed => match (operation.exit_code, operation.signal) {
            (Some(code), _) => format!("exit {code}"),
            (None, Some(signal)) => format!("signal {signal}"),
            (None, None) => match &operation.reason {
                Some(reason) => reason.code.clone(),
                None => "failed".to_owned(),
            },
        },
        state => state.as_str().to_owned(),
    }
}

/// One sentence for what an exit code alone does not say; nothing for an ordinary end.
pub fn sentence(operation: &Operation) -> Option<String> {
    let machine = &operation.machine;
    let reason = operation.reason.as_ref().map(|reason| reason.message.as_str());
    let with = |what: &str| match reason {
        Some(reason) => format!("{machine}: {what}: {reason}"),
        None => format!("{machine}: {what}"),
    };
    match operation.state {
        OperationState::Refused => Some(with("refused")),
        OperationState::Lost => Some(with("lost; what became of the command cannot be known")),
        OperationState::Expired => Some(format!(
            "{}; nothing was run there (--wait 1h waits for it)",
            with("not reachable")
        )),
        OperationState::TimedOut => Some(match operation.duration_ms {
            Some(millis) => with(&format!("timed out after {}", durations::length(millis))),
            None => with("timed out"),
        }),
        OperationState::Cancelled => Some(with("cancelled")),
        OperationState::Failed => match (operation.exit_code, operation.signal) {
            (None, Some(signal)) => Some(with(&format!("ended by signal {signal}"))),
            (Some(_), _) => reason.map(|reason| format!("{machine}: {reason}")),
            (None, None) => Some(with("failed")),
        },
        OperationState::Queued | OperationState::Sent | OperationState::Running => {
            Some(with("the coordinator stopped telling before it ended"))
        }
        OperationState::Succeeded => None,
    }
}

/// `ok 8  failed 1 (db-1: exit 3)  unreachable 1 (web-9)`.
pub fn aggregate<'a>(operations: impl Iterator<Item = &'a Operation> + Clone) -> String {
    let of = |wanted: Kind| operations.clone().filter(move |operation| kind(operation) == wanted);
    let mut parts = vec![format!("ok {}", of(Kind::Ok).count())];
    let failed: Vec<_> = of(Kind::Failed).map(|o| format!("{}: {}", o.machine, short(o))).collect();
    if !failed.is_empty() {
        parts.push(format!("failed {} ({})", failed.len(), names(&failed, ", ")));
    }
    for (wanted, word) in [
        (Kind::Unreachable, "unreachable"),
        (Kind::Cancelled, "cancelled"),
        (Kind::Skipped, "skipped"),
        (Kind::Open, "not ended"),
    ] {
        let machines: Vec<_> = of(wanted).map(|o| o.machine.clone()).collect();
        if !machines.is_empty() {
            parts.push(format!("{word} {} ({})", machines.len(), names(&machines, " ")));
        }
    }
    parts.join("  ")
}

fn names(all: &[String], joint: &str) -> String {
    match all.get(..MAX_NAMES) {
        Some(first) if all.len() > MAX_NAMES => {
            format!("{}{joint}… {} more", first.join(joint), all.len() - MAX_NAMES)
        }
        _ => all.join(joint),
    }
}

/// The same command for those machines where it did not succeed.
pub fn retry_hint<'a>(
    job: &Job,
    operations: impl Iterator<Item = &'a Operation>,
) -> Option<String> {
    let again: Vec<_> = operations
        .filter(|operation| !matches!(kind(operation), Kind::Ok | Kind::Open))
        .map(|operation| operation.machine.as_str())
        .collect();
    if again.is_empty() || again.len() > MAX_NAMES {
        return None;
    }
    let OperationRequest::ExecuteCommand(command) = &job.operation else { return None };
    Some(format!("retry: reeve run {} {}", again.join(","), command_line(command)))
}

/// A command with its options as it would be typed.
fn command_line(command: &ExecuteCommandRequest) -> String {
    let mut parts = Vec::new();
    let mut option = |name: &str, value: &str| {
        parts.push(name.to_owned());
        parts.push(quote(value));
    };
    if let Some(user) = &command.user {
        option("--user", user);
    }
    if let Some(cwd) = &command.cwd {
        option("--cwd", cwd);
    }
    for (name, value) in &command.env {
        option("--env", &format!("{name}={value}"));
    }
    if let Some(millis) = command.timeout_ms {
        option("--timeout", &format!("{millis}ms"));
    }
    if command.stdin {
        parts.push("--stdin".to_owned());
    }
    match (&command.argv, &command.shell) {
        (Some(argv), _) => {
            parts.push("--".to_owned());
            parts.extend(argv.iter().map(|argument| quote(argument)));
        }
        (None, Some(line)) => {
            parts.push("--shell".to_owned());
            parts.push(quote(line));
        }
        (None, None) => {}
    }
    parts.join(" ")
}

/// The command of a job, without its options.
pub fn command_text(operation: &OperationRequest) -> String {
    let command = match operation {
        OperationRequest::ExecuteCommand(command) => command,
        OperationRequest::ExplainOperation(asked) => {
            return format!("explain {}", asked.operation);
        }
        work => return work.as_work().map(|work| work.describe()).unwrap_or_default(),
    };
    match (&command.argv, &command.shell) {
        (Some(argv), _) => {
            argv.iter().map(|argument| quote(argument)).collect::<Vec<_>>().join(" ")
        }
        (None, Some(line)) => line.clone(),
        (None, None) => String::new(),
    }
}

/// As a POSIX shell takes it for one word.
fn quote(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./:=@%+,".contains(&byte);
    if !text.is_empty() && text.bytes().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// Machines whose output and end are the same, most machines first.
pub fn groups<'a, D: Ord>(
    digests: impl Iterator<Item = (&'a Operation, D)>,
) -> Vec<Vec<&'a Operation>> {
    let mut by_digest: BTreeMap<(D, String), Vec<&Operation>> = BTreeMap::new();
    for (operation, digest) in digests {
        by_digest.entry((digest, short(operation))).or_default().push(operation);
    }
    let mut groups: Vec<_> = by_digest.into_values().collect();
    for group in &mut groups {
        group.sort_by(|a, b| a.machine.cmp(&b.machine));
    }
    groups.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| name_of(a).cmp(name_of(b))));
    groups
}

fn name_of<'a>(group: &[&'a Operation]) -> &'a str {
    group.first().map_or("", |operation| operation.machine.as_str())
}

/// `3 machines: web-1 web-2 web-3`.
pub fn group_title(group: &[&Operation]) -> String {
    let machines: Vec<String> = group.iter().map(|operation| operation.machine.clone()).collect();
    let count = machines.len();
    format!("{count} machine{}: {}", if count == 1 { "" } else { "s" }, names(&machines, " "))
}

/// `output: 9 identical (…), 1 differs (web-3)`.
pub fn fold_line(groups: &[Vec<&Operation>]) -> Option<String> {
    let names_of = |group: &[&Operation]| {
        names(&group.iter().map(|operation| operation.machine.clone()).collect::<Vec<_>>(), " ")
    };
    let (first, rest) = groups.split_first()?;
    let different: usize = rest.iter().map(Vec::len).sum();
    if first.len() < 2 {
        return (different > 0).then(|| format!("output: all {} differ", different + 1));
    }
    if rest.is_empty() {
        return Some(format!("output: all {} identical", first.len()));
    }
    let rest: Vec<&Operation> = rest.iter().flatten().copied().collect();
    Some(format!(
        "output: {} identical ({}), {different} differ{} ({})",
        first.len(),
        names_of(first),
        if different == 1 { "s" } else { "" },
        names_of(&rest)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watch::samples::{job, operation};
    use reeve_sdk::api::Reason;

    fn failed(name: &str, code: i32) -> Operation {
        Operation { exit_code: Some(code), ..operation(name, OperationState::Failed) }
    }

    #[test]
    fn the_last_line_names_what_did_not_succeed() {
        let skipped = Operation {
            reason: Some(Reason { code: "rollout_stopped".to_owned(), message: String::new() }),
            ..operation("web-4", OperationState::Cancelled)
        };
        let all = [
            operation("web-1", OperationState::Succeeded),
            failed("db-1", 3),
            operation("web-9", OperationState::Expired),
            skipped,
        ];
        assert_eq!(
            aggregate(all.iter()),
            "ok 1  failed 1 (db-1: exit 3)  unreachable 1 (web-9)  skipped 1 (web-4)"
        );
        assert_eq!(
            retry_hint(&job(4), all.iter()).as_deref(),
            Some("retry: reeve run db-1,web-9,web-4 -- echo 'it'\\''s'")
        );
    }

    #[test]
    fn identical_outputs_are_grouped_and_an_exit_code_makes_a_difference() {
        let all = [
            operation("c", OperationState::Succeeded),
            operation("a", OperationState::Succeeded),
            failed("b", 1),
        ];
        let groups = groups(all.iter().map(|operation| (operation, 7)));
        assert_eq!(groups.len(), 2);
        assert_eq!(group_title(&groups[0]), "2 machines: a c");
        assert_eq!(fold_line(&groups).as_deref(), Some("output: 2 identical (a c), 1 differs (b)"));
    }

    #[test]
    fn all_different_is_said_so() {
        let all = [operation("a", OperationState::Succeeded), failed("b", 1)];
        let groups = groups(all.iter().enumerate().map(|(index, operation)| (operation, index)));
        assert_eq!(fold_line(&groups).as_deref(), Some("output: all 2 differ"));
    }

    #[test]
    fn long_rows_of_names_are_cut() {
        let many: Vec<_> =
            (0..30).map(|i| operation(&format!("m{i}"), OperationState::Expired)).collect();
        assert!(aggregate(many.iter()).ends_with("… 10 more)"));
        assert_eq!(retry_hint(&job(30), many.iter()), None);
    }
}
