//! Operations as steps of a plan, beside commands: typed, without a shell, their effect known
//! exactly.

use std::fmt::Write as _;

use reeve_protocol::ops::RemotePath;
use reeve_sdk::api::{OperationRequest, PlannedCommand};
use serde::Deserialize;

use crate::clean::clean;

/// What a planner may use, and how it is told of it. Whatever streams for ever, takes stdin or opens
/// a way in is not here.
const OFFERED: &[(&str, &str)] = &[
    ("file_stat", r#"what is at a path: {"path": "/etc/hosts", "hash": true}"#),
    ("file_list", r#"what is in a folder: {"path": "/etc/nginx", "depth": 2, "limit": 200}"#),
    (
        "file_find",
        r#"files beneath a folder by name, kind, size (bytes) or age (seconds): {"path": "/var/log", "globs": ["*.log"], "min_size": 104857600, "limit": 200}"#,
    ),
    (
        "file_grep",
        r#"lines of files that match a regular expression: {"path": "/etc/nginx", "pattern": "listen\\s+80", "globs": ["*.conf"], "limit": 200}"#,
    ),
    (
        "file_mkdir",
        r#"make a folder and those above it: {"path": "/srv/app/data", "parents": true}"#,
    ),
    (
        "file_mode",
        r#"bits (decimal) and owner: {"path": "/srv/app/data", "mode": 488, "user": "app", "group": "app"}"#,
    ),
    (
        "file_move",
        r#"another name, never over what is there unless replace is true: {"from": "/etc/app.conf", "to": "/etc/app.conf.old"}"#,
    ),
    (
        "file_remove",
        r#"a file, or a folder with recursive: {"path": "/var/cache/app/old", "recursive": true}"#,
    ),
    ("file_history", r#"versions that were kept of a file: {"path": "/etc/app.conf"}"#),
    ("file_restore", r#"put one of them back: {"path": "/etc/app.conf", "version": 3}"#),
    (
        "log_read",
        r#"the journal of units, or files; grep is a regular expression, priority 0 to 7: {"units": ["nginx.service"], "lines": 200, "priority": 4, "grep": "upstream"}"#,
    ),
    (
        "process_list",
        r#"processes, by cpu, memory, pid or started: {"sort": "memory", "limit": 20}"#,
    ),
    ("service_list", r#"units of systemd that are loaded, or all: {"all": true}"#),
    ("service_status", r#"one unit of systemd: {"unit": "nginx.service"}"#),
    (
        "service_control",
        r#"start, stop, restart, reload, enable, disable, mask or unmask one, and wait for it: {"unit": "nginx.service", "action": "restart"}"#,
    ),
    (
        "machine_describe",
        r#"disks, networks, users, updates, whether a reboot is needed: {"without_updates": false}"#,
    ),
];

/// Parameters that a step may not have: it has to end by itself.
const ENDLESS: &[(&str, &str)] = &[("log_read", "follow")];

/// A step's operation as a planner writes it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WireOperation {
    name: String,
    /// JSON in text: providers that enforce schemas take no open objects.
    parameters: String,
}

/// The names, for the schema.
#[cfg(test)]
pub(crate) fn offered_names() -> Vec<&'static str> {
    OFFERED.iter().map(|(name, _)| *name).collect()
}

/// What a planner is told of them.
pub(crate) fn describe_offered() -> String {
    let mut text = "Instead of a command a step may have one of these operations. They need no \
                    shell and no tools on the machine, run as the agent's own user, and keep a \
                    version of what they overwrite or remove. Parameters are JSON.\n"
        .to_owned();
    for (name, about) in OFFERED {
        let _ = writeln!(text, "{name}: {about}");
    }
    text
}

/// An operation of a model that may be shown to a person as it is.
pub(crate) fn check_operation(
    wire: &WireOperation,
    user: Option<&str>,
    most: usize,
) -> Result<PlannedCommand, String> {
    let WireOperation { name, parameters } = wire;
    if !OFFERED.iter().any(|(offered, _)| offered == name) {
        return Err(format!("{name:?} is none of the operations"));
    }
    if user.is_some() {
        return Err("operations run as the agent's own user; use a command".to_owned());
    }
    if parameters.len() > most {
        return Err(format!("its parameters have {} bytes; at most {most}", parameters.len()));
    }
    let parameters: serde_json::Value = serde_json::from_str(parameters)
        .map_err(|error| format!("its parameters are no JSON: {error}"))?;
    if !shows(&parameters) {
        return Err("its parameters have characters that do not show".to_owned());
    }
    let endless = |(of, key): &&(&str, &str)| *of == name && parameters.get(*key).is_some();
    if let Some((_, key)) = ENDLESS.iter().find(endless) {
        return Err(format!("{name}: a step has to end by itself, so it cannot have {key}"));
    }
    let request = serde_json::json!({ name.as_str(): parameters });
    let operation: OperationRequest =
        serde_json::from_value(request).map_err(|error| format!("{name}: {error}"))?;
    let work = operation.as_work().ok_or("it is no operation of a plan")?;
    if work.has_stdin() {
        return Err("a step has no stdin".to_owned());
    }
    work.validate().map_err(|error| format!("{name}: {error}"))?;
    Ok(PlannedCommand { operation: Some(Box::new(operation)), ..PlannedCommand::default() })
}

/// Whether all text in it is text that a person sees as it is.
fn shows(value: &serde_json::Value) -> bool {
    match value {
        serde_json::Value::String(text) => {
            clean(text) == text.as_str() && RemotePath::from(text.as_str()).display() == *text
        }
        serde_json::Value::Array(values) => values.iter().all(shows),
        serde_json::Value::Object(fields) => {
            fields.iter().all(|(name, value)| clean(name) == name.as_str() && shows(value))
        }
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use reeve_protocol::ops::Effect;

    use super::*;

    fn check(name: &str, parameters: &str) -> Result<PlannedCommand, String> {
        let wire = WireOperation { name: name.to_owned(), parameters: parameters.to_owned() };
        check_operation(&wire, None, 8192)
    }

    #[test]
    fn operation_is_read_with_its_exact_effect() {
        let command = check("file_stat", r#"{"path":"/etc/hosts"}"#).expect("an operation");
        let operation = command.operation.expect("an operation");
        assert_eq!(operation.as_work().map(|work| work.effect()), Some(Effect::Read));
        assert_eq!(operation.to_line(), r#"file_stat {"path":"/etc/hosts"}"#);
    }

    #[test]
    fn what_is_not_offered_or_makes_no_sense_is_refused() {
        for (name, parameters, says) in [
            ("execute_command", r#"{"shell":"reboot"}"#, "none of the operations"),
            ("explain_operation", "{}", "none of the operations"),
            ("file_stat", "{", "no JSON"),
            ("file_stat", r#"{"path":"etc"}"#, "begin with '/'"),
            ("file_stat", r#"{"path":"/etc/../root"}"#, "'..'"),
            ("file_stat", r#"{"path":"/a\u202eb"}"#, "do not show"),
            ("file_stat", r#"{"path":"/a\nb"}"#, "do not show"),
            ("file_stat", r#"{"path":"/etc","more":1}"#, "unknown field"),
            ("log_read", r#"{"units":["cron.service"],"follow":true}"#, "end by itself"),
            ("process_signal", r#"{"targets":[],"signal":"KILL"}"#, "none of the operations"),
        ] {
            let error = check(name, parameters).expect_err(parameters);
            assert!(error.contains(says), "{error}");
        }
        let wire = WireOperation {
            name: "file_stat".to_owned(),
            parameters: r#"{"path":"/etc"}"#.to_owned(),
        };
        assert!(check_operation(&wire, Some("deploy"), 8192).is_err());
        assert!(check_operation(&wire, None, 5).is_err());
    }

    #[test]
    fn schema_offers_what_can_be_read() {
        let schema = crate::schemas::plan();
        let names = &schema["properties"]["steps"]["items"]["properties"]["operation"]["properties"]
            ["name"]["enum"];
        assert_eq!(names, &serde_json::json!(offered_names()));
    }

    #[test]
    fn every_example_that_planners_are_shown_can_be_read() {
        for (name, about) in OFFERED {
            let (_, example) = about.split_once(": {").expect("an example");
            check(name, &format!("{{{example}")).expect(name);
        }
    }
}
