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

/// Insertions, deletions, replacements and swapped neighbours.
fn edits(left: &[char], right: &str) -> usize {
    let right: Vec<char> = right.to_lowercase().chars().collect();
    let mut above = vec![0; left.len() + 1];
    let mut row: Vec<usize> = (0..=left.len()).collect();
    for i in 0..right.len() {
        let mut next = vec![i + 1; left.len() + 1];
        for j in 0..left.len() {
            let replaced = row[j] + usize::from(left[j] != right[i]);
            next[j + 1] = replaced.min(row[j + 1] + 1).min(next[j] + 1);
            if i > 0 && j > 0 && left[j] == right[i - 1] && left[j - 1] == right[i] {
                next[j + 1] = next[j + 1].min(above[j - 1] + 1);
            }
        }
        above = std::mem::replace(&mut row, next);
    }
    row[left.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_found_and_strangers_are_not() {
        let names = ["web-1", "web-2", "db-1", "production-cache-1"];
        assert_eq!(nearest("wbe-1", names), ["web-1"]);
        assert_eq!(nearest("WEB-9", names), ["web-1", "web-2"]);
        assert_eq!(nearest("prodution-cahce-1", names), ["production-cache-1"]);
        assert!(nearest("mail-7", names).is_empty());
        assert!(nearest("", names).is_empty());
    }
}
