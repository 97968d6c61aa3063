//! The rules of the layout, kept by reading manifests and sources. Each broken rule is printed with
//! its reason: the reason is what the person needs who broke it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_owned()
}

fn cargo(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO"))
        .args(arguments)
        .current_dir(root())
        .output()
        .expect("start cargo");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

/// Broken rules, collected so that one run shows them all.
#[derive(Default)]
struct Broken(Vec<String>);

impl Broken {
    fn add(&mut self, place: impl std::fmt::Display, what: impl std::fmt::Display, reason: &str) {
        self.0.push(format!("{place}: {what}\n    because {reason}"));
    }
}

impl Drop for Broken {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            assert!(self.0.is_empty(), "rules broken:\n{}", self.0.join("\n"));
        }
    }
}

/// Names of a package's own dependencies, those for tests left out.
fn direct_dependencies(package: &str) -> BTreeSet<String> {
    let metadata: serde_json::Value = serde_json::from_str(&cargo(&[
        "metadata",
        "--no-deps",
        "--format-version",
        "1",
        "--offline",
    ]))
    .expect("JSON");
    let packages = metadata["packages"].as_array().expect("packages");
    let found = packages.iter().find(|p| p["name"] == package).expect(package);
    let dependencies = found["dependencies"].as_array().expect("dependencies").iter();
    dependencies
        .filter(|dependency| dependency["kind"].is_null() && dependency["optional"] != true)
        .map(|dependency| dependency["name"].as_str().expect("a name").to_owned())
        .collect()
}

/// Names of everything that ends up in a package's program.
fn all_dependencies(package: &str) -> BTreeSet<String> {
    cargo(&[
        "tree",
        "--offline",
        "-p",
        package,
        "-e",
        "normal",
        "--prefix",
        "none",
        "--format",
        "{p}",
    ])
    .lines()
    .filter_map(|line| Some(line.split_whitespace().next()?.to_owned()))
    .collect()
}

#[test]
fn crates_depend_only_on_what_their_place_allows() {
    let mut broken = Broken::default();
    let allowed = ["serde", "rmp-serde", "serde_bytes", "uuid", "thiserror"];
    for name in direct_dependencies("reeve-protocol") {
        if !allowed.contains(&name.as_str()) {
            broken.add(
                "protocol/Cargo.toml",
                format!("depends on {name}"),
                "what is said on the wire is types only: every part links it, and it does no I/O",
            );
        }
    }
    let bans: [(&str, &[&str], &str); 9] = [
        (
            "reeve-agent",
            &[
                "sqlx",
                "axum",
                "reqwest",
                "hyper-rustls",
                "rmcp",
                "utoipa",
                "reeve-coordinator",
                "reeve-sdk",
            ],
            "the agent runs on every machine: it stays small, keeps no database, serves no HTTP and calls no model",
        ),
        (
            "reeve-coordinator",
            &["nix", "sysinfo", "reeve-agent"],
            "the coordinator runs nothing on its own machine: what a machine is and does is the agent's business",
        ),
        (
            "reeve-stages",
            &["tokio", "reqwest", "hyper", "sqlx", "axum", "reeve-models", "reeve-coordinator"],
            "stages are pure functions of records: what they gave can be had again from the record alone",
        ),
        (
            "reeve-risk",
            &["tokio", "reqwest", "sqlx"],
            "what a command may do is computed from its text alone, so that it is the same everywhere and every time",
        ),
        (
            "reeve-models",
            &["sqlx", "axum", "hyper-tls", "nix", "reeve-coordinator", "reeve-agent", "reeve-link"],
            "who speaks to providers of models knows them and nothing else: no database, no machines",
        ),
        (
            "reeve-runbooks",
            &["tokio", "reqwest", "sqlx", "axum", "reeve-models", "reeve-coordinator"],
            "the planner without a model is a function of the sentence and the catalogue: it works when nothing else does",
        ),
        ("reeve-protocol", &["tokio"], "what is said on the wire knows nothing of how it travels"),
        (
            "reeve-sdk",
            &["sqlx", "axum", "reeve-coordinator", "reeve-agent"],
            "the SDK is linked by other people's programs",
        ),
        (
            "reeve-cli",
            &["sqlx", "axum", "reeve-coordinator", "reeve-agent", "reeve-link"],
            "`reeve` speaks the public API, as anybody could",
        ),
    ];
    for (package, banned, reason) in bans {
        let found = all_dependencies(package);
        assert!(found.contains("serde"), "cargo tree shows nothing of {package}");
        for name in banned {
            if found.contains(*name) {
                broken.add(package, format!("ends up with {name}"), reason);
            }
        }
    }
    for package in [
        "reeve-protocol",
        "reeve-link",
        "reeve-sdk",
        "reeve-cli",
        "reeve-agent",
        "reeve-coordinator",
        "reeve-models",
    ] {
        for banned in ["openssl-sys", "native-tls", "ring"] {
            if all_dependencies(package).contains(banned) {
                broken.add(
                    package,
                    format!("ends up with {banned}"),
                    "there is one TLS here: rustls with aws-lc-rs",
                );
            }
        }
    }
}

