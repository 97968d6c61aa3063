//! `reeve files chmod`, and modes as chmod(1) reads them.

use std::ffi::OsString;

use clap::Args;
use reeve_protocol::ops::{FileMode, FileModeChanged};

use super::super::confirm;
use super::asking::{Asker, combine, read_line};
use super::change::confirm_many;
use super::shown::shown;
use crate::args::Global;
use crate::failure::Failure;
use crate::target::{Remote, Target};
use crate::terminal::note;

const EXAMPLES: &str = "\
Examples:
  reeve files chmod 640 web-1:/etc/app.conf
  reeve files chmod u=rw,g-w,o= 'role=web:/etc/app.conf'
  reeve files chmod -R a+rX web-1:/srv/www            asks
  reeve files chmod --owner app:www-data web-1:/srv/www/file";

/// Change modes and owners
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Chmod {
    /// A mode (640, u+x,go-w) unless --owner alone is meant, then MACHINE:/PATH …
    #[arg(required = true, value_name = "[MODE] TARGET")]
    words: Vec<OsString>,
    /// Give it to USER, USER:GROUP or :GROUP
    #[arg(long, value_name = "OWNER")]
    owner: Option<String>,
    /// Folders with all in them; links in them are not followed
    #[arg(short = 'R', long)]
    recursive: bool,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
}

/// Bits to take away, to add, and to add where somebody may search or execute; or all of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Bits {
    all: Option<u32>,
    clear: u32,
    add: u32,
    add_search: u32,
}

/// `640`, `0o640`, `02750`.
pub fn parse_octal(text: &str) -> Result<u32, String> {
    let digits = text.strip_prefix("0o").unwrap_or(text);
    match u32::from_str_radix(digits, 8) {
        Ok(mode) if mode <= 0o7777 && !digits.starts_with('+') => Ok(mode),
        _ => Err("write it in octal, 0 to 7777, such as 640".to_owned()),
    }
}

/// Octal, or as chmod(1): `u=rw,g-w,a+X`. Without a class all are meant, whatever the umask.
fn parse_mode(text: &str) -> Result<Bits, String> {
    if text.starts_with(|c: char| c.is_ascii_digit()) {
        return parse_octal(text).map(|all| Bits { all: Some(all), ..Bits::default() });
    }
    let mut bits = Bits::default();
    for clause in text.split(',') {
        let wrong = || format!("'{clause}' is no mode; write 640, or as u=rw,g-w,a+X");
        let first = clause.find(['+', '-', '=']).ok_or_else(wrong)?;
        let (classes, mut rest) = clause.split_at(first);
        let mut whose = 0;
        for class in classes.chars() {
            whose |= match class {
                'u' => 0o4700,
                'g' => 0o2070,
                'o' => 0o1007,
                'a' => 0o7777,
                _ => return Err(wrong()),
            };
        }
        if whose == 0 {
            whose = 0o7777;
        }
        while let Some(sign) = rest.chars().next() {
            rest = rest.get(1..).unwrap_or_default();
            let end = rest.find(['+', '-', '=']).unwrap_or(rest.len());
            let (letters, more) = rest.split_at(end);
            rest = more;
            bits.apply(sign, whose, letters).map_err(|why| format!("'{clause}': {why}"))?;
        }
    }
    Ok(bits)
}

impl Bits {
    fn apply(&mut self, sign: char, whose: u32, letters: &str) -> Result<(), String> {
        let (mut given, mut search) = (0, 0);
        for letter in letters.chars() {
            match letter {
                'r' => given |= 0o444 & whose,
                'w' => given |= 0o222 & whose,
                'x' => given |= 0o111 & whose,
                's' => given |= 0o6000 & whose,
                't' => given |= 0o1000 & whose,
                'X' => search |= 0o111 & whose,
                'u' | 'g' | 'o' => {
                    return Err(format!(
                        "copying the bits of '{letter}' is not known here; name them"
                    ));
                }
                _ => return Err(format!("'{letter}' is none of rwxXst")),
            }
        }
        // Whoever took every x away before means by X: on folders alone. That cannot be said.
        let none_left = self.clear & 0o111 == 0o111 && (self.add | self.add_search) & 0o111 == 0;
        if search != 0 && none_left {
            return Err(
                "X after all x are gone cannot be done in one step; do it in two".to_owned()
            );
        }
        match sign {
            '+' => {
                self.add |= given;
                self.add_search |= search;
            }
            '-' => {
                let gone = given | search;
                self.clear |= gone;
                self.add &= !gone;
                self.add_search &= !gone;
            }
            _ => {
                self.clear |= whose;
                self.add = (self.add & !whose) | given;
                self.add_search = (self.add_search & !whose) | search;
            }
        }
        Ok(())
    }
}

