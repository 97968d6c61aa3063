//! What is kept: a key, or the tokens of a login.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::StatusCode;
use reeve_sdk::api::{Time, VaultSecret};
use url::Url;

use crate::problem::ApiError;

/// Bytes of a key or token, at most: larger ones do not fit into a header.
const MAX_BYTES: usize = 16 * 1024;

/// Secrets shorter than this show nothing of themselves.
const SHOWS_END_FROM: usize = 24;

fn invalid(detail: impl Into<String>) -> ApiError {
    ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_secret", detail)
}

/// Checks what is to be kept: what cannot stand in a request header is no key.
///
/// # Errors
/// 422 that says which part, and shows nothing of it.
pub fn check(secret: &VaultSecret) -> Result<(), ApiError> {
    let visible = |what: &str, text: &str| {
        if text.is_empty() {
            return Err(invalid(format!("the {what} is empty")));
        }
        if text.len() > MAX_BYTES {
            return Err(invalid(format!("the {what} is longer than {MAX_BYTES} bytes")));
        }
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(invalid(format!(
                "the {what} holds something other than visible ASCII characters; was a line break or a quote copied along?"
            )));
        }
        Ok(())
    };
    match secret {
        VaultSecret::ApiKey { value } => visible("key", value),
        VaultSecret::Oauth {
            access_token, refresh_token, id_token, token_url, client_id, ..
        } => {
            visible("access token", access_token)?;
            for (what, text) in
                [("refresh token", refresh_token), ("id token", id_token), ("client id", client_id)]
            {
                text.as_deref().map_or(Ok(()), |text| visible(what, text))?;
            }
            match (refresh_token, token_url.as_deref()) {
                (Some(_), None) => {
                    Err(invalid("a refresh token needs token_url, where it is used"))
                }
                (_, Some(text)) => check_token_url(text),
                (None, None) => Ok(()),
            }
        }
    }
}

fn check_token_url(text: &str) -> Result<(), ApiError> {
    let url = Url::parse(text).map_err(|_| invalid("token_url is no URL"))?;
    let loopback = match url.host() {
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        Some(url::Host::Domain(name)) => name == "localhost",
        None => false,
    };
    if url.scheme() == "https" || (url.scheme() == "http" && loopback) {
        return Ok(());
    }
    Err(invalid("token_url has to be https: a refresh token is worth as much as a password"))
}

/// `api_key` or `oauth`.
#[must_use]
pub fn kind(secret: &VaultSecret) -> &'static str {
    match secret {
        VaultSecret::ApiKey { .. } => "api_key",
        VaultSecret::Oauth { .. } => "oauth",
    }
}

/// Its last four characters, when they give nothing away.
#[must_use]
pub fn ending(secret: &VaultSecret) -> Option<String> {
    let text = match secret {
        VaultSecret::ApiKey { value } => value,
        VaultSecret::Oauth { access_token, .. } => access_token,
    };
    (text.len() >= SHOWS_END_FROM)
        .then(|| text.get(text.len() - 4..).unwrap_or_default().to_owned())
}

/// Whose account it is, as its id token says. Shown to people, trusted by nobody: the token's
/// signature is the provider's business.
#[must_use]
pub fn account(secret: &VaultSecret) -> Option<String> {
    let VaultSecret::Oauth { id_token: Some(token), .. } = secret else { return None };
    let claims = claims(token)?;
    ["email", "preferred_username", "name", "sub"]
        .iter()
        .find_map(|claim| claims.get(claim)?.as_str())
        .map(|text| text.chars().filter(|c| !c.is_control()).take(120).collect())
}

/// When its access token runs out: as was said, else as the token itself says.
#[must_use]
pub fn expires(secret: &VaultSecret) -> Option<Time> {
    let VaultSecret::Oauth { access_token, expires, .. } = secret else { return None };
    expires.or_else(|| {
        let seconds = claims(access_token)?.get("exp")?.as_i64()?;
        Some(Time::from_micros(seconds.checked_mul(1_000_000)?))
    })
}

/// The claims of a JWT (RFC 7519), unverified.
fn claims(token: &str) -> Option<serde_json::Value> {
    let payload = token.split('.').nth(1)?;
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload.trim_end_matches('=')).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jwt(claims: &serde_json::Value) -> String {
        format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims.to_string()))
    }

    fn oauth(access: &str, id: Option<String>) -> VaultSecret {
        VaultSecret::Oauth {
            access_token: access.to_owned(),
            refresh_token: None,
            id_token: id,
            token_url: None,
            client_id: None,
            expires: None,
        }
    }

    #[test]
    fn what_no_header_can_carry_is_refused_without_being_shown() {
        for value in
            ["", "two words", "line\nbreak", "tab\there", "grün", &"x".repeat(MAX_BYTES + 1)]
        {
            let error = check(&VaultSecret::ApiKey { value: value.to_owned() }).expect_err(value);
            assert!(value.len() < 4 || !error.detail().contains(value), "{}", error.detail());
        }
        assert!(check(&VaultSecret::ApiKey { value: "sk-example-1234".to_owned() }).is_ok());
    }

    #[test]
    fn a_refresh_token_goes_to_https_only() {
        let with = |url: Option<&str>| VaultSecret::Oauth {
            access_token: "a".to_owned(),
            refresh_token: Some("r".to_owned()),
            id_token: None,
            token_url: url.map(str::to_owned),
            client_id: None,
            expires: None,
        };
        assert!(check(&with(Some("https://auth.example/token"))).is_ok());
        assert!(check(&with(Some("http://127.0.0.1:1/token"))).is_ok());
        for url in [None, Some("http://auth.example/token"), Some("ftp://x"), Some("nothing")] {
            assert!(check(&with(url)).is_err(), "{url:?}");
        }
    }

    #[test]
    fn account_and_end_are_read_from_the_tokens() {
        let id = jwt(&serde_json::json!({ "sub": "u-1", "email": "ops@example.org" }));
        let access = jwt(&serde_json::json!({ "exp": 1_800_000_000 }));
        let secret = oauth(&access, Some(id));
        assert_eq!(account(&secret).as_deref(), Some("ops@example.org"));
        assert_eq!(expires(&secret).map(Time::as_micros), Some(1_800_000_000_000_000));
        for broken in ["", ".", "a.b.c", "a.!!.c", "e30.bm8.x"] {
            assert_eq!(account(&oauth("x", Some(broken.to_owned()))), None);
            assert_eq!(expires(&oauth(broken, None)), None);
        }
    }

    #[test]
    fn only_long_secrets_show_their_end() {
        assert_eq!(ending(&VaultSecret::ApiKey { value: "short-secret".to_owned() }), None);
        let long = VaultSecret::ApiKey { value: "sk-example-abcdefghijklmnop-wxyz".to_owned() };
        assert_eq!(ending(&long).as_deref(), Some("wxyz"));
    }
}
