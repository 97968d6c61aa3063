//! Programs that run what their operands say.

use reeve_protocol::ops::Effect;

use crate::reasons;
use crate::rule::{Rule, Wraps};
use crate::text::shown;
use crate::walk::Walk;
use crate::word::{Arg, Value};

impl Walk<'_> {
    /// `rest`: the operands.
    pub fn judge_wrapped(&mut self, rule: &Rule, wraps: Wraps, rest: &[Arg], segment: &str) {
        let skipped = rest.iter().take(wraps.skip);
        if let Some(loose) = skipped.clone().find(|arg| arg.loose) {
            let reason = format!(
                "`{}` may become several words, so what `{}` runs cannot be told",
                shown(&loose.text),
                rule.id
            );
            self.opaque(segment, reason);
        }
        let mut rest = rest.get(wraps.skip..).unwrap_or_default();
        while wraps.assignments
            && let Some((arg, behind)) = rest.split_first()
            && let Some((name, value)) = arg.text.split_once('=')
        {
            let value = arg.known().map(|_| value);
            self.assigned(name, value, true, segment);
            rest = behind;
        }
        if rest.is_empty() {
            return;
        }
        if wraps.line {
            let known: Option<Vec<&str>> = rest.iter().map(Arg::known).collect();
            match known {
                Some(words) => self.new_shell(&words.join(" ")),
                None => {
                    self.opaque(segment, format!("the line that `{}` runs cannot be told", rule.id))
                }
            }
            return;
        }
        let mut command = rest.to_vec();
        if wraps.appends {
            // `{}` and the words of -I are replaced by what is read.
            for arg in &mut command {
                if arg.text.contains("{}") {
                    let mut replaced = Arg::default();
                    let mut parts = arg.text.split("{}");
                    replaced.text.push_str(parts.next().unwrap_or_default());
                    for part in parts {
                        replaced.push(&Value::ANYTHING, true);
                        replaced.text.push_str(part);
                    }
                    *arg = replaced;
                }
            }
            command.push(Arg::anything());
            if rest[0].known().is_some_and(|name| self.runs_operands(name)) {
                let reason = "what it reads becomes part of what it runs".to_owned();
                self.find(Effect::Change, segment, reasons::OPAQUE, reason);
                self.hidden_destruction(segment);
            }
        }
        self.run(&command, segment, None);
    }

    /// Whether a program runs its operands.
    fn runs_operands(&self, program: &str) -> bool {
        let name = program.rsplit('/').next().unwrap_or(program);
        self.rules.find(name).is_some_and(|rule| {
            rule.wraps.is_some()
                || matches!(
                    rule.check,
                    Some(crate::check::Check::Shell | crate::check::Check::Code)
                )
        })
    }
}
