//! What a policy may say, and what it refuses.

use std::os::unix::fs::PermissionsExt;

use super::*;

#[test]
fn policy_that_others_may_write_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("agent.toml");
    std::fs::write(&path, "[allow]\nexec = false\n").expect("written");
    for (mode, fine) in [(0o644, true), (0o600, true), (0o664, false), (0o646, false)] {
        let permissions = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(&path, permissions).expect("changed");
        assert_eq!(Policy::load(&path, true).is_ok(), fine, "{mode:o}");
    }
    let own = crate::host::users::effective_uid();
    assert!(check_owner(&path, 0, 0o644).is_ok());
    assert!(check_owner(&path, own + 1, 0o644).is_err());
}

fn policy(text: &str) -> Result<Policy, String> {
    Policy::parse(text, Path::new("/p")).map_err(|error| error.to_string())
}

fn code(policy: &Policy, line: &str, user: &str) -> Option<String> {
    let command = ExecuteCommand::new(Command::Shell(line.to_owned()));
    policy.check(&command, user).err().map(|refusal| refusal.code)
}

#[test]
fn unknown_key_is_an_error_that_names_its_line() {
    let error = policy("[allow]\nexec = true\nexce = false\n").expect_err("a typo");
    assert!(error.contains("line 3") && error.contains("exce"), "{error}");
}

#[test]
fn exec_takes_three_values() {
    for (text, expected) in [
        ("", ExecRule::All),
        ("[allow]\nexec = false", ExecRule::Nothing),
        ("[allow]\nexec = \"inspect\"", ExecRule::Inspect),
    ] {
        assert_eq!(policy(text).expect(text).allow.exec, expected);
    }
    assert!(policy("[allow]\nexec = \"sometimes\"").is_err());
    assert!(policy("[exec]\nmax_concurrent = 0").is_err());
}

#[test]
fn every_key_is_understood_and_kept() {
    let rules = policy(
        "[allow]\nexec = \"inspect\"\nfiles = \"read\"\nlogs = false\nterminal = false\n\
         upgrade = false\ntunnels = [\"localhost:22\"]\n[paths]\nallowed = [\"/srv\"]\nblocked = [\"/etc/shadow\", \"~/.ssh\"]\n\
         [exec]\nusers = [\"root\"]\nmax_concurrent = 3\ndeny = [\"reboot\"]",
    )
    .expect("valid");
    let allow = Allow {
        exec: ExecRule::Inspect,
        files: FilesRule::Read,
        logs: false,
        terminal: false,
        upgrade: false,
        tunnels: vec![TunnelRule::try_from("localhost:22".to_owned()).expect("a rule")],
    };
    assert_eq!(rules.allow, allow);
    assert_eq!(rules.paths.allowed, ["/srv"]);
    assert_eq!(rules.paths.blocked, ["/etc/shadow", "~/.ssh"]);
    assert_eq!((rules.max_concurrent, rules.deny.as_slice()), (3, &["reboot".to_owned()][..]));
}

#[test]
fn values_that_make_no_sense_are_refused() {
    for text in [
        "[allow]\nfiles = true",
        "[allow]\ntunnels = [\"example.org:22\"]",
        "[allow]\ntunnels = true",
        "[allow]\nfiles = \"some\"",
        "[allow]\nlogs = \"yes\"",
        "[paths]\nallowed = [\"srv\"]",
        "[paths]\nallowed = [\"~\"]",
        "[paths]\nblocked = [\"/a/../b\"]",
        "[paths]\nblocked = [\"~root/x\"]",
        "[paths]\nhidden = []",
        "[inspect]\nuid = 0",
        "[inspect]\nuids = 7",
        "[inspect]\nuid = 60000\nuids = 0",
        "[inspect]\nuid = 4294967295",
        "[inspect]\nuser = \"nobody\"",
    ] {
        assert!(policy(text).is_err(), "{text}");
    }
}

#[test]
fn keys_and_passwords_are_blocked_unless_the_owner_says_otherwise() {
    let blocked = |text: &str| policy(text).expect(text).paths.blocked;
    assert_eq!(blocked(""), ["/etc/shadow", "/root/.ssh", "~/.ssh"]);
    assert_eq!(blocked("[paths]\nallowed = [\"/srv\"]"), blocked(""));
    assert_eq!(blocked("[paths]\nblocked = []"), [""; 0]);
}

