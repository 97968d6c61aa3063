//! What a stage costs by itself, without a model: 1,000 machines, 100 KB of output. `make bench`
//! runs it; the limit is 20 ms for each.

#![allow(clippy::print_stdout, clippy::expect_used)]

use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::{Duration, Instant};

use reeve_protocol::{OperationId, Stream};
use reeve_sdk::api::{OperationState, PlannedCommand};
use reeve_stages::plan::{Deltas, Explored};
use reeve_stages::{
    Excerpt, Machine, Nonce, Sample, Window, alternative, group, markers, plan, summary, validate,
};
use serde_json::json;

const MACHINES: usize = 1_000;
const OUTPUT: usize = 100 * 1024;
const RUNS: usize = 21;
const LIMIT: Duration = Duration::from_millis(20);

fn main() {
    let nonce = Nonce::new([0xa5; 16]);
    let output = log(OUTPUT, 1);
    let samples: Vec<Sample> = (0..20).map(|n| sample(n, &output)).collect();
    let machines: Vec<Machine> = (0..MACHINES).map(machine).collect();
    let names: Vec<String> = machines.iter().map(|machine| machine.name.clone()).collect();
    let command = |n: usize| PlannedCommand {
        argv: Some(vec!["du".to_owned(), format!("/var/{n}")]),
        ..PlannedCommand::default()
    };
    let explored = (1..=3).map(|number| Explored {
        number,
        machines: names.clone(),
        command: command(number as usize),
        samples: samples[..5].to_vec(),
        ..Explored::default()
    });
    let window = Window(200_000);
    let input = plan::Input {
        request: "Why is the disk filling up?".to_owned(),
        machines: machines.clone(),
        explored: explored.collect(),
        rounds_left: 1,
        window,
        ..plan::Input::default()
    };
    let steps: Vec<_> = (1..=30)
        .map(|id| {
            json!({"id": id, "machines": ["@all"], "argv": ["du", "-xs", format!("/srv/{id}")],
                "shell": null, "cwd": null, "purpose": "See how large it is", "expected": "A size",
                "effect": "read", "timeout_s": null, "depends_on": [], "undo": null, "polling": false})
        })
        .collect();
    let answer = json!({"kind": "plan", "summary": "Look", "steps": steps, "question": null, "reason": null})
        .to_string();
    println!(
        "overhead of stages, {MACHINES} machines, {} KB of output, median of {RUNS} runs",
        OUTPUT / 1024
    );
    measure("plan: ask", || plan::ask(&input, &nonce));
    measure("plan: read 30 steps on all", || plan::read(&input, &answer));
    measure("plan: read while it streams", || {
        let mut deltas = Deltas::default();
        let mut text = String::new();
        for piece in answer.as_bytes().chunks(16) {
            text += &deltas.push(std::str::from_utf8(piece).unwrap_or_default());
        }
        text
    });
    let judge = validate::Input { samples: vec![samples[0].clone()], window, ..Default::default() };
    let quotes: Vec<_> = (0..20)
        .map(|n| json!({"result": "R1", "stream": "stdout", "quote": format!("request {n} took"), "from": n, "to": null}))
        .collect();
    let verdict = json!({"outcome": "met", "evidence": quotes, "reason": "It is."}).to_string();
    measure("compact: 100 KB", || Excerpt::of(output.as_bytes()));
    measure("validate: ask", || validate::ask(&judge, &nonce));
    measure("validate: read 20 quotes", || validate::read(&judge, &verdict, "m"));
    measure("validate: by rules", || validate::by_rules(&samples[0]));
    let failed = alternative::Failed { samples: samples.clone(), ..Default::default() };
    let other = alternative::Input {
        machines,
        failed: vec![failed.clone(), failed.clone(), failed],
        tries_left: 1,
        window,
        ..Default::default()
    };
    measure("alternative: ask", || alternative::ask(&other, &nonce));
    let sum = summary::Input { samples, window, ..Default::default() };
    measure("summary: ask", || summary::ask(&sum, &nonce));
    measure("summary: by rules", || summary::by_rules(&sum));
    measure("markers: wrap 100 KB", || markers::wrap(&output, &nonce, OUTPUT));
    grouping();
}

fn measure<T>(name: &str, mut run: impl FnMut() -> T) {
    black_box(run());
    let mut times: Vec<Duration> = (0..RUNS)
        .map(|_| {
            let begin = Instant::now();
            black_box(run());
            begin.elapsed()
        })
        .collect();
    times.sort_unstable();
    let (median, slowest) = (times[RUNS / 2], times[RUNS - 1]);
    let verdict = if slowest <= LIMIT { "" } else { "  OVER THE LIMIT" };
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    println!("  {name:32} {:9.3} ms, slowest {:9.3} ms{verdict}", ms(median), ms(slowest));
}

fn grouping() {
    let outputs: Vec<(String, String)> =
        (0..10_000).map(|n| (format!("web-{n:05}"), log(4 * 1024, n % 500))).collect();
    let begin = Instant::now();
    let mut grouper = group::Grouper::default();
    for (at, (name, text)) in outputs.iter().enumerate() {
        let mut output = grouper.output(&[name]);
        output.push(Stream::Stdout, text.as_bytes());
        let operation = OperationId(uuid::Uuid::from_u128(at as u128));
        grouper.add(name, operation, OperationState::Succeeded, Some(0), output);
    }
    let classes = grouper.finish().len();
    let took = begin.elapsed();
    println!(
        "  {:32} {:9.3} ms, {:.1} µs each, {classes} classes",
        "group: 10,000 outputs of 4 KiB",
        took.as_secs_f64() * 1e3,
        took.as_secs_f64() * 1e6 / 10_000.0
    );
}

/// A log of so many bytes; its times and pids differ with the seed, what it says does not.
fn log(bytes: usize, seed: usize) -> String {
    let mut text = String::with_capacity(bytes + 200);
    for line in 0.. {
        if text.len() >= bytes {
            break;
        }
        text.push_str(&format!(
            "Nov 21 05:{:02}:{:02} app[{}]: request {} took {} ms, client 192.0.2.{} asked for /index.html\n",
            seed % 60, line % 60, 1000 + seed, line % 50, seed + line, line % 250
        ));
        if line % 97 == 96 {
            text.push_str("app: error: connection refused by upstream\n");
        }
    }
    text.truncate(bytes);
    text
}

fn machine(number: usize) -> Machine {
    let role = ["web", "db", "cache"][number % 3];
    Machine {
        name: format!("{role}-{number:04}"),
        labels: BTreeMap::from([("role".to_owned(), role.to_owned())]),
        os_id: "debian".to_owned(),
        os_name: "Debian GNU/Linux 12 (bookworm)".to_owned(),
        kernel: format!("6.1.0-{}", number % 40),
        architecture: "x86_64".to_owned(),
        init: "systemd".to_owned(),
        package_manager: "apt".to_owned(),
        cpus: 4,
        memory: ((number as u64 % 64) + 1) << 30,
        inspect: true,
        online: true,
        ..Machine::default()
    }
}

fn sample(number: usize, output: &str) -> Sample {
    Sample {
        operation: OperationId(uuid::Uuid::from_u128(number as u128)),
        machine: format!("web-{number:04}"),
        machines: vec![format!("web-{number:04}")],
        count: 50,
        outlier: number > 0,
        state: OperationState::Succeeded,
        exit_code: Some(0),
        reason: None,
        stdout: Excerpt::of(output.as_bytes()),
        stderr: Excerpt::default(),
    }
}
