//! Where tunnels may lead: `[allow] tunnels = ["localhost:22", "10.0.0.0/8:*", "[::1]:8000-8999"]`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

/// One entry: addresses and ports. Names are none but `localhost`: what a name leads to is decided
/// by others, and the owner of the machine is to have the last word.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TunnelRule {
    text: String,
    hosts: Hosts,
    /// First and last.
    ports: (u16, u16),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Hosts {
    All,
    /// Every address of the machine's own loopback.
    Localhost,
    Network {
        address: IpAddr,
        /// Bits that have to be the same.
        bits: u8,
    },
}

impl TunnelRule {
    /// Whether it lets a tunnel lead there.
    #[must_use]
    pub fn allows(&self, address: IpAddr, port: u16) -> bool {
        let address = address.to_canonical();
        (self.ports.0..=self.ports.1).contains(&port)
            && match &self.hosts {
                Hosts::All => true,
                Hosts::Localhost => address.is_loopback(),
                Hosts::Network { address: network, bits } => is_within(address, *network, *bits),
            }
    }
}

fn is_within(address: IpAddr, network: IpAddr, bits: u8) -> bool {
    let (address, network, width) = match (address, network) {
        (IpAddr::V4(address), IpAddr::V4(network)) => {
            (u128::from(address.to_bits()), u128::from(network.to_bits()), 32)
        }
        (IpAddr::V6(address), IpAddr::V6(network)) => (address.to_bits(), network.to_bits(), 128),
        _ => return false,
    };
    let rest = width - u32::from(bits).min(width);
    // A shift by the whole width is no number.
    let cut = |value: u128| value.checked_shr(rest).unwrap_or(0);
    cut(address) == cut(network)
}

impl From<TunnelRule> for String {
    fn from(rule: TunnelRule) -> Self {
        rule.text
    }
}

impl TryFrom<String> for TunnelRule {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let wrong = |why: &str| {
            format!(
                "tunnels has \"{text}\", {why}; an entry is \"localhost:22\", \"10.0.0.0/8:*\", \
                 \"[::1]:8000-8999\" or \"*:443\""
            )
        };
        let (hosts, ports) = text.rsplit_once(':').ok_or_else(|| wrong("which has no port"))?;
        let ports = parse_ports(ports).ok_or_else(|| wrong("whose ports make no sense"))?;
        let hosts = match hosts {
            "*" => Hosts::All,
            "localhost" => Hosts::Localhost,
            _ => {
                let bare = hosts.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
                if bare.is_none() && hosts.contains(':') {
                    return Err(wrong("whose IPv6 address needs brackets"));
                }
                parse_network(bare.unwrap_or(hosts)).map_err(wrong)?
            }
        };
        Ok(Self { hosts, ports, text })
    }
}

fn parse_ports(text: &str) -> Option<(u16, u16)> {
    if text == "*" {
        return Some((1, u16::MAX));
    }
    let port = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse::<u16>().ok().filter(|port| digits && *port > 0)
    };
    match text.split_once('-') {
        Some((first, last)) => {
            let (first, last) = (port(first)?, port(last)?);
            (first <= last).then_some((first, last))
        }
        None => port(text).map(|port| (port, port)),
    }
}

fn parse_network(text: &str) -> Result<Hosts, &'static str> {
    let (address, bits) = match text.split_once('/') {
        Some((address, bits)) => (address, Some(bits)),
        None => (text, None),
    };
    let address: IpAddr = address
        .parse()
        .map_err(|_| "which is no address; names other than localhost may lead anywhere")?;
    let width = match address {
        IpAddr::V4(Ipv4Addr { .. }) => 32,
        IpAddr::V6(Ipv6Addr { .. }) => 128,
    };
    let bits = match bits {
        None => width,
        Some(bits) => bits
            .parse::<u8>()
            .ok()
            .filter(|bits| *bits <= width)
            .ok_or("whose network is too long")?,
    };
    // As addresses are compared.
    match address.to_canonical() {
        IpAddr::V4(inner) if address.is_ipv6() && bits >= 96 => {
            Ok(Hosts::Network { address: inner.into(), bits: bits - 96 })
        }
        _ => Ok(Hosts::Network { address, bits }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(text: &str) -> TunnelRule {
        TunnelRule::try_from(text.to_owned()).expect(text)
    }

    fn allows(text: &str, address: &str, port: u16) -> bool {
        rule(text).allows(address.parse().expect("an address"), port)
    }

    #[test]
    fn rules_allow_what_they_say_and_nothing_else() {
        assert!(allows("localhost:22", "127.0.0.1", 22));
        assert!(allows("localhost:22", "127.9.9.9", 22));
        assert!(allows("localhost:22", "::1", 22));
        assert!(allows("localhost:22", "::ffff:127.0.0.1", 22));
        assert!(!allows("localhost:22", "127.0.0.1", 23));
        assert!(!allows("localhost:*", "10.0.0.1", 22));
        assert!(allows("10.0.0.0/8:*", "10.255.0.1", 1));
        assert!(!allows("10.0.0.0/8:*", "11.0.0.0", 1));
        assert!(!allows("10.0.0.0/8:*", "::1", 1));
        assert!(allows("10.0.0.0/8:*", "::ffff:10.1.1.1", 1));
        assert!(allows("192.0.2.7:80-81", "192.0.2.7", 81));
        assert!(!allows("192.0.2.7:80-81", "192.0.2.8", 81));
        assert!(!allows("192.0.2.7:80-81", "192.0.2.7", 82));
        assert!(allows("[fd00::/8]:443", "fd12::1", 443));
        assert!(!allows("[fd00::/8]:443", "fe80::1", 443));
        assert!(allows("0.0.0.0/0:1-65535", "198.51.100.1", 9));
        assert!(!allows("0.0.0.0/0:1-65535", "2001:db8::1", 9));
        assert!(allows("[::ffff:10.0.0.0/104]:*", "10.1.2.3", 9));
        assert!(allows("*:443", "2001:db8::1", 443));
        assert!(!allows("*:443", "2001:db8::1", 80));
    }

    #[test]
    fn entries_that_make_no_sense_say_why() {
        for (text, why) in [
            ("localhost", "no port"),
            ("localhost:", "ports"),
            ("localhost:0", "ports"),
            ("localhost:+5", "ports"),
            ("localhost:9-5", "ports"),
            ("localhost:65536", "ports"),
            ("db.example.org:22", "names other than localhost"),
            ("10.0.0.0/33:22", "too long"),
            ("::1:22", "brackets"),
            ("[::1/129]:22", "too long"),
            ("", "no port"),
        ] {
            let error = TunnelRule::try_from(text.to_owned()).expect_err(text);
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn rules_are_written_as_they_were_read() {
        assert_eq!(String::from(rule("[::1]:8000-8999")), "[::1]:8000-8999");
    }
}