#[test]
fn versions_are_kept_as_the_owner_says() {
    let usual = policy("").expect("valid").versions;
    assert!(usual.enabled && usual.max_bytes == 1 << 30);
    let text = "[versions]\nmax_bytes = \"2MiB\"\nmax_age = \"12h\"\nmax_file = 4096";
    let rules = policy(text).expect("valid").versions;
    assert_eq!((rules.max_bytes, rules.max_file), (2 << 20, 4096));
    assert_eq!(rules.max_age, std::time::Duration::from_secs(12 * 3600));
    assert!(!policy("[versions]\nenabled = false").expect("valid").versions.enabled);
    for bad in ["max_bytes = \"1GB\"", "max_age = \"0d\"", "max_age = -1", "keep = 3"] {
        assert!(policy(&format!("[versions]\n{bad}")).is_err(), "{bad}");
    }
}

#[test]
fn policy_that_comes_with_the_installer_changes_nothing() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../installer/agent.toml");
    let installed = Policy::load(&path, true).expect("it loads");
    let none = Policy::default();
    assert_eq!((installed.allow, installed.paths), (none.allow, none.paths));
    assert_eq!((installed.users, installed.deny), (none.users, none.deny));
    assert_eq!(installed.max_concurrent, none.max_concurrent);
    assert_eq!(installed.versions, none.versions);
}

#[test]
fn each_rule_refuses_with_its_code() {
    let rules = policy("[exec]\nusers = [\"deploy\"]\ndeny = [\"rm -rf\", \"*mkfs*\"]");
    let rules = rules.expect("valid");
    assert_eq!(code(&rules, "uptime", "deploy"), None);
    assert_eq!(code(&rules, "uptime", "root").as_deref(), Some("policy_user"));
    assert_eq!(code(&rules, "rm -rf /x", "deploy").as_deref(), Some("policy_denied"));
    assert_eq!(code(&rules, "rm -rfoo", "deploy"), None);
    assert_eq!(code(&rules, "sudo mkfs.ext4 x", "deploy").as_deref(), Some("policy_denied"));
    let none = policy("[allow]\nexec = false").expect("valid");
    assert_eq!(code(&none, "uptime", "root").as_deref(), Some("policy_exec"));
}

#[test]
fn machine_that_may_only_be_looked_at_refuses_ordinary_commands() {
    let mut inspection = ExecuteCommand::new(Command::Shell("uptime".to_owned()));
    inspection.mode = Mode::Inspect;
    let ordinary = ExecuteCommand { mode: Mode::Normal, ..inspection.clone() };
    for (exec, runs, looks) in
        [("true", true, true), ("\"inspect\"", false, true), ("false", false, false)]
    {
        let rules = policy(&format!("[allow]\nexec = {exec}")).expect("valid");
        let code = |command| rules.check(command, "root").err().map(|refusal| refusal.code);
        let refused = Some("policy_exec".to_owned());
        assert_eq!(code(&ordinary), refused.clone().filter(|_| !runs), "{exec}");
        assert_eq!(code(&inspection), refused.filter(|_| !looks), "{exec}");
    }
    // Commands that look run as nobody of this machine; words that are denied stay denied.
    let rules = policy("[exec]\nusers = [\"deploy\"]\ndeny = [\"uptime\"]").expect("valid");
    let refusal = rules.check(&inspection, "reeve-inspect").expect_err("denied");
    assert_eq!(refusal.code, "policy_denied");
}

#[test]
fn owner_chooses_whose_inspections_are() {
    let range = |text: &str| policy(text).expect(text).inspect_uids;
    assert_eq!(range(""), None);
    assert_eq!(range("[inspect]\nuid = 60000"), Some(UidRange { first: 60_000, count: 1 }));
    let both = range("[inspect]\nuid = 60000\nuids = 16");
    assert_eq!(both, Some(UidRange { first: 60_000, count: 16 }));
    assert!(policy("").expect("valid").inspect_bus);
    assert!(!policy("[inspect]\nbus = false").expect("valid").inspect_bus);
}

#[test]
fn patterns_match_whole_commands() {
    assert!(matches("reboot", "reboot"));
    assert!(!matches("reboot", "rebooted"));
    assert!(matches("*a*b", "xxaxxb"));
    assert!(!matches("*a*b", "xxaxxbc"));
    assert!(matches("a*", "a"));
}
