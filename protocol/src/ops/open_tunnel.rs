//! `open_tunnel`: a connection from the machine to an address it can reach. What is sent on stdin
//! goes there, what comes from there is stdout, as bytes; the end of stdin ends that half of the
//! connection alone. When the other end ends its half, a line with the code [`HALF_CLOSED`] comes on
//! stderr, in the form of a [`Failure`](super::Failure). It ends when both halves have.
//!
//! The machine's policy names the addresses that may be reached; the address that was checked is the
//! one that is connected to. Codes of failure: `policy_tunnels`, `name_unknown`,
//! `connection_refused`, `unreachable`, `timed_out`, `connection_reset`, `io`.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Effect, InvalidWork, Operation, Work};

/// Code of the line on stderr that says that the other end sends no more.
pub const HALF_CLOSED: &str = "half_closed";

/// How long a connection may take to stand unless asked for otherwise.
pub const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The longest that may be asked for, milliseconds.
const MAX_CONNECT_TIMEOUT_MS: u64 = 120_000;

/// The longest name of a host (RFC 1035), with the brackets of an address.
const MAX_HOST: usize = 255;

/// Open a connection from the machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct OpenTunnel {
    /// A name, as the machine resolves it, or an address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// How long the connection may take to stand, milliseconds; 10,000 when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connect_timeout_ms: Option<u64>,
}

impl OpenTunnel {
    /// To a port of a host, with the usual patience.
    #[must_use]
    pub fn new(host: impl Into<String>, port: u16) -> Self {
        Self { host: host.into(), port, connect_timeout_ms: None }
    }

    /// How long the connection may take to stand.
    #[must_use]
    pub fn connect_timeout(&self) -> Duration {
        self.connect_timeout_ms.map_or(DEFAULT_CONNECT_TIMEOUT, Duration::from_millis)
    }
}

impl Operation for OpenTunnel {
    const NAME: &'static str = "open_tunnel";
}

impl Work for OpenTunnel {
    // What is said through it may do anything.
    fn effect(&self) -> Effect {
        Effect::Change
    }

    fn validate(&self) -> Result<(), InvalidWork> {
        let wrong = |what: &str| Err(InvalidWork::Value(what.to_owned()));
        if self.host.is_empty() || self.host.len() > MAX_HOST {
            return wrong("host has to be a name or an address");
        }
        if self.host.chars().any(|each| each.is_control() || each.is_whitespace()) {
            return wrong("host has characters that no name has");
        }
        if self.port == 0 {
            return wrong("port has to be between 1 and 65535");
        }
        match self.connect_timeout_ms {
            Some(ms) if ms == 0 || ms > MAX_CONNECT_TIMEOUT_MS => {
                wrong("connect_timeout_ms has to be between 1 and 120000")
            }
            _ => Ok(()),
        }
    }

    fn has_stdin(&self) -> bool {
        true
    }

    fn describe(&self) -> String {
        format!("open a connection to {}:{}", self.host, self.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_leads_nowhere_is_invalid() {
        assert!(OpenTunnel::new("localhost", 22).validate().is_ok());
        assert!(OpenTunnel::new("", 22).validate().is_err());
        assert!(OpenTunnel::new("a b", 22).validate().is_err());
        assert!(OpenTunnel::new("a\n", 22).validate().is_err());
        assert!(OpenTunnel::new("a".repeat(300), 22).validate().is_err());
        assert!(OpenTunnel::new("a", 0).validate().is_err());
        let forever = OpenTunnel { connect_timeout_ms: Some(0), ..OpenTunnel::new("a", 1) };
        assert!(forever.validate().is_err());
    }
}
