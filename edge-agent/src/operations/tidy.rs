//! What goes by itself when it is old enough.

use std::time::Duration;

use super::{Operations, files};
use crate::host::paths::Rules;

/// Between two looks. What is kept for a day goes within two.
const EVERY: Duration = Duration::from_secs(24 * 3600);

/// Looks at once and every day, until the agent ends.
pub async fn keep_tidy(operations: Operations) {
    loop {
        let again = operations.clone();
        let looked = tokio::task::spawn_blocking(move || remove_old_partials(&again)).await;
        if let Err(error) = looked {
            tracing::warn!(%error, "what came of old copies could not be looked for");
        }
        tokio::time::sleep(EVERY).await;
    }
}

fn remove_old_partials(operations: &Operations) {
    let settings = operations.settings();
    let (policy, state) = (&settings.policy, settings.folder.path());
    match Rules::new(&policy.paths.allowed, &policy.paths.blocked, state) {
        Ok(rules) => files::remove_old_partials(&rules.keeping(&policy.path), state),
        Err(error) => tracing::warn!(?error, "old copies are not looked for"),
    }
}
