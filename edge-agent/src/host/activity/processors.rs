//! `/proc/stat`: what processors did (proc_stat(5)).

/// Ticks since boot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpuTicks {
    /// Programs, also those of guests and with little priority.
    pub user: u64,
    /// The kernel, with interrupts.
    pub system: u64,
    /// Idle while a disk was waited for.
    pub iowait: u64,
    /// Taken by other virtual machines.
    pub steal: u64,
    /// Idle.
    pub idle: u64,
}

impl CpuTicks {
    /// Since another time.
    #[must_use]
    pub fn since(self, before: Self) -> Self {
        Self {
            user: self.user.saturating_sub(before.user),
            system: self.system.saturating_sub(before.system),
            // This one goes back at times.
            iowait: self.iowait.saturating_sub(before.iowait),
            steal: self.steal.saturating_sub(before.steal),
            idle: self.idle.saturating_sub(before.idle),
        }
    }

    /// All of them.
    #[must_use]
    pub fn total(self) -> u64 {
        [self.user, self.system, self.iowait, self.steal, self.idle]
            .into_iter()
            .fold(0, u64::saturating_add)
    }

    /// Thousandths of the whole that a part is.
    #[must_use]
    pub fn permille(self, part: u64) -> u64 {
        let total = self.total();
        part.saturating_mul(1000).checked_div(total).unwrap_or(0)
    }
}

/// All processors together, then each.
pub(super) fn parse(stat: &str) -> Vec<CpuTicks> {
    let lines = stat.lines().take_while(|line| line.starts_with("cpu"));
    lines
        .map(|line| {
            let mut numbers = [0_u64; 8];
            let words = line.split_ascii_whitespace().skip(1);
            for (number, word) in numbers.iter_mut().zip(words) {
                *number = word.parse().unwrap_or(0);
            }
            let [user, nice, system, idle, iowait, irq, softirq, steal] = numbers;
            CpuTicks {
                // guest and guest_nice are in user and nice already.
                user: user.saturating_add(nice),
                system: system.saturating_add(irq).saturating_add(softirq),
                iowait,
                steal,
                idle,
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_put_together() {
        let stat = "cpu  10 1 20 300 5 1 2 3 4 4\ncpu0 5 0 10 150 5 0 0 3 0 0\nintr 99 1\ncpu9 1\n";
        let found = parse(stat);
        assert_eq!(found.len(), 2);
        let all = CpuTicks { user: 11, system: 23, iowait: 5, steal: 3, idle: 300 };
        assert_eq!(found[0], all);
        assert_eq!((all.total(), all.permille(all.user)), (342, 32));
        assert_eq!(all.since(CpuTicks { iowait: 9, ..all }).iowait, 0);
        assert_eq!(CpuTicks::default().permille(5), 0);
        assert!(parse("").is_empty() && parse("cpu x y\n")[0] == CpuTicks::default());
    }
}
