//! What inspect mode is for: the machine can be looked at.

use reeve_agent::host::sandbox::{NOTICE, SCRATCH};
use reeve_protocol::Outcome;
use reeve_protocol::ops::{ExecuteCommand, Network};

use crate::kept::shell;
use crate::sandbox::{inspect, inspect_with, run, walls};

#[tokio::test]
async fn it_runs_as_nobody_with_one_capability() {
    let walls = walls();
    let uid = walls.uid.to_string();
    let line = "id -u; id -g; id -G; grep -E '^(Cap(Inh|Prm|Eff|Bnd|Amb)|NoNewPrivs|Seccomp):' \
                /proc/self/status | tr '\\n' ' '";
    let text = inspect_with(shell(line), Network::None, walls).text();
    let one = "0000000000000004";
    let expected = format!(
        "{uid}\n{uid}\n{uid}\nCapInh:\t{one} CapPrm:\t{one} CapEff:\t{one} CapBnd:\t{one} \
         CapAmb:\t{one} NoNewPrivs:\t1 Seccomp:\t2 "
    );
    assert_eq!(text, expected);
}

#[tokio::test]
async fn files_of_root_can_be_read_and_searched() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("only-root");
    std::fs::write(&path, "seen").expect("written");
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("chmod");
    let name = path.display();
    let line =
        format!("cat {name}; stat -c ' %a %U' {name}; ls -l {} | wc -l", folder.path().display());
    assert_eq!(inspect(&line).text(), "seen 600 root\n2\n");
}

#[tokio::test]
async fn what_is_blocked_does_not_look_as_if_it_had_just_changed() {
    let line = "find /etc/shadow /root/.ssh -maxdepth 1 -newermt '10 minutes ago' 2>/dev/null | wc -l; \
                stat -c %Y /etc/shadow";
    assert_eq!(inspect(line).text(), "0\n0\n");
}

#[tokio::test]
async fn usual_tools_work() {
    for line in [
        "ls -la / /etc /root",
        "df -h && df -i",
        "ps aux | grep -c .",
        "ps -eo pid,user,stat,comm --sort=-%cpu | head",
        "cat /proc/1/comm /proc/meminfo /proc/loadavg",
        "free -m && uptime",
        "ss -tln",
        "ip addr && ip route",
        "du -xs /usr/bin",
        "find /etc -xdev -name '*.conf' | head -3",
        "dpkg -l | tail -1",
        "ls /proc/1/fd | head -1",
        "mount | head -3 && cat /proc/self/mountinfo | head -1",
        "lsof -p $$ | head -2 && lsof +L1 2>&1 | grep -c WARNING | grep -x 0",
        "top -bn1 | head -3 && vmstat 1 1 && last -n 3 && w",
        "lsblk && findmnt | head -2 && lscpu | head -1",
        "sysctl -a 2>/dev/null | wc -l && getent passwd root",
        "apt-get -s upgrade | tail -1 && dpkg -S /bin/sh && dpkg --verify dash",
        "bash -c 'cat <<< here; wc -l < <(ls /)'",
        "sort /etc/passwd | uniq -c | sort -rn | head -1",
        "cat /sys/class/net/lo/mtu",
        "uname -a && cat /etc/os-release",
        "journalctl --no-pager -n 1 >/dev/null || test $? = 1",
        "cat < /dev/null > /dev/null 2>&1 && head -c 4 /dev/urandom | wc -c",
        "echo to-stderr > /dev/stderr; echo to-stdout > /dev/stdout",
        "perl -e 'print 1+1'",
        "timeout 5 true && nice true && xargs -P 4 -n 1 echo < /etc/hostname",
    ] {
        let (inside, outside) = (inspect(line), run(line));
        assert_eq!(inside.code(), outside.code(), "{line}\n{inside:?}\n{outside:?}");
        assert_eq!(inside.code(), 0, "{line}\n{inside:?}");
        assert!(!inside.stderr.contains("ermitted"), "{line}\n{inside:?}");
    }
}

#[tokio::test]
async fn the_machines_processes_and_sockets_are_seen() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let me = std::process::id();
    let line = format!("ps -p {me} -o pid= && ss -tln | grep -c ':{port} ' ");
    assert_eq!(
        inspect(&line).text().split_whitespace().collect::<Vec<_>>(),
        [&me.to_string(), "1"]
    );
    // Without the network there is nothing to see, and that is no error.
    let none = inspect_with(shell("ip -o link | wc -l; ss -tlnH | wc -l"), Network::None, walls());
    assert_eq!(none.text(), "1\n0\n");
}

