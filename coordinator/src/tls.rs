//! TLS: our own authority made at first start, or certificates from elsewhere.

mod names;
mod own;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use reeve_protocol::token::Pin;
use rustls::ServerConfig;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use sha2::{Digest, Sha256};

use crate::clock::Clock;
use crate::config::{Config, Tls};

pub(crate) use names::host_name;

/// The name that is always in our own leaf certificates, for clients that trust by pin and dial an
/// address that was not known when the certificate was made.
pub const FIXED_NAME: &str = "reeve-coordinator.internal";

/// Why there are no certificates.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read or written.
    #[error("{path}: {source}", path = .path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file does not hold what it should.
    #[error("{path}: {message}", path = .path.display())]
    Content {
        /// Which.
        path: PathBuf,
        /// Why, and what to do.
        message: String,
    },
    /// The listener was started with it, or without.
    #[error("tls.mode cannot be switched to or from \"off\" without a restart")]
    Mode,
    /// A certificate cannot be made.
    #[error("a certificate could not be made: {0}")]
    Make(#[from] rcgen::Error),
    /// rustls refuses.
    #[error("TLS cannot be set up: {0}")]
    Rustls(#[from] rustls::Error),
}

/// Certificates in force and whom clients should trust for them. Reloading replaces them for
/// connections to come.
pub struct Authority {
    /// `None` without TLS.
    current: RwLock<Option<Arc<Material>>>,
}

/// One set of certificates.
struct Material {
    certified: Arc<CertifiedKey>,
    /// The certificate clients are told to trust: the last of the chain.
    anchor_pem: String,
    pin: Pin,
}

impl Authority {
    /// Loads what the settings name; with `own`, makes what is missing, about to expire, or lacks a
    /// name it should have.
    ///
    /// # Errors
    /// When certificates cannot be read, made or used.
    pub fn load(config: &Config, clock: &Clock) -> Result<Self, TlsError> {
        Ok(Self { current: RwLock::new(load(config, clock)?.map(Arc::new)) })
    }

    /// Loads again. On an error everything stays as it was.
    ///
    /// # Errors
    /// As [`Authority::load`].
    pub fn reload(&self, config: &Config, clock: &Clock) -> Result<(), TlsError> {
        let new = load(config, clock)?.map(Arc::new);
        if new.is_some() != self.current().is_some() {
            return Err(TlsError::Mode);
        }
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = new;
        Ok(())
    }

    fn current(&self) -> Option<Arc<Material>> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// SHA-256 over the SubjectPublicKeyInfo of the authority; `None` without TLS. With
    /// certificates from elsewhere it is the last of the chain that counts.
    #[must_use]
    pub fn pin(&self) -> Option<Pin> {
        self.current().map(|material| material.pin)
    }

    /// The authority's certificate; `None` without TLS.
    #[must_use]
    pub fn pem(&self) -> Option<String> {
        self.current().map(|material| material.anchor_pem.clone())
    }

    /// For the listener; `None` without TLS.
    ///
    /// # Errors
    /// When rustls refuses.
    pub fn server_config(self: &Arc<Self>) -> Result<Option<Arc<ServerConfig>>, TlsError> {
        if self.current().is_none() {
            return Ok(None);
        }
        let mut config = ServerConfig::builder_with_provider(Arc::new(provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(Resolver(Arc::clone(self))));
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        config.ticketer = aws_lc_rs::Ticketer::new()?;
        // Without it a TLS 1.2 exporter does not bind to one channel (RFC 7627).
        config.require_ems = true;
        Ok(Some(Arc::new(config)))
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").field("pin", &self.pin()).finish()
    }
}

#[derive(Debug)]
struct Resolver(Arc<Authority>);

impl ResolvesServerCert for Resolver {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.current().map(|material| Arc::clone(&material.certified))
    }
}

fn provider() -> CryptoProvider {
    aws_lc_rs::default_provider()
}

fn load(config: &Config, clock: &Clock) -> Result<Option<Material>, TlsError> {
    match &config.tls {
        Tls::Off => Ok(None),
        Tls::Files { certificate, key } => load_material(certificate, key).map(Some),
        Tls::Own { names } => {
            let folder = config.data.join("tls");
            let names = names::list_names(config.listen.ip(), config.public_url.as_ref(), names);
            let (certificate, key) = own::prepare(&folder, &names, clock.micros())?;
            load_material(&certificate, &key).map(Some)
        }
    }
}

fn load_material(certificate: &Path, key: &Path) -> Result<Material, TlsError> {
    let wrong = |path: &Path, message: String| TlsError::Content { path: path.to_owned(), message };
    let read = |path: &Path| {
        std::fs::read(path).map_err(|source| TlsError::File { path: path.to_owned(), source })
    };
    let chain = CertificateDer::pem_slice_iter(&read(certificate)?)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| wrong(certificate, format!("is no PEM certificate: {error}")))?;
    let private = PrivateKeyDer::from_pem_slice(&read(key)?)
        .map_err(|error| wrong(key, format!("is no PEM private key: {error}")))?;
    let anchor = chain.last().ok_or_else(|| {
        wrong(certificate, "holds no certificate; put the server's first, then its issuers".into())
    })?;
    let pin = compute_pin(anchor)
        .ok_or_else(|| wrong(certificate, "holds a certificate that cannot be read".into()))?;
    let anchor_pem = to_pem(anchor);
    let certified = CertifiedKey::from_der(chain, private, &provider())
        .map_err(|error| wrong(key, format!("does not fit {}: {error}", certificate.display())))?;
    Ok(Material { certified: Arc::new(certified), anchor_pem, pin })
}

/// SHA-256 over the SubjectPublicKeyInfo (RFC 5280).
pub(crate) fn compute_pin(certificate: &CertificateDer<'_>) -> Option<Pin> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    Some(Pin(Sha256::digest(parsed.tbs_certificate.subject_pki.raw).into()))
}

fn to_pem(certificate: &CertificateDer<'_>) -> String {
    use base64::Engine;
    let text = base64::engine::general_purpose::STANDARD.encode(certificate);
    let mut pem = String::from("-----BEGIN CERTIFICATE-----\n");
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, more) = rest.split_at(rest.len().min(64));
        pem.push_str(line);
        pem.push('\n');
        rest = more;
    }
    pem.push_str("-----END CERTIFICATE-----\n");
    pem
}