impl Chmod {
    pub async fn perform(self, global: &Global) -> Result<u8, Failure> {
        let (bits, targets) = self.read_words()?;
        let asker = Asker::new(global, &targets.iter().collect::<Vec<_>>())?;
        for target in &targets {
            let all = if self.recursive { " and everything in it" } else { "" };
            let what = format!("Changing {}{all}", shown(&target.path));
            if target.may_be_many() {
                let ask = self.ask(bits, target);
                confirm_many(&asker, target, ask, self.yes, &what).await?;
            } else if self.recursive {
                confirm(self.yes, &format!("{what} on {}", target.selector))?;
            }
        }
        let mut codes = Vec::new();
        for target in &targets {
            let answers = asker.ask(&target.selector, self.ask(bits, target)).await?;
            if self.recursive {
                for answer in answers.iter().filter(|answer| answer.failure.is_none()) {
                    let machine = &answer.operation.machine;
                    let changed: FileModeChanged = read_line(machine, &answer.stdout)?;
                    note(&format!("{machine}: {} files and folders changed", changed.changed));
                }
            }
            codes.push(asker.conclude(&answers));
        }
        Ok(combine(&codes))
    }

    fn read_words(&self) -> Result<(Option<Bits>, Vec<Remote>), Failure> {
        let mut targets = Vec::new();
        let mut bits = None;
        for (index, word) in self.words.iter().enumerate() {
            match Target::parse(word) {
                Ok(Target::Remote(remote)) => targets.push(remote),
                _ if index == 0 => {
                    let mode = parse_mode(&word.to_string_lossy());
                    bits = Some(mode.map_err(Failure::usage)?);
                }
                other => {
                    let why = other.map_or_else(
                        |error| error.to_string(),
                        |_| "name a path on a machine, as MACHINE:/PATH".to_owned(),
                    );
                    return Err(Failure::usage(format!("'{}': {why}", word.to_string_lossy())));
                }
            }
        }
        if targets.is_empty() {
            return Err(Failure::usage("name a path on a machine, as MACHINE:/PATH"));
        }
        if bits.is_none() && self.owner.is_none() {
            return Err(Failure::usage("give a mode before the first target, or --owner"));
        }
        Ok((bits, targets))
    }

    fn ask(&self, bits: Option<Bits>, target: &Remote) -> FileMode {
        let bits = bits.unwrap_or_default();
        let named = |name: &str| (!name.is_empty()).then(|| name.to_owned());
        let (user, group) = match self.owner.as_deref().map(|it| (it, it.split_once(':'))) {
            None => (None, None),
            Some((user, None)) => (named(user), None),
            Some((_, Some((user, group)))) => (named(user), named(group)),
        };
        FileMode {
            mode: bits.all,
            clear: bits.clear,
            add: bits.add,
            add_search: bits.add_search,
            user,
            group,
            recursive: self.recursive,
            ..FileMode::new(target.path.clone())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What becomes of a mode.
    fn change(text: &str, now: u32, is_folder: bool) -> u32 {
        let bits = parse_mode(text).expect(text);
        let change = FileMode {
            mode: bits.all,
            clear: bits.clear,
            add: bits.add,
            add_search: bits.add_search,
            ..FileMode::new("/a")
        };
        change.new_bits(now, is_folder)
    }

    /// Each was tried with chmod(1) of coreutils 9.1 under umask 0.
    #[test]
    fn modes_are_read_as_chmod_does() {
        for (text, now, is_folder, then) in [
            ("640", 0o777, false, 0o640),
            ("2750", 0o644, true, 0o2750),
            ("u=rw,g-w,o=", 0o777, false, 0o650),
            ("a+X", 0o644, false, 0o644),
            ("a+X", 0o744, false, 0o755),
            ("a+X", 0o644, true, 0o755),
            ("go=rX", 0o700, false, 0o755),
            ("+x", 0o600, false, 0o711),
            ("u+s,+t", 0o755, false, 0o5755),
            ("a=r,u+w", 0o777, false, 0o644),
            ("u-x+w", 0o555, false, 0o655),
            ("ug+rw,o-rwx", 0o007, false, 0o660),
        ] {
            assert_eq!(change(text, now, is_folder), then, "{text} of {now:o}");
        }
    }

    #[test]
    fn what_is_no_mode_is_refused() {
        for text in ["", "u", "u+y", "888", "0o9", "u=g", "10000", "u+r;", "z+r", "a-x,a+X", "é+r"]
        {
            assert!(parse_mode(text).is_err(), "{text}");
        }
    }
}
