//! Statements given to database clients. Nothing but `SHOW …` is taken to be read-only, since a SELECT
//! can call functions that write.

use std::sync::LazyLock;

use reeve_protocol::ops::Effect;
use regex::Regex;

use crate::options::Parsed;
use crate::rule::Rule;
use crate::walk::Walk;
use crate::word::{Arg, UNKNOWN};

pub(super) fn check(walk: &mut Walk<'_>, rule: &Rule, parsed: &Parsed<'_>, segment: &str) {
    let given = parsed.given.iter().filter(|given| {
        matches!(
            given.name.as_str(),
            "-e" | "-c" | "-Q" | "--execute" | "--command" | "--eval" | "--cmd"
        )
    });
    let mut texts: Vec<Arg> = given.filter_map(|given| given.value.clone()).collect();
    if rule.id == "sqlite3" {
        texts.extend(parsed.operands.iter().skip(1).cloned());
    }
    if let Some(stdin) = &walk.stdin {
        texts.push(Arg { open: stdin.contains(UNKNOWN), ..Arg::literal(stdin.clone()) });
    }
    if texts.is_empty() {
        if !parsed.has(&["-l", "--list"]) {
            walk.opaque(segment, format!("`{}` runs whatever statements it reads", rule.id));
        }
        return;
    }
    for text in texts {
        let (effect, what) = statements(&text.text);
        let (effect, what) = match effect {
            Effect::Read if text.open => {
                (Effect::Change, "runs statements that are not known here")
            }
            other => (other, what),
        };
        if effect > Effect::Read {
            walk.find(effect, segment, &rule.id, format!("`{}` {what}", rule.id));
        }
    }
}

fn statements(text: &str) -> (Effect, &'static str) {
    static DESTROYS: LazyLock<Option<Regex>> = LazyLock::new(|| {
        Regex::new(r"(?i)\b(drop|delete|truncate|update|replace|purge|flushall|flushdb|remove|dropdatabase|deletemany|deleteone|overwrite)\b|drop\(\)|\.remove\(").ok()
    });
    static READS: LazyLock<Option<Regex>> = LazyLock::new(|| {
        Regex::new(r"(?i)^\s*(show\s+[\w\s.%'=-]+|status|\\(l|d|dt|du|di|dn|dx|conninfo)[+S]{0,2}(\s+[\w.*]+)?|\.tables|\.schema|\.databases)\s*;?\s*$").ok()
    });
    let is = |pattern: &LazyLock<Option<Regex>>| pattern.as_ref().is_some_and(|p| p.is_match(text));
    if is(&READS) {
        (Effect::Read, "")
    } else if is(&DESTROYS) {
        (Effect::Destroy, "removes or overwrites data in the database")
    } else {
        (Effect::Change, "runs statements, which can write")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_are_told_apart() {
        assert_eq!(statements("SHOW PROCESSLIST;").0, Effect::Read);
        assert_eq!(statements("SHOW TABLES; DROP TABLE a").0, Effect::Destroy);
        assert_eq!(statements("SELECT 1").0, Effect::Change);
        assert_eq!(statements("dRoP table x").0, Effect::Destroy);
        assert_eq!(statements(r"\! rm x").0, Effect::Change);
        assert_eq!(statements("show x\n\\! id").0, Effect::Change);
    }
}
