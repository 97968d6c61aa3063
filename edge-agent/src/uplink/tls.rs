//! TLS towards a pinned authority: among the certificates the peer presents, the one whose public
//! key has the pinned hash is the only trust anchor. Without it nothing is sent.

use std::sync::{Arc, Mutex, PoisonError};

use reeve_protocol::token::Pin;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use sha2::{Digest, Sha256};
use x509_parser::prelude::{FromDer, X509Certificate};

/// Every coordinator's own certificate is also for this name, so that an agent may dial it by any
/// address: the pin says who it is.
pub const FIXED_NAME: &str = "reeve-coordinator.internal";

/// SHA-256 over a certificate's SubjectPublicKeyInfo.
#[must_use]
pub fn hash_key(certificate: &CertificateDer<'_>) -> Option<Pin> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let digest = Sha256::digest(parsed.public_key().raw);
    Some(Pin(digest.as_slice().try_into().ok()?))
}

/// Checks the peer against the pin.
#[derive(Debug)]
pub struct PinVerifier {
    pin: Pin,
    provider: Arc<CryptoProvider>,
    seen: Mutex<Seen>,
}

/// What the peer presented, for messages and for keeping.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Hash of the last certificate's key, which is the authority's in a whole chain.
    pub last: Option<Pin>,
    /// The pinned certificate, DER.
    pub authority: Option<Vec<u8>>,
}

impl PinVerifier {
    /// Trusts only this pin.
    #[must_use]
    pub fn new(pin: Pin) -> Arc<Self> {
        Arc::new(Self { pin, provider: provider(), seen: Mutex::new(Seen::default()) })
    }

    /// What the last peer presented.
    #[must_use]
    pub fn seen(&self) -> Seen {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

impl ServerCertVerifier for PinVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let bad = |error: CertificateError| Error::InvalidCertificate(error);
        let pinned = intermediates
            .iter()
            .chain([end_entity])
            .find(|certificate| hash_key(certificate) == Some(self.pin));
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Seen {
            last: intermediates.last().or(Some(end_entity)).and_then(hash_key),
            authority: pinned.map(|certificate| certificate.to_vec()),
        };
        let Some(pinned) = pinned else { return Err(bad(CertificateError::UnknownIssuer)) };
        let anchor = webpki::anchor_from_trusted_cert(pinned)
            .map_err(|_| bad(CertificateError::BadEncoding))?;
        let leaf = webpki::EndEntityCert::try_from(end_entity)
            .map_err(|_| bad(CertificateError::BadEncoding))?;
        leaf.verify_for_usage(
            self.provider.signature_verification_algorithms.all,
            &[anchor],
            intermediates,
            now,
            webpki::KeyUsage::server_auth(),
            None,
            None,
        )
        .map_err(|error| match error {
            webpki::Error::CertExpired { .. } => bad(CertificateError::Expired),
            webpki::Error::CertNotValidYet { .. } => bad(CertificateError::NotValidYet),
            _ => bad(CertificateError::UnknownIssuer),
        })?;
        let fixed =
            ServerName::try_from(FIXED_NAME).map_err(|_| bad(CertificateError::BadEncoding))?;
        let named = leaf.verify_is_valid_for_subject_name(server_name).is_ok()
            || leaf.verify_is_valid_for_subject_name(&fixed).is_ok();
        if named {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(bad(CertificateError::NotValidForName))
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// TLS settings that trust what the verifier trusts. TLS 1.3 only: the channel binding of RFC 9266
/// is defined for it without conditions, and every coordinator has it.
///
/// # Errors
/// When the provider lacks what TLS 1.3 needs.
pub fn client_config(verifier: Arc<PinVerifier>) -> Result<Arc<ClientConfig>, Error> {
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    // One connection at a time, rarely: a cache of sessions would only cost memory.
    config.resumption = rustls::client::Resumption::disabled();
    Ok(Arc::new(config))
}
