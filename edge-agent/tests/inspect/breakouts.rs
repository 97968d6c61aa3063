//! Attacks on the sandbox. Each is made twice on a scene of its own: without walls, where it has to
//! get through, and in inspect mode, where it has to be stopped and leave no trace.

use reeve_agent::keeper::wire::ToKeeper;
use reeve_protocol::Outcome;
use reeve_protocol::ops::{Command, ExecuteCommand, Network};

use crate::kept::{Setup, shell};
use crate::sandbox::{Ran, finish, inspect_with, start, walls};
use crate::scene::{Attacker, Scene};

/// An attack by the program.
fn by_program(name: &str) -> String {
    format!("exec $ATTACKER {name}")
}

fn without_walls(scene: &Scene, line: &str) -> Ran {
    let mut command = ExecuteCommand::new(Command::Shell(line.to_owned()));
    command.env.clone_from(&scene.environment);
    finish(Setup::of(command).start())
}

/// Makes one attack both ways.
fn attack(attacker: &Attacker, name: &str, off: &str, on: &str, network: Network) {
    attack_with(attacker, name, off, on, network, None);
}

/// The same with a bus in the scene that may be connected to.
fn attack_with(
    attacker: &Attacker,
    name: &str,
    off: &str,
    on: &str,
    network: Network,
    bus: Option<&str>,
) {
    let mut walls = walls();
    let scene = Scene::make(attacker, &walls);
    let ran = without_walls(&scene, off);
    assert_eq!(ran.outcome, Outcome::Exited { code: 0 }, "{name} fails without walls: {ran:?}");
    drop(scene);

    let mut scene = Scene::make(attacker, &walls);
    walls.blocked = scene.blocked();
    walls.bus = bus.map(|name| scene.path(name)).into_iter().collect();
    let before = scene.look();
    let mut command = ExecuteCommand::new(Command::Shell(on.to_owned()));
    command.env.clone_from(&scene.environment);
    let ran = inspect_with(command, network, walls);
    // 1 is the attacker's own word for "stopped": no other code proves anything.
    assert_eq!(ran.outcome, Outcome::Exited { code: 1 }, "{name} in inspect mode: {ran:?}");
    assert!(!ran.stderr.contains("not found"), "{name} was not made: {ran:?}");
    assert_eq!(scene.look(), before, "{name} left a trace");
    scene.check_victim(name);
    println!("stopped: {name}: {}", ran.stderr.trim().lines().last().unwrap_or_default());
}

fn attack_by_program(names: &[&str], network: Network) {
    let attacker = Attacker::compile();
    for name in names {
        attack(&attacker, name, &by_program(name), &by_program(name), network);
    }
}

#[tokio::test]
async fn files_cannot_be_changed() {
    attack_by_program(
        &[
            "write_file",
            "append_file",
            "create_file",
            "create_unnamed",
            "delete_file",
            "delete_folder",
            "make_folder",
            "rename_file",
            "exchange_files",
            "hard_link",
            "symbolic_link",
            "change_mode",
            "change_mode_open",
            "change_owner",
            "change_times",
            "change_size",
            "empty_by_open",
            "set_attribute",
            "set_flags",
            "make_device",
            "make_pipe",
            "write_pipe",
            "lock_file",
            "make_device_in_scratch",
            "write_in_tmp",
            "write_in_var_tmp",
            "write_in_lock",
            "write_in_etc",
            "write_in_dev",
        ],
        Network::None,
    );
}

#[tokio::test]
async fn blocked_files_cannot_be_read_by_any_road() {
    attack_by_program(
        &[
            "read_blocked",
            "read_blocked_file",
            "read_by_root_of_another",
            "read_by_handle",
            "find_handle",
            "unmount_cover",
        ],
        Network::None,
    );
}

#[tokio::test]
async fn mounts_and_namespaces_cannot_be_made_or_entered() {
    attack_by_program(
        &[
            "mount_over",
            "bind_over",
            "remount_writable",
            "thaw_by_attributes",
            "clone_tree",
            "new_file_system",
            "change_root",
            "unshare_mounts",
            "unshare_network",
            "unshare_user_and_mount",
            "clone_user",
            "clone3_user",
            "enter_namespace",
            "enter_namespace_of_another",
        ],
        Network::None,
    );
}

