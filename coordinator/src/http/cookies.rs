//! The session cookie of browsers, and whether a request comes from our own pages.

use std::time::Duration;

use axum::extract::FromRequestParts;
use http::request::Parts;
use http::{HeaderMap, header};
use url::Url;

use super::{ApiError, Scheme};
use crate::AppState;

/// With `__Host-` a browser takes the cookie over TLS only, for this host and the whole of it.
const SECURE_NAME: &str = "__Host-reeve";

/// On loopback without TLS.
const PLAIN_NAME: &str = "reeve";

/// What a request says about cookies and where it comes from.
#[derive(Clone, Debug)]
pub struct Cookies {
    scheme: Scheme,
    session: Option<String>,
    origin: Option<String>,
    host: Option<String>,
}

impl Cookies {
    pub(super) fn read(headers: &HeaderMap, uri: &http::Uri, scheme: Scheme) -> Self {
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
        let name = name(scheme);
        let session = headers
            .get_all(header::COOKIE)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|line| line.split(';'))
            .filter_map(|pair| pair.trim().split_once('='))
            .find(|(key, _)| *key == name)
            .map(|(_, value)| value.to_owned());
        // HTTP/2 says it in the URI.
        let host = uri.authority().map(|host| host.as_str()).or_else(|| text(header::HOST));
        Self {
            scheme,
            session,
            origin: text(header::ORIGIN).map(str::to_owned),
            host: host.map(str::to_owned),
        }
    }

    /// The token in the cookie.
    #[must_use]
    pub fn session(&self) -> Option<&str> {
        self.session.as_deref()
    }

    /// A `Set-Cookie` value. Scripts cannot read it and other sites cannot make a browser send it.
    #[must_use]
    pub fn to_set(&self, token: &str, life: Option<Duration>) -> String {
        let age = life.map(|life| format!("; Max-Age={}", life.as_secs())).unwrap_or_default();
        let secure = match self.scheme {
            Scheme::Https => "; Secure",
            Scheme::Http => "",
        };
        format!("{}={token}; Path=/; HttpOnly; SameSite=Strict{secure}{age}", name(self.scheme))
    }

    /// For whatever a browser does by itself with its cookie: the page that asks has to be ours.
    /// A browser always sends `Origin` with upgrades and unsafe methods.
    ///
    /// # Errors
    /// 403 when it is another page, or not said.
    pub fn check_origin(&self, state: &AppState) -> Result<(), ApiError> {
        let refused =
            |why: &str| ApiError::new(http::StatusCode::FORBIDDEN, "wrong_origin", why.to_owned());
        let Some(origin) = &self.origin else {
            return Err(refused("a request with a session cookie has to say its Origin"));
        };
        let scheme = match self.scheme {
            Scheme::Https => "https",
            Scheme::Http => "http",
        };
        let own = self.host.as_ref().map(|host| format!("{scheme}://{host}"));
        let public =
            state.config.public_url.as_ref().map(|url: &Url| url.origin().ascii_serialization());
        if Some(origin) == own.as_ref() || Some(origin) == public.as_ref() {
            return Ok(());
        }
        Err(refused(
            "this request comes from a page of another origin; if it is your own proxy's, set \
             public_url to what the browser shows",
        ))
    }

    /// As [`Cookies::check_origin`], for callers that need not be browsers.
    pub(super) fn check_origin_if_said(&self, state: &AppState) -> Result<(), ApiError> {
        if self.origin.is_some() { self.check_origin(state) } else { Ok(()) }
    }
}

fn name(scheme: Scheme) -> &'static str {
    match scheme {
        Scheme::Https => SECURE_NAME,
        Scheme::Http => PLAIN_NAME,
    }
}

impl<S: Sync> FromRequestParts<S> for Cookies {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, ApiError> {
        let scheme = parts.extensions.get::<Scheme>().copied().unwrap_or(Scheme::Http);
        Ok(Self::read(&parts.headers, &parts.uri, scheme))
    }
}
