//! The walk over the syntax tree: every command, wherever it stands.

use std::collections::BTreeMap;

use brush_parser::{Parser, ParserOptions, ast};
use reeve_protocol::ops::{Effect, Network};

use crate::rule::Rules;
use crate::text::{MAX_TEXTS, destroying_word, is_parsable, shown};
use crate::variables::Variables;
use crate::{Assessment, Finding, MAX_FINDINGS, reasons};

/// Commands inside commands (wrappers, `sh -c`, substitutions) that are followed.
const MAX_DEPTH: usize = 12;
/// Programs judged for one command.
const MAX_COMMANDS: usize = 2_000;

/// Values of variables worked out for one command; beyond, nothing is known of any.
const MAX_EVALUATIONS: usize = 5_000;

pub(crate) struct Walk<'r> {
    pub rules: &'r Rules,
    pub env: &'r BTreeMap<String, String>,
    pub options: ParserOptions,
    pub variables: Variables,
    /// Defined so far, in a place that is certainly passed.
    pub functions: Vec<String>,
    /// Whose bodies are being walked.
    pub defining: Vec<String>,
    /// The text that is being walked.
    pub source: String,
    /// What the program that is being judged reads, where that is written in the line.
    pub stdin: Option<String>,
    /// How deep the walk is in constructs whose commands may not run, or not in this shell.
    inside: usize,
    depth: usize,
    texts: usize,
    commands: usize,
    /// Values of variables that may still be worked out.
    pub values_left: std::cell::Cell<usize>,
    findings: Vec<Finding>,
    effect: Effect,
    network: Network,
}

impl<'r> Walk<'r> {
    pub fn new(rules: &'r Rules, env: &'r BTreeMap<String, String>) -> Self {
        Self {
            rules,
            env,
            options: ParserOptions { enable_extended_globbing: false, ..ParserOptions::default() },
            variables: Variables::default(),
            functions: Vec::new(),
            defining: Vec::new(),
            source: String::new(),
            stdin: None,
            inside: 0,
            depth: 0,
            texts: 0,
            commands: 0,
            values_left: std::cell::Cell::new(MAX_EVALUATIONS),
            findings: Vec::new(),
            effect: Effect::Read,
            network: Network::None,
        }
    }

    /// Notes why a part is not read-only.
    pub fn find(&mut self, effect: Effect, segment: &str, rule: &str, reason: String) {
        self.effect = self.effect.max(effect);
        let finding = Finding { effect, segment: shown(segment), rule: rule.to_owned(), reason };
        if !self.findings.contains(&finding) && self.findings.len() < 4 * MAX_FINDINGS {
            self.findings.push(finding);
        }
    }

    /// Notes what a part needs of the network.
    pub fn need(&mut self, network: Network) {
        self.network = match (self.network, network) {
            (Network::Use, _) | (_, Network::Use) => Network::Use,
            (Network::View, _) | (_, Network::View) => Network::View,
            _ => Network::None,
        };
    }

    pub fn finish(mut self) -> Assessment {
        self.findings.sort_by_key(|finding| std::cmp::Reverse(finding.effect));
        self.findings.truncate(MAX_FINDINGS);
        Assessment { effect: self.effect, findings: self.findings, network: self.network }
    }

    /// One level deeper, if there is one left.
    pub fn enter(&mut self, segment: &str) -> bool {
        self.commands += 1;
        if self.depth >= MAX_DEPTH || self.commands > MAX_COMMANDS {
            self.too_complex(segment);
            return false;
        }
        self.depth += 1;
        true
    }

    pub fn leave(&mut self) {
        self.depth -= 1;
    }

    fn too_complex(&mut self, segment: &str) {
        let reason = "it is longer or nested deeper than what is looked at".to_owned();
        self.find(Effect::Change, segment, reasons::TOO_COMPLEX, reason);
        self.named_destruction(segment);
    }

    /// Text that is not understood, and names a program that destroys.
    pub fn named_destruction(&mut self, text: &str) {
        if let Some(word) = destroying_word(self.rules, text) {
            let reason = format!("it cannot be followed, and holds the word `{}`", shown(word));
            self.find(Effect::Destroy, text, reasons::UNPARSABLE, reason);
        }
    }

    /// Text that shells understand differently, or not at all.
    pub fn unparsable(&mut self, segment: &str, what: &str) {
        let reason = format!("{what}, so what it does cannot be told");
        self.find(Effect::Change, segment, reasons::UNPARSABLE, reason);
        self.named_destruction(segment);
        // Where this text ends is part of what is not understood.
        let around = self.source.clone();
        self.named_destruction(&around);
    }

    /// A text for another shell, which sees none of the variables and functions of this one.
    pub fn new_shell(&mut self, text: &str) {
        let outer = (std::mem::take(&mut self.variables), std::mem::take(&mut self.functions));
        self.shell_text(text);
        (self.variables, self.functions) = outer;
    }

    /// A text for this shell or a copy of it.
    pub fn shell_text(&mut self, text: &str) {
        self.texts += 1;
        if self.texts > MAX_TEXTS || self.depth >= MAX_DEPTH || !is_parsable(text) {
            self.too_complex(text);
            return;
        }
        let parsed = Parser::new(std::io::Cursor::new(text), &self.options).parse_program();
        let Ok(program) = parsed else {
            self.unparsable(text, "it is not valid for a shell");
            return;
        };
        self.depth += 1;
        let variables = Variables::gather(&self.variables, &program, text);
        let outer = (
            std::mem::replace(&mut self.variables, variables),
            self.functions.clone(),
            std::mem::replace(&mut self.source, text.to_owned()),
            self.stdin.take(),
            std::mem::take(&mut self.inside),
        );
        for list in &program.complete_commands {
            self.list(list);
        }
        (self.variables, self.functions, self.source, self.stdin, self.inside) = outer;
        self.depth -= 1;
    }

