//! Tickets for one WebSocket each: a browser cannot send a header with an upgrade, and a token in
//! an URL would end up in logs.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::StatusCode;

use super::{Principal, hash_secret};
use crate::problem::ApiError;

/// How long one is good for.
const LIFE: Duration = Duration::from_secs(30);

/// Tickets that were not used yet. When there are more, no new ones are given out.
const MAX_OPEN: usize = 4096;

/// In memory only: a restart closes the WebSockets as well.
#[derive(Clone, Default)]
pub struct Tickets(Arc<Mutex<Open>>);

/// By hash: whose, and until when.
type Open = HashMap<[u8; 32], (Principal, Instant)>;

impl Tickets {
    /// None yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A ticket for a principal.
    ///
    /// # Errors
    /// 503 when too many are open.
    pub fn issue(&self, principal: Principal) -> Result<String, ApiError> {
        let mut random = [0_u8; 32];
        rand::fill(&mut random);
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if open.len() >= MAX_OPEN {
            open.retain(|_, (_, expires)| *expires > now);
        }
        if open.len() >= MAX_OPEN {
            return Err(ApiError::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "too_many_tickets",
                "too many tickets are open; try again in half a minute",
            )
            .retry_after(LIFE));
        }
        open.insert(hash_secret(&random), (principal, now + LIFE));
        Ok(crate::hex(&random))
    }

    /// Whose ticket this is. It is used up.
    ///
    /// # Errors
    /// 401 when it is nobody's, used or expired.
    pub fn take(&self, ticket: &str) -> Result<Principal, ApiError> {
        let refused =
            || ApiError::unauthenticated("the ticket is unknown, used or older than 30 seconds");
        let mut bytes = [0_u8; 32];
        let digits = ticket.as_bytes().chunks_exact(2);
        if ticket.len() != 64 {
            return Err(refused());
        }
        for (byte, pair) in bytes.iter_mut().zip(digits) {
            *byte = std::str::from_utf8(pair)
                .ok()
                .and_then(|pair| u8::from_str_radix(pair, 16).ok())
                .ok_or_else(refused)?;
        }
        let taken =
            self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&hash_secret(&bytes));
        match taken {
            Some((principal, expires)) if expires > Instant::now() => Ok(principal),
            _ => Err(refused()),
        }
    }
}