/// A source file with comments gone, strings apart, and tests left out.
struct Source {
    /// From the workspace, such as `coordinator/src/users/store.rs`.
    path: String,
    /// Line by line, strings emptied.
    code: Vec<String>,
    /// Line number (from 1) and contents.
    strings: Vec<(usize, String)>,
}

impl Source {
    fn places(&self, word: &str) -> Vec<String> {
        let holds = |line: &str| {
            line.match_indices(word).any(|(at, _)| {
                let boundary =
                    |c: Option<char>| !c.is_some_and(|c| c.is_alphanumeric() || c == '_');
                boundary(line[..at].chars().next_back())
                    && boundary(line[at + word.len()..].chars().next())
            })
        };
        self.code
            .iter()
            .enumerate()
            .filter(|(_, line)| holds(line))
            .map(|(number, _)| format!("{}:{}", self.path, number + 1))
            .collect()
    }

    fn parse(path: String, text: &str) -> Self {
        // Tests are the last thing in a file here, and may do what the program may not.
        let text = text.find("#[cfg(test)]\nmod tests {").map_or(text, |at| &text[..at]);
        let mut code = vec![String::new()];
        let mut strings = Vec::new();
        let bytes: Vec<char> = text.chars().collect();
        let mut at = 0;
        let starts = |at: usize, what: &str| {
            what.chars().enumerate().all(|(n, c)| bytes.get(at + n) == Some(&c))
        };
        while at < bytes.len() {
            if starts(at, "//") {
                while at < bytes.len() && bytes[at] != '\n' {
                    at += 1;
                }
            } else if starts(at, "/*") {
                while at < bytes.len() && !starts(at, "*/") {
                    if bytes[at] == '\n' {
                        code.push(String::new());
                    }
                    at += 1;
                }
                at += 2;
            } else if bytes[at] == '"' {
                let hashes = bytes[..at].iter().rev().take_while(|c| **c == '#').count();
                let raw = at > hashes && bytes[at - hashes - 1] == 'r';
                let end: String =
                    if raw { format!("\"{}", "#".repeat(hashes)) } else { "\"".to_owned() };
                let line = code.len();
                let mut string = String::new();
                at += 1;
                while at < bytes.len() && !starts(at, &end) {
                    if !raw && bytes[at] == '\\' {
                        at += 1;
                    }
                    if bytes.get(at) == Some(&'\n') {
                        code.push(String::new());
                    }
                    string.extend(bytes.get(at));
                    at += 1;
                }
                at += end.len();
                strings.push((line, string));
                code.last_mut().expect("a line").push_str("\"\"");
            } else if bytes[at] == '\''
                && (starts(at + 2, "'")
                    || (starts(at + 1, "\\") && bytes.get(at + 3) == Some(&'\'')))
            {
                at += if starts(at + 1, "\\") { 4 } else { 3 };
            } else if bytes[at] == '\n' {
                code.push(String::new());
                at += 1;
            } else {
                code.last_mut().expect("a line").push(bytes[at]);
                at += 1;
            }
        }
        Self { path, code, strings }
    }
}

fn sources(folder: &str) -> Vec<Source> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).expect("a folder").flatten() {
            let path = entry.path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    walk(&root().join(folder), &mut found);
    found.sort();
    assert!(!found.is_empty(), "no sources in {folder}");
    found
        .into_iter()
        // Files of tests alone.
        .filter(|path| {
            !matches!(path.file_name().and_then(|n| n.to_str()), Some("tests.rs" | "testing.rs"))
        })
        .filter(|path| !path.components().any(|part| part.as_os_str() == "tests"))
        .map(|path| {
            let name = path.strip_prefix(root()).expect("inside").to_string_lossy().into_owned();
            Source::parse(name, &fs::read_to_string(&path).expect("a source"))
        })
        .collect()
}