#[tokio::test]
async fn other_processes_cannot_be_reached() {
    attack_by_program(
        &[
            "kill_other",
            "stop_other",
            "signal_keeper",
            "kill_by_descriptor",
            "trace",
            "write_memory",
            "read_memory",
            "write_memory_file",
            "read_environment",
            "offer_to_oom",
            "take_descriptor",
            "write_keepers_files",
            "write_shared_memory",
            "remove_shared_memory",
        ],
        Network::None,
    );
}

#[tokio::test]
async fn rights_and_limits_cannot_be_raised() {
    attack_by_program(
        &[
            "hide_from_oom",
            "become_root",
            "become_root_of_files",
            "join_group_of_root",
            "take_capabilities",
            "unlock_flags",
            "go_first",
            "run_in_real_time",
            "leave_group",
            "make_group",
            "fork_without_end",
            "dump_core",
        ],
        Network::None,
    );
    let attacker = Attacker::compile();
    // Without walls, a user of this machine becomes root by such a program.
    let (off, on) = ("DROP=1 exec $ATTACKER gain_by_program", "exec $ATTACKER gain_by_program");
    attack(&attacker, "gain_by_program", off, on, Network::None);
}

#[tokio::test]
async fn the_kernel_and_its_settings_cannot_be_changed() {
    attack_by_program(
        &[
            "reboot_machine",
            "load_module",
            "load_module_file",
            "unload_module",
            "load_kernel",
            "use_swap",
            "leave_swap",
            "start_accounting",
            "sync_quota",
            "name_machine",
            "name_domain",
            "set_time_zone",
            "adjust_clock",
            "write_kernel_setting",
            "write_network_setting",
            "drop_caches",
            "write_sysfs",
            "quiet_the_log",
            "write_log",
            "make_ring",
            "load_program",
            "count_events",
            "catch_faults",
            "watch_everything",
            "add_key",
            "use_keyring",
            "type_for_user",
        ],
        Network::None,
    );
}

#[cfg(target_arch = "x86_64")]
#[tokio::test]
async fn ports_and_the_old_table_of_system_calls_cannot_be_used() {
    attack_by_program(&["reach_ports", "reach_one_port", "use_old_table"], Network::None);
}

#[tokio::test]
async fn inspections_cannot_reach_each_other() {
    let other = walls();
    let mut kept = start(shell("echo $$; exec sleep 60"), Network::None, other.clone());
    kept.hear_until(|kept| kept.to > 0);
    let pid = kept.accepted.as_ref().and_then(|accepted| accepted.pid).expect("it runs");
    for line in [
        format!("kill -9 {pid}"),
        format!("cat /proc/{pid}/environ"),
        format!("ls /proc/{pid}/root/"),
        format!("echo > /proc/{pid}/fd/1"),
    ] {
        let mine = walls();
        assert_ne!(mine.uid, other.uid);
        let ran = inspect_with(shell(&line), Network::None, mine);
        assert_ne!(ran.outcome, Outcome::Exited { code: 0 }, "{line}: {ran:?}");
    }
    assert!(kept.result().is_none(), "it still runs");
    kept.say(&ToKeeper::Cancel { reason: "enough".to_owned() });
    assert!(matches!(finish(kept).outcome, Outcome::Cancelled { .. }));
}

#[tokio::test]
async fn system_calls_newer_than_the_list_do_not_exist() {
    let attacker = Attacker::compile();
    let walls = walls();
    let scene = Scene::make(&attacker, &walls);
    let mut command = shell(&by_program("run_unknown_call"));
    command.env.clone_from(&scene.environment);
    let ran = inspect_with(command, Network::None, walls);
    assert_eq!(ran.outcome, Outcome::Exited { code: 1 }, "{ran:?}");
    assert!(ran.stderr.contains("not implemented"), "{ran:?}");
}

