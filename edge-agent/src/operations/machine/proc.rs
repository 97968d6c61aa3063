//! `/proc`, process by process (proc(5)). From a folder that can be another in tests.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::keeper::redact;

/// A command line is cut here, bytes.
const MAX_COMMAND_BYTES: usize = 4096;

/// `/proc`, or what stands for it.
#[derive(Clone, Debug)]
pub struct Proc {
    root: PathBuf,
}

/// The numbers in `/proc/<pid>/stat` (proc_pid_stat(5)).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stat {
    pub name: String,
    pub state: String,
    pub parent: u32,
    /// User and system time, ticks.
    pub ticks: u64,
    pub threads: u32,
    /// When it started, ticks since boot.
    pub start_time: u64,
    /// Resident memory, pages.
    pub pages: u64,
}

impl Proc {
    /// The machine's own.
    pub fn new() -> Self {
        Self::at(Path::new("/proc"))
    }

    /// Another folder.
    pub fn at(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    /// A file of it, as text; what is no UTF-8 is replaced. `None` when it cannot be read.
    pub fn read(&self, name: &str) -> Option<String> {
        let bytes = fs::read(self.root.join(name)).ok()?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Ids of all processes.
    pub fn list(&self) -> Vec<u32> {
        let Ok(entries) = fs::read_dir(&self.root) else { return Vec::new() };
        entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect()
    }

    /// The numbers of a process; `None` when it is gone.
    pub fn stat(&self, pid: u32) -> Option<Stat> {
        parse_stat(&self.read(&format!("{pid}/stat"))?)
    }

    /// Its effective user.
    pub fn uid(&self, pid: u32) -> Option<u32> {
        let status = self.read(&format!("{pid}/status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
        line.split_ascii_whitespace().nth(1)?.parse().ok()
    }

    /// Its command line, cut, without secrets; empty for threads of the kernel and for the dead.
    pub fn command(&self, pid: u32) -> String {
        let mut bytes = Vec::new();
        if let Ok(file) = fs::File::open(self.root.join(format!("{pid}/cmdline"))) {
            // More than is kept, so that a secret at the edge is seen whole.
            let _ = file.take(2 * MAX_COMMAND_BYTES as u64).read_to_end(&mut bytes);
        }
        while bytes.last().is_some_and(|byte| *byte == 0 || *byte == b' ') {
            bytes.pop();
        }
        for byte in &mut bytes {
            if *byte == 0 {
                *byte = b' ';
            }
        }
        let mut text = String::from_utf8_lossy(&redact::plain(&bytes)).into_owned();
        text.truncate(text.floor_char_boundary(MAX_COMMAND_BYTES));
        text
    }

    /// Its control group: the only one, or the one systemd made where there are many.
    pub fn cgroup(&self, pid: u32) -> String {
        self.read(&format!("{pid}/cgroup")).map(|text| find_cgroup(&text)).unwrap_or_default()
    }

    /// Since boot, seconds.
    pub fn uptime(&self) -> f64 {
        let text = self.read("uptime").unwrap_or_default();
        text.split_ascii_whitespace().next().and_then(|word| word.parse().ok()).unwrap_or(0.0)
    }

    /// When the machine was booted by its own clock, seconds since 1970.
    pub fn boot_time(&self) -> i64 {
        let text = self.read("stat").unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("btime "));
        line.and_then(|number| number.trim().parse().ok()).unwrap_or(0)
    }
}

fn parse_stat(text: &str) -> Option<Stat> {
    // The name is in parentheses and may itself hold parentheses and blanks.
    let end = text.rfind(')')?;
    let name = text.get(text.find('(')? + 1..end)?.to_owned();
    let fields: Vec<&str> = text.get(end + 1..)?.split_ascii_whitespace().collect();
    let number = |at: usize| fields.get(at).and_then(|field| field.parse::<u64>().ok());
    Some(Stat {
        name,
        state: (*fields.first()?).to_owned(),
        parent: u32::try_from(number(1)?).ok()?,
        ticks: number(11)?.saturating_add(number(12)?),
        threads: number(17).and_then(|count| u32::try_from(count).ok()).unwrap_or(0),
        start_time: number(19)?,
        pages: number(21).unwrap_or(0),
    })
}

fn find_cgroup(text: &str) -> String {
    // 0::PATH is version 2; under version 1 systemd has a hierarchy of its own, name=systemd.
    let of = |wanted: fn(&str) -> bool| {
        text.lines().find_map(|line| {
            let mut fields = line.splitn(3, ':').skip(1);
            let (names, path) = (fields.next()?, fields.next()?);
            wanted(names).then(|| path.to_owned())
        })
    };
    let second = of(str::is_empty).filter(|path| path != "/");
    second.or_else(|| of(|names| names == "name=systemd")).unwrap_or_else(|| "/".to_owned())
}

/// The unit of systemd that a control group belongs to (systemd.unit(5)); of a person's own
/// manager, the unit within it.
pub fn find_unit(cgroup: &str) -> Option<String> {
    let is_unit = |part: &&str| {
        part.rsplit_once('.').is_some_and(|(name, kind)| {
            !name.is_empty() && matches!(kind, "service" | "scope" | "mount" | "socket" | "swap")
        })
    };
    let mut units = cgroup.split('/').filter(is_unit);
    let first = units.next()?;
    let of_person = first.starts_with("user@").then(|| units.next()).flatten();
    Some(of_person.unwrap_or(first).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_with_parentheses_and_blanks_is_no_riddle() {
        let text = "42 (a) b (c)) S 7 42 42 0 -1 4194560 1 0 0 0 11 22 0 0 20 0 3 0 777 4096 5 1";
        let stat = parse_stat(text).expect("parsed");
        let expected = Stat {
            name: "a) b (c)".to_owned(),
            state: "S".to_owned(),
            parent: 7,
            ticks: 33,
            threads: 3,
            start_time: 777,
            pages: 5,
        };
        assert_eq!(stat, expected);
        for cut in 0..text.len() {
            let _ = parse_stat(&text[..cut]);
        }
    }

    #[test]
    fn unit_is_found_in_control_groups_of_both_versions() {
        let unit = |text: &str| find_unit(&find_cgroup(text));
        assert_eq!(unit("0::/system.slice/nginx.service\n"), Some("nginx.service".to_owned()));
        let template = "0::/system.slice/system-getty.slice/getty@tty1.service\n";
        assert_eq!(unit(template), Some("getty@tty1.service".to_owned()));
        let person = "0::/user.slice/user-1000.slice/user@1000.service/app.slice/foot.service";
        assert_eq!(unit(person), Some("foot.service".to_owned()));
        let manager = "0::/user.slice/user-1000.slice/user@1000.service/init.scope";
        assert_eq!(unit(manager), Some("init.scope".to_owned()));
        let first = "12:pids:/x\n1:name=systemd:/system.slice/cron.service\n0::/\n";
        assert_eq!(unit(first), Some("cron.service".to_owned()));
        assert_eq!(unit("0::/\n"), None);
        assert_eq!(unit("0::/docker/0123\n"), None);
        assert_eq!(unit("nonsense"), None);
        assert_eq!(find_cgroup("1:cpu:/a\n"), "/");
    }

    #[test]
    fn what_cannot_be_read_is_absent_and_no_error() {
        let root = tempfile::tempdir().expect("a folder");
        let proc = Proc::at(root.path());
        assert_eq!((proc.list(), proc.stat(1), proc.uid(1)), (Vec::new(), None, None));
        assert_eq!((proc.command(1), proc.cgroup(1)), (String::new(), String::new()));
        assert_eq!((proc.uptime(), proc.boot_time()), (0.0, 0));
    }

    #[test]
    fn secrets_of_a_command_line_stay_on_the_machine() {
        let root = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(root.path().join("7")).expect("made");
        std::fs::write(root.path().join("7/cmdline"), b"mysql\0--password=Tr0ub4dor&3x\0-e\0x\0\0")
            .expect("written");
        let command = Proc::at(root.path()).command(7);
        assert!(command.starts_with("mysql --password=") && command.ends_with("-e x"), "{command}");
        assert!(!command.contains("Tr0ub4dor"), "{command}");
    }
}