/// Whether a coordinator file is part of the HTTP layer wherever it lives.
fn speaks_http(path: &str) -> bool {
    path.starts_with("coordinator/src/http/")
        || path.ends_with("routes.rs")
        || path.contains("/routes/")
        || path == "coordinator/src/fleet/accept.rs"
}

#[test]
fn sql_is_written_in_stores_only() {
    let mut broken = Broken::default();
    let reason = "whoever asks 'which SQL?' has to find it in one guess: the feature's store.rs";
    for source in sources("coordinator/src") {
        let name = source.path.rsplit('/').next().expect("a name");
        if name == "store.rs"
            || source.path.contains("/store/")
            || source.path.starts_with("coordinator/src/db")
        {
            continue;
        }
        for word in [
            "sqlx::query",
            "sqlx::query_as",
            "sqlx::query_scalar",
            "sqlx::raw_sql",
            "sqlx::QueryBuilder",
        ] {
            for place in source.places(word) {
                broken.add(place, word, reason);
            }
        }
        for (line, text) in &source.strings {
            let text = text.trim_start().to_lowercase();
            let statement = (text.starts_with("select ") && text.contains(" from "))
                || text.starts_with("insert into ")
                || (text.starts_with("update ") && text.contains(" set "))
                || text.starts_with("delete from ");
            if statement {
                broken.add(format!("{}:{line}", source.path), "SQL", reason);
            }
        }
    }
}

#[test]
fn axum_is_used_where_http_is_spoken_only() {
    let mut broken = Broken::default();
    for source in sources("coordinator/src") {
        if speaks_http(&source.path) {
            continue;
        }
        for place in source.places("axum") {
            broken.add(
                place,
                "axum",
                "rules must be callable without a web server: HTTP is spoken in http/, routes.rs and fleet/accept.rs",
            );
        }
    }
}

/// Higher may import lower, never the other way. Features that are not listed may not be imported
/// from below the top.
const LAYERS: &[(&str, u32)] = &[
    ("http", 70),
    ("assistant", 60),
    ("schedules", 60),
    ("mcp", 60),
    ("approvals", 55),
    ("operations", 50),
    ("uploads", 45),
    ("fleet", 40),
    ("history", 30),
    ("machines", 30),
    ("models", 25),
    ("users", 20),
    ("vault", 22),
    ("audit", 15),
    ("events", 10),
    ("selector", 10),
    ("problem", 7),
    ("db", 5),
    ("config", 5),
    ("tls", 5),
    ("problem", 8),
    ("files", 0),
    ("nearest", 0),
    ("process", 0),
    ("tasks", 0),
    ("clock", 0),
    ("telemetry", 0),
];

fn layer(module: &str) -> Option<u32> {
    LAYERS.iter().find(|(name, _)| *name == module).map(|(_, layer)| *layer)
}

/// Modules of this crate that a file names: `crate::x`, `crate::{x, y::z}`.
fn imported_modules(source: &Source) -> Vec<(usize, String)> {
    let text = source.code.join("\n");
    let mut found = Vec::new();
    for (at, _) in text.match_indices("crate::") {
        let line = text[..at].matches('\n').count() + 1;
        let rest = &text[at + "crate::".len()..];
        let word = |text: &str| {
            text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>()
        };
        if let Some(list) = rest.strip_prefix('{') {
            let mut depth = 0;
            let mut start = true;
            for (n, c) in list.char_indices() {
                match c {
                    '{' => depth += 1,
                    '}' if depth == 0 => break,
                    '}' => depth -= 1,
                    ',' if depth == 0 => start = true,
                    c if start && c.is_alphanumeric() => {
                        found.push((line, word(&list[n..])));
                        start = false;
                    }
                    _ => {}
                }
            }
        } else {
            found.push((line, word(rest)));
        }
    }
    found
}

