//! What the variables of a shell text can be worth. Flow is not followed: a variable may have any value
//! that any of its assignments gives it.

use std::collections::{BTreeMap, HashMap};

use brush_parser::ast;

/// Set by the agent to something tame, unless a text names them other than to use them.
pub(crate) const TAME: &[&str] =
    &["HOME", "PWD", "OLDPWD", "USER", "LOGNAME", "HOSTNAME", "SHELL", "LANG"];
/// Kept by the shell, and numbers; unless likewise.
pub(crate) const NUMBERS: &[&str] =
    &["UID", "EUID", "PPID", "RANDOM", "SECONDS", "LINENO", "COLUMNS", "LINES"];

/// Where a value comes from, words as written.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    Word(String),
    /// One of the words of a `for`.
    OneOf(Vec<String>),
}

/// Variables of a text and of those around it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Variables {
    sources: HashMap<String, Vec<Source>>,
    /// Assigned in a way that is not followed.
    unknown: Vec<String>,
    /// How often each was assigned where this looks.
    seen: HashMap<String, usize>,
}

impl Variables {
    /// Those of `program`, whose text is `source`, inside of a text with `outer`.
    pub fn gather(outer: &Self, program: &ast::Program, source: &str) -> Self {
        let mut found = Self { seen: HashMap::new(), ..outer.clone() };
        for name in TAME.iter().chain(NUMBERS) {
            if source.contains(name) && bare_mentions(source, name) > 0 {
                found.unknown.push((*name).to_owned());
            }
        }
        if !source.contains('=') && !source.contains("for") && !source.contains("read") {
            return found;
        }
        for list in &program.complete_commands {
            found.list(list);
        }
        // A name that stands anywhere else than in `$name` and in the assignments seen may be
        // changed there: read, printf -v, getopts, (( )), ${name:=…}, eval.
        let names: Vec<String> = found.seen.keys().cloned().collect();
        for name in names {
            if bare_mentions(source, &name) != found.seen.get(&name).copied().unwrap_or(0) {
                found.unknown.push(name);
            }
        }
        found
    }

    /// Where `name` gets its value; `None` if that cannot be told.
    pub fn sources(&self, name: &str) -> Option<&[Source]> {
        if self.unknown.iter().any(|unknown| unknown == name) {
            return None;
        }
        self.sources.get(name).map(Vec::as_slice)
    }

    /// Whether the text assigns to it somewhere.
    pub fn assigns(&self, name: &str) -> bool {
        self.sources.contains_key(name) || self.unknown.iter().any(|unknown| unknown == name)
    }

    fn add(&mut self, name: &str, source: Source) {
        *self.seen.entry(name.to_owned()).or_default() += 1;
        self.sources.entry(name.to_owned()).or_default().push(source);
    }

    fn assignment(&mut self, assignment: &ast::Assignment) {
        match (&assignment.name, &assignment.value) {
            (ast::AssignmentName::VariableName(name), ast::AssignmentValue::Scalar(word))
                if !assignment.append =>
            {
                self.add(name, Source::Word(word.value.clone()));
            }
            (ast::AssignmentName::VariableName(name), _)
            | (ast::AssignmentName::ArrayElementName(name, _), _) => {
                self.unknown.push(name.clone());
            }
        }
    }

    fn list(&mut self, list: &ast::CompoundList) {
        for ast::CompoundListItem(and_or, _) in &list.0 {
            for (_, pipeline) in and_or {
                for command in &pipeline.seq {
                    self.command(command);
                }
            }
        }
    }

