//! Our own certificate authority: made once, kept for ever; leaf certificates are renewed.

use std::collections::BTreeSet;
use std::fs::DirBuilder;
use std::net::IpAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
};
use time::OffsetDateTime;
use x509_parser::extensions::GeneralName;
use x509_parser::pem::parse_x509_pem;

use super::TlsError;
use crate::files::write_private;

const DAY: i64 = 24 * 3600;

/// Clocks of clients may be behind ours.
const BACKDATED: i64 = DAY;

/// The pin is the authority's key, so the authority outlives its installation.
const AUTHORITY_LIFE: i64 = 30 * 365 * DAY;

/// Clients of public authorities take no more than 398 days; neither do we.
const LEAF_LIFE: i64 = 397 * DAY;

/// A leaf with less than this left is renewed at the next start or reload.
const RENEW_BEFORE: i64 = 30 * DAY;

/// Makes what is missing and answers the files of chain and key.
pub(super) fn prepare(
    folder: &Path,
    names: &BTreeSet<String>,
    now_micros: i64,
) -> Result<(PathBuf, PathBuf), TlsError> {
    let now = now_micros.div_euclid(1_000_000);
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(|source| TlsError::File { path: folder.to_owned(), source })?;
    let authority = Files { certificate: folder.join("ca.pem"), key: folder.join("ca.key") };
    let leaf = Files { certificate: folder.join("leaf.pem"), key: folder.join("leaf.key") };
    match (authority.certificate.exists(), authority.key.exists()) {
        (true, true) => {}
        (false, false) => make_authority(&authority, now)?,
        // Making a new one would lock out every agent without a word.
        (has_certificate, _) => {
            let (there, missing) = if has_certificate {
                (&authority.certificate, &authority.key)
            } else {
                (&authority.key, &authority.certificate)
            };
            return Err(TlsError::Content {
                path: missing.clone(),
                message: format!(
                    "is missing beside {}; restore it from a backup (agents trust only this \
                     authority), or remove the other as well and enrol every machine again",
                    there.display()
                ),
            });
        }
    }
    if !is_good(&leaf, &authority, names, now) {
        make_leaf(&leaf, &authority, names, now)?;
        tracing::info!(names = ?names, "made a new TLS certificate");
    }
    Ok((leaf.certificate, leaf.key))
}

struct Files {
    certificate: PathBuf,
    key: PathBuf,
}

fn read(path: &Path) -> Result<String, TlsError> {
    std::fs::read_to_string(path).map_err(|source| TlsError::File { path: path.to_owned(), source })
}

fn write(path: &Path, text: &str) -> Result<(), TlsError> {
    write_private(path, text.as_bytes())
        .map_err(|source| TlsError::File { path: path.to_owned(), source })
}

fn at(seconds: i64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

fn make_authority(files: &Files, now: i64) -> Result<(), TlsError> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let mut params = CertificateParams::default();
    params.distinguished_name = name("Reeve coordinator CA");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = at(now - BACKDATED);
    params.not_after = at(now + AUTHORITY_LIFE);
    let certificate = params.self_signed(&key)?;
    // The key first: a certificate without its key would be refused at the next start.
    write(&files.key, &key.serialize_pem())?;
    write(&files.certificate, &certificate.pem())
}

fn name(common: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common);
    name
}

fn make_leaf(
    files: &Files,
    authority: &Files,
    names: &BTreeSet<String>,
    now: i64,
) -> Result<(), TlsError> {
    let wrong = |path: &Path, error: &dyn std::fmt::Display| TlsError::Content {
        path: path.to_owned(),
        message: format!("is damaged ({error}); restore it from a backup"),
    };
    let authority_pem = read(&authority.certificate)?;
    let authority_key =
        KeyPair::from_pem(&read(&authority.key)?).map_err(|error| wrong(&authority.key, &error))?;
    let issuer = Issuer::from_ca_cert_pem(&authority_pem, authority_key)
        .map_err(|error| wrong(&authority.certificate, &error))?;
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let mut params = CertificateParams::new(names.iter().cloned().collect::<Vec<_>>())?;
    params.distinguished_name = name("Reeve coordinator");
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    params.not_before = at(now - BACKDATED);
    params.not_after = at(now + LEAF_LIFE);
    let certificate = params.signed_by(&key, &issuer)?;
    write(&files.key, &key.serialize_pem())?;
    write(&files.certificate, &format!("{}{authority_pem}", certificate.pem()))
}

