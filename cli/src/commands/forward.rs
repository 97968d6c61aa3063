//! `reeve forward` and `reeve ssh-proxy`: connections from a machine.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use clap::Args;
use clap_complete::ArgValueCandidates;
use reeve_protocol::ops::OpenTunnel;
use reeve_sdk::api::JobRequest;
use reeve_sdk::{Client, TunnelError};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::completion::machine_names;
use crate::args::Global;
use crate::connection::connect;
use crate::exit;
use crate::failure::Failure;
use crate::output;
use crate::terminal::{escape, note};

const FORWARD_EXAMPLES: &str = "\
Examples:
  reeve forward web-1 8080:localhost:80        http://127.0.0.1:8080 is its port 80
  reeve forward web-1 5432:10.0.0.7:5432 6379:10.0.0.8:6379
  reeve forward web-1 0.0.0.0:8080:localhost:80    for everybody who reaches you
The machine's owner allows it in /etc/reeve/agent.toml: [allow] tunnels";

const PROXY_EXAMPLES: &str = "\
Examples:
  ssh -o ProxyCommand='reeve ssh-proxy %h %p' root@web-1
  rsync -e \"ssh -o ProxyCommand='reeve ssh-proxy %h %p'\" -a dir web-1:/srv/
In ~/.ssh/config:  Host web-*
                     ProxyCommand reeve ssh-proxy %h %p
The machine's owner allows it in /etc/reeve/agent.toml: [allow] tunnels";

/// Connections at the same time; more wait to be accepted. A machine takes about as many.
const MAX_CONNECTIONS: usize = 100;

/// Listen here, connect from a machine
///
/// Every connection that is made here is made again by the machine, to an address it can reach.
#[derive(Args)]
#[command(after_help = FORWARD_EXAMPLES)]
pub struct Forward {
    /// Which machine
    #[arg(value_name = "MACHINE", add = ArgValueCandidates::new(machine_names))]
    machine: String,
    /// Where to listen, and where that leads
    #[arg(value_name = "[BIND:]PORT:HOST:PORT", required = true, value_parser = parse_spec)]
    specs: Vec<Spec>,
}