    pub fn list(&mut self, list: &ast::CompoundList) {
        for ast::CompoundListItem(and_or, separator) in &list.0 {
            let plain = and_or.additional.is_empty()
                && matches!(separator, ast::SeparatorOperator::Sequence);
            for (_, pipeline) in and_or {
                let plain = plain && pipeline.seq.len() == 1;
                self.inside += usize::from(!plain);
                for command in &pipeline.seq {
                    self.command(command);
                }
                self.inside -= usize::from(!plain);
            }
        }
    }

    fn command(&mut self, command: &ast::Command) {
        match command {
            ast::Command::Simple(simple) => self.simple(simple),
            ast::Command::Compound(compound, redirects) => {
                self.redirects(redirects.as_ref(), || compound.to_string());
                self.inside += 1;
                self.compound(compound);
                self.inside -= 1;
            }
            ast::Command::Function(function) => self.function(function),
            ast::Command::ExtendedTest(test, redirects) => {
                self.redirects(redirects.as_ref(), || test.to_string());
                self.extended_test(&test.expr, &test.to_string());
            }
        }
    }

    fn redirects(&mut self, redirects: Option<&ast::RedirectList>, segment: impl Fn() -> String) {
        if let Some(redirects) = redirects {
            let segment = format!("{} {redirects}", segment());
            for redirect in &redirects.0 {
                self.redirect(redirect, &segment);
            }
        }
    }

    fn function(&mut self, function: &ast::FunctionDefinition) {
        let name = &function.fname.value;
        let segment = function.to_string();
        if self.rules.find(name).is_some()
            || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        {
            let reason = format!("a function takes the name of the program `{}`", shown(name));
            self.find(Effect::Change, &segment, reasons::SHADOWED, reason);
        } else if self.inside == 0 {
            self.functions.push(name.clone());
        }
        let ast::FunctionBody(body, redirects) = &function.body;
        self.redirects(redirects.as_ref(), || name.clone());
        self.inside += 1;
        self.defining.push(name.clone());
        self.compound(body);
        self.defining.pop();
        self.inside -= 1;
    }

    fn compound(&mut self, compound: &ast::CompoundCommand) {
        use ast::CompoundCommand as C;
        match compound {
            C::Arithmetic(_) | C::ArithmeticForClause(_) => {
                let text = compound.to_string();
                self.unparsable(
                    &text,
                    "`((` is arithmetic for some shells and a command for others",
                );
                match compound {
                    C::Arithmetic(inner) => self.arithmetic(&inner.expr.value),
                    C::ArithmeticForClause(inner) => self.list(&inner.body.list),
                    _ => {}
                }
            }
            C::BraceGroup(inner) => self.list(&inner.list),
            C::Subshell(inner) => self.list(&inner.list),
            C::ForClause(inner) => {
                for word in inner.values.iter().flatten() {
                    self.words(word);
                }
                self.assigned(&inner.variable_name, None, false, &inner.variable_name);
                self.list(&inner.body.list);
            }
            C::CaseClause(inner) => {
                self.words(&inner.value);
                for case in &inner.cases {
                    for pattern in &case.patterns {
                        self.words(pattern);
                    }
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
            C::Coprocess(inner) => {
                self.unparsable(&compound.to_string(), "`coproc` is known to some shells only");
                self.command(&inner.body);
            }
        }
    }

    fn extended_test(&mut self, test: &ast::ExtendedTestExpr, segment: &str) {
        use ast::BinaryPredicate as B;
        use ast::ExtendedTestExpr as T;
        match test {
            T::And(left, right) | T::Or(left, right) => {
                self.unparsable(
                    segment,
                    "`[[` with && or || is a list of commands for some shells",
                );
                self.extended_test(left, segment);
                self.extended_test(right, segment);
            }
            T::Parenthesized(inner) => {
                self.unparsable(segment, "`[[` with parentheses runs a command in some shells");
                self.extended_test(inner, segment);
            }
            T::Not(inner) => self.extended_test(inner, segment),
            T::UnaryTest(predicate, word) => {
                let args = self.words(word);
                let indexed =
                    matches!(predicate, ast::UnaryPredicate::ShellVariableIsSetAndAssigned);
                if indexed && args.iter().any(|arg| arg.open || arg.text.contains('[')) {
                    self.opaque(segment, "`-v` evaluates what stands between brackets".to_owned());
                }
            }
            T::BinaryTest(predicate, left, right) => {
                let arithmetic = matches!(
                    predicate,
                    B::ArithmeticEqualTo
                        | B::ArithmeticNotEqualTo
                        | B::ArithmeticLessThan
                        | B::ArithmeticLessThanOrEqualTo
                        | B::ArithmeticGreaterThan
                        | B::ArithmeticGreaterThanOrEqualTo
                );
                if matches!(predicate, B::LeftSortsBeforeRight | B::LeftSortsAfterRight) {
                    self.unparsable(segment, "`[[ a > b ]]` writes a file in some shells");
                }
                for word in [left, right] {
                    if arithmetic {
                        self.arithmetic(&word.value);
                    } else {
                        self.words(word);
                    }
                }
            }
        }
    }
}
