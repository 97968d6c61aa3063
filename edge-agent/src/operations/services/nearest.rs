//! Names that somebody may have meant.

/// So many are offered.
const MAX_OFFERED: usize = 3;

/// Of the names those that are most like `wanted`, best first.
pub fn find<'a>(wanted: &str, names: impl Iterator<Item = &'a str>) -> Vec<String> {
    let stem = |name: &str| name.rsplit_once('.').map_or(name, |(stem, _)| stem).to_lowercase();
    let wanted = stem(wanted);
    let most = (wanted.chars().count() / 2).clamp(1, 3);
    let mut found: Vec<(usize, &str)> = names
        .filter_map(|name| {
            let short = stem(name);
            let distance = distance(&wanted, &short);
            let related = wanted.len() > 2 && (short.contains(&wanted) || wanted.contains(&short));
            // A name that holds the other is near, whatever its length.
            (distance <= most).then_some((distance, name)).or(related.then_some((most, name)))
        })
        .collect();
    found.sort_unstable();
    found.dedup();
    found.into_iter().take(MAX_OFFERED).map(|(_, name)| name.to_owned()).collect()
}

/// How many letters have to be put in, taken out or replaced (Levenshtein).
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (index, a) in left.chars().enumerate() {
        let mut diagonal = index;
        let mut before = index + 1;
        for (b, cell) in right.iter().zip(row.iter_mut().skip(1)) {
            let replaced = diagonal + usize::from(a != *b);
            diagonal = *cell;
            before = replaced.min(before + 1).min(*cell + 1);
            *cell = before;
        }
        if let Some(first) = row.first_mut() {
            *first = index + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_counts_letters() {
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("same", "same"), 0);
    }

    #[test]
    fn what_is_near_or_contained_is_offered() {
        let names = ["nginx.service", "ssh.service", "postgresql@15-main.service", "cron.service"];
        let find = |wanted: &str| find(wanted, names.iter().copied());
        assert_eq!(find("ngnix.service"), ["nginx.service"]);
        assert_eq!(find("sshd.service"), ["ssh.service"]);
        assert_eq!(find("postgresql.service"), ["postgresql@15-main.service"]);
        assert!(find("completely-different.service").is_empty());
    }
}
