//! The table in `docs/runbooks.md` is the catalogue's.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

use crate::catalogue;

const BEGIN: &str = "<!-- catalogue: written by a test, see below -->\n";
const END: &str = "<!-- end of catalogue -->\n";

fn table() -> String {
    let mut text = String::from(
        "| id | what it does | for instance | effect | tested on | untested, but there |\n|---|---|---|---|---|---|\n",
    );
    for runbook in &catalogue().runbooks {
        let effect = runbook.step.iter().map(|step| step.effect).max().unwrap_or_default();
        let asks = runbook.step.iter().any(|step| step.outside);
        let mut families: BTreeSet<&str> = BTreeSet::new();
        for step in &runbook.step {
            families.extend(step.run.iter().map(|_| "any"));
            families.extend(step.on.keys().map(|variant| variant.as_str()));
        }
        let families: Vec<&str> = families.into_iter().collect();
        let tested =
            if runbook.tested.is_empty() { "—".to_owned() } else { runbook.tested.join(", ") };
        let _ = writeln!(
            text,
            "| `{}` | {} | {} | {}{} | {tested} | {} |",
            runbook.id,
            runbook.title,
            runbook.examples.matching[0].replace('|', "\\|"),
            effect.as_str(),
            if asks { ", asks" } else { "" },
            families.join(", ")
        );
    }
    let tested = catalogue().runbooks.iter().filter(|r| !r.tested.is_empty()).count();
    let _ = writeln!(text, "\n{} runbooks, {tested} of them tested.", catalogue().runbooks.len());
    text
}

#[test]
fn the_page_shows_the_catalogue_as_it_is() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/runbooks.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = page.split_once(BEGIN).unwrap();
    let (_, after) = rest.split_once(END).unwrap();
    let wanted = format!("{before}{BEGIN}{}{END}{after}", table());
    if std::env::var_os("REEVE_UPDATE").is_some() {
        std::fs::write(&path, wanted).unwrap();
        return;
    }
    assert!(page == wanted, "write it anew: REEVE_UPDATE=1 cargo test -p reeve-runbooks the_page");
}
