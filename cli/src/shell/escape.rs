//! What is meant for us among the keys: `~` at the beginning of a line, as with ssh.

/// What keys ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wish {
    /// These go to the terminal.
    Type(Vec<u8>),
    /// End it.
    Close,
    /// Leave it open.
    Detach,
    /// Say which keys there are.
    Help,
}

/// Looks through keys as they come.
#[derive(Debug)]
pub struct Escapes {
    at_line_start: bool,
    /// A `~` is held back until the next key says what it means.
    held: bool,
}

impl Default for Escapes {
    fn default() -> Self {
        Self { at_line_start: true, held: false }
    }
}

impl Escapes {
    /// The wishes in these keys, in order.
    pub fn take(&mut self, keys: &[u8]) -> Vec<Wish> {
        let mut wishes = Vec::new();
        let mut typed = Vec::new();
        for key in keys {
            if std::mem::take(&mut self.held) {
                let wish = match key {
                    b'.' => Some(Wish::Close),
                    b'd' => Some(Wish::Detach),
                    b'?' => Some(Wish::Help),
                    _ => None,
                };
                if let Some(wish) = wish {
                    if !typed.is_empty() {
                        wishes.push(Wish::Type(std::mem::take(&mut typed)));
                    }
                    wishes.push(wish);
                    self.at_line_start = true;
                    continue;
                }
                typed.push(b'~');
                self.at_line_start = false;
                if *key == b'~' {
                    continue;
                }
            } else if *key == b'~' && self.at_line_start {
                self.held = true;
                continue;
            }
            typed.push(*key);
            self.at_line_start = matches!(key, b'\r' | b'\n');
        }
        if !typed.is_empty() {
            wishes.push(Wish::Type(typed));
        }
        wishes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(text: &str) -> Wish {
        Wish::Type(text.as_bytes().to_vec())
    }

    #[test]
    fn tilde_means_something_at_the_beginning_of_a_line_only() {
        let mut escapes = Escapes::default();
        assert_eq!(escapes.take(b"ls ~.\r"), [typed("ls ~.\r")]);
        assert_eq!(escapes.take(b"~"), []);
        assert_eq!(escapes.take(b"."), [Wish::Close]);
        assert_eq!(escapes.take(b"a\r~da"), [typed("a\r"), Wish::Detach, typed("a")]);
        assert_eq!(escapes.take(b"\r~~x"), [typed("\r~x")]);
        assert_eq!(escapes.take(b"\r~/bin\r"), [typed("\r~/bin\r")]);
        assert_eq!(escapes.take(b"~?"), [Wish::Help]);
        assert_eq!(Escapes::default().take(b"~~."), [typed("~.")]);
    }
}
