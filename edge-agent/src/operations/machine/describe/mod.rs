//! `machine_describe`.

mod network;
mod reboot;
mod storage;
mod updates;
mod users;
mod virtualisation;

use std::fs;
use std::path::{Path, PathBuf};

use reeve_protocol::ops::{Failure, MachineDescribe, MachineDescription};

use crate::host;
use crate::operations::worker::{Needs, Perform, Worker};

/// Lines of any list.
const MAX_LISTED: usize = 256;

/// The machine's files, or other ones in tests.
struct Root(PathBuf);

impl Root {
    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// A file as text; empty when it cannot be read.
    fn read(&self, name: &str) -> String {
        let bytes = fs::read(self.path(name)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The only line of a file.
    fn read_line(&self, name: &str) -> String {
        self.read(name).trim().to_owned()
    }

    fn exists(&self, name: &str) -> bool {
        self.path(name).exists()
    }
}

impl Perform for MachineDescribe {
    const NEEDS: Needs = Needs::Nothing;

    fn perform(self, worker: &mut Worker) -> Result<(), Failure> {
        let root = Root(Path::new("/").to_owned());
        let uptime = root.read("proc/uptime");
        let uptime = uptime.split('.').next().and_then(|text| text.parse().ok());
        let clock = host::clock::look();
        let dns = network::dns(&root);
        let virtualisation = virtualisation::find(&root);
        let description = MachineDescription {
            time_us: host::now_us(),
            boot_id: host::read_boot_id(),
            uptime_s: uptime.unwrap_or(0),
            timezone: timezone(&root),
            clock_synchronised: clock.map(|clock| clock.synchronised),
            clock_error_us: clock.filter(|clock| clock.synchronised).map(|clock| clock.error_us),
            filesystems: storage::list(&root),
            interfaces: network::interfaces(&root),
            routes: network::routes(&root),
            dns_servers: dns.0,
            dns_search: dns.1,
            users: users::list(&root),
            updates: (!self.without_updates).then(|| updates::find(&root)).flatten(),
            reboot: reboot::find(&root, &virtualisation),
            virtualisation,
        };
        worker.answer(&description)
    }
}

/// From where the local time leads, or the name Debian writes down.
fn timezone(root: &Root) -> String {
    let link = fs::read_link(root.path("etc/localtime")).unwrap_or_default();
    let link = link.to_string_lossy().into_owned();
    match link.split_once("zoneinfo/") {
        Some((_, zone)) => zone.to_owned(),
        None => root.read_line("etc/timezone"),
    }
}
