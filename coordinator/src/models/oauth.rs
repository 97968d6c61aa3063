//! Renewing the tokens of an OAuth 2.0 login (RFC 6749, 6).

use std::time::Duration;

use reeve_sdk::api::{Time, VaultSecret};
use reqwest::Client;
use serde::Deserialize;
use zeroize::Zeroize;

/// The whole exchange: people wait for it.
const DEADLINE: Duration = Duration::from_secs(20);

/// Bytes of an answer that are read.
const MAX_ANSWER: usize = 256 * 1024;

/// Why there are no new tokens. Never shows one.
#[derive(Debug, thiserror::Error)]
pub enum RenewalError {
    /// Nothing to renew with.
    #[error("its login has run out, and there is no refresh token; put a new one into the vault")]
    NoRefreshToken,
    /// The provider said no.
    #[error(
        "its login has run out, and the provider refuses to renew it ({0}); log in there again and put the new tokens into the vault"
    )]
    Refused(String),
    /// The provider could not be asked, or answered nonsense.
    #[error("its login has run out, and could not be renewed: {0}")]
    Failed(String),
}

#[derive(Deserialize)]
struct Answer {
    access_token: String,
    refresh_token: Option<String>,
    id_token: Option<String>,
    expires_in: Option<i64>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Refusal {
    error: String,
}

/// A client for token end points: no redirects, which could carry a token elsewhere.
///
/// # Errors
/// When TLS cannot be set up.
pub fn client() -> Result<Client, reeve_models::ModelError> {
    reeve_models::token_client(DEADLINE)
}

/// New tokens for old ones.
///
/// # Errors
/// When there are none to be had.
pub async fn renew(
    client: &Client,
    secret: &VaultSecret,
    now_us: i64,
) -> Result<VaultSecret, RenewalError> {
    let VaultSecret::Oauth {
        refresh_token: Some(refresh_token),
        token_url: Some(token_url),
        client_id,
        id_token,
        ..
    } = secret
    else {
        return Err(RenewalError::NoRefreshToken);
    };
    let mut form = vec![("grant_type", "refresh_token"), ("refresh_token", refresh_token)];
    if let Some(client_id) = client_id {
        form.push(("client_id", client_id));
    }
    let mut body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
    let request = client
        .post(token_url)
        .header(http::header::CONTENT_TYPE, "application/x-www-form-urlencoded")
        .header(http::header::ACCEPT, "application/json")
        .body(body.clone());
    body.zeroize();
    // An error's text holds the address, never the body.
    let failed = |error: reqwest::Error| RenewalError::Failed(error.without_url().to_string());
    let mut response = request.send().await.map_err(failed)?;
    let status = response.status();
    let mut answer = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(failed)? {
        if answer.len() + chunk.len() > MAX_ANSWER {
            return Err(RenewalError::Failed("the answer is too long".to_owned()));
        }
        answer.extend_from_slice(&chunk);
    }
    if !status.is_success() {
        let refusal: Refusal = serde_json::from_slice(&answer).unwrap_or_default();
        let word =
            refusal.error.chars().filter(|c| c.is_ascii_graphic()).take(60).collect::<String>();
        let what = if word.is_empty() { status.to_string() } else { format!("{status} {word}") };
        return Err(if status.is_client_error() && status.as_u16() != 429 {
            RenewalError::Refused(what)
        } else {
            RenewalError::Failed(what)
        });
    }
    let found: Answer = serde_json::from_slice(&answer)
        .map_err(|_| RenewalError::Failed("the answer holds no access token".to_owned()))?;
    answer.zeroize();
    Ok(VaultSecret::Oauth {
        access_token: found.access_token,
        // A provider that does not turn it over leaves the old one in force.
        refresh_token: Some(found.refresh_token.unwrap_or_else(|| refresh_token.clone())),
        id_token: found.id_token.or_else(|| id_token.clone()),
        token_url: Some(token_url.clone()),
        client_id: client_id.clone(),
        expires: found
            .expires_in
            .and_then(|seconds| seconds.checked_mul(1_000_000)?.checked_add(now_us))
            .map(Time::from_micros),
    })
}
