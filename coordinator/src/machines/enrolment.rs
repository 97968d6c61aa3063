//! How machines join: tokens that admins make, and the one exchange in which an agent turns one
//! into a machine.

mod store;

use std::collections::BTreeMap;
use std::time::Duration;

use http::StatusCode;
use reeve_protocol::enrol::{Register, Registered};
use reeve_protocol::token::{Pin, SECRET_BYTES, Token};
use reeve_protocol::{CoordinatorId, EnrolmentTokenId};
use reeve_sdk::api::{EnrolmentToken, NewEnrolmentToken, Page};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::registry::Known;
use super::{
    Machines, check_label, check_label_count, check_name, name_taken, store as machine_store,
};
use crate::audit;
use crate::db::OnConstraint;
use crate::problem::ApiError;
use crate::selector::is_name;
use crate::users::Principal;

/// How long a token is good for unless somebody says otherwise.
const DEFAULT_LIFE: Duration = Duration::from_secs(3600);

/// The longest a token may be good for.
const MAX_LIFE: Duration = Duration::from_secs(365 * 24 * 3600);

/// Machines one token may let in.
const MAX_USES: u32 = 100_000;

/// The kind in a join token's text.
const KIND: &str = "join";

impl Machines {
    /// Makes a join token. Its text is shown once and kept as a hash.
    ///
    /// # Errors
    /// 422 when something asked for makes no sense.
    pub async fn create_token(
        &self,
        principal: &Principal,
        new: NewEnrolmentToken,
        pin: Option<Pin>,
    ) -> Result<(String, EnrolmentToken), ApiError> {
        let uses = new.uses.unwrap_or(1);
        let life = new.expires_in_ms.map_or(DEFAULT_LIFE, Duration::from_millis);
        if !(1..=MAX_USES).contains(&uses) {
            return Err(invalid(format!("a token lets in 1 to {MAX_USES} machines, not {uses}")));
        }
        if life.is_zero() || life > MAX_LIFE {
            return Err(invalid("a token is good for more than 0 and at most 365 days".to_owned()));
        }
        if let Some(name) = &new.name {
            check_name(name)?;
            if uses > 1 {
                return Err(invalid("a token with a machine name is for one use".to_owned()));
            }
        }
        for (key, value) in &new.labels {
            check_label(key, value)?;
        }
        check_label_count(&new.labels)?;
        let id = EnrolmentTokenId::new();
        let secret: [u8; SECRET_BYTES] = rand::random();
        let text = Token { kind: KIND.to_owned(), id: id.0, secret, pin }.to_text();
        let details = EnrolmentToken {
            id,
            labels: new.labels,
            name: new.name,
            uses_left: uses,
            uses,
            created: self.clock.now(),
            created_by: principal.name.clone(),
            expires: super::time(self.clock.micros_after(life)),
            revoked: None,
        };
        let mut tx = self.db.begin().await?;
        store::insert(&mut tx, &details, &hash(&secret)).await?;
        audit::record(
            &mut tx,
            &audit::Entry {
                principal: &principal.name,
                action: "enrolment_token.create",
                target: &format!("enrolment_token:{id}"),
                detail: serde_json::json!({
                    "labels": details.labels, "uses": uses, "name": details.name,
                    "expires": details.expires,
                }),
            },
        )
        .await?;
        tx.commit().await?;
        Ok((text, details))
    }

