//! Where sockets lead: `/proc/<pid>/net` of the process's own network namespace
//! (proc_pid_net(5), Documentation/networking/proc_net_tcp.rst).

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use reeve_protocol::ops::explain_operation::SocketFinding;

/// Sockets of one kind that are looked through.
const MAX_LINES: usize = 100_000;

/// The sockets wanted, by inode.
pub fn find(pid: u32, wanted: &[u64]) -> HashMap<u64, SocketFinding> {
    let mut found = HashMap::new();
    if wanted.is_empty() {
        return found;
    }
    for family in ["tcp", "tcp6", "udp", "udp6", "unix"] {
        let Ok(file) = fs::File::open(format!("/proc/{pid}/net/{family}")) else { continue };
        let lines = BufReader::new(file).lines().map_while(Result::ok).skip(1).take(MAX_LINES);
        for line in lines {
            let parsed =
                if family == "unix" { parse_unix(&line) } else { parse_inet(&line, family) };
            if let Some((inode, socket)) = parsed.filter(|(inode, _)| wanted.contains(inode)) {
                found.insert(inode, socket);
            }
        }
        if found.len() == wanted.len() {
            break;
        }
    }
    found
}

fn parse_inet(line: &str, family: &str) -> Option<(u64, SocketFinding)> {
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    let (local, remote) = (parse_address(words.get(1)?)?, parse_address(words.get(2)?)?);
    let (send, receive) = words.get(4)?.split_once(':')?;
    let number = |text: &str| u64::from_str_radix(text, 16).unwrap_or(0);
    let family = family.trim_end_matches('6');
    let socket = SocketFinding {
        family: family.to_owned(),
        local: local.to_string(),
        remote: if remote.port() == 0 { String::new() } else { remote.to_string() },
        state: if family == "tcp" { name_state(words.get(3)?).to_owned() } else { String::new() },
        send_queue: number(send),
        receive_queue: number(receive),
    };
    Some((words.get(9)?.parse().ok()?, socket))
}

/// Such as `0100007F:1F90`: words of four bytes as the processor stores them, and the port.
fn parse_address(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |at: usize| {
        let digits = address.get(at * 8..at * 8 + 8)?;
        u32::from_str_radix(digits, 16).ok().map(u32::to_ne_bytes)
    };
    let ip = if address.len() == 8 {
        IpAddr::V4(Ipv4Addr::from(word(0)?))
    } else {
        let mut bytes = [0; 16];
        for (at, part) in bytes.as_chunks_mut::<4>().0.iter_mut().enumerate() {
            *part = word(at)?;
        }
        let ip = Ipv6Addr::from(bytes);
        ip.to_ipv4_mapped().map_or(IpAddr::V6(ip), IpAddr::V4)
    };
    Some(SocketAddr::new(ip, port))
}

/// include/net/tcp_states.h
fn name_state(number: &str) -> &'static str {
    const NAMES: [&str; 12] = [
        "ESTABLISHED",
        "SYN_SENT",
        "SYN_RECV",
        "FIN_WAIT1",
        "FIN_WAIT2",
        "TIME_WAIT",
        "CLOSE",
        "CLOSE_WAIT",
        "LAST_ACK",
        "LISTEN",
        "CLOSING",
        "SYN_RECV",
    ];
    usize::from_str_radix(number, 16)
        .ok()
        .and_then(|number| NAMES.get(number.checked_sub(1)?))
        .copied()
        .unwrap_or_default()
}

/// `address: refcount protocol flags type state inode path`
fn parse_unix(line: &str) -> Option<(u64, SocketFinding)> {
    let mut words = line.split_ascii_whitespace();
    let state = match words.nth(5)? {
        "01" => "UNCONNECTED",
        "02" => "CONNECTING",
        "03" => "CONNECTED",
        "04" => "DISCONNECTING",
        _ => "",
    };
    let inode = words.next()?.parse().ok()?;
    let socket = SocketFinding {
        family: "unix".to_owned(),
        local: words.next().unwrap_or_default().to_owned(),
        state: state.to_owned(),
        ..SocketFinding::default()
    };
    Some((inode, socket))
}

#[cfg(test)]
#[cfg(target_endian = "little")]
mod tests {
    use super::*;

    #[test]
    fn addresses_states_and_queues_are_read() {
        let line = "   3: 0100007F:A3C4 070200C0:01BB 02 00000001:00000000 01:00000A2B 00000003  1000        0 52814 2 0000000000000000";
        let (inode, socket) = parse_inet(line, "tcp").expect("a socket");
        assert_eq!((inode, socket.state.as_str()), (52814, "SYN_SENT"));
        assert_eq!(
            (socket.local.as_str(), socket.remote.as_str()),
            ("127.0.0.1:41924", "192.0.2.7:443")
        );
        assert_eq!((socket.send_queue, socket.receive_queue), (1, 0));
        let six = parse_address("B80D0120000000000000000001000000:0050").expect("an address");
        assert_eq!(six.to_string(), "[2001:db8::1]:80");
        let line = "0000000000000000: 00000003 00000000 00000000 0001 03 31337 /run/app.sock";
        let (inode, socket) = parse_unix(line).expect("a socket");
        assert_eq!(
            (inode, socket.local.as_str(), socket.state.as_str()),
            (31337, "/run/app.sock", "CONNECTED")
        );
        for cut in 0..line.len() {
            let _ = (parse_unix(&line[..cut]), parse_inet(&line[..cut], "tcp"));
        }
    }
}
