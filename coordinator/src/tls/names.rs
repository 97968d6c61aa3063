//! Names and addresses this host is reached by.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use url::{Host, Url};

/// The name of this host, as its kernel knows it.
pub(crate) fn host_name() -> Option<String> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
    let name = name.trim();
    (!name.is_empty() && name != "(none)").then(|| name.to_owned())
}

/// What a certificate of ours is for.
pub(super) fn list_names(
    listen: IpAddr,
    public: Option<&Url>,
    extra: &[String],
) -> BTreeSet<String> {
    let mut names: BTreeSet<String> = extra.iter().map(|name| name.to_ascii_lowercase()).collect();
    names.insert("localhost".to_owned());
    names.insert(super::FIXED_NAME.to_owned());
    names.insert(Ipv4Addr::LOCALHOST.to_string());
    names.insert(Ipv6Addr::LOCALHOST.to_string());
    names.extend(host_name().map(|name| name.to_ascii_lowercase()));
    if listen.is_unspecified() {
        names.extend(local_addresses().iter().map(ToString::to_string));
    } else {
        names.insert(listen.to_string());
    }
    match public.and_then(Url::host) {
        Some(Host::Domain(name)) => names.insert(name.to_owned()),
        Some(Host::Ipv4(address)) => names.insert(address.to_string()),
        Some(Host::Ipv6(address)) => names.insert(address.to_string()),
        None => false,
    };
    names
}

/// Addresses of this host's interfaces, out of /proc/net.
fn local_addresses() -> BTreeSet<IpAddr> {
    let trie = std::fs::read_to_string("/proc/net/fib_trie").unwrap_or_default();
    let six = std::fs::read_to_string("/proc/net/if_inet6").unwrap_or_default();
    parse_fib_trie(&trie).into_iter().chain(parse_if_inet6(&six)).collect()
}

/// An address stands in the line before the one that says `/32 host LOCAL`.
fn parse_fib_trie(text: &str) -> Vec<IpAddr> {
    let mut found = Vec::new();
    let mut last = None;
    for line in text.lines() {
        if line.contains("/32 host LOCAL") {
            found.extend(last);
        } else if let Some((_, address)) = line.split_once("|-- ") {
            last = address.trim().parse::<Ipv4Addr>().ok().map(IpAddr::V4);
        }
    }
    found
}

/// 32 digits, interface index, prefix length, scope, … Link-local ones need a zone and are left out.
fn parse_if_inet6(text: &str) -> Vec<IpAddr> {
    text.lines()
        .filter_map(|line| u128::from_str_radix(line.split_whitespace().next()?, 16).ok())
        .map(Ipv6Addr::from)
        .filter(|address| !address.is_unicast_link_local())
        .map(IpAddr::V6)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_found_in_proc() {
        let trie = "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 127.0.0.1\n        /32 host LOCAL\n     \
                    |-- 192.168.7.0\n        /24 link UNICAST\n     |-- 192.168.7.20\n        \
                    /32 host LOCAL\n";
        let found: Vec<String> = parse_fib_trie(trie).iter().map(ToString::to_string).collect();
        assert_eq!(found, ["127.0.0.1", "192.168.7.20"]);
        let six = "fe800000000000000000000000000001 02 40 20 80 eth0\n\
                   20010db8000000000000000000000007 02 40 00 80 eth0\n";
        let found: Vec<String> = parse_if_inet6(six).iter().map(ToString::to_string).collect();
        assert_eq!(found, ["2001:db8::7"]);
    }
}
