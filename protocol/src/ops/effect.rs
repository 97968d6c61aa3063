//! What an operation may do to its machine.

use serde::{Deserialize, Serialize};

/// What an operation may do, from the harmless to the irrevocable; later ones include earlier ones.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// Looks only.
    Read,
    /// Changes something that can be changed back.
    Change,
    /// Removes data, or ends what cannot be brought back. Unknown effects count as this.
    #[default]
    Destroy,
}

impl Effect {
    /// The word in API, settings and database.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Change => "change",
            Self::Destroy => "destroy",
        }
    }
}
