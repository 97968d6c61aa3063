//! The journal's export format (systemd.io/JOURNAL_EXPORT_FORMATS): entries with an empty line behind
//! each, fields as `NAME=value`, or, for values with line ends or other control characters, the name
//! alone, eight bytes of length, and the value. Unlike its JSON it says any bytes as they are and has
//! nothing to unescape.

use super::record::MAX_TEXT;

/// Bytes of a field that are kept. A core dump can be one.
const MAX_FIELD: usize = MAX_TEXT;
/// Bytes without the end of a field's name or value before what comes is no journal.
const MAX_NAME: usize = 64 * 1024;

/// An entry, as far as it is of use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    pub cursor: Vec<u8>,
    pub time_us: i64,
    pub message: Vec<u8>,
    /// Its whole length.
    pub length: u64,
    pub priority: Option<u8>,
    pub pid: Vec<u8>,
    pub identifier: Vec<u8>,
    pub unit: Vec<u8>,
    pub user_unit: Vec<u8>,
    pub host: Vec<u8>,
    pub transport: Vec<u8>,
}

/// Fields that are asked for.
pub const FIELDS: &str = "MESSAGE,PRIORITY,_PID,SYSLOG_PID,SYSLOG_IDENTIFIER,_COMM,_SYSTEMD_UNIT,\
                          UNIT,_SYSTEMD_USER_UNIT,_HOSTNAME,_TRANSPORT";

/// What is being read.
#[derive(Debug)]
enum State {
    /// A line: a field, the name of a binary one, or the empty one behind an entry.
    Line,
    /// The length of a binary field.
    Length { name: Vec<u8> },
    /// So much of a value is still to come; it is kept in `value` as far as it is wanted.
    Value { name: Vec<u8>, left: u64 },
    /// The line's end behind a value.
    End,
}

/// A field that is too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Long {
    /// `value` has its beginning.
    Message,
    /// Of no other is so much wanted.
    Other,
}

/// Puts entries together from bytes as they come.
#[derive(Debug)]
pub struct Parser {
    state: State,
    /// What came of something that is not whole.
    rest: Vec<u8>,
    value: Vec<u8>,
    length: u64,
    /// A text field that is too long to be held is going by.
    long: Option<Long>,
    entry: Entry,
    any: bool,
}

impl Default for Parser {
    fn default() -> Self {
        Self {
            state: State::Line,
            rest: Vec::new(),
            value: Vec::new(),
            length: 0,
            long: None,
            entry: Entry::default(),
            any: false,
        }
    }
}

impl Parser {
    /// Takes more bytes and hands out the entries that are whole with them.
    ///
    /// # Errors
    /// What `each` says.
    pub fn push<E>(
        &mut self,
        mut bytes: &[u8],
        mut each: impl FnMut(&Entry) -> Result<(), E>,
    ) -> Result<(), E> {
        while !bytes.is_empty() {
            match &mut self.state {
                State::Line => {
                    let Some(end) = memchr::memchr(b'\n', bytes) else {
                        self.hold(bytes);
                        return Ok(());
                    };
                    let (piece, rest) = bytes.split_at(end);
                    bytes = rest.get(1..).unwrap_or_default();
                    if let Some(long) = self.long.take() {
                        if long == Long::Message {
                            let value = std::mem::take(&mut self.value);
                            self.set(b"MESSAGE", &value, self.length + piece.len() as u64);
                        }
                        continue;
                    }
                    if self.rest.is_empty() {
                        self.line(piece, &mut each)?;
                    } else {
                        let mut line = std::mem::take(&mut self.rest);
                        line.extend_from_slice(piece);
                        self.line(&line, &mut each)?;
                    }
                }
                State::Length { name } => {
                    let missing = 8 - self.rest.len().min(8);
                    let (piece, rest) = bytes.split_at(missing.min(bytes.len()));
                    bytes = rest;
                    self.rest.extend_from_slice(piece);
                    let Some(length) = self.rest.first_chunk::<8>() else { continue };
                    let left = u64::from_le_bytes(*length);
                    let name = std::mem::take(name);
                    self.rest.clear();
                    self.value.clear();
                    self.length = left;
                    self.state = State::Value { name, left };
                    if left == 0 {
                        self.state = State::End;
                    }
                }
                State::Value { name, left } => {
                    let here = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                    let (piece, rest) = bytes.split_at(here);
                    bytes = rest;
                    *left -= here as u64;
                    let room = MAX_FIELD.saturating_sub(self.value.len());
                    self.value.extend_from_slice(piece.get(..room).unwrap_or(piece));
                    if *left == 0 {
                        let name = std::mem::take(name);
                        let value = std::mem::take(&mut self.value);
                        self.set(&name, &value, self.length);
                        self.state = State::End;
                    }
                }
                State::End => {
                    bytes = bytes.get(1..).unwrap_or_default();
                    self.state = State::Line;
                }
            }
        }
        Ok(())
    }

