//! find(1): predicates that act, and the commands that it runs.

use reeve_protocol::ops::Effect;

use crate::reasons;
use crate::text::shown;
use crate::walk::Walk;
use crate::word::{Arg, UNKNOWN};

/// Predicates whose next word is their own.
const WITH_VALUE: &[&str] = &[
    "-D",
    "-amin",
    "-anewer",
    "-atime",
    "-cmin",
    "-cnewer",
    "-context",
    "-ctime",
    "-fstype",
    "-gid",
    "-group",
    "-ilname",
    "-iname",
    "-inum",
    "-ipath",
    "-iregex",
    "-iwholename",
    "-links",
    "-lname",
    "-maxdepth",
    "-mindepth",
    "-mmin",
    "-mtime",
    "-name",
    "-newer",
    "-newermt",
    "-path",
    "-perm",
    "-printf",
    "-regex",
    "-regextype",
    "-samefile",
    "-size",
    "-type",
    "-uid",
    "-used",
    "-user",
    "-wholename",
    "-xtype",
    "-files0-from",
];

pub(super) fn check(walk: &mut Walk<'_>, args: &[Arg], segment: &str) {
    let mut at = 0;
    while let Some(arg) = args.get(at) {
        at += 1;
        match arg.text.as_str() {
            "-delete" => {
                walk.find(
                    Effect::Destroy,
                    segment,
                    "find",
                    "`find -delete` deletes what it finds".to_owned(),
                );
            }
            "-exec" | "-execdir" | "-ok" | "-okdir" => {
                let rest = args.get(at..).unwrap_or_default();
                let end = rest
                    .iter()
                    .position(|arg| matches!(arg.text.as_str(), ";" | "+"))
                    .unwrap_or(rest.len());
                let command: Vec<Arg> = rest.iter().take(end).map(found).collect();
                walk.run(&command, segment, None);
                at += end + 1;
            }
            "-fprint" | "-fprint0" | "-fprintf" | "-fls" => {
                let file = args.get(at).map(|file| shown(&file.text)).unwrap_or_default();
                at += 1;
                let reason = format!("`find {}` writes over the file `{file}`", arg.text);
                walk.find(Effect::Destroy, segment, "find", reason);
            }
            text if WITH_VALUE.contains(&text) => {
                if let Some(value) = args.get(at).filter(|value| value.loose) {
                    loose(walk, value, segment);
                }
                at += 1;
            }
            _ if arg.lead || (arg.loose && arg.text.starts_with('-')) => loose(walk, arg, segment),
            _ => {}
        }
    }
}

fn loose(walk: &mut Walk<'_>, arg: &Arg, segment: &str) {
    let reason = format!(
        "`{}` may turn into an expression of `find`, and some of those delete or run commands",
        shown(&arg.text)
    );
    walk.find(Effect::Change, segment, reasons::LOOSE_WORD, reason);
}

/// `{}` becomes a path, which begins as the place where the search starts.
fn found(arg: &Arg) -> Arg {
    if !arg.text.contains("{}") {
        return arg.clone();
    }
    Arg { text: arg.text.replace("{}", &UNKNOWN.to_string()), open: true, ..arg.clone() }
}
