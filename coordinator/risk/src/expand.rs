//! The shell's expansions: what words become, and the commands inside of them.

use brush_parser::ast::Word;
use brush_parser::word::{
    self, Parameter, ParameterExpr, ParameterTransformOp, SpecialParameter, WordPiece,
    WordPieceWithSource,
};
use reeve_protocol::ops::Effect;

use crate::brace;
use crate::literal::{output_of, unescape_ansi_c, unescape_backquoted};
use crate::reasons;
use crate::variables::{NUMBERS, Source, TAME, given};
use crate::walk::Walk;
use crate::word::{Arg, Value};

/// Variables that are followed through others.
const MAX_STEPS: usize = 4;
/// Values that one variable may have before nothing is known of it.
const MAX_VALUES: usize = 32;

impl Walk<'_> {
    /// What a word becomes; commands inside of it are judged.
    pub fn words(&mut self, word: &Word) -> Vec<Arg> {
        self.raw_words(&word.value)
    }

    fn raw_words(&mut self, raw: &str) -> Vec<Arg> {
        if is_plain(raw) {
            return vec![Arg::literal(raw)];
        }
        if raw.contains("$[") {
            self.unparsable(raw, "`$[` is arithmetic for some shells and text for others");
        }
        if raw.contains("$'") && raw.contains("\\'") {
            self.unparsable(raw, "shells do not agree where `$'…'` with an escaped quote ends");
        }
        let Some(words) = brace::expand(raw) else {
            self.find(
                Effect::Change,
                raw,
                reasons::TOO_COMPLEX,
                "its braces become very many words".to_owned(),
            );
            return vec![Arg::anything()];
        };
        let mut args = Vec::with_capacity(words.len());
        for raw in words {
            match word::parse(&raw, &self.options) {
                Ok(pieces) => {
                    self.visit(&pieces);
                    args.push(self.arg(&pieces, 0));
                }
                Err(_) => {
                    self.unparsable(&raw, "its quotes or expansions are not understood");
                    args.push(Arg::anything());
                }
            }
        }
        args
    }

    /// Text in which only `$` and backquotes act, such as a here-document.
    pub fn quoted_text(&mut self, text: &str) {
        if !text.contains(['$', '`']) {
            return;
        }
        match word::parse_heredoc(text, &self.options) {
            Ok(pieces) => self.visit(&pieces),
            Err(_) => self.unparsable(text, "its expansions are not understood"),
        }
    }

    /// The value of an assignment, if all of it is known.
    pub fn value_of_word(&self, raw: &str) -> Option<String> {
        match self.quiet_value(raw, 0) {
            Value::Known(text) => Some(text),
            Value::Unknown { .. } => None,
        }
    }

    /// Judges the commands inside of expansions.
    fn visit(&mut self, pieces: &[WordPieceWithSource]) {
        for piece in pieces {
            match &piece.piece {
                WordPiece::DoubleQuotedSequence(inner)
                | WordPiece::GettextDoubleQuotedSequence(inner) => self.visit(inner),
                WordPiece::CommandSubstitution(text) => self.shell_text(text),
                WordPiece::BackquotedCommandSubstitution(text) => {
                    self.shell_text(&unescape_backquoted(text));
                }
                WordPiece::ArithmeticExpression(expr) => self.arithmetic(&expr.value),
                WordPiece::ParameterExpansion(expr) => self.visit_parameter(expr),
                WordPiece::Text(_)
                | WordPiece::SingleQuotedText(_)
                | WordPiece::AnsiCQuotedText(_)
                | WordPiece::TildeExpansion(_)
                | WordPiece::EscapeSequence(_) => {}
            }
        }
    }

    fn visit_nested(&mut self, text: Option<&String>) {
        if let Some(text) = text.filter(|text| text.contains(['$', '`'])) {
            self.raw_words(text);
        }
    }

    fn visit_parameter(&mut self, expr: &ParameterExpr) {
        use ParameterExpr as P;
        let (parameter, indirect) = match expr {
            P::Parameter { parameter, indirect } | P::ParameterLength { parameter, indirect } => {
                (parameter, *indirect)
            }
            P::UseDefaultValues { parameter, indirect, default_value: text, .. }
            | P::IndicateErrorIfNullOrUnset { parameter, indirect, error_message: text, .. }
            | P::UseAlternativeValue { parameter, indirect, alternative_value: text, .. }
            | P::RemoveSmallestSuffixPattern { parameter, indirect, pattern: text }
            | P::RemoveLargestSuffixPattern { parameter, indirect, pattern: text }
            | P::RemoveSmallestPrefixPattern { parameter, indirect, pattern: text }
            | P::RemoveLargestPrefixPattern { parameter, indirect, pattern: text }
            | P::UppercaseFirstChar { parameter, indirect, pattern: text }
            | P::UppercasePattern { parameter, indirect, pattern: text }
            | P::LowercaseFirstChar { parameter, indirect, pattern: text }
            | P::LowercasePattern { parameter, indirect, pattern: text } => {
                self.visit_nested(text.as_ref());
                (parameter, *indirect)
            }
            P::AssignDefaultValues { parameter, indirect, default_value, .. } => {
                self.visit_nested(default_value.as_ref());
                if let Parameter::Named(name) = parameter {
                    self.assigned(name, None, false, name);
                }
                (parameter, *indirect)
            }
            P::ReplaceSubstring { parameter, indirect, pattern, replacement, .. } => {
                self.visit_nested(Some(pattern));
                self.visit_nested(replacement.as_ref());
                (parameter, *indirect)
            }
            P::Substring { parameter, indirect, offset, length } => {
                self.arithmetic(&offset.value);
                if let Some(length) = length {
                    self.arithmetic(&length.value);
                }
                (parameter, *indirect)
            }
            P::Transform { parameter, indirect, op } => {
                if matches!(op, ParameterTransformOp::PromptExpand) {
                    self.opaque("@P", "`@P` runs the commands that a value holds".to_owned());
                }
                (parameter, *indirect)
            }
            P::VariableNames { .. } | P::MemberKeys { .. } => return,
        };
        if indirect {
            let reason = "`${!name}` evaluates the name that a variable holds".to_owned();
            self.opaque(&parameter.to_string(), reason);
        }
        if let Parameter::NamedWithIndex { index, .. } = parameter {
            self.arithmetic(index);
        }
    }

    /// Arithmetic: bash runs the substitutions inside the values of the variables it names, so those
    /// have to be numbers.
    pub fn arithmetic(&mut self, text: &str) {
        let Ok(pieces) = word::parse_heredoc(text, &self.options) else {
            self.unparsable(text, "its arithmetic is not understood");
            return;
        };
        self.visit(&pieces);
        let mut safe = true;
        for piece in &pieces {
            safe &= match &piece.piece {
                WordPiece::Text(text) => {
                    !text.contains(['[', '\'', '"', '\\'])
                        && names_in(text).all(|name| self.variable(name, 0).is_number())
                }
                WordPiece::ParameterExpansion(expr) => self.parameter(expr, 0).is_number(),
                WordPiece::CommandSubstitution(text) => output_of(text).is_number(),
                WordPiece::ArithmeticExpression(_) => true,
                _ => false,
            };
        }
        if !safe {
            let reason = "arithmetic runs commands that its variables hold, and they are not known to be numbers";
            self.opaque(text, reason.to_owned());
        }
    }

    fn arg(&self, pieces: &[WordPieceWithSource], steps: usize) -> Arg {
        let mut arg = Arg::default();
        self.append(&mut arg, pieces, false, steps);
        arg
    }

    fn append(&self, arg: &mut Arg, pieces: &[WordPieceWithSource], quoted: bool, steps: usize) {
        for piece in pieces {
            match &piece.piece {
                WordPiece::Text(text) if quoted => arg.text.push_str(text),
                WordPiece::Text(text) => arg.push_pattern(text),
                WordPiece::SingleQuotedText(text) => arg.text.push_str(text),
                WordPiece::AnsiCQuotedText(text) => arg.text.push_str(&unescape_ansi_c(text)),
                WordPiece::DoubleQuotedSequence(inner)
                | WordPiece::GettextDoubleQuotedSequence(inner) => {
                    self.append(arg, inner, true, steps);
                }
                WordPiece::TildeExpansion(_) => arg.push(&Value::TAME, true),
                WordPiece::EscapeSequence(text) => match text.strip_prefix('\\').unwrap_or(text) {
                    "\n" => {}
                    text => arg.text.push_str(text),
                },
                WordPiece::ParameterExpansion(expr) => {
                    // "$@" is several words even in quotes.
                    let several = is_list(expr);
                    arg.push(&self.parameter(expr, steps), quoted && !several);
                }
                WordPiece::CommandSubstitution(text) => arg.push(&output_of(text), quoted),
                WordPiece::BackquotedCommandSubstitution(text) => {
                    arg.push(&output_of(text), quoted)
                }
                WordPiece::ArithmeticExpression(_) => arg.push(&Value::NUMBER, true),
            }
        }
    }

    /// What `name=raw` gives `name`.
    fn quiet_value(&self, raw: &str, steps: usize) -> Value {
        if is_plain(raw) {
            return Value::Known(raw.to_owned());
        }
        match word::parse(raw, &self.options) {
            Ok(pieces) => {
                if let [only] = pieces.as_slice() {
                    match &only.piece {
                        WordPiece::CommandSubstitution(text) => return output_of(text),
                        WordPiece::ArithmeticExpression(_) => return Value::NUMBER,
                        WordPiece::ParameterExpansion(expr) => return self.parameter(expr, steps),
                        _ => {}
                    }
                }
                let mut arg = Arg::default();
                // An assignment's value is not split, and its patterns are text.
                self.append(&mut arg, &pieces, true, steps);
                Value::from(&arg)
            }
            Err(_) => Value::ANYTHING,
        }
    }

    fn parameter(&self, expr: &ParameterExpr, steps: usize) -> Value {
        use ParameterExpr as P;
        match expr {
            P::Parameter { parameter, indirect: false }
            | P::IndicateErrorIfNullOrUnset { parameter, indirect: false, .. } => match parameter {
                Parameter::Named(name) => self.variable(name, steps),
                Parameter::Special(
                    SpecialParameter::PositionalParameterCount
                    | SpecialParameter::LastExitStatus
                    | SpecialParameter::ProcessId
                    | SpecialParameter::LastBackgroundProcessId,
                ) => Value::DIGITS,
                _ => Value::ANYTHING,
            },
            P::UseDefaultValues {
                parameter: Parameter::Named(name),
                indirect: false,
                default_value,
                ..
            } => {
                let default = default_value.as_deref().unwrap_or_default();
                Value::one_of(vec![
                    self.variable(name, steps),
                    self.quiet_value(default, steps + 1),
                ])
            }
            P::ParameterLength { indirect: false, .. } => Value::DIGITS,
            _ => Value::ANYTHING,
        }
    }

    fn variable(&self, name: &str, steps: usize) -> Value {
        if let Some(value) = given(&self.variables, self.env, name) {
            return Value::Known(value.to_owned());
        }
        if !self.variables.assigns(name) {
            return match name {
                name if TAME.contains(&name) => Value::TAME,
                name if NUMBERS.contains(&name) => Value::DIGITS,
                _ => Value::ANYTHING,
            };
        }
        let Some(sources) = self.variables.sources(name) else { return Value::ANYTHING };
        let left = self.values_left.get();
        self.values_left.set(left.saturating_sub(sources.len()));
        if steps >= MAX_STEPS || sources.len() > MAX_VALUES || left < sources.len() {
            // Its own value plus one, in a loop.
            return Value::ANYTHING;
        }
        let mut values = Vec::new();
        for source in sources {
            match source {
                Source::Word(raw) => values.push(self.quiet_value(raw, steps + 1)),
                Source::OneOf(words) => {
                    for raw in words.iter().take(MAX_VALUES + 1) {
                        values.extend(self.loop_values(raw, steps + 1));
                    }
                }
            }
            if values.len() > MAX_VALUES {
                return Value::ANYTHING;
            }
        }
        Value::one_of(values)
    }

    /// What a word of a `for` gives its variable.
    fn loop_values(&self, raw: &str, steps: usize) -> Vec<Value> {
        let Some(words) = brace::expand(raw) else { return vec![Value::ANYTHING] };
        let value = |raw: &String| match word::parse(raw, &self.options) {
            Ok(pieces) => match pieces.as_slice() {
                [WordPieceWithSource { piece: WordPiece::CommandSubstitution(text), .. }] => {
                    output_of(text)
                }
                pieces => Value::from(&self.arg(pieces, steps)),
            },
            Err(_) => Value::ANYTHING,
        };
        words.iter().map(value).collect()
    }
}

fn is_plain(raw: &str) -> bool {
    matches!(raw, "{}" | "[" | "]" | "!")
        || (!raw.is_empty()
            && raw.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-./:=@%+,".contains(&b)))
}

fn is_list(expr: &ParameterExpr) -> bool {
    let text = format!("{expr:?}");
    text.contains("AllPositionalParameters")
        || text.contains("AllIndices")
        || text.contains("MemberKeys")
        || text.contains("VariableNames")
}

/// Names in arithmetic text; digits and hexadecimal numbers are none.
fn names_in(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
        .filter(|word| word.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_'))
}
