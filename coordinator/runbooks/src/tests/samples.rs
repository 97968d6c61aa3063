//! Commands of the catalogue with its own sample values.

use crate::runbook::Runbook;
use crate::slots::Filled;
use crate::slots::shell_word;
use crate::template;

/// The values of a runbook's slots.
pub(crate) fn values(runbook: &Runbook) -> Filled {
    let mut values = Filled::new();
    for (name, slot) in &runbook.slots {
        let sample = slot.sample.as_ref().or(slot.default.as_ref()).unwrap();
        values.extend(slot.kind.fill(name, sample).unwrap());
    }
    values
}

/// A command as it would be run.
pub(crate) fn line(runbook: &Runbook, template: &str) -> String {
    template::fill(template, &values(runbook), shell_word).unwrap()
}
