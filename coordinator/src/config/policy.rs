//! `[[policy]]`: what needs whose yes, on which machines.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::selector::Selector;

/// People one rule may ask for; more would be a `deny` that nobody notices.
const MAX_PEOPLE: u32 = 16;

/// What a rule says about an effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PolicyVerdict {
    /// It runs.
    Allow,
    /// So many people have to say yes.
    Approve(u32),
    /// It never runs.
    Deny,
}

/// A rule, as it is written.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyRule {
    /// The machines it is about.
    #[serde(
        rename = "match",
        deserialize_with = "read_selector",
        serialize_with = "write_selector"
    )]
    pub selector: Selector,
    /// For what only looks; none: as if the rule were not there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read: Option<PolicyVerdict>,
    /// For what changes something, likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub change: Option<PolicyVerdict>,
    /// For what destroys something, likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destroy: Option<PolicyVerdict>,
    /// The asker's own yes does not count; none: only where one yes is enough it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub other_than_requester: Option<bool>,
    /// Whoever says yes shows the password again; none: for what destroys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step_up: Option<bool>,
    /// Steps of tasks, direct commands, or both.
    #[serde(default = "everything", deserialize_with = "read_applies")]
    pub applies_to: Vec<Applies>,
}

/// What a rule is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Applies {
    /// Steps of tasks.
    Task,
    /// Direct commands: `reeve run`, `POST /api/jobs`.
    Command,
}

impl Applies {
    /// The word in settings.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Task => "task",
            Self::Command => "command",
        }
    }
}

fn everything() -> Vec<Applies> {
    vec![Applies::Task, Applies::Command]
}

fn read_applies<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Applies>, D::Error> {
    let applies = Vec::<Applies>::deserialize(deserializer)?;
    if applies.is_empty() {
        return Err(de::Error::custom(
            "is empty, so the rule is about nothing; leave it out for both",
        ));
    }
    Ok(applies)
}

fn read_selector<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Selector, D::Error> {
    String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
}

fn write_selector<S: Serializer>(selector: &Selector, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(selector)
}

impl std::fmt::Display for PolicyVerdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Allow => f.write_str("allow"),
            Self::Approve(people) => write!(f, "approve:{people}"),
            Self::Deny => f.write_str("deny"),
        }
    }
}

impl std::str::FromStr for PolicyVerdict {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let people = |digits: &str| {
            let people = digits.parse().ok().filter(|people| (1..=MAX_PEOPLE).contains(people));
            people.map(Self::Approve)
        };
        match text {
            "allow" => Some(Self::Allow),
            "approve" => Some(Self::Approve(1)),
            "deny" => Some(Self::Deny),
            _ => text.strip_prefix("approve:").and_then(people),
        }
        .ok_or_else(|| {
            format!(
                "'{text}' is no verdict; there are \"allow\", \"approve\", \"approve:N\" (N people, \
                 1 to {MAX_PEOPLE}) and \"deny\""
            )
        })
    }
}

impl<'de> Deserialize<'de> for PolicyVerdict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl Serialize for PolicyVerdict {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
