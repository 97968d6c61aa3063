//! Machines: who they are, how they join, change and leave.

mod arrivals;
mod enrolment;
mod registry;
mod routes;
mod store;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use http::StatusCode;
use reeve_protocol::MachineId;
use reeve_protocol::{Facts, Hello};
use reeve_sdk::api::{Machine, MachineChange, Time};

use crate::audit;
use crate::clock::Clock;
use crate::db::{Db, DbError, OnConstraint, Tx};
use crate::problem::ApiError;
use crate::selector::{is_label_key, is_label_value, is_name};
use crate::tasks::Tasks;
use crate::users::Principal;

use arrivals::Arrivals;
pub use registry::{Known, Registry};
pub use routes::routes;

pub use crate::selector::{InvalidSelector, Selector};

/// Labels one machine may have.
const MAX_LABELS: usize = 64;

/// The machines. Cheap to clone.
#[derive(Clone)]
pub struct Machines {
    db: Db,
    clock: Clock,
    registry: Registry,
    /// Held by whoever lets a machine in, until the registry knows it: names and ids are chosen by
    /// what the registry knows.
    door: Arc<tokio::sync::Mutex<()>>,
    arrivals: Arrivals,
}

impl Machines {
    /// Reads every machine from the database.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn load(db: Db, clock: Clock, tasks: &Tasks) -> Result<Self, DbError> {
        let registry = Registry::default();
        for known in store::list_known(&mut *db.reader().await?).await? {
            registry.put(known);
        }
        let arrivals = Arrivals::start(db.clone(), clock.clone(), tasks);
        Ok(Self { db, clock, registry, door: Arc::default(), arrivals })
    }

    /// Names, labels and standing of all of them.
    #[must_use]
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// The machines a selector selects among those that exist for the caller, by name. Revoked ones
    /// are never selected.
    ///
    /// # Errors
    /// 422 when the text is no selector or nothing matches, 404 when it names a machine that does
    /// not exist for the caller, with the nearest names.
    pub fn resolve(
        &self,
        principal: &Principal,
        selector: &str,
    ) -> Result<Vec<Arc<Known>>, ApiError> {
        let selector = parse_selector(selector)?;
        let visible = |known: &Known| {
            known.revoked_us.is_none()
                && principal.scope.matches(known.id, &known.name, &known.labels)
        };
        let found = self.registry.list(|known| visible(known) && known.is_selected_by(&selector));
        // One mistyped name among several must not silently shrink the set.
        for name in selector.exact_names() {
            if !found.iter().any(|known| known.name == name) {
                return Err(not_found(name, self.registry.nearest(name, visible)));
            }
        }
        if found.is_empty() {
            return Err(ApiError::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "empty_selector",
                format!("no machine matches '{selector}'; 'reeve machines list' shows them all"),
            ));
        }
        Ok(found)
    }

    /// One machine by name or id, if it exists for the caller.
    ///
    /// # Errors
    /// 404 with the nearest names.
    pub fn find(&self, principal: &Principal, text: &str) -> Result<Arc<Known>, ApiError> {
        let visible = |known: &Known| principal.scope.matches(known.id, &known.name, &known.labels);
        self.registry
            .find_named(text)
            .filter(|known| visible(known))
            .ok_or_else(|| not_found(text, self.registry.nearest(text, visible)))
    }

    /// Changes name, labels or quarantine.
    ///
    /// # Errors
    /// 404, 409 when the name is taken, 422 when a value is none.
    pub async fn change(
        &self,
        principal: &Principal,
        text: &str,
        change: MachineChange,
    ) -> Result<Arc<Known>, ApiError> {
        let old = self.find(principal, text)?;
        let mut new = Known::clone(&old);
        if let Some(name) = &change.name {
            check_name(name)?;
            new.name.clone_from(name);
        }
        for (key, value) in &change.labels {
            match value {
                Some(value) => {
                    check_label(key, value)?;
                    new.labels.insert(key.clone(), value.clone());
                }
                None => {
                    new.labels.remove(key);
                }
            }
        }
        check_label_count(&new.labels)?;
        match change.quarantined {
            Some(false) => new.quarantined_us = None,
            Some(true) => new.quarantined_us = Some(self.clock.micros()),
            None => {}
        }
        let mut tx = self.db.begin().await?;
        store::update(&mut tx, &new)
            .await
            .on_constraint("machines.name", || name_taken(&new.name))?;
        audit::record(
            &mut tx,
            &audit::Entry {
                principal: &principal.name,
                action: "machine.change",
                target: &format!("machine:{}", old.name),
                detail: serde_json::to_value(&change).unwrap_or_default(),
            },
        )
        .await?;
        tx.commit().await?;
        self.registry.put(new);
        self.find(principal, &old.id.to_string())
    }

    /// Ends a machine's right to connect, for good. Its history stays.
    ///
    /// # Errors
    /// 404.
    pub async fn revoke(&self, principal: &Principal, text: &str) -> Result<MachineId, ApiError> {
        let mut known = Known::clone(&*self.find(principal, text)?);
        known.revoked_us.get_or_insert(self.clock.micros());
        let mut tx = self.db.begin().await?;
        store::update(&mut tx, &known).await?;
        record(&mut tx, principal, "machine.revoke", &known).await?;
        tx.commit().await?;
        let id = known.id;
        self.registry.put(known);
        Ok(id)
    }

    /// Takes a machine off the list. Jobs keep its name.
    ///
    /// # Errors
    /// 404.
    pub async fn remove(&self, principal: &Principal, text: &str) -> Result<MachineId, ApiError> {
        let known = self.find(principal, text)?;
        let mut tx = self.db.begin().await?;
        store::delete(&mut tx, known.id).await?;
        record(&mut tx, principal, "machine.remove", &known).await?;
        tx.commit().await?;
        self.registry.remove(known.id);
        Ok(known.id)
    }

    /// A session of the machine begins: counts its epoch and keeps what its agent said.
    ///
    /// # Errors
    /// When the database does not answer, or the machine is gone.
    pub async fn begin_session(&self, hello: &Hello) -> Result<u64, Arc<DbError>> {
        self.arrivals.begin(hello).await
    }

    /// Keeps what a machine says of itself, soon.
    pub async fn keep_facts(&self, id: MachineId, facts: Facts) {
        self.arrivals.keep_facts(id, facts).await;
    }

    /// Notes when machines were last heard, many at once.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn keep_last_seen(&self, seen: &[(MachineId, i64)]) -> Result<(), DbError> {
        let mut tx = self.db.begin().await?;
        store::keep_last_seen(&mut tx, seen).await?;
        tx.commit().await
    }

    /// Two agents used the machine's key at the same time: neither is let in from now on.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn quarantine(&self, id: MachineId, why: &str) -> Result<(), DbError> {
        let Some(known) = self.registry.find(id) else { return Ok(()) };
        let mut known = Known::clone(&known);
        known.quarantined_us = Some(self.clock.micros());
        let mut tx = self.db.begin().await?;
        store::update(&mut tx, &known).await?;
        audit::record(
            &mut tx,
            &audit::Entry {
                principal: "system",
                action: "machine.quarantine",
                target: &format!("machine:{}", known.name),
                detail: serde_json::json!({ "why": why }),
            },
        )
        .await?;
        tx.commit().await?;
        self.registry.put(known);
        Ok(())
    }

    /// What the database knows of machines, as the API shows them; the live part is filled in by
    /// whoever knows the sessions.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn describe(&self, machines: &[Arc<Known>]) -> Result<Vec<Machine>, DbError> {
        let mut conn = self.db.reader().await?;
        let mut described = Vec::with_capacity(machines.len());
        for known in machines {
            described.extend(store::describe(&mut conn, known).await?);
        }
        Ok(described)
    }
}

