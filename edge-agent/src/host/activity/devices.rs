//! `/proc/diskstats` and `/proc/net/dev`: what went through devices.

use std::collections::BTreeMap;

use super::Kernel;

/// Bytes of a sector in `/proc/diskstats`, whatever the disk's own are.
const SECTOR: u64 = 512;

/// Devices told at the most.
const MAX_DEVICES: usize = 256;

/// A disk since boot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskCounters {
    /// Requests.
    pub reads: u64,
    /// Bytes.
    pub read: u64,
    /// Requests.
    pub writes: u64,
    /// Bytes.
    pub written: u64,
    /// Milliseconds with at least one request under way.
    pub busy_ms: u64,
    /// Nothing else passes its bytes on: counted in sums.
    pub is_bottom: bool,
}

/// A network interface since boot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct NetworkCounters {
    pub received: u64,
    pub received_packets: u64,
    pub receive_errors: u64,
    pub receive_dropped: u64,
    pub sent: u64,
    pub sent_packets: u64,
    pub send_errors: u64,
    pub send_dropped: u64,
    /// A device rather than a bridge, tunnel or pair: counted in sums.
    pub is_bottom: bool,
}

impl Kernel {
    pub(super) fn disks(&self) -> BTreeMap<String, DiskCounters> {
        let text = self.proc("diskstats");
        let mut disks: BTreeMap<String, DiskCounters> = text
            .lines()
            .filter_map(parse_disk)
            .filter(|(name, _)| {
                // What is no block device of its own is a part of one.
                !is_made_up(name) && self.has_sys(&format!("block/{}", name.replace('/', "!")))
            })
            .take(MAX_DEVICES)
            .collect();
        let is_on_top = |name: &str| name.starts_with("dm-") || name.starts_with("md");
        let has_bottom = disks.keys().any(|name| !is_on_top(name));
        for (name, disk) in &mut disks {
            disk.is_bottom = !has_bottom || !is_on_top(name);
        }
        disks
    }

    pub(super) fn networks(&self) -> BTreeMap<String, NetworkCounters> {
        let text = self.proc("net/dev");
        let mut networks: BTreeMap<String, NetworkCounters> =
            text.lines().filter_map(parse_network).take(MAX_DEVICES).collect();
        networks.remove("lo");
        let is_device = |name: &str| self.has_sys(&format!("class/net/{name}/device"));
        // In a container there are none but made-up ones.
        let has_device = networks.keys().any(|name| is_device(name));
        for (name, network) in &mut networks {
            network.is_bottom = !has_device || is_device(name);
        }
        networks
    }
}

/// Devices that hold what memory or another device holds.
fn is_made_up(name: &str) -> bool {
    ["loop", "ram", "zram", "fd", "sr"].iter().any(|beginning| {
        name.strip_prefix(beginning).is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_digit()))
    })
}

fn parse_disk(line: &str) -> Option<(String, DiskCounters)> {
    let mut words = line.split_ascii_whitespace().skip(2);
    let name = words.next()?.to_owned();
    let mut numbers = [0_u64; 10];
    for number in &mut numbers {
        *number = words.next()?.parse().ok()?;
    }
    let [reads, _, read, _, writes, _, written, _, _, busy_ms] = numbers;
    let (read, written) = (read.saturating_mul(SECTOR), written.saturating_mul(SECTOR));
    Some((name, DiskCounters { reads, read, writes, written, busy_ms, is_bottom: false }))
}

fn parse_network(line: &str) -> Option<(String, NetworkCounters)> {
    let (name, rest) = line.split_once(':')?;
    let mut numbers = [0_u64; 12];
    let mut words = rest.split_ascii_whitespace();
    for number in &mut numbers {
        *number = words.next()?.parse().ok()?;
    }
    let [
        received,
        received_packets,
        receive_errors,
        receive_dropped,
        _,
        _,
        _,
        _,
        sent,
        sent_packets,
        send_errors,
        send_dropped,
    ] = numbers;
    let counters = NetworkCounters {
        received,
        received_packets,
        receive_errors,
        receive_dropped,
        sent,
        sent_packets,
        send_errors,
        send_dropped,
        is_bottom: false,
    };
    Some((name.trim().to_owned(), counters))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    const DISKS: &str = "\
   8       0 sda 10 1 100 7 20 2 200 9 0 55 16 0 0 0 0 0 0
   8       1 sda1 9 1 90 7 20 2 200 9 0 55 16
 253       0 dm-0 10 0 100 7 20 0 200 9 0 44 16
   7       0 loop0 5 0 5 0 0 0 0 0 0 0 0
 259       0 nvme0n1 1 0 2 0 3 0 4 0 0 6 0
broken line\n";

    const NETWORKS: &str = "\
Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop
    lo: 100 1 0 0 0 0 0 0 100 1 0 0 0 0 0 0
  eth0: 5000 50 1 2 0 0 0 0 7000 70 3 4 0 0 0 0
docker0:900 9 0 0 0 0 0 0 900 9 0 0 0 0 0 0\n";

    fn machine(paths: &[&str]) -> tempfile::TempDir {
        let root = tempfile::tempdir().expect("a folder");
        fs::create_dir_all(root.path().join("proc/net")).expect("made");
        fs::write(root.path().join("proc/diskstats"), DISKS).expect("written");
        fs::write(root.path().join("proc/net/dev"), NETWORKS).expect("written");
        for path in paths {
            fs::create_dir_all(root.path().join("sys").join(path)).expect("made");
        }
        root
    }

    #[test]
    fn disks_are_told_once_and_partitions_not() {
        let root = machine(&["block/sda", "block/dm-0", "block/nvme0n1", "block/loop0"]);
        let disks = Kernel::at(root.path()).disks();
        assert_eq!(disks.keys().collect::<Vec<_>>(), ["dm-0", "nvme0n1", "sda"]);
        let expected = DiskCounters {
            reads: 10,
            read: 51_200,
            writes: 20,
            written: 102_400,
            busy_ms: 55,
            is_bottom: true,
        };
        assert_eq!(disks["sda"], expected);
        assert!(!disks["dm-0"].is_bottom && disks["nvme0n1"].is_bottom);
        // Where a mapped device is all one sees, it is what counts.
        let root = machine(&["block/dm-0"]);
        assert!(Kernel::at(root.path()).disks()["dm-0"].is_bottom);
    }

    #[test]
    fn networks_that_lead_out_are_what_counts() {
        let root = machine(&["class/net/eth0/device"]);
        let networks = Kernel::at(root.path()).networks();
        assert_eq!(networks.keys().collect::<Vec<_>>(), ["docker0", "eth0"]);
        assert!(networks["eth0"].is_bottom && !networks["docker0"].is_bottom);
        assert_eq!((networks["eth0"].received, networks["eth0"].sent), (5000, 7000));
        assert_eq!((networks["eth0"].receive_errors, networks["eth0"].send_dropped), (1, 4));
        let root = machine(&[]);
        let networks = Kernel::at(root.path()).networks();
        assert!(networks.values().all(|network| network.is_bottom));
    }

    #[test]
    fn nothing_to_read_is_nothing_to_tell() {
        let root = tempfile::tempdir().expect("a folder");
        let look = Kernel::at(root.path()).look();
        assert!(look.processors.is_empty() && look.disks.is_empty() && look.networks.is_empty());
    }
}
