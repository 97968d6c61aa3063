//! Where a provider is, and the client that speaks to it alone.
//!
//! A key goes to the host that was named and to nobody else: redirects are not followed, `http` is
//! for this machine and private networks only (also after the name was resolved), and a proxy from
//! the environment is used for `https` only, where it sees no more than the host's name.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue};
use reeve_sdk::api::{ProviderSettings, Wire};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use rustls::ClientConfig;
use url::{Host, Url};

use crate::error::{ErrorCode, ModelError};

/// Headers that belong to the connection or are ours.
const RESERVED: &[&str] = &[
    "host",
    "content-length",
    "content-type",
    "content-encoding",
    "transfer-encoding",
    "connection",
    "keep-alive",
    "te",
    "trailer",
    "upgrade",
    "expect",
    "accept",
    "accept-encoding",
    "cookie",
    "proxy-authorization",
    "proxy-connection",
    "user-agent",
];
/// Headers of one provider.
const MOST_HEADERS: usize = 32;
/// Models of one provider.
const MOST_MODELS: usize = 200;
/// No timeout is longer: an hour.
const LONGEST_TIMEOUT_MS: u64 = 3_600_000;
/// No provider is tried more often for one question.
const MOST_RETRIES: u32 = 10;

fn refused(message: impl Into<String>) -> ModelError {
    ModelError::new(ErrorCode::Settings, message)
}

/// Where a wire is spoken when the settings do not say.
fn usual_address(wire: Wire) -> &'static str {
    match wire {
        Wire::OpenaiResponses | Wire::OpenaiChat => "https://api.openai.com/v1",
        Wire::Anthropic => "https://api.anthropic.com",
        Wire::Gemini => "https://generativelanguage.googleapis.com",
        Wire::Ollama | Wire::Builtin => "http://127.0.0.1:11434",
    }
}

pub(crate) fn is_private(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => address.is_loopback() || address.is_private(),
        IpAddr::V6(address) => address.is_loopback() || address.is_unique_local(),
    }
}

/// The address a provider is asked at.
///
/// # Errors
/// When it is no address, or one where a key may not go.
pub(crate) fn base_url(settings: &ProviderSettings) -> Result<Url, ModelError> {
    let name = &settings.name;
    let text = settings.base_url.as_deref().unwrap_or_else(|| usual_address(settings.wire));
    let mut url = Url::parse(text)
        .map_err(|error| refused(format!("base_url of {name} is no address: {error}")))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(refused(format!(
            "base_url of {name} holds a user or password; keys belong into the vault"
        )));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(refused(format!("base_url of {name} must not hold a query or fragment")));
    }
    match (url.scheme(), url.host()) {
        (_, None) => return Err(refused(format!("base_url of {name} names no host"))),
        ("https", Some(_)) => {}
        ("http", Some(Host::Ipv4(address))) if is_private(address.into()) => {}
        ("http", Some(Host::Ipv6(address))) if is_private(address.into()) => {}
        // Where the name leads is looked at when it is resolved.
        ("http", Some(Host::Domain(_))) => {}
        ("http", Some(_)) => {
            return Err(refused(format!(
                "base_url of {name} is plain http to a public address; use https"
            )));
        }
        (scheme, Some(_)) => {
            return Err(refused(format!("base_url of {name} is {scheme}, not https")));
        }
    }
    let path = url.path().trim_end_matches('/').to_owned();
    url.set_path(&path);
    Ok(url)
}

