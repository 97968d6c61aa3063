//! Fakes for tests: a real HTTP server that speaks every wire on one port, follows a script or asks
//! a closure, checks strictly what it is asked, and remembers it; a clock that goes when it is told;
//! keys that are fixed.
//!
//! ```ignore
//! let fake = FakeModel::start().await?;
//! fake.script([Behaviour::Trouble(Trouble::Overloaded), Behaviour::json(json!({"ok": true}))]);
//! let models = Models::new(Options::default(), Arc::new(FixedKeys::key("sk-test")))?;
//! models.set(vec![fake.provider("fake", Wire::Anthropic)], roles_of("fake/fake-model"));
//! ```

mod asked;
mod behaviour;
mod clock;
mod keys;
mod server;
mod speech;
mod troubles;

use std::collections::BTreeMap;

use reeve_sdk::api::ModelRole;

pub use asked::Asked;
pub use behaviour::{Behaviour, Delay, Trouble};
pub use clock::ManualClock;
pub use keys::FixedKeys;
pub use server::FakeModel;

/// Every role asks these, in order.
#[must_use]
pub fn roles_of(models: &[&str]) -> BTreeMap<ModelRole, Vec<String>> {
    let list: Vec<String> = models.iter().map(|model| (*model).to_owned()).collect();
    ModelRole::ALL.into_iter().map(|role| (role, list.clone())).collect()
}
