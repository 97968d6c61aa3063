//! Texts with `@{slot}` in them.

use crate::slots::Filled;

/// Why a template cannot be filled.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// A slot it names has no value.
    #[error("'@{{{0}}}' has no value")]
    Missing(String),
    /// A slot is inside quotation marks, where quoting it would end them.
    #[error("'@{{{0}}}' is inside quotation marks")]
    Quoted(String),
    /// `@{` without `}`.
    #[error("'@{{' is not closed")]
    Open,
}

/// Fills a template; each value goes through `form` first.
///
/// # Errors
/// When it names what has no value.
pub fn fill(
    template: &str,
    values: &Filled,
    form: impl Fn(&str) -> String,
) -> Result<String, TemplateError> {
    let mut filled = String::with_capacity(template.len());
    let mut rest = template;
    while let Some((before, behind)) = rest.split_once("@{") {
        let (name, after) = behind.split_once('}').ok_or(TemplateError::Open)?;
        filled.push_str(before);
        let value = values.get(name).ok_or_else(|| TemplateError::Missing(name.to_owned()))?;
        filled.push_str(&form(value));
        rest = after;
    }
    filled.push_str(rest);
    Ok(filled)
}

/// The slots a template names.
#[must_use]
pub fn names(template: &str) -> Vec<String> {
    template
        .split("@{")
        .skip(1)
        .filter_map(|rest| Some(rest.split_once('}')?.0.to_owned()))
        .collect()
}

/// Checks a template for a shell line: a slot must not be inside quotation marks, because the value
/// brings its own.
///
/// # Errors
/// When one is, or when it is not closed.
pub fn validate_shell(template: &str) -> Result<(), TemplateError> {
    let mut open = None;
    let mut rest = template;
    while let Some(c) = rest.chars().next() {
        if rest.starts_with("@{") {
            let (name, after) = rest[2..].split_once('}').ok_or(TemplateError::Open)?;
            if open.is_some() {
                return Err(TemplateError::Quoted(name.to_owned()));
            }
            rest = after;
            continue;
        }
        rest = &rest[c.len_utf8()..];
        match (c, open) {
            ('\\', None | Some('"')) => {
                rest =
                    rest.get(rest.chars().next().map_or(0, char::len_utf8)..).unwrap_or_default();
            }
            ('\'' | '"', None) => open = Some(c),
            (c, Some(mark)) if c == mark => open = None,
            _ => {}
        }
    }
    Ok(())
}
