//! Figures of several repetitions, each beside what the machine itself or another tool does in the
//! same run; printed, and kept as JSON.

use std::time::Duration;

use serde_json::{Map, Value, json};

/// How wide a table is.
const WIDTH: usize = 118;

/// What the values of a figure are.
#[derive(Clone, Copy)]
pub enum Unit {
    Milliseconds,
    Seconds,
    MebibytesPerSecond,
    PerSecond,
    Mebibytes,
    Kibibytes,
    Percent,
    PerMinute,
}

impl Unit {
    fn name(self) -> &'static str {
        match self {
            Self::Milliseconds => "ms",
            Self::Seconds => "s",
            Self::MebibytesPerSecond => "MiB/s",
            Self::PerSecond => "/s",
            Self::Mebibytes => "MiB",
            Self::Kibibytes => "KiB",
            Self::Percent => "%",
            Self::PerMinute => "/min",
        }
    }

    fn show(self, value: f64) -> String {
        let digits = match value {
            value if value >= 100.0 => 0,
            value if value >= 10.0 => 1,
            value if value >= 1.0 => 2,
            value if value.is_nan() => return "–".to_owned(),
            _ => 3,
        };
        format!("{value:.digits$}")
    }
}

/// One figure, by repetition.
#[derive(Clone, Debug, Default)]
pub struct Figure(Vec<f64>);

impl Figure {
    /// Of one value per repetition.
    pub fn new(values: impl IntoIterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.into_iter().filter(|value| value.is_finite()).collect();
        values.sort_by(f64::total_cmp);
        Self(values)
    }

    /// So much of something within each of these times: per second.
    pub fn rate(amount: f64, times: impl IntoIterator<Item = Duration>) -> Self {
        Self::new(times.into_iter().map(|time| amount / time.as_secs_f64()))
    }

    /// A percentile within each repetition, milliseconds.
    pub fn percentile(repetitions: &[Vec<Duration>], share: f64) -> Self {
        Self::new(repetitions.iter().map(|values| percentile(values, share)))
    }

    /// Of each repetition's value something else.
    pub fn map(&self, change: impl Fn(f64) -> f64) -> Self {
        Self::new(self.0.iter().copied().map(change))
    }

    pub fn median(&self) -> f64 {
        self.0.get(self.0.len() / 2).copied().unwrap_or(f64::NAN)
    }

    pub fn least(&self) -> f64 {
        self.0.first().copied().unwrap_or(f64::NAN)
    }

    pub fn most(&self) -> f64 {
        self.0.last().copied().unwrap_or(f64::NAN)
    }

    fn json(&self) -> Value {
        json!({ "median": self.median(), "min": self.least(), "max": self.most() })
    }
}

/// Milliseconds below which a share of the values lie.
pub fn percentile(values: &[Duration], share: f64) -> f64 {
    let mut sorted: Vec<f64> = values.iter().map(|value| value.as_secs_f64() * 1e3).collect();
    sorted.sort_by(f64::total_cmp);
    let at = (share * sorted.len().saturating_sub(1) as f64).round() as usize;
    sorted.get(at).copied().unwrap_or(f64::NAN)
}

/// What is wanted of a figure, or of its ratio to what is beside it where there is something.
#[derive(Clone, Copy)]
pub enum Goal {
    AtMost(f64),
    AtLeast(f64),
    None,
}

impl Goal {
    fn is_met(self, value: f64) -> Option<bool> {
        match self {
            Self::AtMost(goal) => Some(value <= goal),
            Self::AtLeast(goal) => Some(value >= goal),
            Self::None => None,
        }
    }

    fn show(self, value: f64) -> String {
        let mark = match self.is_met(value) {
            _ if value.is_nan() => "not measured",
            Some(true) => "met",
            _ => "not met",
        };
        match self {
            Self::AtMost(goal) => format!("goal ≤ {goal}: {mark}"),
            Self::AtLeast(goal) => format!("goal ≥ {goal}: {mark}"),
            Self::None => String::new(),
        }
    }
}

/// Rows, printed as they come.
pub struct Table(Map<String, Value>);

impl Table {
    pub fn new(title: &str) -> Self {
        println!("\n{title}");
        println!("{:-<WIDTH$}", "");
        println!("{:<42} {:>26}   {:>12}   beside", "", "Reeve (min–max)", "yardstick");
        Self(Map::new())
    }

    /// What another does, for itself: the unit of what follows.
    pub fn yardstick(&mut self, key: &str, what: &str, unit: Unit, theirs: &Figure) {
        println!("{what:<42} {:>26}   {:>12}", "", self::with_unit(unit, theirs.median()));
        self.0.insert(key.to_owned(), json!({ "unit": unit.name(), "yardstick": theirs.json() }));
    }

    /// A figure beside a yardstick; the goal is one of their ratio.
    pub fn row(
        &mut self,
        key: &str,
        what: &str,
        unit: Unit,
        ours: &Figure,
        (theirs, beside): (&Figure, &str),
        goal: Goal,
    ) {
        let ratio = ours.median() / theirs.median();
        println!(
            "{what:<42} {:>26}   {:>12}   {ratio:.2} × {beside}  {}",
            spread(unit, ours),
            with_unit(unit, theirs.median()),
            goal.show(ratio)
        );
        let row = json!({
            "unit": unit.name(), "reeve": ours.json(), "yardstick": theirs.json(),
            "ratio": ratio, "goal_met": goal.is_met(ratio),
        });
        self.0.insert(key.to_owned(), row);
    }

    /// A figure by itself, whose goal is an absolute one.
    pub fn alone(&mut self, key: &str, what: &str, unit: Unit, ours: &Figure, goal: Goal) {
        let value = ours.median();
        println!("{what:<42} {:>26}   {:>12}   {}", spread(unit, ours), "", goal.show(value));
        let row = json!({
            "unit": unit.name(), "reeve": ours.json(), "goal_met": goal.is_met(value),
        });
        self.0.insert(key.to_owned(), row);
    }

    /// Something worth knowing about the run.
    pub fn note(&mut self, key: &str, value: Value) {
        self.0.insert(key.to_owned(), value);
    }

    pub fn end(self) -> Value {
        println!("{:-<WIDTH$}", "");
        Value::Object(self.0)
    }
}

fn with_unit(unit: Unit, value: f64) -> String {
    format!("{} {}", unit.show(value), unit.name())
}

fn spread(unit: Unit, figure: &Figure) -> String {
    if figure.0.is_empty() {
        return "–".to_owned();
    }
    let median = with_unit(unit, figure.median());
    format!("{median} ({}–{})", unit.show(figure.least()), unit.show(figure.most()))
}