/// Checks the settings of a provider, without asking anybody.
///
/// # Errors
/// [`ErrorCode::Settings`], with a line that names the field.
pub fn check_settings(settings: &ProviderSettings) -> Result<(), ModelError> {
    let name = &settings.name;
    let is_name = (1..=64).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && name != Wire::Builtin.as_str();
    if !is_name {
        return Err(refused(format!(
            "'{}' is no name for a provider: lower-case letters, digits and -, at most 64, and not 'builtin'",
            crate::faults::one_line(name)
        )));
    }
    if settings.wire == Wire::Builtin {
        return Err(refused("builtin is always there and cannot be added"));
    }
    base_url(settings)?;
    let count = settings.headers.len() + settings.env_headers.len();
    if count > MOST_HEADERS {
        return Err(refused(format!("{name} has more than {MOST_HEADERS} headers")));
    }
    for (header, value) in settings.headers.iter().chain(&settings.env_headers) {
        let known = HeaderName::try_from(header.as_str()).map_err(|_| {
            refused(format!("'{}' is no header name", crate::faults::one_line(header)))
        })?;
        if RESERVED.contains(&known.as_str()) {
            return Err(refused(format!("the header {known} cannot be set")));
        }
        if HeaderValue::try_from(value.as_str()).is_err() {
            return Err(refused(format!(
                "the value of the header {known} has characters no header has"
            )));
        }
    }
    if settings.models.len() > MOST_MODELS {
        return Err(refused(format!("{name} has more than {MOST_MODELS} models")));
    }
    for model in &settings.models {
        let is_name = (1..=200).contains(&model.name.len())
            && !model.name.chars().any(|c| c.is_control() || c.is_whitespace());
        if !is_name {
            return Err(refused(format!(
                "'{}' is no name of a model",
                crate::faults::one_line(&model.name)
            )));
        }
        if settings.models.iter().filter(|other| other.name == model.name).count() > 1 {
            return Err(refused(format!("{name} has the model {} twice", model.name)));
        }
        if model.context_tokens == Some(0) || model.max_output_tokens == Some(0) {
            return Err(refused(format!("{name}/{}: no tokens are too few", model.name)));
        }
        let prices = model.price.map(|p| [p.input, p.output, p.cached_input.unwrap_or(0.0)]);
        if prices.into_iter().flatten().any(|price| !(price.is_finite() && price >= 0.0)) {
            return Err(refused(format!("{name}/{}: a price is no number from 0", model.name)));
        }
    }
    if settings.retries.is_some_and(|retries| retries > MOST_RETRIES) {
        return Err(refused(format!("{name}: at most {MOST_RETRIES} retries")));
    }
    for (field, value) in [
        ("connect_timeout_ms", settings.connect_timeout_ms),
        ("first_byte_timeout_ms", settings.first_byte_timeout_ms),
        ("idle_timeout_ms", settings.idle_timeout_ms),
    ] {
        if value.is_some_and(|ms| ms == 0 || ms > LONGEST_TIMEOUT_MS) {
            return Err(refused(format!("{name}: {field} is from 1 to {LONGEST_TIMEOUT_MS}")));
        }
    }
    Ok(())
}

/// Resolves names to private addresses only, for plain `http`.
struct PrivateOnly;

