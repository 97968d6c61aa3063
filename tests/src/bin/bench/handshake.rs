//! A TLS handshake by itself: what none of the coordinator's work can be less than.

use std::fs;
use std::io::Read;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use reeve_protocol::token::Pin;
use reeve_tests::Cluster;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};

/// Processor time that the server's end of a bare TLS handshake takes, with the same certificate and
/// the same library, milliseconds.
pub fn measure(cluster: &Cluster) -> anyhow::Result<f64> {
    const ROUNDS: u32 = 500;
    let folder = cluster.coordinator.data().join("tls");
    let mut chain = Vec::new();
    for name in ["leaf.pem", "ca.pem"] {
        chain.extend(CertificateDer::pem_slice_iter(&fs::read(folder.join(name))?).flatten());
    }
    let key = PrivateKeyDer::from_pem_slice(&fs::read(folder.join("leaf.key"))?)?;
    let server =
        rustls::ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key)?;
    let pin: Pin = cluster.coordinator.pin().parse().map_err(|_| anyhow::anyhow!("a pin"))?;
    let client =
        reeve_agent::uplink::tls::client_config(reeve_agent::uplink::tls::PinVerifier::new(pin))?;
    let server = Arc::new(server);
    let mut spent = Duration::ZERO;
    for _ in 0..ROUNDS {
        let mut client =
            rustls::ClientConnection::new(Arc::clone(&client), ServerName::try_from("127.0.0.1")?)?;
        let mut server = rustls::ServerConnection::new(Arc::clone(&server))?;
        let (mut up, mut down) = (Vec::new(), Vec::new());
        while client.is_handshaking() || server.is_handshaking() {
            while client.wants_write() {
                client.write_tls(&mut up)?;
            }
            let begin = Instant::now();
            pour(&mut up, |bytes| {
                server.read_tls(bytes)?;
                Ok(server.process_new_packets()?)
            })?;
            while server.wants_write() {
                server.write_tls(&mut down)?;
            }
            spent += begin.elapsed();
            pour(&mut down, |bytes| {
                client.read_tls(bytes)?;
                Ok(client.process_new_packets()?)
            })?;
        }
    }
    Ok(spent.as_secs_f64() * 1e3 / f64::from(ROUNDS))
}

fn pour(
    bytes: &mut Vec<u8>,
    mut take: impl FnMut(&mut dyn Read) -> anyhow::Result<rustls::IoState>,
) -> anyhow::Result<()> {
    let whole = std::mem::take(bytes);
    let mut rest = whole.as_slice();
    while !rest.is_empty() {
        take(&mut rest).context("a handshake in memory")?;
    }
    Ok(())
}
