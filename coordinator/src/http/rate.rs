//! How often somebody may ask.

use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use governor::clock::{Clock, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use http::StatusCode;
use reeve_protocol::ApiKeyId;

use super::ApiError;
use crate::config::Limits;
use crate::tasks::Tasks;

/// How often those who have not asked for long are forgotten.
const FORGET_EVERY: Duration = Duration::from_secs(60);

/// Counters; cloning is cheap.
#[derive(Clone)]
pub struct RateLimits {
    logins: Arc<DefaultKeyedRateLimiter<IpAddr>>,
    enrolments: Arc<DefaultKeyedRateLimiter<IpAddr>>,
    principals: Arc<DefaultKeyedRateLimiter<ApiKeyId>>,
}

impl RateLimits {
    /// Nobody has asked yet. Spawn [`RateLimits::run`].
    #[must_use]
    pub fn new(limits: &Limits) -> Self {
        let quota = |per_minute: u32| {
            Quota::per_minute(NonZeroU32::new(per_minute).unwrap_or(NonZeroU32::MIN))
        };
        Self {
            logins: Arc::new(RateLimiter::keyed(quota(limits.logins_per_minute))),
            enrolments: Arc::new(RateLimiter::keyed(quota(limits.enrolments_per_minute))),
            principals: Arc::new(RateLimiter::keyed(quota(limits.requests_per_minute))),
        }
    }

    /// Forgets those who have not asked for long, until the coordinator ends.
    pub async fn run(self, tasks: Tasks) {
        let token = tasks.token();
        loop {
            tokio::select! {
                () = token.cancelled() => return,
                () = tokio::time::sleep(FORGET_EVERY) => {}
            }
            self.logins.retain_recent();
            self.enrolments.retain_recent();
            self.principals.retain_recent();
        }
    }

    /// # Errors
    /// 429 when an address tries passwords or codes too often.
    pub fn check_login(&self, address: IpAddr) -> Result<(), ApiError> {
        self.logins
            .check_key(&whose(address))
            .map_err(|until| too_often(until.wait_time_from(DefaultClock::default().now())))
    }

    /// # Errors
    /// 429 when too many machines join from an address.
    pub fn check_enrolment(&self, address: IpAddr) -> Result<(), ApiError> {
        self.enrolments
            .check_key(&whose(address))
            .map_err(|until| too_often(until.wait_time_from(DefaultClock::default().now())))
    }

    /// # Errors
    /// 429 when a key or session asks too often.
    pub fn check_principal(&self, key: ApiKeyId) -> Result<(), ApiError> {
        self.principals
            .check_key(&key)
            .map_err(|until| too_often(until.wait_time_from(DefaultClock::default().now())))
    }
}

/// One subscriber usually has a whole IPv6 /64.
fn whose(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let network = u128::from(address) & (u128::MAX << 64);
            IpAddr::V6(Ipv6Addr::from(network))
        }
        v4 @ IpAddr::V4(_) => v4,
    }
}

fn too_often(wait: Duration) -> ApiError {
    ApiError::new(
        StatusCode::TOO_MANY_REQUESTS,
        "rate_limited",
        "too many requests; wait as long as Retry-After says",
    )
    .retry_after(wait)
}
