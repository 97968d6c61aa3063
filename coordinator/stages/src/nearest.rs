//! Names that somebody may have meant.

/// Names compared at most: each costs the product of both lengths.
const MAX_CANDIDATES: usize = 10_000;

/// Up to three names that are a slip or two away, the nearest first.
pub(crate) fn nearest<'a>(wrong: &str, names: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let wrong: Vec<char> = wrong.to_lowercase().chars().take(64).collect();
    let allowed = (wrong.len() / 3).clamp(1, 3);
    let mut near: Vec<(usize, &str)> = names
        .into_iter()
        .take(MAX_CANDIDATES)
        .filter(|name| name.chars().count().abs_diff(wrong.len()) <= allowed)
        .map(|name| (edits(&wrong, name), name))
        .filter(|(edits, _)| *edits <= allowed)
        .collect();
    near.sort_unstable();
    near.into_iter().take(3).map(|(_, name)| name.to_owned()).collect()
}

/// Levenshtein distance.
fn edits(left: &[char], right: &str) -> usize {
    let mut row: Vec<usize> = (0..=left.len()).collect();
    for (i, r) in right.to_lowercase().chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, l) in left.iter().enumerate() {
            let replaced = diagonal + usize::from(*l != r);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[left.len()]
}
