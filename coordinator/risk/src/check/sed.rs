//! Scripts of sed(1). What this does not understand is not read-only.

use std::iter::Peekable;
use std::str::Chars;

use reeve_protocol::ops::Effect;

use crate::options::Parsed;
use crate::walk::Walk;
use crate::word::Arg;

pub(super) fn check(walk: &mut Walk<'_>, parsed: &Parsed<'_>, segment: &str) {
    let given = parsed.given.iter().filter(|given| {
        given.name == "-e" || (given.name.len() > 3 && "--expression".starts_with(&given.name))
    });
    let mut scripts: Vec<&Arg> = given.filter_map(|given| given.value.as_ref()).collect();
    let from_file = parsed.has(&["-f", "--file"]);
    if scripts.is_empty() && !from_file {
        scripts.extend(parsed.operands.first());
    }
    // Several -e are lines of one script.
    let known: Option<Vec<&str>> = scripts.iter().map(|script| script.known()).collect();
    let Some(known) = known else {
        walk.opaque(segment, "the script of `sed` cannot be told".to_owned());
        return;
    };
    match (Script { rest: known.join("\n").chars().peekable() }).read() {
        Ok(()) => {}
        Err(Acts::Writes) => {
            let reason = "the script of `sed` writes a file (`w`)".to_owned();
            walk.find(Effect::Destroy, segment, "sed", reason);
        }
        Err(Acts::Runs) => {
            walk.opaque(segment, "the script of `sed` runs commands (`e`)".to_owned())
        }
        Err(Acts::Unknown) => {
            walk.opaque(segment, "the script of `sed` is not understood".to_owned())
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Acts {
    Writes,
    Runs,
    Unknown,
}

struct Script<'s> {
    rest: Peekable<Chars<'s>>,
}

impl Script<'_> {
    fn read(&mut self) -> Result<(), Acts> {
        loop {
            self.skip(|c| c.is_whitespace() || matches!(c, ';' | '{' | '}'));
            self.addresses()?;
            self.skip(|c| c == ' ' || c == '\t' || c == '!');
            let Some(command) = self.rest.next() else { return Ok(()) };
            match command {
                '#' => self.skip(|c| c != '\n'),
                '{' | '}' => {}
                'p' | 'P' | 'd' | 'D' | 'n' | 'N' | 'g' | 'G' | 'h' | 'H' | 'x' | '=' | 'F'
                | 'z' => {}
                'l' | 'q' | 'Q' | 'L' => self.skip(|c| c == ' ' || c.is_ascii_digit()),
                'b' | 't' | 'T' | ':' | 'v' => self.skip(|c| c != ';' && c != '\n' && c != '}'),
                'a' | 'i' | 'c' => self.text(),
                'r' | 'R' => self.skip(|c| c != '\n'),
                's' => self.substitute()?,
                'y' => {
                    let delimiter = self.rest.next().ok_or(Acts::Unknown)?;
                    self.until(delimiter)?;
                    self.until(delimiter)?;
                }
                'w' | 'W' => self.file()?,
                'e' => return Err(Acts::Runs),
                _ => return Err(Acts::Unknown),
            }
        }
    }

    fn skip(&mut self, wanted: impl Fn(char) -> bool) {
        while self.rest.next_if(|&c| wanted(c)).is_some() {}
    }

    fn addresses(&mut self) -> Result<(), Acts> {
        loop {
            match self.rest.peek() {
                Some(c) if c.is_ascii_digit() || matches!(c, '$' | '~' | '+' | ',' | ' ') => {
                    self.rest.next();
                }
                Some('/') => {
                    self.rest.next();
                    self.regex('/')?;
                }
                Some('\\') => {
                    self.rest.next();
                    let delimiter = self.rest.next().ok_or(Acts::Unknown)?;
                    self.regex(delimiter)?;
                }
                _ => return Ok(()),
            }
        }
    }

    fn regex(&mut self, delimiter: char) -> Result<(), Acts> {
        self.until(delimiter)?;
        self.skip(|c| c == 'I' || c == 'M');
        Ok(())
    }

    /// Behind the next delimiter. Whether one inside of brackets counts differs between seds.
    fn until(&mut self, delimiter: char) -> Result<(), Acts> {
        if delimiter == '\n' || delimiter == '\\' {
            return Err(Acts::Unknown);
        }
        let mut bracket = false;
        while let Some(c) = self.rest.next() {
            if c == '\\' {
                self.rest.next();
            } else if c == delimiter {
                return if bracket { Err(Acts::Unknown) } else { Ok(()) };
            } else if c == '[' {
                bracket = true;
            } else if c == ']' {
                bracket = false;
            }
        }
        Err(Acts::Unknown)
    }

    /// The text of `a`, `i`, `c`: to the end of the line, and of those behind an escaped end.
    fn text(&mut self) {
        while let Some(c) = self.rest.next() {
            if c == '\\' {
                self.rest.next();
            } else if c == '\n' {
                return;
            }
        }
    }

    fn substitute(&mut self) -> Result<(), Acts> {
        let delimiter = self.rest.next().ok_or(Acts::Unknown)?;
        self.until(delimiter)?;
        self.replacement(delimiter)?;
        while let Some(&flag) = self.rest.peek() {
            match flag {
                'g' | 'p' | 'i' | 'I' | 'm' | 'M' => {}
                c if c.is_ascii_digit() => {}
                'e' => return Err(Acts::Runs),
                'w' => {
                    self.rest.next();
                    return self.file();
                }
                _ => return Ok(()),
            }
            self.rest.next();
        }
        Ok(())
    }

    fn replacement(&mut self, delimiter: char) -> Result<(), Acts> {
        while let Some(c) = self.rest.next() {
            if c == '\\' {
                self.rest.next();
            } else if c == delimiter {
                return Ok(());
            }
        }
        Err(Acts::Unknown)
    }

    /// The file of `w`: the rest of the line.
    fn file(&mut self) -> Result<(), Acts> {
        let mut name = String::new();
        while let Some(c) = self.rest.next_if(|&c| c != '\n') {
            name.push(c);
        }
        match name.trim_start() {
            "/dev/stdout" | "/dev/stderr" | "/dev/null" => Ok(()),
            _ => Err(Acts::Writes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(script: &str) -> Result<(), Acts> {
        Script { rest: script.chars().peekable() }.read()
    }

    #[test]
    fn scripts_that_print_are_told_from_those_that_act() {
        for prints in [
            "p",
            "1,5p",
            "/a/,/b/p",
            "$p",
            "s/a/b/g",
            "s#/x#/y#",
            "/^#/d;/^$/d",
            "10q",
            "s/[0-9]*//",
            "$!N;P;D",
            "/x/{s/a/b/;p}",
            "1~2p",
            "a\\\nw file",
            "y/abc/def/",
            "s/a/w/",
        ] {
            assert_eq!(read(prints), Ok(()), "{prints}");
        }
        for (acts, how) in [
            ("w /etc/passwd", Acts::Writes),
            ("s/a/b/w out", Acts::Writes),
            ("s/a/b/gw out", Acts::Writes),
            ("1e reboot", Acts::Runs),
            ("s/.*/id/e", Acts::Runs),
            ("p;e", Acts::Runs),
            ("/x/w f", Acts::Writes),
            ("s/[/]/x/e", Acts::Unknown),
            ("\\,x,w f", Acts::Writes),
        ] {
            assert_eq!(read(acts), Err(how), "{acts}");
        }
    }
}