    /// Keeps the beginning of a line; of one that is too long, what is shown of it.
    fn hold(&mut self, bytes: &[u8]) {
        if self.long.is_some() {
            self.length += bytes.len() as u64;
            return;
        }
        self.rest.extend_from_slice(bytes);
        if self.rest.len() > MAX_FIELD + MAX_NAME {
            let held = std::mem::take(&mut self.rest);
            self.long = Some(Long::Other);
            if let Some(message) = held.strip_prefix(b"MESSAGE=") {
                self.length = message.len() as u64;
                self.value = message.get(..MAX_FIELD).unwrap_or(message).to_vec();
                self.long = Some(Long::Message);
            }
        }
    }

    fn line<E>(
        &mut self,
        line: &[u8],
        each: &mut impl FnMut(&Entry) -> Result<(), E>,
    ) -> Result<(), E> {
        if line.is_empty() {
            if std::mem::take(&mut self.any) {
                let told = each(&self.entry);
                self.entry.clear();
                return told;
            }
            return Ok(());
        }
        match memchr::memchr(b'=', line) {
            Some(at) => {
                let (name, value) = line.split_at(at);
                let value = value.get(1..).unwrap_or_default();
                self.set(name, value, value.len() as u64);
            }
            // `-- No entries --` and the like, for people.
            None if line.starts_with(b"--") => {}
            None => {
                self.rest.clear();
                self.state = State::Length { name: line.to_vec() };
            }
        }
        Ok(())
    }

    fn set(&mut self, name: &[u8], value: &[u8], length: u64) {
        let entry = &mut self.entry;
        let keep = |field: &mut Vec<u8>| {
            field.clear();
            field.extend_from_slice(value);
        };
        match name {
            b"__CURSOR" => {
                self.any = true;
                keep(&mut entry.cursor);
            }
            b"__REALTIME_TIMESTAMP" => {
                entry.time_us =
                    std::str::from_utf8(value).ok().and_then(|text| text.parse().ok()).unwrap_or(0);
            }
            b"MESSAGE" => {
                keep(&mut entry.message);
                entry.length = length;
            }
            b"PRIORITY" => {
                entry.priority = match value {
                    [digit @ b'0'..=b'7'] => Some(digit - b'0'),
                    _ => None,
                };
            }
            b"_PID" => keep(&mut entry.pid),
            b"SYSLOG_PID" if entry.pid.is_empty() => keep(&mut entry.pid),
            b"SYSLOG_IDENTIFIER" => keep(&mut entry.identifier),
            b"_COMM" if entry.identifier.is_empty() => keep(&mut entry.identifier),
            // What systemd says about a unit is that unit's to whoever asks for it.
            b"UNIT" => keep(&mut entry.unit),
            b"_SYSTEMD_UNIT" if entry.unit.is_empty() => keep(&mut entry.unit),
            b"_SYSTEMD_USER_UNIT" => keep(&mut entry.user_unit),
            b"_HOSTNAME" => keep(&mut entry.host),
            b"_TRANSPORT" => keep(&mut entry.transport),
            _ => {}
        }
    }
}