/// Whether the leaf may be used: readable, of this authority and key, for all names, and for a while.
fn is_good(files: &Files, authority: &Files, names: &BTreeSet<String>, now: i64) -> bool {
    let (Ok(chain), Ok(key), Ok(authority)) = (
        std::fs::read(&files.certificate),
        read(&files.key),
        std::fs::read(&authority.certificate),
    ) else {
        return false;
    };
    let Ok((_, leaf_pem)) = parse_x509_pem(&chain) else { return false };
    let Ok((_, authority_pem)) = parse_x509_pem(&authority) else { return false };
    let (Ok(leaf), Ok(authority)) = (leaf_pem.parse_x509(), authority_pem.parse_x509()) else {
        return false;
    };
    let fits_key = KeyPair::from_pem(&key).is_ok_and(|key| {
        leaf.public_key().subject_public_key.data.as_ref() == key.public_key_raw()
    });
    let signed = leaf.verify_signature(Some(authority.public_key())).is_ok();
    let fresh = leaf.validity().not_before.timestamp() <= now
        && leaf.validity().not_after.timestamp() - now > RENEW_BEFORE;
    fits_key && signed && fresh && names.is_subset(&read_names(&leaf))
}

fn read_names(leaf: &x509_parser::certificate::X509Certificate<'_>) -> BTreeSet<String> {
    let Ok(Some(extension)) = leaf.subject_alternative_name() else { return BTreeSet::new() };
    extension
        .value
        .general_names
        .iter()
        .filter_map(|name| match name {
            GeneralName::DNSName(name) => Some((*name).to_owned()),
            GeneralName::IPAddress(bytes) => match bytes.len() {
                4 => <[u8; 4]>::try_from(*bytes).ok().map(|bytes| IpAddr::from(bytes).to_string()),
                16 => {
                    <[u8; 16]>::try_from(*bytes).ok().map(|bytes| IpAddr::from(bytes).to_string())
                }
                _ => None,
            },
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const NOW: i64 = 1_795_000_000_000_000;

    fn names(list: &[&str]) -> BTreeSet<String> {
        list.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn the_authority_stays_and_the_leaf_is_renewed_when_it_has_to_be() {
        let folder = tempfile::tempdir().expect("a folder");
        let folder = folder.path().join("tls");
        let mut last = (String::new(), String::new());
        let mut prepare_at = |list: &[&str], now: i64| {
            let (chain, _) = prepare(&folder, &names(list), now).expect("certificates");
            let new = (read(&folder.join("ca.pem")).expect("ca"), read(&chain).expect("chain"));
            let changed = (new.0 != last.0, new.1 != last.1);
            last = new;
            changed
        };
        let day = DAY * 1_000_000;
        assert_eq!(prepare_at(&["localhost", "::1"], NOW), (true, true), "first start");
        assert_eq!(prepare_at(&["localhost", "::1"], NOW + day), (false, false), "second start");
        assert_eq!(prepare_at(&["localhost"], NOW + day), (false, false), "a name less");
        assert_eq!(prepare_at(&["localhost", "new"], NOW + day), (false, true), "a name more");
        assert_eq!(prepare_at(&["localhost"], NOW + 360 * day), (false, false), "38 days left");
        assert_eq!(prepare_at(&["localhost"], NOW + 370 * day), (false, true), "28 days left");
        for file in ["ca.key", "leaf.key", "ca.pem"] {
            let mode = std::fs::metadata(folder.join(file)).expect(file).permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{file}");
        }
    }

    #[test]
    fn half_an_authority_is_never_replaced() {
        let folder = tempfile::tempdir().expect("a folder");
        prepare(folder.path(), &names(&["localhost"]), NOW).expect("certificates");
        std::fs::remove_file(folder.path().join("ca.key")).expect("removed");
        let error = prepare(folder.path(), &names(&["localhost"]), NOW).expect_err("refused");
        assert!(error.to_string().contains("backup"), "{error}");
    }
}