#[tokio::test]
async fn scratch_is_the_commands_own_and_gone_with_it() {
    let line = format!(
        "cd $TMPDIR && pwd && echo x > a && mv a b && chmod 600 b && cat b && rm b && mkdir c && \
         mktemp | grep -c {SCRATCH}; touch {SCRATCH}/left-behind; ls {SCRATCH} | wc -l"
    );
    assert_eq!(inspect(&line).text(), format!("{SCRATCH}\nx\n1\n3\n"));
    assert_eq!(inspect("ls $TMPDIR | wc -l").text(), "0\n");
    assert!(!std::path::Path::new(SCRATCH).join("left-behind").exists());
    let full = inspect("head -c 100000000 /dev/zero > $TMPDIR/big");
    assert!(full.code() != 0 && full.stderr.contains("No space"), "{full:?}");
}

#[tokio::test]
async fn temporary_folders_are_shown_as_they_are() {
    let folder = tempfile::tempdir_in("/tmp").expect("a folder");
    std::fs::write(folder.path().join("big"), "12345").expect("written");
    let line = format!("cat {}/big", folder.path().display());
    assert_eq!(inspect(&line).text(), "12345");
}

#[tokio::test]
async fn environment_keeps_programs_from_asking_and_from_others_settings() {
    let text = inspect("env").text();
    for line in [
        "HOME=/",
        "PAGER=cat",
        "GIT_PAGER=cat",
        "SYSTEMD_PAGER=",
        "LC_ALL=C.UTF-8",
        "TERM=dumb",
        "USER=root",
        "TMPDIR=/dev/shm",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in:\n{text}");
    }
    let mut command = shell("echo $TERM $PWD");
    command.env.insert("TERM".to_owned(), "xterm".to_owned());
    command.cwd = Some("/usr".to_owned());
    assert_eq!(inspect_with(command, Network::None, walls()).text(), "xterm /usr\n");
}

#[tokio::test]
async fn what_the_owner_blocks_cannot_be_read_and_says_so() {
    let folder = tempfile::tempdir().expect("a folder");
    let (file, sub) = (folder.path().join("file"), folder.path().join("folder"));
    std::fs::write(&file, "secret").expect("written");
    std::fs::create_dir(&sub).expect("made");
    std::fs::write(sub.join("inner"), "secret").expect("written");
    let mut walls = walls();
    walls.blocked = vec![file.display().to_string(), sub.display().to_string()];
    let line = format!(
        "cat {}; ls {s}; cat {s}/inner; cat /etc/shadow",
        file.display(),
        s = sub.display()
    );
    let ran = inspect_with(shell(&line), Network::None, walls);
    assert_eq!(ran.stdout, format!("{NOTICE}\n"));
    assert_eq!(ran.stderr.matches("Permission denied").count(), 2, "{ran:?}");
    assert_eq!(ran.stderr.matches("No such file").count(), 1, "{ran:?}");
}

#[tokio::test]
async fn owner_who_allows_some_folders_only_is_obeyed() {
    let (open, closed) = (tempfile::tempdir().expect("made"), tempfile::tempdir().expect("made"));
    for folder in [&open, &closed] {
        std::fs::write(folder.path().join("f"), "x").expect("written");
    }
    let mut walls = walls();
    walls.allowed = vec![open.path().display().to_string()];
    let line = format!("cat {}/f; cat {}/f", open.path().display(), closed.path().display());
    let ran = inspect_with(shell(&line), Network::None, walls);
    assert_eq!(ran.stdout, "x");
    assert!(ran.stderr.contains("Permission denied"), "{ran:?}");
}

#[tokio::test]
async fn root_folder_cannot_be_blocked_and_nothing_starts_then() {
    let mut walls = walls();
    walls.blocked = vec!["/".to_owned()];
    let ran = inspect_with(shell("echo ran"), Network::None, walls);
    let Outcome::Refused(refusal) = &ran.outcome else { panic!("{ran:?}") };
    assert_eq!(refusal.code, "inspect_unavailable");
    assert!(refusal.message.contains("root folder") && ran.stdout.is_empty(), "{refusal:?}");
}

#[tokio::test]
async fn command_without_walls_never_starts_in_inspect_mode() {
    let mut command: ExecuteCommand = shell("echo ran");
    command.mode = reeve_protocol::ops::Mode::Inspect;
    let ran = crate::sandbox::finish(crate::kept::Setup::of(command).start());
    assert!(
        matches!(&ran.outcome, Outcome::Refused(refusal) if refusal.code == "inspect_unavailable"),
        "{ran:?}"
    );
}

#[tokio::test]
async fn command_inherits_no_descriptors() {
    assert_eq!(inspect("ls /proc/self/fd | wc -l").text(), "4\n");
}
