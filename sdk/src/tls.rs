//! Whom the client trusts: a pinned certificate authority, a given one, or the system's.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use reeve_protocol::token::Pin;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, OtherError, RootCertStore,
    SignatureScheme,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use sha2::{Digest, Sha256};

use crate::Error;

/// Every coordinator's certificate has this name beside its real ones, so that a pinned client can
/// dial it by whatever address leads there.
const INTERNAL_NAME: &str = "reeve-coordinator.internal";

/// Whom to trust.
#[derive(Clone, Debug, Default)]
pub(crate) enum Trust {
    /// Whoever the system trusts. Loads the system's store, which takes milliseconds.
    #[default]
    System,
    /// The authority with this key.
    Pin(Pin),
    /// These authorities, PEM.
    Authorities(Vec<u8>),
    /// Nobody: for plain HTTP, where no certificate is ever seen.
    Nobody,
}

/// The presented chain has no certificate with the pinned key.
#[derive(Debug, thiserror::Error)]
#[error("the presented certificates do not contain the pinned authority")]
pub(crate) struct PinMismatch;

pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

pub(crate) fn client_config(trust: &Trust) -> Result<ClientConfig, Error> {
    let provider = provider();
    let setup = |error: &dyn std::fmt::Display| Error::Setup(format!("cannot set up TLS: {error}"));
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| setup(&error))?;
    let verifier: Arc<dyn ServerCertVerifier> = match trust {
        Trust::Nobody => {
            return Ok(builder
                .with_root_certificates(RootCertStore::empty())
                .with_no_client_auth());
        }
        Trust::Authorities(pem) => {
            let mut roots = RootCertStore::empty();
            for certificate in CertificateDer::pem_slice_iter(pem) {
                let certificate = certificate
                    .map_err(|error| Error::Setup(format!("the CA file is no PEM: {error}")))?;
                roots.add(certificate).map_err(|error| {
                    Error::Setup(format!("the CA file holds an unusable certificate: {error}"))
                })?;
            }
            if roots.is_empty() {
                return Err(Error::Setup("the CA file holds no certificate".to_owned()));
            }
            return Ok(builder.with_root_certificates(roots).with_no_client_auth());
        }
        Trust::System => Arc::new(
            rustls_platform_verifier::Verifier::new(provider).map_err(|error| setup(&error))?,
        ),
        Trust::Pin(pin) => Arc::new(PinVerifier { pin: *pin, provider }),
    };
    Ok(builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth())
}

/// The pin of a certificate: SHA-256 over its SubjectPublicKeyInfo (RFC 5280).
fn pin_of(certificate: &CertificateDer<'_>) -> Option<Pin> {
    let parsed = ParsedCertificate::try_from(certificate).ok()?;
    Some(Pin(Sha256::digest(parsed.subject_public_key_info().as_ref()).into()))
}

/// Trusts exactly the authority with the pinned key, which the server has to present.
#[derive(Debug)]
struct PinVerifier {
    pin: Pin,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for PinVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let authority = intermediates
            .iter()
            .find(|certificate| pin_of(certificate) == Some(self.pin))
            .ok_or_else(|| CertificateError::Other(OtherError(Arc::new(PinMismatch))))?;
        let mut roots = RootCertStore::empty();
        roots.add(authority.clone().into_owned())?;
        let leaf = ParsedCertificate::try_from(end_entity)?;
        verify_server_cert_signed_by_trust_anchor(
            &leaf,
            &roots,
            intermediates,
            now,
            self.provider.signature_verification_algorithms.all,
        )?;
        verify_server_name(&leaf, server_name).or_else(|error| {
            let internal = ServerName::try_from(INTERNAL_NAME).map_err(|_| error)?;
            verify_server_name(&leaf, &internal)
        })?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Who answers at an address, found out without sending anything beyond the TLS greeting.
#[derive(Clone, Debug)]
pub struct Presented {
    /// The pin of each presented certificate, the server's own first, its authority last.
    pub pins: Vec<Pin>,
    /// Whether the system's own store trusts it for that address; then no pin is needed.
    pub trusted: bool,
}

impl Presented {
    /// The pin to show to a person: that of the authority.
    #[must_use]
    pub fn authority(&self) -> Option<Pin> {
        (self.pins.len() > 1).then(|| self.pins.last().copied()).flatten()
    }
}

/// Looks at the certificates, remembers them, and ends the handshake.
#[derive(Debug)]
struct Recorder {
    seen: Mutex<Option<Presented>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Recorder {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let trusted = rustls_platform_verifier::Verifier::new(Arc::clone(&self.provider))
            .and_then(|system| {
                system.verify_server_cert(
                    end_entity,
                    intermediates,
                    server_name,
                    ocsp_response,
                    now,
                )
            })
            .is_ok();
        let pins = std::iter::once(end_entity).chain(intermediates).filter_map(pin_of).collect();
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) =
            Some(Presented { pins, trusted });
        Err(rustls::Error::General("only looking".to_owned()))
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("only looking".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("only looking".to_owned()))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Finds out which certificates are presented at `url`. The handshake is ended before any request
/// is sent, so nothing is given away.
///
/// # Errors
/// When nobody can be reached there, or does not speak TLS.
pub async fn probe(url: &str, timeout: Duration) -> Result<Presented, Error> {
    let provider = provider();
    let recorder = Arc::new(Recorder { seen: Mutex::new(None), provider: Arc::clone(&provider) });
    let setup = |error: &dyn std::fmt::Display| Error::Setup(format!("cannot set up TLS: {error}"));
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| setup(&error))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::clone(&recorder) as Arc<dyn ServerCertVerifier>)
        .with_no_client_auth();
    let http = reqwest::Client::builder()
        .tls_backend_preconfigured(config)
        .http1_only()
        .connect_timeout(timeout)
        .timeout(timeout)
        .build()
        .map_err(|error| setup(&error))?;
    let outcome = http.get(url).send().await;
    let seen = recorder.seen.lock().unwrap_or_else(PoisonError::into_inner).take();
    match (seen, outcome) {
        (Some(presented), _) => Ok(presented),
        (None, Err(error)) => Err(Error::from_transport(url, None, error)),
        (None, Ok(_)) => Err(Error::protocol(format!("{url} answered without TLS"))),
    }
}
