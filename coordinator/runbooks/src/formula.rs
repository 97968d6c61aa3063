//! The arithmetic of expectations: `used / total * 100`, `percent >= 90`, `state != 'active'`.
//!
//! Numbers may carry a size suffix (`1.5G`, powers of 1024) or a `%` sign, as tools print them.

use std::collections::BTreeMap;

/// Why a formula cannot be computed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormulaError {
    /// It is not written as a formula.
    #[error("'{0}' is not a formula")]
    Syntax(String),
    /// It names something that is not there.
    #[error("'{0}' is neither a group nor a value")]
    Unknown(String),
    /// What is named is not a number.
    #[error("'{0}' is not a number")]
    NotANumber(String),
}

/// Named texts that formulas can use.
pub type Values = BTreeMap<String, String>;

/// The number a tool's text stands for: `12`, `3.5`, `91%`, `1.2G`, `10Mi`.
#[must_use]
pub fn number(text: &str) -> Option<f64> {
    let text = text.trim().trim_end_matches('%');
    let end = text
        .char_indices()
        .find(|(at, c)| {
            !(c.is_ascii_digit() || *c == '.' || (*at == 0 && (*c == '-' || *c == '+')))
        })
        .map_or(text.len(), |(at, _)| at);
    let (digits, suffix) = text.split_at(end);
    let value: f64 = digits.parse().ok()?;
    let factor = match suffix.trim() {
        "" | "B" => 1.0,
        "K" | "k" | "kB" | "KB" | "Ki" | "KiB" => 1024.0,
        "M" | "MB" | "Mi" | "MiB" => 1024.0 * 1024.0,
        "G" | "GB" | "Gi" | "GiB" => 1024.0 * 1024.0 * 1024.0,
        "T" | "TB" | "Ti" | "TiB" => 1024.0 * 1024.0 * 1024.0 * 1024.0,
        _ => return None,
    };
    Some(value * factor)
}

/// Computes `a + b * c / d - e` with the usual precedence and parentheses.
///
/// # Errors
/// When it is no formula, or names what is not there or not a number.
pub fn compute(formula: &str, values: &Values) -> Result<f64, FormulaError> {
    let mut reader = Reader { text: formula, at: 0, values, depth: 0 };
    let value = reader.sum()?;
    reader.space();
    if reader.at < formula.len() {
        return Err(FormulaError::Syntax(formula.to_owned()));
    }
    Ok(value)
}

/// Whether a comparison holds. Numbers are compared as numbers, with a quoted text as text.
///
/// # Errors
/// When it is no comparison, or a side of it cannot be computed.
pub fn holds(comparison: &str, values: &Values) -> Result<bool, FormulaError> {
    for operator in ["<=", ">=", "!=", "==", "<", ">"] {
        let Some((left, right)) = comparison.split_once(operator) else { continue };
        let (left, right) = (left.trim(), right.trim());
        if let Some(text) = right.strip_prefix('\'').and_then(|r| r.strip_suffix('\'')) {
            let value = values.get(left).ok_or_else(|| FormulaError::Unknown(left.to_owned()))?;
            return match operator {
                "==" => Ok(value == text),
                "!=" => Ok(value != text),
                _ => Err(FormulaError::Syntax(comparison.to_owned())),
            };
        }
        let (left, right) = (compute(left, values)?, compute(right, values)?);
        return Ok(match operator {
            "<=" => left <= right,
            ">=" => left >= right,
            "<" => left < right,
            ">" => left > right,
            "==" => (left - right).abs() < f64::EPSILON,
            _ => (left - right).abs() >= f64::EPSILON,
        });
    }
    Err(FormulaError::Syntax(comparison.to_owned()))
}

/// A number for people: whole when large, one digit behind the point when small.
#[must_use]
pub fn show(value: f64) -> String {
    if value.fract().abs() < 0.05 || value.abs() >= 100.0 {
        format!("{value:.0}")
    } else {
        format!("{value:.1}")
    }
}

/// A number of bytes for people.
#[must_use]
pub fn show_bytes(value: f64) -> String {
    let mut value = value;
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if value.abs() < 1024.0 {
            return format!("{} {unit}", show(value));
        }
        value /= 1024.0;
    }
    format!("{} TiB", show(value))
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
    values: &'a Values,
    depth: u32,
}

impl Reader<'_> {
    fn space(&mut self) {
        while self.text[self.at..].starts_with(' ') {
            self.at += 1;
        }
    }

    fn take(&mut self, c: char) -> bool {
        self.space();
        let there = self.text[self.at..].starts_with(c);
        if there {
            self.at += c.len_utf8();
        }
        there
    }

    fn sum(&mut self) -> Result<f64, FormulaError> {
        let mut value = self.product()?;
        loop {
            if self.take('+') {
                value += self.product()?;
            } else if self.take('-') {
                value -= self.product()?;
            } else {
                return Ok(value);
            }
        }
    }

    fn product(&mut self) -> Result<f64, FormulaError> {
        let mut value = self.factor()?;
        loop {
            if self.take('*') {
                value *= self.factor()?;
            } else if self.take('/') {
                value /= self.factor()?;
            } else {
                return Ok(value);
            }
        }
    }

    fn factor(&mut self) -> Result<f64, FormulaError> {
        if self.take('(') {
            self.depth += 1;
            if self.depth > 16 {
                return Err(FormulaError::Syntax(self.text.to_owned()));
            }
            let value = self.sum()?;
            self.depth -= 1;
            return if self.take(')') {
                Ok(value)
            } else {
                Err(FormulaError::Syntax(self.text.to_owned()))
            };
        }
        self.space();
        let rest = &self.text[self.at..];
        let end = rest
            .find(|c: char| !(c.is_alphanumeric() || c == '_' || c == '.'))
            .unwrap_or(rest.len());
        let word = &rest[..end];
        self.at += end;
        if word.is_empty() {
            return Err(FormulaError::Syntax(self.text.to_owned()));
        }
        if word.starts_with(|c: char| c.is_ascii_digit()) {
            return number(word).ok_or_else(|| FormulaError::NotANumber(word.to_owned()));
        }
        let text = self.values.get(word).ok_or_else(|| FormulaError::Unknown(word.to_owned()))?;
        number(text).ok_or_else(|| FormulaError::NotANumber(text.clone()))
    }
}