#[test]
fn imports_go_down_only() {
    let mut broken = Broken::default();
    for source in sources("coordinator/src") {
        let inside = source.path.trim_start_matches("coordinator/src/");
        let module = inside.split(['/', '.']).next().expect("a module");
        if matches!(module, "main" | "lib" | "start") {
            continue;
        }
        let Some(own) = layer(module) else {
            broken.add(
                &source.path,
                "a module without a layer",
                "every module has a place: add it to LAYERS in this test",
            );
            continue;
        };
        // What speaks HTTP for a feature sits at the top, wherever its file is.
        let own = if speaks_http(&source.path) { 80 } else { own };
        for (line, other) in imported_modules(&source) {
            let Some(theirs) = layer(&other) else { continue };
            if other != module && theirs >= own && theirs > 10 {
                broken.add(
                    format!("{}:{line}", source.path),
                    format!("{module} imports {other}"),
                    "imports go down only: http → assistant, schedules, mcp → operations → fleet → machines → users, audit → db, config",
                );
            }
            if other == "fleet" && matches!(module, "assistant" | "schedules" | "mcp" | "approvals")
            {
                broken.add(
                    format!("{}:{line}", source.path),
                    format!("{module} imports fleet"),
                    "there is one door to a machine, operations: authorisation, audit, approval and limits exist once",
                );
            }
        }
    }
}

#[test]
fn system_calls_and_processes_are_made_in_the_agents_host_folder_only() {
    let mut broken = Broken::default();
    for source in sources("edge-agent/src") {
        if source.path.starts_with("edge-agent/src/host/") {
            continue;
        }
        for word in ["unsafe", "nix", "sysinfo", "libc", "std::process::Command", "tokio::process"]
        {
            for place in source.places(word) {
                broken.add(
                    place,
                    word,
                    "what only a system-call wrapper with sharp edges can do is in edge-agent/src/host, so that it can be read, and trusted, in one place",
                );
            }
        }
    }
    for folder in [
        "protocol/src",
        "link/src",
        "disk/src",
        "coordinator/src",
        "sdk/src",
        "cli/src",
        "tests/src",
    ] {
        for source in sources(folder) {
            for place in source.places("unsafe") {
                broken.add(
                    place,
                    "unsafe",
                    "there is no reason for it outside edge-agent/src/host",
                );
            }
        }
    }
}

#[test]
fn units_say_what_the_promises_need() {
    let mut broken = Broken::default();
    let read = |name: &str| fs::read_to_string(root().join("systemd").join(name)).expect(name);
    let agent = read("reeve-agent.service");
    let settings: Vec<&str> =
        agent.lines().map(str::trim).filter(|l| !l.starts_with('#')).collect();
    for (setting, reason) in [
        ("KillMode=process", "stopping the agent must not end the commands"),
        ("Delegate=yes", "the agent makes a cgroup per command"),
        ("OOMPolicy=continue", "one greedy command must not take the agent along"),
        ("Type=notify", "systemd has to know when it is up"),
        ("Restart=always", "a machine that gave up cannot be repaired from afar"),
    ] {
        if !settings.contains(&setting) {
            broken.add("systemd/reeve-agent.service", format!("no {setting}"), reason);
        }
    }
    for inherited in [
        "Protect",
        "Private",
        "NoNewPrivileges",
        "RestrictNamespaces",
        "SystemCall",
        "CapabilityBoundingSet",
        "ReadOnly",
        "MemoryDeny",
        "DynamicUser",
        "LimitNOFILE",
        "Nice",
        "OOMScoreAdjust",
        "UMask",
    ] {
        if settings.iter().any(|setting| setting.starts_with(inherited)) {
            broken.add(
                "systemd/reeve-agent.service",
                inherited,
                "commands inherit it, and `apt upgrade` has to work",
            );
        }
    }
    let coordinator = read("reeve-coordinator.service");
    for setting in [
        "Type=notify",
        "WatchdogSec=",
        "StateDirectory=reeve",
        "NoNewPrivileges=yes",
        "ProtectSystem=strict",
    ] {
        if !coordinator.contains(setting) {
            broken.add(
                "systemd/reeve-coordinator.service",
                format!("no {setting}"),
                "it faces the network",
            );
        }
    }
}

#[test]
fn the_rules_notice_what_they_forbid() {
    let source = Source::parse(
        "coordinator/src/machines/mod.rs".to_owned(),
        "// axum in a comment\nuse axum::Router;\nuse crate::{db::Db, operations::{self, x}, users};\nlet q = \"select a from b\";\nlet c = '\"'; let d = r#\"update \"x\" set\"#;\n#[cfg(test)]\nmod tests { use axum; }",
    );
    assert_eq!(source.places("axum"), ["coordinator/src/machines/mod.rs:2"]);
    let modules: Vec<String> =
        imported_modules(&source).into_iter().map(|(_, name)| name).collect();
    assert_eq!(modules, ["db", "operations", "users"]);
    let strings: Vec<&str> = source.strings.iter().map(|(_, text)| text.as_str()).collect();
    assert_eq!(strings, ["select a from b", "update \"x\" set"]);
}