    /// Tokens, newest first.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn list_tokens(
        &self,
        before: Option<EnrolmentTokenId>,
        limit: u32,
    ) -> Result<Page<EnrolmentToken>, ApiError> {
        Ok(store::list(&mut *self.db.reader().await?, before, limit).await?)
    }

    /// Ends a token at once. Machines that joined with it stay.
    ///
    /// # Errors
    /// 404.
    pub async fn revoke_token(
        &self,
        principal: &Principal,
        id: EnrolmentTokenId,
    ) -> Result<(), ApiError> {
        let mut tx = self.db.begin().await?;
        if !store::revoke(&mut tx, id, self.clock.micros()).await? {
            return Err(ApiError::new(
                StatusCode::NOT_FOUND,
                "enrolment_token_not_found",
                format!("there is no join token {id}; 'reeve tokens list' shows them all"),
            ));
        }
        audit::record(
            &mut tx,
            &audit::Entry {
                principal: &principal.name,
                action: "enrolment_token.revoke",
                target: &format!("enrolment_token:{id}"),
                detail: serde_json::json!({}),
            },
        )
        .await?;
        tx.commit().await?;
        Ok(())
    }

    /// Lets a machine in that shows a join token. Asked again with the same id and key, it answers
    /// the same, so that an agent whose answer was lost can ask again.
    ///
    /// # Errors
    /// 401 with a code that says what is wrong with the token, 409 when the name is taken, 422.
    pub async fn register(
        &self,
        request: Register,
        coordinator: CoordinatorId,
        tls_ends_here: bool,
    ) -> Result<Registered, ApiError> {
        let token = Token::parse(&request.token)
            .map_err(|error| refused("token_malformed", error.to_string()))?;
        if token.kind != KIND {
            return Err(refused(
                "token_malformed",
                format!("this is a '{}' token; a machine joins with a join token", token.kind),
            ));
        }
        let public_key = parse_key(&request.public_key)?;
        let id = EnrolmentTokenId(token.id);
        let _door = self.door.lock().await;
        let mut tx = self.db.begin().await?;
        let row = store::find(&mut tx, id).await?;
        // The hash is compared even when there is no such token, so that the time says nothing.
        let expected = row.as_ref().map_or([0; 32], |row| row.secret_hash);
        let fits = bool::from(hash(&token.secret).ct_eq(&expected));
        let Some(row) = row.filter(|_| fits) else {
            return Err(refused(
                "token_unknown",
                "this join token is not one of ours; make a new one with 'reeve tokens create'",
            ));
        };
        if let Some(known) = self.registry.find(request.machine_id) {
            return already_joined(&known, &public_key, coordinator);
        }
        self.check_usable(&row.details)?;
        let known = Known {
            id: request.machine_id,
            name: self.choose_name(&request, &row.details)?,
            labels: row.details.labels.clone(),
            public_key,
            // A machine that sees TLS end elsewhere than we do sits behind a proxy we were not
            // told of; binding to that channel would lock it out.
            channel_binding: request.channel_binding && tls_ends_here,
            quarantined_us: None,
            revoked_us: None,
        };
        if !store::take(&mut tx, id).await? {
            return Err(used_up(&row.details));
        }
        machine_store::insert(
            &mut tx,
            &known,
            &request.facts,
            &id.to_string(),
            self.clock.micros(),
        )
        .await
        .on_constraint("machines.name", || name_taken(&known.name))?;
        audit::record(
            &mut tx,
            &audit::Entry {
                principal: &format!("machine:{}", known.name),
                action: "machine.enrol",
                target: &format!("machine:{}", known.name),
                detail: serde_json::json!({
                    "id": known.id.to_string(), "token": id.to_string(),
                    "labels": known.labels, "hostname": request.facts.hostname,
                    "channel_binding": known.channel_binding,
                }),
            },
        )
        .await?;
        tx.commit().await?;
        let registered = registered(&known, coordinator);
        self.registry.put(known);
        Ok(registered)
    }

    fn check_usable(&self, token: &EnrolmentToken) -> Result<(), ApiError> {
        let make_another = "make a new one with 'reeve tokens create'";
        if token.revoked.is_some() {
            return Err(refused(
                "token_revoked",
                format!("this join token was revoked; {make_another}"),
            ));
        }
        if token.expires.as_micros() <= self.clock.micros() {
            return Err(refused(
                "token_expired",
                format!("this join token expired at {}; {make_another}", token.expires),
            ));
        }
        if token.uses_left == 0 {
            return Err(used_up(token));
        }
        Ok(())
    }

    /// The name asked for must be free; one that we choose gets a number until it is.
    fn choose_name(&self, request: &Register, token: &EnrolmentToken) -> Result<String, ApiError> {
        if let Some(name) = token.name.as_ref().or(request.name.as_ref()) {
            check_name(name)?;
            if self.registry.find_named(name).is_some() {
                return Err(name_taken(name));
            }
            return Ok(name.clone());
        }
        let host = host_name(&request.facts.hostname);
        let free = |name: &String| self.registry.find_named(name).is_none();
        std::iter::once(host.clone())
            .chain((2..=u32::MAX).map(|number| format!("{host}-{number}")))
            .find(free)
            .ok_or_else(|| name_taken(&host))
    }
}

fn host_name(hostname: &str) -> String {
    let short = hostname.split('.').next().unwrap_or_default().to_lowercase();
    let name: String = short
        .chars()
        .map(|char| if char.is_ascii_alphanumeric() { char } else { '-' })
        .take(48)
        .collect();
    let name = name.trim_matches('-').to_owned();
    if is_name(&name) { name } else { "machine".to_owned() }
}

fn already_joined(
    known: &Known,
    public_key: &[u8],
    coordinator: CoordinatorId,
) -> Result<Registered, ApiError> {
    if known.public_key == public_key && known.revoked_us.is_none() {
        return Ok(registered(known, coordinator));
    }
    Err(ApiError::new(
        StatusCode::CONFLICT,
        "machine_exists",
        "a machine with this id has joined with another key or was revoked; remove the agent's state folder and enrol again",
    ))
}

fn registered(known: &Known, coordinator: CoordinatorId) -> Registered {
    Registered {
        machine_id: known.id,
        name: known.name.clone(),
        coordinator_id: coordinator,
        channel_binding: known.channel_binding,
    }
}

fn parse_key(text: &str) -> Result<Vec<u8>, ApiError> {
    let bad = || invalid("the public key is no Ed25519 key of 64 hexadecimal digits".to_owned());
    let pin: Pin = text.parse().map_err(|_| bad())?;
    ed25519_dalek::VerifyingKey::from_bytes(&pin.0)
        .ok()
        .filter(|key| !key.is_weak())
        .map(|key| key.to_bytes().to_vec())
        .ok_or_else(bad)
}

/// Join tokens are 256 random bits: a fast hash is enough to keep them useless at rest.
fn hash(secret: &[u8]) -> [u8; 32] {
    Sha256::digest(secret).into()
}

fn refused(code: &'static str, detail: impl Into<String>) -> ApiError {
    ApiError::new(StatusCode::UNAUTHORIZED, code, detail)
}

fn used_up(token: &EnrolmentToken) -> ApiError {
    refused(
        "token_used",
        format!(
            "this join token has let in all {} of its machines; make a new one with 'reeve tokens create'",
            token.uses
        ),
    )
}

fn invalid(detail: String) -> ApiError {
    ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_request", detail)
}

/// Labels as the database keeps them.
fn labels_text(labels: &BTreeMap<String, String>) -> String {
    serde_json::to_string(labels).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_host_name_gives_a_machine_name() {
        for (hostname, expected) in [
            ("web-1.example.org", "web-1"),
            ("WEB1", "web1"),
            ("büro", "b-ro"),
            ("", "machine"),
            ("---", "machine"),
            ("a b\nc", "a-b-c"),
        ] {
            assert_eq!(host_name(hostname), expected);
        }
    }
}
