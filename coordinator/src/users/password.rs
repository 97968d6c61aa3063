//! Passwords: Argon2id, away from the threads that serve requests.

use std::sync::LazyLock;
use std::time::Duration;

use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use http::StatusCode;
use secrecy::{ExposeSecret, SecretString};

use super::Users;
use crate::problem::ApiError;

/// Characters, at least.
const MIN_LENGTH: usize = 10;

/// Bytes, at most: longer ones only cost time.
const MAX_BYTES: usize = 1024;

/// How long a login waits for others to be hashed.
const WAIT: Duration = Duration::from_secs(10);

/// A password as somebody typed it. It is never shown.
pub struct Password(SecretString);

impl Password {
    /// To compare with a stored one.
    #[must_use]
    pub fn given(text: String) -> Self {
        Self(SecretString::from(text))
    }

    /// To be set.
    ///
    /// # Errors
    /// 422 when it is too short or too long.
    pub fn chosen(text: String) -> Result<Self, ApiError> {
        let wrong = |detail: String| {
            ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_password", detail)
        };
        if text.chars().count() < MIN_LENGTH {
            return Err(wrong(format!("a password has at least {MIN_LENGTH} characters")));
        }
        if text.len() > MAX_BYTES {
            return Err(wrong(format!("a password has at most {MAX_BYTES} bytes")));
        }
        Ok(Self::given(text))
    }
}

/// What the password of a person who does not exist is compared with, so that it takes as long.
static NOBODY: LazyLock<String> = LazyLock::new(|| {
    let mut random = [0_u8; 32];
    rand::fill(&mut random);
    compute(&random).unwrap_or_default()
});

fn compute(password: &[u8]) -> Result<String, argon2::password_hash::Error> {
    let hash: PasswordHash = Argon2::default().hash_password(password)?;
    Ok(hash.to_string())
}

impl Users {
    /// In PHC form, to be stored.
    ///
    /// # Errors
    /// 503 when too many wait.
    pub(super) async fn hash_password(&self, password: Password) -> Result<String, ApiError> {
        self.hashing(move || compute(password.0.expose_secret().as_bytes()))
            .await?
            .map_err(|error| ApiError::internal(error.to_string()))
    }

    /// Whether the password is the stored one. Takes as long when there is none.
    ///
    /// # Errors
    /// 503 when too many wait.
    pub(super) async fn verify_password(
        &self,
        password: Password,
        stored: Option<String>,
    ) -> Result<bool, ApiError> {
        self.hashing(move || {
            let known = stored.is_some();
            let stored = stored.as_deref().unwrap_or(&NOBODY);
            let given = password.0.expose_secret().as_bytes();
            let fits = given.len() <= MAX_BYTES
                && PasswordHash::new(stored)
                    .is_ok_and(|hash| Argon2::default().verify_password(given, &hash).is_ok());
            fits && known
        })
        .await
    }

    /// Whether it is the person's password.
    ///
    /// # Errors
    /// 503 when too many wait, or when the database does not answer.
    pub async fn check_password(
        &self,
        user: reeve_protocol::UserId,
        password: String,
    ) -> Result<bool, ApiError> {
        let row = super::store::find_user(&mut *self.db.reader().await?, &user.to_string()).await?;
        let stored = row.and_then(|row| row.password);
        self.verify_password(Password::given(password), stored).await
    }

    async fn hashing<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, ApiError> {
        let busy = || {
            ApiError::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "login_busy",
                "too many logins at the same time; try again",
            )
            .retry_after(WAIT)
        };
        let permit = tokio::time::timeout(WAIT, self.hashing.clone().acquire_owned())
            .await
            .map_err(|_| busy())?
            .map_err(|_| busy())?;
        let work = move || {
            let _permit = permit;
            work()
        };
        self.tasks.spawn_blocking("password", work).await.map_err(ApiError::internal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_and_endless_passwords_are_refused() {
        assert!(Password::chosen("ninechars".to_owned()).is_err());
        assert!(Password::chosen("tencharsss".to_owned()).is_ok());
        assert!(Password::chosen("x".repeat(1025)).is_err());
    }

    #[test]
    fn hashes_are_argon2id() {
        let hash = compute(b"correct horse").expect("a hash");
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
    }
}
