//! Names of systemd units, and what somebody may have meant.

use std::collections::BTreeSet;

/// Names that are proposed, at most.
const PROPOSED: usize = 5;

/// What systemd.unit(5) calls unit types.
const KINDS: [&str; 11] = [
    "service",
    "socket",
    "device",
    "mount",
    "automount",
    "swap",
    "target",
    "path",
    "timer",
    "slice",
    "scope",
];

/// A unit's whole name; one without a type is a service.
pub fn full_name(unit: &str) -> String {
    match unit.rsplit_once('.') {
        Some((_, kind)) if KINDS.contains(&kind) => unit.to_owned(),
        _ => format!("{unit}.service"),
    }
}

/// Names like one that is not there, the likeliest first.
pub fn alike(unit: &str, known: &BTreeSet<String>) -> Vec<String> {
    let stem = |name: &str| name.rsplit_once('.').map_or(name, |(stem, _)| stem).to_lowercase();
    let wanted = stem(unit);
    let mut near: Vec<(usize, &String)> = known
        .iter()
        .filter_map(|name| {
            let other = stem(name);
            let steps = distance(&wanted, &other);
            let within = !wanted.is_empty() && (other.contains(&wanted) || wanted.contains(&other));
            (within || steps <= 1 + wanted.len() / 4).then_some((steps, name))
        })
        .collect();
    near.sort();
    near.into_iter().take(PROPOSED).map(|(_, name)| name.clone()).collect()
}

/// Levenshtein's distance.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().take(64).collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (index, a) in one.chars().take(64).enumerate() {
        let mut diagonal = index;
        let mut left = index + 1;
        if let Some(first) = row.first_mut() {
            *first = left;
        }
        for (b, above) in other.iter().zip(row.iter_mut().skip(1)) {
            let here = (diagonal + usize::from(a != *b)).min(left + 1).min(*above + 1);
            diagonal = std::mem::replace(above, here);
            left = here;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_that_look_alike_are_proposed() {
        let known: BTreeSet<String> =
            ["nginx.service", "ssh.service", "sshd.service", "cron.service", "nginx-proxy.service"]
                .map(str::to_owned)
                .into();
        assert_eq!(alike("nginxx", &known).first().map(String::as_str), Some("nginx.service"));
        assert_eq!(alike("sssh.service", &known), ["ssh.service", "sshd.service"]);
        assert!(alike("postgresql", &known).is_empty());
    }
}
