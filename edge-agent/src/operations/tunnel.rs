//! `open_tunnel`: a connection of the machine's, its two halves joined to stdin and stdout. Each half
//! has a thread that waits for whoever is slower, so nothing piles up.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use reeve_protocol::ops::open_tunnel::HALF_CLOSED;
use reeve_protocol::ops::{Failure, OpenTunnel};

use crate::operations::worker::{Needs, Perform, Worker, lost_answer};
use crate::policy::TunnelRule;

/// Bytes passed on at once.
const BUFFER_BYTES: usize = 128 * 1024;

impl Perform for OpenTunnel {
    const NEEDS: Needs = Needs::Tunnels;
    const LIMIT: Option<Duration> = None;

    fn perform(self, worker: &mut Worker) -> Result<(), Failure> {
        let address = find_allowed(&self, &worker.order.tunnels)?;
        let socket = connect(&self, &address)?;
        let inner = io_failure("the connection could not be set up");
        // Keystrokes must not wait for each other.
        socket.set_nodelay(true).map_err(&inner)?;
        let sending = socket.try_clone().map_err(&inner)?;
        let stdin = worker.stdin.try_clone().map_err(&inner)?;
        let sender = std::thread::Builder::new()
            .name("to target".to_owned())
            .spawn(move || send(stdin, &sending))
            .map_err(&inner)?;
        receive(socket, worker.stdout.get_mut())?;
        worker.warn(&Failure::new(HALF_CLOSED, "the other end sends no more"));
        // What is still to be sent is sent; an end that took nothing more has said so by now.
        match sender.join() {
            Ok(sent) => sent,
            Err(_) => Err(Failure::new("io", "passing stdin on failed")),
        }
    }
}

/// The addresses the target has that the policy allows.
fn find_allowed(tunnel: &OpenTunnel, rules: &[TunnelRule]) -> Result<Vec<SocketAddr>, Failure> {
    let target = format!("{}:{}", tunnel.host, tunnel.port);
    let denied = |what: &str| {
        Failure::new(
            "policy_tunnels",
            format!(
                "this machine's policy does not let tunnels lead to {what} ([allow] tunnels); only \
                 its owner can change that"
            ),
        )
    };
    // Without a rule nobody gets to know what names there are.
    if rules.is_empty() {
        return Err(denied(&target));
    }
    let host = tunnel.host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let found: Vec<SocketAddr> = (host.unwrap_or(&tunnel.host), tunnel.port)
        .to_socket_addrs()
        .map_err(|error| {
            let message = format!("the machine knows no host '{}': {error}", tunnel.host);
            Failure::new("name_unknown", message)
        })?
        .collect();
    let allowed: Vec<SocketAddr> = found
        .iter()
        .copied()
        .filter(|address| rules.iter().any(|rule| rule.allows(address.ip(), address.port())))
        .collect();
    match (allowed.is_empty(), found.first()) {
        (false, _) => Ok(allowed),
        (true, Some(first)) if first.ip().to_string() != tunnel.host => {
            Err(denied(&format!("{target}, which is {first}")))
        }
        (true, Some(_)) => Err(denied(&target)),
        (true, None) => Err(Failure::new(
            "name_unknown",
            format!("the machine has no address for '{}'", tunnel.host),
        )),
    }
}

/// Connects to the first of the addresses that answers; they share the time.
fn connect(tunnel: &OpenTunnel, addresses: &[SocketAddr]) -> Result<TcpStream, Failure> {
    let until = Instant::now() + tunnel.connect_timeout();
    let mut failure = None;
    for (number, address) in addresses.iter().enumerate() {
        let left = until.saturating_duration_since(Instant::now());
        let others = u32::try_from(addresses.len() - number).unwrap_or(u32::MAX);
        let share = left / others.max(1);
        if share.is_zero() {
            break;
        }
        match TcpStream::connect_timeout(address, share) {
            Ok(socket) => return Ok(socket),
            Err(error) => failure = Some(refused(*address, &error)),
        }
    }
    Err(failure.unwrap_or_else(|| {
        Failure::new("timed_out", format!("no answer from {}:{}", tunnel.host, tunnel.port))
    }))
}

fn refused(address: SocketAddr, error: &io::Error) -> Failure {
    let (code, what) = match error.kind() {
        ErrorKind::ConnectionRefused => ("connection_refused", "refused the connection"),
        ErrorKind::TimedOut | ErrorKind::WouldBlock => ("timed_out", "did not answer in time"),
        ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable | ErrorKind::NetworkDown => {
            ("unreachable", "cannot be reached from the machine")
        }
        _ => return Failure::new("io", format!("no connection to {address}: {error}")),
    };
    Failure::new(code, format!("{address} {what}"))
}

fn io_failure(what: &str) -> impl Fn(io::Error) -> Failure + '_ {
    move |error| match error.kind() {
        ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => {
            Failure::new("connection_reset", "the other end broke the connection off")
        }
        _ => Failure::new("io", format!("{what}: {error}")),
    }
}

/// Stdin to the target, to the end of either.
fn send(mut stdin: File, socket: &TcpStream) -> Result<(), Failure> {
    let mut to = socket;
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let count = match stdin.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(io_failure("stdin could not be read")(error)),
        };
        let piece = buffer.get(..count).unwrap_or_default();
        if let Err(error) = to.write_all(piece) {
            // It reads no more, and what it said before that is still passed on.
            return Err(io_failure("the connection broke")(error));
        }
    }
    // It may be gone already.
    let _ = socket.shutdown(Shutdown::Write);
    Ok(())
}

/// What comes from the target to stdout, each piece at once.
fn receive(mut socket: TcpStream, stdout: &mut File) -> Result<(), Failure> {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        match socket.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => {
                let piece = buffer.get(..count).unwrap_or_default();
                stdout.write_all(piece).map_err(|error| lost_answer(&error))?;
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(io_failure("the connection broke")(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(texts: &[&str]) -> Vec<TunnelRule> {
        texts.iter().map(|text| TunnelRule::try_from((*text).to_owned()).expect(text)).collect()
    }

    #[test]
    fn what_is_checked_is_the_address_and_not_the_name() {
        let tunnel = OpenTunnel::new("localhost", 22);
        let found = find_allowed(&tunnel, &rules(&["127.0.0.0/8:22"])).expect("allowed");
        assert!(found.iter().all(|address| address.ip().to_string() == "127.0.0.1"), "{found:?}");
        for (host, texts) in [
            ("localhost", &["10.0.0.0/8:*", "localhost:23"][..]),
            ("127.0.0.1", &["10.0.0.0/8:*"][..]),
            ("[::1]", &["127.0.0.0/8:*"][..]),
            ("localhost", &[][..]),
        ] {
            let error = find_allowed(&OpenTunnel::new(host, 22), &rules(texts)).expect_err(host);
            assert_eq!(error.code, "policy_tunnels", "{error:?}");
        }
    }

    #[test]
    fn connection_that_nobody_takes_says_so() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        drop(listener);
        let tunnel = OpenTunnel::new("127.0.0.1", address.port());
        assert_eq!(connect(&tunnel, &[address]).expect_err("refused").code, "connection_refused");
    }
}