/// Connect stdin and stdout to a port of a machine
///
/// For ssh's ProxyCommand. Nothing but the bytes of the connection comes out on stdout.
#[derive(Args)]
#[command(after_help = PROXY_EXAMPLES)]
pub struct SshProxy {
    /// Which machine
    #[arg(value_name = "MACHINE", add = ArgValueCandidates::new(machine_names))]
    machine: String,
    /// Its port
    #[arg(default_value_t = 22)]
    port: u16,
    /// A host as the machine sees it
    #[arg(long, value_name = "HOST", default_value = "localhost")]
    host: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Spec {
    bind: SocketAddr,
    host: String,
    port: u16,
}

/// `[BIND:]PORT:HOST:PORT`, IPv6 addresses in brackets.
fn parse_spec(text: &str) -> Result<Spec, String> {
    let wrong = || "it has to look like 8080:localhost:80 or 127.0.0.1:8080:localhost:80";
    let mut fields = Vec::new();
    let mut rest = text;
    loop {
        let (field, behind) = match rest.strip_prefix('[') {
            Some(inner) => {
                let (field, behind) = inner.split_once(']').ok_or_else(wrong)?;
                (field, behind)
            }
            None => rest.split_at(rest.find(':').unwrap_or(rest.len())),
        };
        fields.push(field);
        if behind.is_empty() {
            break;
        }
        rest = behind.strip_prefix(':').ok_or_else(wrong)?;
    }
    let (bind, port, host, target) = match fields.as_slice() {
        [port, host, target] => (None, port, host, target),
        [bind, port, host, target] => (Some(bind), port, host, target),
        _ => return Err(wrong().to_owned()),
    };
    let bind = match bind {
        None => IpAddr::V4(Ipv4Addr::LOCALHOST),
        Some(&"localhost") => IpAddr::V4(Ipv4Addr::LOCALHOST),
        Some(&"*") => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        Some(bind) => bind.parse().map_err(|_| format!("'{bind}' is no address to listen on"))?,
    };
    let local = port.parse().map_err(|_| format!("'{port}' is no port"))?;
    let target: u16 = target.parse().map_err(|_| format!("'{target}' is no port"))?;
    if target == 0 || host.is_empty() {
        return Err(wrong().to_owned());
    }
    Ok(Spec { bind: SocketAddr::new(bind, local), host: (*host).to_owned(), port: target })
}

impl Forward {
    pub async fn perform(self, global: &Global) -> Result<u8, Failure> {
        let client = connect(global)?;
        let mut listeners = Vec::new();
        for spec in &self.specs {
            let target = OpenTunnel::new(&spec.host, spec.port);
            check_machine(&client, &self.machine, &target).await?;
            let listener = TcpListener::bind(spec.bind).await.map_err(|error| {
                Failure::new(format!("cannot listen on {}: {error}", spec.bind)).because(error)
            })?;
            let address = listener.local_addr().unwrap_or(spec.bind);
            let line = format!("{address} -> {}:{} from {}", spec.host, spec.port, self.machine);
            output::print(&format!("{}\n", escape(&line)))?;
            listeners.push((listener, target));
        }
        let mut forwarding = JoinSet::new();
        for (listener, target) in listeners {
            forwarding.spawn(forward(client.clone(), self.machine.clone(), listener, target));
        }
        tokio::select! {
            _ = tokio::signal::ctrl_c() => Ok(exit::INTERRUPTED),
            ended = forwarding.join_next() => match ended {
                Some(Ok(failure)) => Err(failure),
                _ => Err(Failure::new("forwarding ended")),
            },
        }
    }
}

/// A machine that does not exist is noticed before anybody connects.
async fn check_machine(client: &Client, machine: &str, target: &OpenTunnel) -> Result<(), Failure> {
    let request = JobRequest { relay: true, ..JobRequest::new(machine, target.clone()) };
    let preview = client.preview_job(&request).await?;
    if preview.targets.len() > 1 {
        return Err(Failure::usage(format!(
            "'{machine}' is {} machines, and a connection is made by one; name one",
            preview.targets.len()
        )));
    }
    Ok(())
}

/// Accepts for as long as this program runs.
async fn forward(
    client: Client,
    machine: String,
    listener: TcpListener,
    target: OpenTunnel,
) -> Failure {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
            accepted = listener.accept(), if connections.len() < MAX_CONNECTIONS => {
                match accepted {
                    Ok((socket, peer)) => {
                        let (client, machine) = (client.clone(), machine.clone());
                        let target = target.clone();
                        connections.spawn(async move {
                            if let Err(error) = join(&client, &machine, &target, socket).await {
                                note(&format!("connection from {peer}: {error}"));
                            }
                        });
                    }
                    // Too many open files, most of the time.
                    Err(error) => {
                        note(&format!("a connection could not be accepted: {error}"));
                        tokio::time::sleep(Duration::from_millis(200)).await;
                    }
                }
            }
        }
    }
}

async fn join(
    client: &Client,
    machine: &str,
    target: &OpenTunnel,
    mut socket: TcpStream,
) -> Result<(), TunnelError> {
    socket.set_nodelay(true)?;
    let (from, to) = socket.split();
    client.tunnel(machine, target, from, to).await
}

impl SshProxy {
    pub async fn perform(self, global: &Global) -> Result<u8, Failure> {
        let client = connect(global)?;
        let target = OpenTunnel::new(self.host, self.port);
        let joined =
            client.tunnel(&self.machine, &target, tokio::io::stdin(), tokio::io::stdout()).await;
        match joined {
            Ok(()) => Ok(exit::OK),
            Err(TunnelError::Coordinator(error)) => Err(Failure::from(error)),
            Err(error) => Err(Failure::new(error.to_string())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn specs_are_read_as_ssh_reads_them() {
        let spec = |bind: &str, host: &str, port| Spec {
            bind: bind.parse().expect("an address"),
            host: host.to_owned(),
            port,
        };
        for (text, expected) in [
            ("8080:localhost:80", spec("127.0.0.1:8080", "localhost", 80)),
            ("0:10.0.0.1:80", spec("127.0.0.1:0", "10.0.0.1", 80)),
            ("0.0.0.0:8080:db:5432", spec("0.0.0.0:8080", "db", 5432)),
            ("[::1]:8080:[fd00::1]:80", spec("[::1]:8080", "fd00::1", 80)),
            ("*:1:a:2", spec("0.0.0.0:1", "a", 2)),
        ] {
            assert_eq!(parse_spec(text), Ok(expected), "{text}");
        }
        for text in ["", "80", "80:localhost", "x:localhost:80", "1:a:0", "1:a:b:c:d", "[::1:2:a:3"]
        {
            assert!(parse_spec(text).is_err(), "{text}");
        }
    }
}
