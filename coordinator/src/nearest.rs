//! Did you mean?

/// Names offered at most.
const MAX_NAMES: usize = 3;

/// Names compared at most: the distance costs as much as both lengths multiplied.
const MAX_CANDIDATES: usize = 10_000;

/// Those of the names that are a typo away, the nearest first.
pub fn nearest_names<'a>(wrong: &str, names: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let wrong: Vec<char> = wrong.chars().take(64).collect();
    let allowed = (wrong.len() / 3).clamp(1, 3);
    let mut near: Vec<(usize, &str)> = names
        .into_iter()
        .take(MAX_CANDIDATES)
        .filter(|name| name.len().abs_diff(wrong.len()) <= allowed)
        .map(|name| (distance(&wrong, name), name))
        .filter(|(distance, _)| *distance <= allowed)
        .collect();
    near.sort();
    near.into_iter().take(MAX_NAMES).map(|(_, name)| name.to_owned()).collect()
}

/// Optimal string alignment: insertions, deletions, substitutions and swapped neighbours.
fn distance(left: &[char], right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut before = vec![0; right.len() + 1];
    let mut above: Vec<usize> = (0..=right.len()).collect();
    for (i, l) in left.iter().enumerate() {
        let mut row = vec![i + 1; right.len() + 1];
        for (j, r) in right.iter().enumerate() {
            let mut best = (above[j + 1] + 1).min(row[j] + 1).min(above[j] + usize::from(l != r));
            if i > 0 && j > 0 && left[i - 1] == *r && *l == right[j - 1] {
                best = best.min(before[j - 1] + 1);
            }
            row[j + 1] = best;
        }
        before = std::mem::replace(&mut above, row);
    }
    above[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typos_find_their_name() {
        let names = ["web-1", "web-2", "db-1", "edge"];
        assert_eq!(nearest_names("wbe-1", names), ["web-1"]);
        assert_eq!(nearest_names("web1", names), ["web-1"]);
        assert_eq!(nearest_names("egde", names), ["edge"]);
        assert_eq!(nearest_names("web-3", names), ["web-1", "web-2"]);
        assert!(nearest_names("something", names).is_empty());
        assert!(nearest_names("", names).is_empty());
    }
}
