//! The way to the system bus, tried on a real one.

#![allow(clippy::disallowed_methods, reason = "a bus of the test's own is started")]

use std::path::Path;
use std::process::{Child, Command, Stdio};

use reeve_protocol::ops::Network;

use crate::kept::{shell, wait_until};
use crate::sandbox::{inspect_with, walls};

struct Daemon {
    process: Child,
    folder: tempfile::TempDir,
}

impl Daemon {
    fn start() -> Self {
        let folder = tempfile::tempdir_in("/var/tmp").expect("a folder");
        let socket = folder.path().join("system-bus");
        let settings = format!(
            "<!DOCTYPE busconfig PUBLIC \"-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN\"
             \"http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd\">
             <busconfig><type>system</type><listen>unix:path={}</listen><auth>EXTERNAL</auth>
             <policy context=\"default\"><allow user=\"*\"/><allow send_destination=\"*\"/>
             <allow receive_sender=\"*\"/></policy></busconfig>",
            socket.display()
        );
        let file = folder.path().join("bus.conf");
        std::fs::write(&file, settings).expect("written");
        let process = Command::new("dbus-daemon")
            .arg(format!("--config-file={}", file.display()))
            .arg("--nofork")
            .stdin(Stdio::null())
            .spawn()
            .expect("dbus-daemon is there: install dbus");
        wait_until("the bus listens", || socket.exists());
        Self { process, folder }
    }

    fn socket(&self) -> String {
        self.folder.path().join("system-bus").display().to_string()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[tokio::test]
async fn on_the_bus_a_command_is_nobody() {
    let daemon = Daemon::start();
    for network in [Network::None, Network::View] {
        let mut walls = walls();
        walls.bus = vec![daemon.socket()];
        let mut command = shell("busctl list --no-legend");
        command
            .env
            .insert("DBUS_SYSTEM_BUS_ADDRESS".to_owned(), format!("unix:path={}", daemon.socket()));
        let text = inspect_with(command, network, walls).text();
        let own = text.lines().find(|line| line.starts_with(":1.")).expect("its own connection");
        assert!(own.contains(" nobody "), "{text}");
        assert!(!own.contains(" root "), "{text}");
    }
}

#[tokio::test]
async fn bus_answers_questions() {
    let daemon = Daemon::start();
    let mut walls = walls();
    walls.bus = vec![daemon.socket()];
    let mut command = shell(
        "busctl status org.freedesktop.DBus --no-pager; \
         busctl call org.freedesktop.DBus / org.freedesktop.DBus ListNames",
    );
    command
        .env
        .insert("DBUS_SYSTEM_BUS_ADDRESS".to_owned(), format!("unix:path={}", daemon.socket()));
    let ran = inspect_with(command, Network::None, walls);
    assert!(ran.stdout.contains("as 2 \"org.freedesktop.DBus\""), "{ran:?}");
}

#[tokio::test]
async fn bus_is_out_of_reach_when_the_owner_says_so_and_when_the_network_is_used() {
    let daemon = Daemon::start();
    let line = "busctl --address=unix:path=$BUS list";
    for (bus, network, works) in [
        (vec![daemon.socket()], Network::None, true),
        (Vec::new(), Network::None, false),
        (vec![daemon.socket()], Network::Use, false),
        (vec!["/no/such/bus".to_owned()], Network::None, false),
    ] {
        let mut walls = walls();
        walls.bus = bus;
        let mut command = shell(line);
        command.env.insert("BUS".to_owned(), daemon.socket());
        let ran = inspect_with(command, network, walls);
        assert_eq!(ran.code() == 0, works, "{ran:?}");
    }
    assert!(Path::new(&daemon.socket()).exists());
}