impl Entry {
    /// Empties it and keeps its memory for the next one.
    fn clear(&mut self) {
        for field in [
            &mut self.cursor,
            &mut self.message,
            &mut self.pid,
            &mut self.identifier,
            &mut self.unit,
            &mut self.user_unit,
            &mut self.host,
            &mut self.transport,
        ] {
            field.clear();
        }
        (self.time_us, self.length, self.priority) = (0, 0, None);
    }

    /// Who wrote it: the unit, the kernel, or what the writer calls itself.
    #[must_use]
    pub fn source(&self) -> &[u8] {
        if !self.user_unit.is_empty() {
            &self.user_unit
        } else if !self.unit.is_empty() {
            &self.unit
        } else if self.transport == b"kernel" {
            b"kernel"
        } else if !self.identifier.is_empty() {
            &self.identifier
        } else {
            b"journal"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(bytes: &[u8], step: usize) -> Vec<Entry> {
        let mut parser = Parser::default();
        let mut got = Vec::new();
        for piece in bytes.chunks(step.max(1)) {
            let told: Result<(), ()> = parser.push(piece, |entry| {
                got.push(entry.clone());
                Ok(())
            });
            told.expect("told");
        }
        got
    }

    fn entry(cursor: &str, message: &[u8]) -> Entry {
        Entry {
            cursor: cursor.into(),
            time_us: 5,
            message: message.to_vec(),
            length: message.len() as u64,
            priority: Some(3),
            ..Entry::default()
        }
    }

    #[test]
    fn entries_are_the_same_however_the_bytes_are_cut() {
        let mut bytes =
            b"-- No entries --\n__CURSOR=a\n__REALTIME_TIMESTAMP=5\nPRIORITY=3\n".to_vec();
        bytes.extend_from_slice(
            b"MESSAGE=plain = text\n\n__CURSOR=b\n__REALTIME_TIMESTAMP=5\nMESSAGE\n",
        );
        bytes.extend_from_slice(&7_u64.to_le_bytes());
        bytes.extend_from_slice(b"a\n\nb\xff\0c\nPRIORITY=3\nOTHER\n");
        bytes.extend_from_slice(&0_u64.to_le_bytes());
        bytes.extend_from_slice(b"\n\n");
        let expected = [entry("a", b"plain = text"), entry("b", b"a\n\nb\xff\0c")];
        for step in [1, 2, 3, 7, 50, 1000] {
            assert_eq!(parse(&bytes, step), expected, "in steps of {step}");
        }
    }

    #[test]
    fn fields_are_bounded_and_their_length_is_told() {
        let long = vec![b'x'; MAX_FIELD * 3];
        let mut bytes = b"__CURSOR=a\nMESSAGE=".to_vec();
        bytes.extend_from_slice(&long);
        bytes.extend_from_slice(b"\nPRIORITY=3\nCOREDUMP=");
        bytes.extend_from_slice(&long);
        bytes.extend_from_slice(b"\n\n__CURSOR=b\nMESSAGE\n");
        bytes.extend_from_slice(&(long.len() as u64).to_le_bytes());
        bytes.extend_from_slice(&long);
        bytes.extend_from_slice(b"\n\n");
        for step in [1000, 64 * 1024] {
            let got = parse(&bytes, step);
            assert_eq!(got.len(), 2);
            assert_eq!(got[0].priority, Some(3));
            for entry in got {
                assert_eq!((entry.message.len(), entry.length), (MAX_FIELD, long.len() as u64));
            }
        }
    }

    #[test]
    fn sources_are_named_by_what_is_known() {
        let mut entry = Entry { transport: b"kernel".to_vec(), ..Entry::default() };
        assert_eq!(entry.source(), b"kernel");
        entry.unit = b"nginx.service".to_vec();
        assert_eq!(entry.source(), b"nginx.service");
        assert_eq!(Entry::default().source(), b"journal");
    }
}
