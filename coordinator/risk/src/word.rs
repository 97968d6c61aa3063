//! Words: what is known of an argument after the shell's expansions.

/// Stands for a stretch whose text is not known. Text that holds it itself is refused before.
pub(crate) const UNKNOWN: char = '\u{fffc}';

/// An argument, as far as it is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Arg {
    /// The text; [`UNKNOWN`] for each stretch that is not known, pattern characters kept.
    pub text: String,
    /// Holds something unknown.
    pub open: bool,
    /// May become no word or several.
    pub loose: bool,
    /// May begin with a dash although its text does not.
    pub lead: bool,
}

impl Arg {
    pub fn literal(text: impl Into<String>) -> Self {
        Self { text: text.into(), ..Self::default() }
    }

    /// Nothing is known of it.
    pub fn anything() -> Self {
        Self { text: UNKNOWN.to_string(), open: true, loose: true, lead: true }
    }

    /// The text, if all of it is known.
    pub fn known(&self) -> Option<&str> {
        (!self.open && !self.loose).then_some(self.text.as_str())
    }

    /// It is an option, or may become one.
    pub fn may_be_option(&self) -> bool {
        self.lead || self.text.starts_with('-')
    }

    /// Appends a stretch. `quoted`: the shell does not split it.
    pub fn push(&mut self, value: &Value, quoted: bool) {
        match value {
            Value::Known(text) => {
                let splits = !quoted && (text.is_empty() || text.contains(is_splitting));
                if splits {
                    self.push_unknown(self.text.is_empty(), true);
                } else {
                    self.text.push_str(text);
                }
            }
            Value::Unknown { lead_safe, splits, .. } => {
                let loose = *splits && !quoted;
                let lead = (self.text.is_empty() && !lead_safe) || loose;
                self.push_unknown(lead, loose);
            }
        }
    }

    fn push_unknown(&mut self, lead: bool, loose: bool) {
        self.text.push(UNKNOWN);
        self.open = true;
        self.loose |= loose;
        self.lead |= lead || loose;
    }

    /// Appends unquoted text, in which `*`, `?` and `[` are patterns.
    pub fn push_pattern(&mut self, text: &str) {
        if let Some(at) = text.find(['*', '?', '[']) {
            self.open = true;
            self.loose = true;
            // A name that matches `*` can be `-x`; one that matches `/a/*` cannot.
            self.lead |= self.text.is_empty() && at == 0;
        }
        self.text.push_str(text);
    }
}

fn is_splitting(c: char) -> bool {
    c.is_whitespace() || matches!(c, '*' | '?' | '[')
}

/// What a variable or substitution is worth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    Known(String),
    Unknown {
        /// It cannot begin with a dash.
        lead_safe: bool,
        /// It may hold white space or patterns, or be empty.
        splits: bool,
        /// It is a number.
        digits: bool,
    },
}

impl Value {
    pub const ANYTHING: Self = Self::Unknown { lead_safe: false, splits: true, digits: false };
    /// A process id, an exit code, a count.
    pub const DIGITS: Self = Self::Unknown { lead_safe: true, splits: false, digits: true };
    /// What arithmetic gives.
    pub const NUMBER: Self = Self::Unknown { lead_safe: false, splits: false, digits: true };
    /// Such as `$HOME` and `$USER`, which the agent sets.
    pub const TAME: Self = Self::Unknown { lead_safe: true, splits: false, digits: false };

    pub fn is_number(&self) -> bool {
        match self {
            Self::Known(text) => !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()),
            Self::Unknown { digits, .. } => *digits,
        }
    }

    /// Any one of `values`.
    pub fn one_of(values: Vec<Self>) -> Self {
        let mut values = values.into_iter();
        let Some(first) = values.next() else { return Self::ANYTHING };
        let mut rest = values.peekable();
        if rest.peek().is_none() {
            return first;
        }
        let (mut lead_safe, mut splits) = first.shape();
        let mut digits = first.is_number();
        for value in rest {
            digits &= value.is_number();
            let shape = value.shape();
            lead_safe &= shape.0;
            splits |= shape.1;
        }
        Self::Unknown { lead_safe, splits, digits }
    }

    /// `(lead_safe, splits)`
    fn shape(&self) -> (bool, bool) {
        match self {
            Self::Known(text) => (
                !text.starts_with('-') && !text.is_empty(),
                text.is_empty() || text.contains(is_splitting),
            ),
            Self::Unknown { lead_safe, splits, .. } => (*lead_safe, *splits),
        }
    }
}

impl From<&Arg> for Value {
    fn from(arg: &Arg) -> Self {
        match arg.known() {
            Some(text) => Self::Known(text.to_owned()),
            // Whatever it is made of may hold white space: file names do.
            None => Self::Unknown { lead_safe: !arg.may_be_option(), splits: true, digits: false },
        }
    }
}
