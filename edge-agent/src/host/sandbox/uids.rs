//! Which user ids commands in inspect mode get. Each command has its own, so that two of them can
//! neither signal nor look into each other, and so that limits by user are limits by command.

use std::fs;

/// Ids that belong to nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UidRange {
    /// The first.
    pub first: u32,
    /// How many.
    pub count: u32,
}

/// Tried in this order. Both are in ranges that the common registry of user ids leaves unused
/// (systemd's UIDS-GIDS): the second is for containers, which often have 65536 ids only.
const DEFAULTS: [UidRange; 2] =
    [UidRange { first: 1_919_221_760, count: 65_536 }, UidRange { first: 60_578, count: 512 }];

impl UidRange {
    /// The id for the command with this number.
    #[must_use]
    pub fn pick(self, number: u128) -> u32 {
        let offset = number % u128::from(self.count.max(1));
        self.first.saturating_add(u32::try_from(offset).unwrap_or(0))
    }

    /// The last id.
    fn last(self) -> u64 {
        u64::from(self.first) + u64::from(self.count.max(1)) - 1
    }
}

/// The range to use: the owner's, else the first default that exists in this user namespace
/// (user_namespaces(7)).
#[must_use]
pub fn choose_uids(wanted: Option<UidRange>) -> UidRange {
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let fallback = DEFAULTS[DEFAULTS.len() - 1];
    wanted.unwrap_or_else(|| {
        DEFAULTS.into_iter().find(|range| is_mapped(*range, &map)).unwrap_or(fallback)
    })
}

fn is_mapped(range: UidRange, map: &str) -> bool {
    map.lines().any(|line| {
        let mut fields = line.split_ascii_whitespace().map(str::parse::<u64>);
        let (Some(Ok(first)), Some(Ok(_)), Some(Ok(count))) =
            (fields.next(), fields.next(), fields.next())
        else {
            return false;
        };
        first <= u64::from(range.first) && range.last() < first + count
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn range_has_to_exist_in_the_user_namespace() {
        let whole = "         0          0 4294967295\n";
        let container = "         0     100000      65536\n";
        assert!(is_mapped(DEFAULTS[0], whole));
        assert!(!is_mapped(DEFAULTS[0], container));
        assert!(is_mapped(DEFAULTS[1], container));
        assert!(!is_mapped(DEFAULTS[1], "0 0 1\n"));
    }

    #[test]
    fn ids_stay_in_their_range() {
        let range = UidRange { first: 100, count: 3 };
        let picked: Vec<u32> = (0..5).map(|number| range.pick(number)).collect();
        assert_eq!(picked, [100, 101, 102, 100, 101]);
        assert_eq!(DEFAULTS[0].pick(u128::MAX), 1_919_221_760 + 65_535);
    }
}
