//! Redirections: what is written where.

use brush_parser::ast::{
    IoFileRedirectKind as Kind, IoFileRedirectTarget as Target, IoRedirect, Word,
};
use reeve_protocol::ops::{Effect, Network};

use crate::reasons;
use crate::text::shown;
use crate::walk::Walk;
use crate::word::{Arg, UNKNOWN};

/// Below these a file is most likely the line's own.
const OWN: &[&str] = &["/tmp/", "/var/tmp/", "/dev/shm/", "/home/", "/root/"];

impl Walk<'_> {
    /// Judges one; returns the text that it gives as stdin, if that is known.
    pub fn redirect(&mut self, redirect: &IoRedirect, segment: &str) -> Option<String> {
        match redirect {
            IoRedirect::File(_, kind, target) => {
                self.file_redirect(kind, target, segment);
                None
            }
            IoRedirect::HereDocument(_, document) => {
                let text = &document.doc.value;
                if !document.requires_expansion {
                    return Some(text.clone());
                }
                self.quoted_text(text);
                let expands = text.contains(['$', '`', '\\']);
                Some(if expands { format!("{text}{UNKNOWN}") } else { text.clone() })
            }
            IoRedirect::HereString(_, word) => {
                let args = self.words(word);
                Some(args.iter().map(|arg| arg.text.as_str()).collect::<Vec<_>>().join(" "))
            }
            IoRedirect::OutputAndError(word, append) => {
                self.written(word, *append, segment);
                None
            }
        }
    }

    fn file_redirect(&mut self, kind: &Kind, target: &Target, segment: &str) {
        let word = match target {
            Target::Fd(_) => return,
            Target::ProcessSubstitution(_, subshell) => {
                self.list(&subshell.list);
                return;
            }
            Target::Filename(word) | Target::Duplicate(word) => word,
        };
        match kind {
            Kind::Read => {
                for arg in self.words(word) {
                    self.opened(&arg, segment);
                }
            }
            Kind::Write | Kind::Clobber => self.written(word, false, segment),
            Kind::Append | Kind::ReadAndWrite => self.written(word, true, segment),
            Kind::DuplicateInput | Kind::DuplicateOutput => {
                let is_descriptor = |text: &str| {
                    text.strip_suffix('-').unwrap_or(text).bytes().all(|b| b.is_ascii_digit())
                };
                if !is_descriptor(&word.value) {
                    self.written(word, false, segment);
                }
            }
        }
    }

    /// A file that is opened for reading.
    fn opened(&mut self, arg: &Arg, segment: &str) {
        if arg.text.starts_with("/dev/tcp/") || arg.text.starts_with("/dev/udp/") {
            self.need(Network::Use);
            let reason = format!("`{}` connects to another machine", shown(&arg.text));
            self.find(Effect::Change, segment, reasons::REDIRECT, reason);
        }
        self.acting_file(&arg.text, segment);
    }

    fn written(&mut self, word: &Word, appends: bool, segment: &str) {
        for arg in self.words(word) {
            let (effect, reason) = match arg.known() {
                Some("/dev/null" | "/dev/stdout" | "/dev/stderr" | "/dev/tty" | "/dev/full") => {
                    continue;
                }
                Some(path) => written_file(path, appends),
                None => {
                    let known = shown(&arg.text);
                    if appends {
                        (
                            Effect::Change,
                            format!("writes to `{known}`, whose name is not known here"),
                        )
                    } else {
                        (
                            Effect::Destroy,
                            format!("overwrites `{known}`, whose name is not known here"),
                        )
                    }
                }
            };
            self.find(effect, segment, reasons::REDIRECT, reason);
        }
    }
}

fn written_file(path: &str, appends: bool) -> (Effect, String) {
    let below = |folder: &str| path.starts_with(folder);
    if path.contains("/../") || path.ends_with("/..") {
        return (Effect::Destroy, format!("writes to `{}`, which leads elsewhere", shown(path)));
    }
    let shown = shown(path);
    if below("/dev/tcp/") || below("/dev/udp/") {
        (Effect::Change, format!("sends to another machine through `{shown}`"))
    } else if below("/dev/") && !below("/dev/shm/") && !below("/dev/pts/") && !below("/dev/fd/") {
        (Effect::Destroy, format!("writes over the device `{shown}`"))
    } else if below("/proc/sysrq-trigger") {
        (Effect::Destroy, "acts on the kernel at once: crash, reboot, kill".to_owned())
    } else if below("/proc/") || below("/sys/") {
        (Effect::Change, format!("sets `{shown}` in the kernel"))
    } else if appends {
        (Effect::Change, format!("appends to `{shown}`"))
    } else if !below("/") || OWN.iter().any(|own| below(own)) {
        (Effect::Change, format!("writes the file `{shown}`"))
    } else {
        (Effect::Destroy, format!("overwrites `{shown}`: what was in it is gone"))
    }
}
