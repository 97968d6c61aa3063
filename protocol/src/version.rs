//! One integer names the wire's version. Add, never change the meaning of what is there.

/// The WebSocket sub-protocol both ends must name (RFC 6455, section 1.9).
pub const SUBPROTOCOL: &str = "reeve.v1";

/// The newest version this build speaks.
///
/// History:
/// - 1 (2026-11): handshake with Ed25519 proof; `execute_command`; output by merged offset, credit
///   and acknowledgement; stdin by offset; reports after connect.
pub const VERSION: u32 = 1;

/// The oldest version this build still speaks. Coordinator and agent may be one version apart.
pub const MINIMUM_VERSION: u32 = 1;