/// Whatever the network: these are never allowed.
const NEVER: &[&str] = &[
    "make_raw",
    "make_packet",
    "make_audit",
    "listen_tcp",
    "connect_bus",
    "connect_containers",
    "connect_hidden",
    "connect_abstract",
    "write_system_log",
    "send_from_pair",
    "connect_from_pair",
];

#[tokio::test]
async fn sockets_reach_nobody_without_the_network() {
    attack_by_program(&["connect_tcp", "send_udp", "make_tcp6"], Network::None);
    attack_by_program(NEVER, Network::None);
}

#[tokio::test]
async fn sockets_reach_nobody_when_the_network_is_only_seen() {
    attack_by_program(&["connect_tcp", "send_udp", "make_tcp6"], Network::View);
    attack_by_program(NEVER, Network::View);
    let attacker = Attacker::compile();
    // As it is already: even root changes nothing.
    let line = "ip link set lo up || exit 1";
    attack(&attacker, "set_interface", line, line, Network::View);
}

#[tokio::test]
async fn sockets_reach_the_system_bus_and_nobody_else() {
    let attacker = Attacker::compile();
    for network in [Network::None, Network::View] {
        for name in NEVER.iter().chain(&["listen_for_calls", "bind_abstract"]) {
            let line = by_program(name);
            attack_with(&attacker, name, &line, &line, network, Some("system-bus"));
        }
    }
}

#[tokio::test]
async fn use_of_the_network_is_connections_and_nothing_else() {
    attack_by_program(NEVER, Network::Use);
    let attacker = Attacker::compile();
    let walls = walls();
    let scene = Scene::make(&attacker, &walls);
    for name in ["connect_tcp", "send_udp", "make_tcp6"] {
        let mut command = ExecuteCommand::new(Command::Shell(by_program(name)));
        command.env.clone_from(&scene.environment);
        let ran = inspect_with(command, Network::Use, walls.clone());
        assert_eq!(ran.outcome, Outcome::Exited { code: 0 }, "{name}: {ran:?}");
    }
}

#[tokio::test]
async fn programs_that_administrate_are_stopped() {
    let attacker = Attacker::compile();
    let aside = |line: &str| format!("unshare -m sh -ec '{line}' || exit 1");
    for (name, off, on) in [
        (
            "new_user",
            aside(
                "cp -a /etc $SCENE/etc; mount --bind $SCENE/etc /etc; \
                 useradd intruder; grep -q ^intruder /etc/passwd",
            ),
            "useradd intruder && grep -q ^intruder /etc/passwd || exit 1".to_owned(),
        ),
        (
            "new_line_in_passwd",
            aside(
                "cp /etc/passwd $SCENE/passwd; mount --bind $SCENE/passwd /etc/passwd; \
                 echo intruder:x:0:0::/:/bin/sh >> /etc/passwd",
            ),
            "{ echo intruder:x:0:0::/:/bin/sh >> /etc/passwd; } || exit 1".to_owned(),
        ),
        ("su", "su root -c true || exit 1".to_owned(), "su root -c true || exit 1".to_owned()),
        (
            "cron_spool",
            aside(
                "mount -t tmpfs none /var/spool; mkdir -p /var/spool/cron/crontabs; echo > /var/spool/cron/crontabs/root",
            ),
            "mkdir -p /var/spool/cron/crontabs && echo > /var/spool/cron/crontabs/root || exit 1"
                .to_owned(),
        ),
        (
            "cron_folder",
            aside(
                "mkdir -p /etc/cron.d; mount -t tmpfs none /etc/cron.d; echo > /etc/cron.d/intruder",
            ),
            "mkdir -p /etc/cron.d && echo > /etc/cron.d/intruder || exit 1".to_owned(),
        ),
        (
            "agents_own_files",
            aside(
                "mkdir -p /var/lib/reeve-agent; mount -t tmpfs none /var/lib/reeve-agent; \
                 echo > /var/lib/reeve-agent/key",
            ),
            "mkdir -p /var/lib/reeve-agent && echo > /var/lib/reeve-agent/key || exit 1".to_owned(),
        ),
    ] {
        attack(&attacker, name, &off, &on, Network::None);
    }
}
