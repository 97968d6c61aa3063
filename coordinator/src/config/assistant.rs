//! Settings of the assistant, as written and in force.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, de};

use super::file::{Count, Period};

/// In force.
#[derive(Clone, Debug, PartialEq)]
pub struct Assistant {
    /// Tasks at work at the same time; more stay pending. Those that wait for a yes do not count.
    pub max_tasks: u32,
    /// Machines of one task.
    pub max_machines: u32,
    /// A note is made once models have cost this much for one task, in the currency of the prices.
    pub budget_soft: f64,
    /// No model is asked any more once they have cost this much.
    pub budget_hard: f64,
    /// A task ends after this long, waiting for a yes not counted.
    pub time_limit: Duration,
    /// A command that has written nothing for this long is looked at.
    pub stall_after: Duration,
    /// Likewise for package managers, which think long.
    pub stall_after_packages: Duration,
    /// Whether a command that will not come to an end is ended before its time is up.
    pub stall_kill: bool,
    /// How often a model may look around before it has to have a plan.
    pub explore_rounds: u32,
}

/// As written.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AssistantTable {
    pub max_tasks: Option<Count>,
    pub max_machines: Option<Count>,
    pub budget_soft: Option<Money>,
    pub budget_hard: Option<Money>,
    pub time_limit: Option<Period>,
    pub stall_after: Option<Period>,
    pub stall_after_packages: Option<Period>,
    pub stall_kill: Option<bool>,
    pub explore_rounds: Option<u32>,
}

impl Default for Assistant {
    fn default() -> Self {
        AssistantTable::default().resolve()
    }
}

impl AssistantTable {
    pub(super) fn resolve(self) -> Assistant {
        let count = |value: Option<Count>, default: u32| value.map_or(default, |count| count.0);
        let period = |value: Option<Period>, seconds: u64| {
            value.map_or(Duration::from_secs(seconds), |period| period.0)
        };
        Assistant {
            max_tasks: count(self.max_tasks, 16),
            max_machines: count(self.max_machines, 1000),
            budget_soft: self.budget_soft.map_or(0.5, |money| money.0),
            budget_hard: self.budget_hard.map_or(2.0, |money| money.0),
            time_limit: period(self.time_limit, 2 * 3600),
            stall_after: period(self.stall_after, 30),
            stall_after_packages: period(self.stall_after_packages, 300),
            stall_kill: self.stall_kill.unwrap_or(false),
            explore_rounds: self.explore_rounds.unwrap_or(3).min(3),
        }
    }

    pub(super) fn of(settings: &Assistant) -> Self {
        Self {
            max_tasks: Some(Count(settings.max_tasks)),
            max_machines: Some(Count(settings.max_machines)),
            budget_soft: Some(Money(settings.budget_soft)),
            budget_hard: Some(Money(settings.budget_hard)),
            time_limit: Some(Period(settings.time_limit)),
            stall_after: Some(Period(settings.stall_after)),
            stall_after_packages: Some(Period(settings.stall_after_packages)),
            stall_kill: Some(settings.stall_kill),
            explore_rounds: Some(settings.explore_rounds),
        }
    }
}

/// An amount, 0 or more.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(transparent)]
pub(super) struct Money(pub f64);

impl<'de> Deserialize<'de> for Money {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Money;
            fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
                f.write_str("an amount such as 2.00")
            }
            fn visit_f64<E: de::Error>(self, value: f64) -> Result<Money, E> {
                if value.is_finite() && value >= 0.0 {
                    Ok(Money(value))
                } else {
                    Err(E::custom("has to be 0 or more"))
                }
            }
            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Money, E> {
                let small = i32::try_from(value).map_err(|_| E::custom("is out of range"))?;
                self.visit_f64(f64::from(small))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}