    fn command(&mut self, command: &ast::Command) {
        match command {
            ast::Command::Simple(simple) => {
                let prefix = simple.prefix.iter().flat_map(|prefix| &prefix.0);
                let suffix = simple.suffix.iter().flat_map(|suffix| &suffix.0);
                for item in prefix.chain(suffix) {
                    match item {
                        ast::CommandPrefixOrSuffixItem::AssignmentWord(assignment, _) => {
                            self.assignment(assignment);
                        }
                        ast::CommandPrefixOrSuffixItem::ProcessSubstitution(_, inner) => {
                            self.list(&inner.list);
                        }
                        ast::CommandPrefixOrSuffixItem::IoRedirect(redirect) => {
                            self.redirect(redirect)
                        }
                        ast::CommandPrefixOrSuffixItem::Word(_) => {}
                    }
                }
            }
            ast::Command::Compound(compound, redirects) => {
                self.compound(compound);
                redirects.iter().flat_map(|list| &list.0).for_each(|one| self.redirect(one));
            }
            ast::Command::Function(function) => self.compound(&function.body.0),
            ast::Command::ExtendedTest(..) => {}
        }
    }

    fn redirect(&mut self, redirect: &ast::IoRedirect) {
        if let ast::IoRedirect::File(
            _,
            _,
            ast::IoFileRedirectTarget::ProcessSubstitution(_, inner),
        ) = redirect
        {
            self.list(&inner.list);
        }
    }

    fn compound(&mut self, compound: &ast::CompoundCommand) {
        use ast::CompoundCommand as C;
        match compound {
            C::Arithmetic(_) => {}
            C::ArithmeticForClause(inner) => self.list(&inner.body.list),
            C::BraceGroup(inner) => self.list(&inner.list),
            C::Subshell(inner) => self.list(&inner.list),
            C::ForClause(inner) => {
                match &inner.values {
                    Some(values) => {
                        let words = values.iter().map(|word| word.value.clone()).collect();
                        self.add(&inner.variable_name, Source::OneOf(words));
                    }
                    None => self.unknown.push(inner.variable_name.clone()),
                }
                self.list(&inner.body.list);
            }
            C::CaseClause(inner) => {
                for case in &inner.cases {
                    if let Some(list) = &case.cmd {
                        self.list(list);
                    }
                }
            }
            C::IfClause(inner) => {
                self.list(&inner.condition);
                self.list(&inner.then);
                for part in inner.elses.iter().flatten() {
                    if let Some(condition) = &part.condition {
                        self.list(condition);
                    }
                    self.list(&part.body);
                }
            }
            C::WhileClause(inner) | C::UntilClause(inner) => {
                self.list(&inner.0);
                self.list(&inner.1.list);
            }
            C::Coprocess(inner) => self.command(&inner.body),
        }
    }
}

/// How often `name` stands in `text` as a word of its own, not behind `$` or `${`.
fn bare_mentions(text: &str, name: &str) -> usize {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let text = &without_plain_arithmetic(text);
    text.match_indices(name)
        .filter(|(at, _)| {
            let before = &text[..*at];
            let behind = text[at + name.len()..].chars().next();
            let inside =
                before.chars().next_back().is_some_and(is_word) || behind.is_some_and(is_word);
            let braced = before.ends_with("${")
                && behind.is_some_and(|c| matches!(c, '}' | '#' | '%' | '-' | '/' | ','));
            !inside && !before.ends_with('$') && !braced
        })
        .count()
}

/// `text` without the arithmetic that assigns nothing.
fn without_plain_arithmetic(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once("$((") {
        kept.push_str(before);
        match behind.split_once("))") {
            Some((inner, after))
                if !inner.contains(['=', '[', '$', '`'])
                    && !inner.contains("++")
                    && !inner.contains("--") =>
            {
                rest = after;
            }
            _ => {
                kept.push_str("$((");
                rest = behind;
            }
        }
    }
    kept.push_str(rest);
    kept
}

/// A value of the environment given with the command, unless the text assigns the name too.
pub(crate) fn given<'e>(
    variables: &Variables,
    env: &'e BTreeMap<String, String>,
    name: &str,
) -> Option<&'e str> {
    if variables.assigns(name) { None } else { env.get(name).map(String::as_str) }
}
