//! What a runbook takes from the sentence: which kinds there are, how each is checked.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::quote::quote;

/// What kind of text a slot takes. Each has its own characters and lengths; whatever passes is still
/// quoted as one word, and none may begin with a dash, so that it cannot become an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SlotKind {
    /// A unit or service: letters, digits, `_ . @ : -`; also as `SLOT_unit` (`nginx.service`) and
    /// `SLOT_file` (the name of its file).
    Service,
    /// A user name (useradd(8)), at most 32 characters.
    User,
    /// A package name of any family, with `+ . _ : @ ~ -`.
    Package,
    /// A process name.
    Process,
    /// A process id, from 2: 1 is init and not to be touched.
    Pid,
    /// A host name or address.
    Host,
    /// A container name or id.
    Container,
    /// A port, 1 to 65535.
    Port,
    /// An absolute path without `..` and control characters.
    Path,
    /// A file name, with `*` and `?` as wildcards, without a slash.
    Name,
    /// Any text of one line, at most 200 characters.
    Text,
    /// An amount of bytes: also as `SLOT_mib`, `SLOT_kib`, `SLOT_bytes`.
    Size,
    /// A time that goes back from now: `48 hours ago`; also as `SLOT_minutes`, `SLOT_days`,
    /// `SLOT_last` (as last(1) takes it).
    Since,
    /// A number, 1 to 1000.
    Count,
}

/// A slot as the catalogue declares it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Slot {
    /// What it takes.
    pub kind: SlotKind,
    /// What to ask when the sentence does not say it.
    #[serde(default)]
    pub ask: Option<String>,
    /// What it is when the sentence does not say it, as a person would write it.
    #[serde(default)]
    pub default: Option<String>,
    /// What the catalogue's tests use.
    #[serde(default)]
    pub sample: Option<String>,
}

/// Why a text is not what a slot takes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{text}' is not {what}")]
pub struct BadValue {
    text: String,
    what: &'static str,
}

/// Values of slots by the names templates use, checked, not quoted.
pub type Filled = BTreeMap<String, String>;

impl SlotKind {
    /// Checks a text, and gives the names under which templates see it.
    ///
    /// # Errors
    /// When it is not what the kind takes.
    pub fn fill(self, slot: &str, text: &str) -> Result<Filled, BadValue> {
        let bad = || BadValue { text: text.chars().take(80).collect(), what: self.what() };
        let simple = |extra: &str, max: usize| {
            !text.is_empty()
                && text.len() <= max
                && text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
                && text.chars().all(|c| c.is_ascii_alphanumeric() || extra.contains(c))
        };
        let mut filled = Filled::new();
        let mut put = |name: String, value: String| {
            filled.insert(name, value);
        };
        let good = match self {
            Self::Service => {
                let units =
                    [".service", ".timer", ".socket", ".mount", ".target", ".path", ".slice"];
                let unit = if units.iter().any(|end| text.ends_with(end)) {
                    text.to_owned()
                } else {
                    format!("{text}.service")
                };
                // An instance has the file of its template.
                let file = match (unit.split_once('@'), unit.rsplit_once('.')) {
                    (Some((name, _)), Some((_, end))) => format!("{name}@.{end}"),
                    _ => unit.clone(),
                };
                put(format!("{slot}_unit"), unit);
                put(format!("{slot}_file"), file);
                simple("_.@:-", 128)
            }
            Self::User => simple("_.-", 32),
            Self::Package => simple("_.+:@~-", 128),
            Self::Process => simple("_.:+@-", 64),
            Self::Container => simple("_.-", 128),
            Self::Host => simple(".:-_", 253),
            Self::Port => text.parse::<u16>().is_ok_and(|port| port > 0),
            Self::Pid => text.parse::<u32>().is_ok_and(|pid| pid > 1 && pid <= 4_194_304),
            Self::Count => text.parse::<u32>().is_ok_and(|count| (1..=1000).contains(&count)),
            Self::Path => {
                text.starts_with('/')
                    && text.len() <= 1024
                    && !text.chars().any(char::is_control)
                    && !text.split('/').any(|part| part == "..")
            }
            Self::Name => {
                !text.is_empty()
                    && text.len() <= 255
                    && !text.starts_with('-')
                    && !text.contains('/')
                    && !text.chars().any(char::is_control)
            }
            Self::Text => {
                !text.trim().is_empty()
                    && text.chars().count() <= 200
                    && !text.starts_with('-')
                    && !text.chars().any(char::is_control)
            }
            Self::Size => {
                let bytes =
                    crate::words::size(&text.to_lowercase().replace(' ', "")).ok_or_else(bad)?;
                put(format!("{slot}_bytes"), bytes.to_string());
                put(format!("{slot}_kib"), bytes.div_ceil(1024).to_string());
                put(format!("{slot}_mib"), bytes.div_ceil(1024 * 1024).to_string());
                true
            }
            Self::Since => {
                if let Some(minutes) =
                    text.strip_suffix(" minutes").and_then(|m| m.parse::<u64>().ok())
                {
                    if minutes == 0 || minutes > 10 * 366 * 24 * 60 {
                        return Err(bad());
                    }
                    let said = match minutes {
                        m if m % 1440 == 0 && m > 2880 => format!("{} days ago", m / 1440),
                        m if m % 60 == 0 => format!("{} hours ago", m / 60),
                        m => format!("{m} minutes ago"),
                    };
                    put(slot.to_owned(), said);
                    put(format!("{slot}_minutes"), minutes.to_string());
                    put(format!("{slot}_last"), format!("-{minutes}min"));
                    put(format!("{slot}_days"), minutes.div_ceil(1440).to_string());
                    return Ok(filled);
                }
                // A day: only tools that know days can be asked; `_minutes` is not there for others.
                put(format!("{slot}_last"), format!("{text} 00:00"));
                text.len() == 10 && text.parse::<jiff::civil::Date>().is_ok()
            }
        };
        if !good {
            return Err(bad());
        }
        filled.insert(slot.to_owned(), text.to_owned());
        Ok(filled)
    }

    fn what(self) -> &'static str {
        match self {
            Self::Service => "the name of a service",
            Self::User => "the name of a user",
            Self::Package => "the name of a package",
            Self::Process => "the name of a process",
            Self::Pid => "a process id from 2",
            Self::Host => "a host name or address",
            Self::Container => "the name of a container",
            Self::Port => "a port from 1 to 65535",
            Self::Path => "an absolute path without '..'",
            Self::Name => "a file name",
            Self::Text => "one line of text",
            Self::Size => "an amount such as 2 GB",
            Self::Since => "a time such as 'last 2 hours'",
            Self::Count => "a number from 1 to 1000",
        }
    }
}

/// The value of a slot as a word of a shell line.
#[must_use]
pub(crate) fn shell_word(value: &str) -> String {
    quote(value)
}
