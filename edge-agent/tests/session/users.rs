//! Commands as other users.

use reeve_agent::host;
use reeve_agent::policy::Policy;
use reeve_protocol::{OperationId, Outcome};

use crate::agent::{Machine, shell};

/// A user of this machine that is not root and whose home can be entered.
fn find_user() -> (String, u32, u32, String) {
    assert!(host::users::is_root(), "only root can become others: run the tests as root");
    let text = std::fs::read_to_string("/etc/passwd").expect("users");
    text.lines()
        .find_map(|line| {
            let fields: Vec<&str> = line.split(':').collect();
            let (uid, gid) = (fields[2].parse().ok()?, fields[3].parse().ok()?);
            let home = fields[5];
            let is_fit = uid != 0 && home != "/" && std::path::Path::new(home).is_dir();
            is_fit.then(|| (fields[0].to_owned(), uid, gid, home.to_owned()))
        })
        .expect("a user with a home, as every machine has")
}

#[tokio::test]
async fn command_runs_as_the_user_it_is_asked_for() {
    let (name, uid, gid, home) = find_user();
    let machine = Machine::new();
    let agent = machine.start().await;
    let mut coordinator = agent.connect().await;
    let mut command = shell(
        "id -u; id -g; id -G; echo $HOME; echo $USER $LOGNAME; pwd; \
         grep -E '^(Uid|Gid):' /proc/self/status",
    );
    command.user = Some(name.clone());
    let got = coordinator.run(OperationId::new(), &command).await;
    assert_eq!(got.outcome(), &Outcome::Exited { code: 0 });
    #[allow(clippy::disallowed_methods, reason = "what the machine itself says")]
    let groups = std::process::Command::new("id").args(["-G", &name]).output().expect("id");
    let groups = String::from_utf8_lossy(&groups.stdout).into_owned();
    let (users, all) = ([uid; 4].map(|id| id.to_string()), [gid; 4].map(|id| id.to_string()));
    // Also the saved ids: there is no way back to root.
    let expected = format!(
        "{uid}\n{gid}\n{groups}{home}\n{name} {name}\n{home}\nUid:\t{}\nGid:\t{}\n",
        users.join("\t"),
        all.join("\t")
    );
    assert_eq!(String::from_utf8_lossy(&got.stdout), expected);
}

#[tokio::test]
async fn other_user_gets_in_where_it_may_only() {
    let (name, ..) = find_user();
    let machine = Machine::new();
    let agent = machine.start().await;
    let mut coordinator = agent.connect().await;
    let mut command = shell("pwd");
    command.user = Some(name.clone());
    // The state folder is for its owner only.
    command.cwd = Some(machine.state().display().to_string());
    let got = coordinator.run(OperationId::new(), &command).await;
    let Outcome::NotStarted { code, message, .. } = got.outcome() else {
        panic!("{:?}", got.outcome())
    };
    assert_eq!(code, "bad_directory");
    assert!(message.contains(&name), "{message}");
}

#[tokio::test]
async fn user_the_owner_does_not_allow_is_refused() {
    let (name, ..) = find_user();
    let mut machine = Machine::new();
    machine.policy = Policy { users: Some(vec![name.clone()]), ..Policy::default() };
    let agent = machine.start().await;
    let mut coordinator = agent.connect().await;
    let got = coordinator.run(OperationId::new(), &shell("true")).await;
    assert!(matches!(got.outcome(), Outcome::Refused(refusal) if refusal.code == "policy_user"));
    let mut command = shell("exit 8");
    command.user = Some(name);
    let got = coordinator.run(OperationId::new(), &command).await;
    assert_eq!(got.outcome(), &Outcome::Exited { code: 8 });
}
