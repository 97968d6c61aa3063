//! Interfaces, routes and name servers.

use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr};

use reeve_protocol::ops::{Interface, Route};

use super::{MAX_LISTED, Root};
use crate::host::activity::Kernel;
use crate::host::facts::list_addresses;

pub fn interfaces(root: &Root) -> Vec<Interface> {
    let addresses = list_addresses();
    let counters = Kernel::default().look().networks;
    let Ok(entries) = fs::read_dir(root.path("sys/class/net")) else { return Vec::new() };
    let mut names: Vec<String> =
        entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
    names.sort();
    names.truncate(MAX_LISTED);
    let describe = |name: String| {
        let read = |what: &str| root.read_line(&format!("sys/class/net/{name}/{what}"));
        // Not every directory entry there is an interface (bonding_masters is none).
        root.exists(&format!("sys/class/net/{name}/ifindex")).then(|| {
            let count = counters.get(&name).copied().unwrap_or_default();
            let mac = read("address");
            Interface {
                state: read("operstate"),
                mac: if mac.bytes().all(|byte| matches!(byte, b'0' | b':')) {
                    String::new()
                } else {
                    mac
                },
                mtu: read("mtu").parse().ok(),
                speed_mbit: read("speed").parse().ok().filter(|speed| *speed > 0),
                addresses: addresses.get(&name).cloned().unwrap_or_default(),
                received: count.received,
                sent: count.sent,
                faults: [
                    count.receive_errors,
                    count.receive_dropped,
                    count.send_errors,
                    count.send_dropped,
                ]
                .into_iter()
                .fold(0, u64::saturating_add),
                name: name.clone(),
            }
        })
    };
    names.into_iter().filter(|name| name != "lo").filter_map(describe).collect()
}

pub fn routes(root: &Root) -> Vec<Route> {
    let mut routes = parse_v4(&root.read("proc/net/route"));
    routes.extend(parse_v6(&root.read("proc/net/ipv6_route")));
    routes.truncate(MAX_LISTED);
    routes
}

/// proc_net_route: numbers in hexadecimal, in the byte order of this machine.
fn parse_v4(text: &str) -> Vec<Route> {
    let number = |word: &str| u32::from_str_radix(word, 16).ok();
    let parse = |line: &str| {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let address = |at: usize| Some(Ipv4Addr::from(number(words.get(at)?)?.to_ne_bytes()));
        let flags = number(words.get(3)?)?;
        let mask = u32::from_be_bytes(address(7)?.octets());
        let destination = address(1)?;
        // RTF_UP.
        (flags & 1 != 0).then_some(())?;
        Some(Route {
            destination: if mask == 0 {
                "default".to_owned()
            } else {
                format!("{destination}/{}", mask.leading_ones())
            },
            gateway: address(2)
                .filter(|it| !it.is_unspecified())
                .map(|it| it.to_string())
                .unwrap_or_default(),
            interface: (*words.first()?).to_owned(),
            metric: words.get(6)?.parse().ok()?,
        })
    };
    text.lines().skip(1).filter_map(parse).collect()
}

fn parse_v6(text: &str) -> Vec<Route> {
    let parse = |line: &str| {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let address = |at: usize| u128::from_str_radix(words.get(at)?, 16).ok().map(Ipv6Addr::from);
        let number = |at: usize| u32::from_str_radix(words.get(at)?, 16).ok();
        let (destination, length, gateway) = (address(0)?, number(1)?, address(4)?);
        let interface = *words.get(9)?;
        let flags = number(8)?;
        // Up, and neither of this machine itself, nor a rejection, nor multicast.
        let is_shown = flags & 0x1 != 0
            && flags & 0x8000_0200 == 0
            && interface != "lo"
            && !destination.is_multicast();
        is_shown.then(|| Route {
            destination: if length == 0 {
                "default".to_owned()
            } else {
                format!("{destination}/{length}")
            },
            gateway: if gateway.is_unspecified() { String::new() } else { gateway.to_string() },
            interface: interface.to_owned(),
            metric: number(5).unwrap_or(0),
        })
    };
    text.lines().filter_map(parse).collect()
}

/// Name servers, and domains that are tried (resolv.conf(5)); of systemd-resolved those it asks.
pub fn dns(root: &Root) -> (Vec<String>, Vec<String>) {
    let (servers, search) = parse_resolv(&root.read("etc/resolv.conf"));
    if servers.iter().all(|server| server.starts_with("127.0.0.5")) {
        let (real, domains) = parse_resolv(&root.read("run/systemd/resolve/resolv.conf"));
        if !real.is_empty() {
            return (real, domains);
        }
    }
    (servers, search)
}

fn parse_resolv(text: &str) -> (Vec<String>, Vec<String>) {
    let (mut servers, mut search) = (Vec::new(), Vec::new());
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        match words.next() {
            Some("nameserver") => servers.extend(words.next().map(str::to_owned)),
            Some("search" | "domain") => search = words.map(str::to_owned).collect(),
            _ => {}
        }
    }
    servers.truncate(16);
    search.truncate(32);
    (servers, search)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_are_told_as_people_write_them() {
        let v4 = "Iface Destination Gateway Flags RefCnt Use Metric Mask MTU Window IRTT\n\
                  eth0 00000000 0102A8C0 0003 0 0 100 00000000 0 0 0\n\
                  eth0 0002A8C0 00000000 0001 0 0 5 00FFFFFF 0 0 0\n\
                  eth1 0002A8C0 00000000 0000 0 0 5 00FFFFFF 0 0 0\n\
                  broken\n";
        let routes = parse_v4(v4);
        let text = |route: &Route| {
            format!(
                "{} via {} dev {} {}",
                route.destination, route.gateway, route.interface, route.metric
            )
        };
        let texts: Vec<String> = routes.iter().map(text).collect();
        // What the kernel writes there depends on the order of bytes; this is a little one.
        if cfg!(target_endian = "little") {
            assert_eq!(
                texts,
                ["default via 192.168.2.1 dev eth0 100", "192.168.2.0/24 via  dev eth0 5"]
            );
        }
        let zero = "0".repeat(32);
        let v6 = format!(
            "{zero} 00 {zero} 00 fe800000000000000000000000000001 00000400 1 0 00000003 eth0\n\
             20010db8000000000000000000000000 20 {zero} 00 {zero} 00000100 1 0 00000001 eth0\n\
             {zero} 00 {zero} 00 {zero} ffffffff 1 0 00200200 lo\n"
        );
        let texts: Vec<String> = parse_v6(&v6).iter().map(text).collect();
        assert_eq!(texts, ["default via fe80::1 dev eth0 1024", "2001:db8::/32 via  dev eth0 256"]);
    }

    #[test]
    fn name_servers_are_those_really_asked() {
        let folder = tempfile::tempdir().expect("a folder");
        let root = Root(folder.path().to_owned());
        std::fs::create_dir_all(folder.path().join("etc")).expect("made");
        std::fs::create_dir_all(folder.path().join("run/systemd/resolve")).expect("made");
        let stub =
            "# a comment\nnameserver 127.0.0.53\noptions edns0\nsearch a.example b.example\n";
        std::fs::write(folder.path().join("etc/resolv.conf"), stub).expect("written");
        assert_eq!(dns(&root).0, ["127.0.0.53"]);
        let real = "nameserver 192.0.2.53\nsearch a.example\n";
        let path = folder.path().join("run/systemd/resolve/resolv.conf");
        std::fs::write(path, real).expect("written");
        assert_eq!(dns(&root), (vec!["192.0.2.53".to_owned()], vec!["a.example".to_owned()]));
    }
}
