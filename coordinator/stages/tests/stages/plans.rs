use proptest::prelude::*;
use reeve_protocol::ops::Effect;
use reeve_stages::plan::{Caps, Deltas, Explored, Input, PlanError, Reply, Step, ask, read};
use reeve_stages::{Machine, Window};
use serde_json::{Value, json};

use super::{argv, machine, nonce, sample};

fn input() -> Input {
    Input {
        request: "Why is the disk filling up?".to_owned(),
        machines: vec![
            machine("web-1", &[("role", "web")], "debian"),
            machine("web-2", &[("role", "web")], "debian"),
            machine("db-1", &[("role", "db")], "rocky"),
        ],
        rounds_left: 2,
        ..Input::default()
    }
}

fn step(id: u32, machines: &[&str], shell: &str) -> Value {
    json!({
        "id": id, "machines": machines, "argv": null, "shell": shell, "cwd": null,
        "purpose": "Look", "expected": "Something", "effect": "read", "timeout_s": null,
        "depends_on": [], "undo": null, "polling": false,
    })
}

fn reply(kind: &str, steps: &[Value]) -> String {
    json!({"kind": kind, "summary": "Do it", "steps": steps, "question": null, "reason": null})
        .to_string()
}

fn with(mut value: Value, changes: &[(&str, Value)]) -> Value {
    for (key, change) in changes {
        value[*key] = change.clone();
    }
    value
}

fn steps(input: &Input, given: &[Value]) -> Result<Vec<Step>, PlanError> {
    match read(input, &reply("plan", given))? {
        Reply::Plan { steps, .. } => Ok(steps),
        other => panic!("{other:?}"),
    }
}

fn refusal(input: &Input, given: &[Value]) -> String {
    steps(input, given).unwrap_err().to_string()
}

#[test]
fn a_plan_is_read_with_its_machines_limits_and_order() {
    let mut input = input();
    input.user = Some("deploy".to_owned());
    input.next_number = 4;
    let first = with(step(10, &["role=web", "web-1"], "df -h"), &[("depends_on", json!([20]))]);
    let second = with(
        step(20, &["@all"], "apt-get install -y ncdu"),
        &[
            ("effect", json!("change")),
            ("undo", json!("apt-get remove -y ncdu")),
            ("cwd", json!("/srv")),
        ],
    );
    let found = steps(&input, &[first, second]).unwrap();
    assert_eq!(found.iter().map(|step| step.number).collect::<Vec<_>>(), [4, 5]);
    assert_eq!(found[0].machines, ["web-1", "web-2", "db-1"]);
    assert_eq!(found[0].command.timeout_ms, Some(15 * 60 * 1000));
    assert_eq!(found[0].command.cwd.as_deref(), Some("/srv"));
    assert_eq!(
        (found[0].claimed, found[0].undo.as_deref()),
        (Effect::Change, Some("apt-get remove -y ncdu"))
    );
    assert_eq!(found[1].machines, ["web-1", "web-2"], "each once");
    assert_eq!(found[1].depends_on, [4]);
    assert_eq!(found[1].command.timeout_ms, Some(60_000));
    assert!(found.iter().all(|step| step.command.user.as_deref() == Some("deploy")));
    assert!(found.iter().all(|step| !step.long && step.notes.is_empty()));
}