impl Resolve for PrivateOnly {
    fn resolve(&self, name: Name) -> Resolving {
        let name = name.as_str().to_owned();
        Box::pin(async move {
            let found: Vec<SocketAddr> =
                tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            if found.iter().any(|address| !is_private(address.ip())) {
                return Err("plain http to a public address; use https".into());
            }
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

/// TLS as all providers are spoken to: the system's roots, aws-lc-rs.
///
/// # Errors
/// When the system has no usable roots.
pub(crate) fn tls() -> Result<ClientConfig, ModelError> {
    let setup = |error: &dyn std::fmt::Display| refused(format!("cannot set up TLS: {error}"));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = rustls_platform_verifier::Verifier::new(Arc::clone(&provider))
        .map_err(|error| setup(&error))?;
    Ok(ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| setup(&error))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth())
}

/// A client for the end points where OAuth tokens are renewed: as strict as the one for providers,
/// and every exchange ends within `deadline`.
///
/// # Errors
/// [`ErrorCode::Settings`] when TLS cannot be set up.
pub fn token_client(deadline: Duration) -> Result<reqwest::Client, ModelError> {
    reqwest::Client::builder()
        .tls_backend_preconfigured(tls()?)
        .timeout(deadline)
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .referer(false)
        .user_agent(concat!("reeve/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(|error| refused(format!("cannot set up HTTP: {error}")))
}

/// A provider's address and the client for it.
#[derive(Clone, Debug)]
pub(crate) struct Endpoint {
    pub(crate) base: Url,
    pub(crate) http: reqwest::Client,
}

impl Endpoint {
    pub(crate) fn open(
        settings: &ProviderSettings,
        tls: ClientConfig,
        connect: Duration,
    ) -> Result<Self, ModelError> {
        check_settings(settings)?;
        let base = base_url(settings)?;
        let mut http = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            // One exchange at a time per connection: a broken stream breaks one call.
            .http1_only()
            .tcp_nodelay(true)
            .connect_timeout(connect)
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .referer(false)
            .user_agent(concat!("reeve/", env!("CARGO_PKG_VERSION")));
        if base.scheme() == "http" {
            http = http.no_proxy().dns_resolver(Arc::new(PrivateOnly));
        }
        let http = http.build().map_err(|error| refused(format!("cannot set up HTTP: {error}")))?;
        Ok(Self { base, http })
    }
}

/// `base` with more of a path. `version`, such as `v1`, is put in unless `base` has one: addresses
/// are written down with and without. One that ends with all of `rest` is taken as it is.
pub(crate) fn join(base: &Url, version: &str, rest: &[&str]) -> Url {
    let mut url = base.clone();
    let here: Vec<&str> = base.path().split('/').filter(|part| !part.is_empty()).collect();
    if here.ends_with(rest) {
        return url;
    }
    let is_version = |part: &&str| {
        part.strip_prefix('v').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    };
    let has_version = here.iter().any(is_version);
    if let Ok(mut path) = url.path_segments_mut() {
        path.pop_if_empty();
        if !has_version && !version.is_empty() {
            path.push(version);
        }
        path.extend(rest);
    }
    url
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_and_private_networks_are_private() {
        for (address, expected) in [
            ("127.0.0.1", true),
            ("10.0.0.1", true),
            ("172.16.0.1", true),
            ("192.168.1.1", true),
            ("::1", true),
            ("fd00::1", true),
            ("::ffff:10.0.0.1", true),
            ("::ffff:192.0.2.1", false),
            ("192.0.2.1", false),
            ("169.254.169.254", false),
            ("0.0.0.0", false),
            ("fe80::1", false),
            ("2001:db8::1", false),
        ] {
            assert_eq!(is_private(address.parse().unwrap()), expected, "{address}");
        }
    }

    #[tokio::test]
    async fn a_name_that_leads_to_a_public_address_is_not_spoken_to_in_the_clear() {
        // An address in the place of a name resolves to itself, without asking anybody.
        let resolve = |name: &str| PrivateOnly.resolve(name.parse().unwrap());
        assert!(resolve("127.0.0.1").await.is_ok());
        assert!(resolve("192.0.2.1").await.is_err());
    }

    #[test]
    fn paths_are_put_behind_the_base_whatever_its_form() {
        let joined = |base: &str, version: &str| {
            join(&Url::parse(base).unwrap(), version, &["x", "y"]).to_string()
        };
        for (base, expected) in [
            ("https://a.example", "https://a.example/v1/x/y"),
            ("https://a.example/", "https://a.example/v1/x/y"),
            ("https://a.example/v1", "https://a.example/v1/x/y"),
            ("https://a.example/v1/", "https://a.example/v1/x/y"),
            ("https://a.example/openai", "https://a.example/openai/v1/x/y"),
            ("https://a.example/openai/v1", "https://a.example/openai/v1/x/y"),
            ("https://a.example/v1beta/openai", "https://a.example/v1beta/openai/x/y"),
            ("https://a.example/vault", "https://a.example/vault/v1/x/y"),
            ("https://a.example/here/x/y", "https://a.example/here/x/y"),
        ] {
            assert_eq!(joined(base, "v1"), expected, "{base}");
        }
        assert_eq!(joined("http://127.0.0.1:1", ""), "http://127.0.0.1:1/x/y");
    }
}
