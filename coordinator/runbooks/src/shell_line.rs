//! Whether a prompt is a shell command already.

use crate::vocabulary::Vocabulary;

/// The line, if the prompt is one.
///
/// What begins with a program that is no English word is a line, unless it reads on as a sentence;
/// what begins with `find`, `who` or `kill` has to have options, operators or paths too.
pub(crate) fn recognise(prompt: &str, vocabulary: &Vocabulary) -> Option<String> {
    let line = unwrap(prompt.trim());
    if line.is_empty() || line.contains('\n') && !line.contains("\\\n") {
        return None;
    }
    let mut words = line.split_whitespace();
    let mut first = words.next()?;
    let explicit = line.len() != prompt.trim().len();
    // `LC_ALL=C ls`
    while first.contains('=')
        && first.chars().next().is_some_and(|c| c.is_ascii_alphabetic())
        && !first.contains('/')
    {
        first = words.next()?;
    }
    let rest: Vec<&str> = words.collect();
    let program = first.rsplit('/').next().unwrap_or(first);
    let absolute = first.starts_with('/') || first.starts_with("./");
    let plain = vocabulary.plain_programs.contains(program);
    let word = vocabulary.word_programs.contains(program);
    if explicit && (plain || word || absolute) {
        return Some(line.to_owned());
    }
    // A file name by itself is a path, not a program to run.
    if absolute && (rest.iter().any(|w| is_option(w)) || (plain && !rest.is_empty())) {
        return Some(line.to_owned());
    }
    if !plain && !word {
        return None;
    }
    let sign = rest.iter().any(|w| is_option(w)) || has_operator(line);
    if word {
        let path = rest.first().is_some_and(|w| w.starts_with('/'))
            && matches!(program, "find" | "touch" | "file" | "head" | "sort" | "less" | "more");
        let numbers =
            program == "kill" && !rest.is_empty() && rest.iter().all(|w| w.parse::<u32>().is_ok());
        return (sign || path || numbers).then(|| line.to_owned());
    }
    if sign {
        return Some(line.to_owned());
    }
    if rest.is_empty() {
        // `docker` alone is no command worth running, `df` is.
        return (!vocabulary.subcommands.contains_key(program)).then(|| line.to_owned());
    }
    if let Some(subcommands) = vocabulary.subcommands.get(program)
        && !rest.first().is_some_and(|w| subcommands.contains(*w))
    {
        return None;
    }
    let talks = rest.iter().any(|w| {
        let w = w.trim_end_matches(['?', '!', ',', '.']).to_lowercase();
        vocabulary.is_filler(&w) && !w.is_empty() || w == "usage" || w.ends_with('?')
    }) || line.ends_with('?');
    let technical = rest
        .iter()
        .any(|w| w.contains(['/', '.', '*', '$', '=', ':', '-', '_']) || w.parse::<f64>().is_ok());
    let listed = vocabulary.subcommands.contains_key(program);
    (!talks && (technical || listed)).then(|| line.to_owned())
}

/// Takes a prompt sign, quotation marks, or `run` before quotation marks away.
fn unwrap(prompt: &str) -> &str {
    let lead = ["run ", "execute ", "please run ", "please execute "];
    let bare = lead
        .iter()
        .find_map(|lead| {
            prompt
                .get(..lead.len())
                .filter(|start| start.eq_ignore_ascii_case(lead))
                .map(|_| prompt[lead.len()..].trim())
        })
        .unwrap_or(prompt);
    if let Some(inside) = bare.strip_prefix('`').and_then(|b| b.strip_suffix('`')) {
        return inside.trim();
    }
    if bare.len() != prompt.len() {
        // `run df -h` is as clear as `df -h`.
        return bare;
    }
    prompt.strip_prefix("$ ").or_else(|| prompt.strip_prefix("# ")).unwrap_or(prompt).trim()
}

fn is_option(word: &str) -> bool {
    let letters = word.trim_start_matches('-');
    word.starts_with('-')
        && word.len() > 1
        && letters.starts_with(|c: char| c.is_ascii_alphanumeric())
}

fn has_operator(line: &str) -> bool {
    [" | ", " > ", " >> ", " && ", " || ", "$(", " < ", "; ", "|", " 2>", ">&"]
        .iter()
        .any(|o| line.contains(o))
}