#[test]
fn the_other_answers_are_read() {
    let input = input();
    let answer = |kind: &str, question: Value, reason: Value| {
        json!({"kind": kind, "summary": "", "steps": [], "question": question, "reason": reason})
            .to_string()
    };
    assert_eq!(
        read(&input, &answer("question", json!("Which disk?"), Value::Null)),
        Ok(Reply::Question { question: "Which disk?".to_owned() })
    );
    assert_eq!(
        read(&input, &answer("give_up", Value::Null, json!("No."))),
        Ok(Reply::GiveUp { reason: "No.".to_owned() })
    );
    assert!(read(&input, &answer("question", Value::Null, Value::Null)).is_err());
    assert!(read(&input, &answer("give_up", Value::Null, json!("  "))).is_err());
    let plan = reply("plan", &[step(1, &["web-1"], "df -h")]);
    for around in [
        format!("<think>It {{may}} be ```that```.</think>\n{plan}"),
        format!("Here is the plan:\n\n```json\n{plan}\n```\nGood luck!"),
    ] {
        assert!(matches!(read(&input, &around), Ok(Reply::Plan { .. })), "{around}");
    }
    let brief = r#"{"kind":"plan","summary":"Look","steps":[{"id":1,"machines":["web-1"],"shell":"df","purpose":"Look","expected":"Sizes","effect":"read"}]}"#;
    assert!(matches!(read(&input, brief), Ok(Reply::Plan { .. })), "what is empty may be left out");
    assert!(read(&input, r#"{"kind":"question","question":"Which?"}"#).is_ok());
    for unclear in [
        format!("```\n{plan}\n```\n```\n{plan}\n```"),
        format!("Sure! {plan}"),
        format!("<think>{plan}"),
    ] {
        assert!(read(&input, &unclear).is_err(), "{unclear}");
    }
    let fenced = format!("```json\n{}\n```", reply("explore", &[step(1, &["web-1"], "df -h")]));
    assert!(matches!(read(&input, &fenced), Ok(Reply::Explore { steps, .. }) if steps.len() == 1));
}

#[test]
fn machines_that_were_not_given_are_never_touched() {
    let input = input();
    for entry in
        ["web-3", "web-*", "@p9", "@p0", "role=cache", "*", "", "WEB-1", "all", "@everything"]
    {
        let error = steps(&input, &[step(1, &["web-1", entry], "df")]).unwrap_err();
        assert_eq!(error.code(), "plan_unknown_machine", "{entry}");
    }
    let PlanError::UnknownMachine { nearest, .. } =
        steps(&input, &[step(1, &["wbe-1"], "df")]).unwrap_err()
    else {
        panic!("another error")
    };
    assert_eq!(nearest[0], "web-1");
    assert!(refusal(&input, &[step(1, &["web-9"], "df")]).contains("did you mean web-1, web-2?"));
    let nobody = Input { machines: Vec::new(), ..self::input() };
    assert!(steps(&nobody, &[step(1, &["@all"], "df")]).is_err());
    assert!(refusal(&input, &[step(1, &[], "df")]).contains("no machine"));
}

#[test]
fn nobody_else_can_be_chosen() {
    let input = input();
    for (key, value) in [
        ("user", json!("root")),
        ("sudo", json!(true)),
        ("env", json!({"LD_PRELOAD": "/tmp/x.so"})),
        ("mode", json!("normal")),
        ("approved", json!(true)),
    ] {
        let error = refusal(&input, &[with(step(1, &["web-1"], "df"), &[(key, value)])]);
        assert!(error.contains("unknown field"), "{error}");
    }
    let found = steps(&input, &[step(1, &["web-1"], "cd / && sudo -n /usr/bin/su root")]).unwrap();
    assert_eq!(found[0].claimed, Effect::Change, "raised");
    assert_eq!(found[0].notes.len(), 2, "{:?}", found[0].notes);
    let sly = with(
        step(1, &["web-1"], ""),
        &[("shell", Value::Null), ("argv", json!(["/usr/bin/sudo", "id"]))],
    );
    assert_eq!(steps(&input, std::slice::from_ref(&sly)).unwrap()[0].claimed, Effect::Change);
    assert!(read(&input, &reply("explore", &[sly])).is_err());
}

#[test]
fn steps_that_cannot_be_are_refused() {
    let input = input();
    let base = || step(1, &["web-1"], "df");
    for (changes, complaint) in [
        (vec![("shell", json!(null))], "either argv or shell"),
        (vec![("argv", json!(["df"]))], "either argv or shell"),
        (vec![("shell", json!("  "))], "empty"),
        (vec![("shell", json!("echo \u{1b}[31m"))], "do not show"),
        (vec![("shell", json!("rm a\u{202e}b"))], "do not show"),
        (vec![("shell", json!("echo\u{0}x"))], "do not show"),
        (vec![("shell", json!("x".repeat(9_000)))], "at most 8192"),
        (vec![("cwd", json!("srv"))], "absolute"),
        (vec![("timeout_s", json!(0))], "1 to 14400"),
        (vec![("timeout_s", json!(1_000_000))], "1 to 14400"),
        (vec![("purpose", json!(" "))], "what it is for"),
        (vec![("expected", json!(""))], "what a good result"),
        (vec![("depends_on", json!([7]))], "7, which is no step"),
        (vec![("depends_on", json!([1]))], "circle"),
        (vec![("effect", json!("harmless"))], "unknown variant"),
        (vec![("id", json!(-1))], "schema"),
    ] {
        let error = refusal(&input, &[with(base(), &changes)]);
        assert!(error.contains(complaint), "{changes:?}: {error}");
    }
    assert!(refusal(&input, &[base(), base()]).contains("same id"));
    assert!(refusal(&input, &[]).contains("at least one step"));
    for nonsense in ["", "null", "[]", "I cannot do that.", "{\"kind\":\"plan\"}", "{} {}"] {
        assert_eq!(read(&input, nonsense).unwrap_err().code(), "plan_invalid", "{nonsense}");
    }
    let change = with(base(), &[("effect", json!("change"))]);
    assert!(read(&input, &reply("explore", &[change])).is_err(), "explore only looks");
    let spent = Input { rounds_left: 0, ..self::input() };
    assert!(read(&spent, &reply("explore", &[base()])).is_err());
}

#[test]
fn long_commands_need_a_yes() {
    let found = steps(
        &input(),
        &[
            with(step(1, &["web-1"], "df"), &[("timeout_s", json!(1800))]),
            with(step(2, &["web-1"], "du"), &[("timeout_s", json!(1801))]),
            step(3, &["web-1"], "pg_dump shop > /srv/shop.sql"),
        ],
    )
    .unwrap();
    assert_eq!(found.iter().map(|step| step.long).collect::<Vec<_>>(), [false, true, true]);
    assert_eq!(found[2].command.timeout_ms, Some(3_600_000));
}

#[test]
fn commands_per_machine_are_counted_through_the_whole_task() {
    let mut input = input();
    let many = |count: u32| -> Vec<Value> {
        (1..=count).map(|id| step(id, &["web-1"], &format!("echo {id}"))).collect()
    };
    assert!(steps(&input, &many(40)).is_ok());
    assert!(refusal(&input, &many(41)).contains("web-1 would get 41 commands"));
    input.explored.push(Explored {
        number: 1,
        machines: vec!["web-1".to_owned()],
        command: argv(&["df"]),
        ..Explored::default()
    });
    assert!(refusal(&input, &many(40)).contains("41 commands"), "what was looked at counts");
}

#[test]
fn loops_are_refused_unless_they_poll() {
    let input = input();
    let same = |count: u32, polling: bool| -> Vec<Value> {
        (1..=count)
            .map(|id| with(step(id, &["web-1"], "curl  localhost"), &[("polling", json!(polling))]))
            .collect()
    };
    assert!(steps(&input, &same(4, false)).is_ok());
    assert!(refusal(&input, &same(5, false)).contains("the same command 5 times: curl localhost"));
    assert!(steps(&input, &same(5, true)).is_ok());
    let spread: Vec<Value> =
        (1..=6).map(|id| step(id, &[["web-1", "web-2", "db-1"][id as usize % 3]], "df")).collect();
    assert!(steps(&input, &spread).is_ok(), "on different machines it is no loop");
}

#[test]
fn what_is_shown_of_a_plan_is_plain_text() {
    let dirty = with(
        step(1, &["web-1"], "df"),
        &[(
            "purpose",
            json!("Look ![x](http://evil.example/?q=1)\u{1b}[2J [here](http://evil.example)"),
        )],
    );
    assert_eq!(steps(&input(), &[dirty]).unwrap()[0].purpose, "Look x here");
}

#[test]
fn thousands_of_machines_stay_a_bounded_prompt() {
    let machines: Vec<Machine> = (0..5_000)
        .map(|n| {
            let mut machine = machine(
                &format!("web-{n:04}"),
                &[("role", if n % 10 == 0 { "db" } else { "web" }), ("serial", &n.to_string())],
                ["debian", "rocky", "alpine"][n % 3],
            );
            machine.kernel = format!("6.1.{}", n % 500);
            machine.online = n != 17;
            machine
        })
        .collect();
    let input = Input { machines, ..input() };
    let asked = ask(&input, &nonce());
    assert!(asked.tokens() < 12_000, "{}", asked.tokens());
    let text = &asked.messages[0].1;
    assert!(text.contains("5000 machines") && text.contains("role=web (4500), role=db (500)"));
    assert!(text.contains("packages apk") && text.contains("OFFLINE"));
    let found = steps(&input, &[step(1, &["role=db"], "df"), step(2, &["@p1"], "df -i")]).unwrap();
    assert_eq!(found[0].machines.len(), 500);
    assert!(found[1].machines.len() > 1_600);
}

#[test]
fn hostile_facts_cannot_make_the_prompt_large() {
    let machines: Vec<Machine> = (0..2_000)
        .map(|n| {
            let mut machine = machine(&format!("m-{n}"), &[], "debian");
            machine.os_id = format!("{n}{}", "x".repeat(10_000));
            machine
        })
        .collect();
    assert!(ask(&Input { machines, ..input() }, &nonce()).tokens() < 20_000);
}

#[test]
fn the_oldest_outputs_go_when_the_window_is_full_and_their_findings_stay() {
    let mut input = Input { window: Window(12_000), ..input() };
    // Findings and commands of many rounds fill the window; outputs have to make room.
    for number in 1..=30_u32 {
        let output = format!("output of round {number}\n").repeat(20);
        input.explored.push(Explored {
            number,
            machines: vec!["web-1".to_owned()],
            command: argv(&["cat", &format!("/var/log/{number}")]),
            purpose: "words ".repeat(60),
            samples: vec![sample(u128::from(number), "web-1", 0, output.as_bytes(), b"")],
            finding: format!("finding {number}: {}", "more words ".repeat(44)),
        });
    }
    let asked = ask(&input, &nonce());
    let text = &asked.messages[0].1;
    assert!(text.contains("finding 1:") && text.contains("finding 30:"));
    assert!(!text.contains("output of round 1\n"), "the oldest output went");
    assert!(text.contains("its output is left out"));
    assert!(asked.tokens() <= 9_600 || !text.contains("output of round"), "{}", asked.tokens());
    input.window = Window(200_000);
    assert!(ask(&input, &nonce()).messages[0].1.contains("output of round 1\n"));
}

#[test]
fn what_streams_is_what_was_planned() {
    let answer = reply("plan", &[step(1, &["web-1"], "df -h")]);
    let text = Deltas::default().push(&answer);
    assert!(
        text.contains("$ df -h") && text.contains("Do it") && text.contains("on web-1"),
        "{text}"
    );
}

#[test]
fn one_question_more_after_a_wrong_answer() {
    let input = input();
    let asked = ask(&input, &nonce());
    let complaint = read(&input, "nonsense").unwrap_err().to_string();
    let again = asked.clone().again("nonsense", &complaint);
    assert_eq!(again.messages.len(), 3);
    assert!(again.messages[2].1.contains("does not obey the schema"));
    assert_ne!(asked.sha256(), again.sha256());
    assert_eq!(again.system, asked.system);
}

proptest! {
    #[test]
    fn whatever_is_answered_only_given_machines_get_commands(
        entries in proptest::collection::vec("(web-[0-9]|db-1|@all|@p[0-9]{1,3}|role=(web|x)|[ -~]{0,9}|\\PC{0,4})", 0..4),
        command in "\\PC{0,30}",
        ids in proptest::collection::vec((0..4u32, proptest::collection::vec(0..4u32, 0..3)), 1..5),
        kind in "(plan|explore|question|give_up)",
        timeout in proptest::option::of(any::<u64>()),
    ) {
        let entries: Vec<&str> = entries.iter().map(String::as_str).collect();
        let given: Vec<Value> = ids
            .iter()
            .map(|(id, needs)| {
                with(step(*id, &entries, &command), &[("depends_on", json!(needs)), ("timeout_s", json!(timeout))])
            })
            .collect();
        if let Ok(Reply::Plan { steps, .. } | Reply::Explore { steps, .. }) =
            read(&input(), &reply(&kind, &given))
        {
            for (at, step) in steps.iter().enumerate() {
                prop_assert_eq!(step.number as usize, at + 1);
                prop_assert!(step.depends_on.iter().all(|needed| *needed < step.number));
                prop_assert!(!step.machines.is_empty());
                prop_assert!(step.machines.iter().all(|m| ["web-1", "web-2", "db-1"].contains(&m.as_str())));
                prop_assert_eq!(&step.command.user, &None);
                prop_assert!(step.command.timeout_ms.unwrap() <= 4 * 3_600_000);
                prop_assert_eq!(step.command.shell.as_deref(), Some(command.as_str()));
            }
        }
    }

    #[test]
    fn any_text_may_be_answered(text in "\\PC{0,200}") {
        prop_assert!(read(&input(), &text).is_err());
    }
}

#[test]
fn limits_are_those_of_the_design() {
    let caps = Caps::default();
    assert_eq!((caps.commands_per_machine, caps.identical), (40, 5));
    assert_eq!(
        (caps.timeout_s, caps.package_timeout_s, caps.backup_timeout_s, caps.long_timeout_s),
        (60, 900, 3600, 1800)
    );
}