async fn record(
    tx: &mut Tx,
    principal: &Principal,
    action: &str,
    known: &Known,
) -> Result<(), DbError> {
    let entry = audit::Entry {
        principal: &principal.name,
        action,
        target: &format!("machine:{}", known.name),
        detail: serde_json::json!({ "id": known.id.to_string() }),
    };
    audit::record(tx, &entry).await
}

/// A selector, or why the text is none.
///
/// # Errors
/// 422 when the text is no selector.
pub fn parse_selector(text: &str) -> Result<Selector, ApiError> {
    text.parse().map_err(|error: InvalidSelector| {
        let code = match error {
            InvalidSelector::Empty => "empty_selector",
            _ => "invalid_selector",
        };
        ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, code, error.to_string())
    })
}

fn not_found(name: &str, nearest: Vec<String>) -> ApiError {
    // Whoever shows the problem shows its nearest names.
    let hint = if nearest.is_empty() { "; 'reeve machines list' shows them all" } else { "" };
    let detail = format!("there is no machine '{name}'{hint}");
    ApiError::new(StatusCode::NOT_FOUND, "machine_not_found", detail).nearest(nearest)
}

fn name_taken(name: &str) -> ApiError {
    ApiError::new(
        StatusCode::CONFLICT,
        "name_taken",
        format!("another machine is named '{name}'; choose another name, or remove that machine"),
    )
}

fn check_name(name: &str) -> Result<(), ApiError> {
    if is_name(name) {
        return Ok(());
    }
    Err(ApiError::new(
        StatusCode::UNPROCESSABLE_ENTITY,
        "invalid_name",
        format!(
            "'{}' cannot name a machine: use 1 to 64 of a-z 0-9 . _ -, starting with a letter or digit",
            name.escape_debug()
        ),
    ))
}

fn check_label(key: &str, value: &str) -> Result<(), ApiError> {
    if is_label_key(key) && is_label_value(value) {
        return Ok(());
    }
    Err(ApiError::new(
        StatusCode::UNPROCESSABLE_ENTITY,
        "invalid_label",
        format!(
            "'{}={}' is no label: keys are 1 to 64 of a-z 0-9 . _ / -, values at most 128 printable characters without , and *",
            key.escape_debug(),
            value.escape_debug()
        ),
    ))
}

fn check_label_count(labels: &BTreeMap<String, String>) -> Result<(), ApiError> {
    if labels.len() <= MAX_LABELS {
        return Ok(());
    }
    Err(ApiError::new(
        StatusCode::UNPROCESSABLE_ENTITY,
        "invalid_label",
        format!("a machine may have {MAX_LABELS} labels, not {}", labels.len()),
    ))
}

/// A database time as the API shows it.
fn time(micros: i64) -> Time {
    Time::from_micros(micros)
}
