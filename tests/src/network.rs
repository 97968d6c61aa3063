//! A machine on a network of its own: a namespace, a pair of virtual Ethernet devices, real
//! addresses and routes. What a proxy only plays, the kernel really does here.

use std::process::{Child, Command, Stdio};

use nix::sched::{CloneFlags, unshare};

/// The coordinator's end.
const NEAR: &str = "10.213.0.1";

/// Two namespaces and the cable between them. This thread, and whatever it starts from now on,
/// is in the first one; nothing else on this machine can see either.
pub struct Network {
    /// Keeps the second namespace.
    holder: Child,
    addresses: u8,
}

impl Network {
    /// Makes both. Call it before anything else is started, in the story's own thread.
    ///
    /// # Panics
    /// When this is not root, or ip(8) does not do as it is told.
    #[must_use]
    pub fn make() -> Self {
        crate::require_root("it makes network namespaces");
        unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace");
        ip(&["link", "set", "lo", "up"]);
        let holder = Command::new("unshare")
            .args(["--net", "sh", "-c", "echo made; exec sleep 3600"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn();
        let mut holder = holder.expect("start unshare(1)");
        // It says so once it is in its own namespace.
        let mut said = [0; 5];
        let mut pipe = holder.stdout.take().expect("a pipe");
        std::io::Read::read_exact(&mut pipe, &mut said).expect("the namespace is made");
        let network = Self { holder, addresses: 2 };
        let pid = network.holder.id().to_string();
        ip(&["link", "add", "near", "type", "veth", "peer", "name", "far", "netns", &pid]);
        ip(&["addr", "add", &format!("{NEAR}/24"), "dev", "near"]);
        ip(&["link", "set", "near", "up"]);
        network.inside(&["ip", "link", "set", "lo", "up"]);
        network.inside(&["ip", "addr", "add", "10.213.0.2/24", "dev", "far"]);
        network.inside(&["ip", "link", "set", "far", "up"]);
        network
    }

    /// The address under which the machine reaches what listens in the first namespace.
    #[must_use]
    pub fn near(&self) -> &'static str {
        NEAR
    }

    /// What to put in front of a command so that it runs in the second namespace.
    #[must_use]
    pub(crate) fn enter(&self) -> Vec<String> {
        vec!["nsenter".to_owned(), format!("--net=/proc/{}/ns/net", self.holder.id())]
    }

    fn inside(&self, command: &[&str]) {
        let enter = self.enter();
        let words: Vec<&str> =
            enter.iter().map(String::as_str).chain(command.iter().copied()).collect();
        run(&words);
    }

    /// Pulls the cable: nothing passes, and nobody is told.
    pub fn pull(&self) {
        self.inside(&["ip", "link", "set", "far", "down"]);
    }

    /// Puts it back.
    pub fn plug(&self) {
        self.inside(&["ip", "link", "set", "far", "up"]);
    }

    /// The machine gets another address and loses the one it has: its connections are half open.
    pub fn change_address(&mut self) {
        self.addresses += 1;
        self.inside(&["ip", "addr", "flush", "dev", "far"]);
        self.inside(&[
            "ip",
            "addr",
            "add",
            &format!("10.213.0.{}/24", self.addresses),
            "dev",
            "far",
        ]);
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        let _gone = self.holder.kill();
        let _gone = self.holder.wait();
    }
}

fn ip(arguments: &[&str]) {
    let words: Vec<&str> = std::iter::once("ip").chain(arguments.iter().copied()).collect();
    run(&words);
}

fn run(words: &[&str]) {
    let output = Command::new(words[0]).args(&words[1..]).output();
    let output = output.unwrap_or_else(|error| panic!("{words:?}: {error}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{words:?}: {said}");
}
