//! What a process costs, read from /proc.

use std::fs;

use anyhow::Context;

/// A process that is looked at.
#[derive(Clone, Copy)]
pub struct Cost(pub i32);

impl Cost {
    /// Resident memory, KiB: all of it, and what is its own alone.
    pub fn memory(self) -> anyhow::Result<(u64, u64)> {
        let text = self.read("smaps_rollup")?;
        let of = |name: &str| number(&text, name);
        Ok((of("Rss:")?, of("Private_Clean:")? + of("Private_Dirty:")?))
    }

    /// Processor time of all its threads so far, seconds.
    pub fn cpu(self) -> anyhow::Result<f64> {
        let mut nanoseconds = 0;
        for task in self.tasks()? {
            let text = fs::read_to_string(format!("{task}/schedstat")).unwrap_or_default();
            nanoseconds += text.split(' ').next().and_then(|n| n.parse::<u64>().ok()).unwrap_or(0);
        }
        Ok(nanoseconds as f64 / 1e9)
    }

    /// How often its threads went to sleep and were woken.
    pub fn wakeups(self) -> anyhow::Result<u64> {
        let mut sum = 0;
        for task in self.tasks()? {
            let text = fs::read_to_string(format!("{task}/status")).unwrap_or_default();
            sum += number(&text, "voluntary_ctxt_switches:").unwrap_or(0);
        }
        Ok(sum)
    }

    fn tasks(self) -> anyhow::Result<Vec<String>> {
        let folder = format!("/proc/{}/task", self.0);
        let entries = fs::read_dir(&folder).with_context(|| folder.clone())?;
        Ok(entries.flatten().map(|entry| entry.path().display().to_string()).collect())
    }

    fn read(self, name: &str) -> anyhow::Result<String> {
        let path = format!("/proc/{}/{name}", self.0);
        fs::read_to_string(&path).context(path)
    }
}

fn number(text: &str, name: &str) -> anyhow::Result<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name)).context(name.to_owned())?;
    let digits = line.trim().trim_end_matches(" kB");
    digits.parse().with_context(|| format!("{name} {digits}"))
}
