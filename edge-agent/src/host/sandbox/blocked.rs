//! What a command in inspect mode may not read, although it may read as root does.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::SandboxError;

/// Blocked whatever the policy says: password hashes, private keys and tokens, what the kernel
/// shows to debuggers, and what Reeve itself keeps.
pub const ALWAYS_BLOCKED: &[&str] = &[
    "/etc/shadow",
    "/etc/shadow-",
    "/etc/gshadow",
    "/etc/gshadow-",
    "/etc/security/opasswd",
    "/etc/ssh/ssh_host_rsa_key",
    "/etc/ssh/ssh_host_dsa_key",
    "/etc/ssh/ssh_host_ecdsa_key",
    "/etc/ssh/ssh_host_ed25519_key",
    "/etc/ssl/private",
    "/etc/pki/tls/private",
    "/etc/krb5.keytab",
    "/var/lib/reeve",
    "/var/lib/reeve-agent",
    "/run/credentials",
    "/run/secrets",
    "~/.ssh",
    "~/.gnupg",
    "~/.aws",
    "~/.azure",
    "~/.config/gcloud",
    "~/.kube",
    "~/.docker/config.json",
    "~/.netrc",
    "~/.pgpass",
    "~/.my.cnf",
    "~/.git-credentials",
    "~/.password-store",
    // Reading these has effects: it takes trace records away, or drives hardware.
    "/sys/kernel/debug",
    "/sys/kernel/tracing",
    "/run/initctl",
    "/run/systemd/initctl",
];

/// Paths at the most: each is a mount of its own.
const MAX_PATHS: usize = 4096;

/// The paths that exist here, `~` replaced by every user's home.
///
/// # Errors
/// When there are too many, or one is the root folder.
pub fn expand<'a>(
    patterns: impl IntoIterator<Item = &'a str>,
) -> Result<BTreeSet<String>, SandboxError> {
    let mut found = BTreeSet::new();
    for candidate in list_candidates(patterns) {
        // The target of a link is what has to be hidden. One that leads nowhere hides nothing.
        let Some(path) = candidate.find_target() else { continue };
        let path = path.to_string_lossy().into_owned();
        if path == "/" {
            return Err(SandboxError::Policy(format!(
                "\"{}\" is blocked, which is the root folder; nothing could run",
                candidate.path.display()
            )));
        }
        found.insert(path);
    }
    if found.len() > MAX_PATHS {
        return Err(SandboxError::Policy(format!(
            "{} paths are blocked on this machine; at most {MAX_PATHS} can be hidden",
            found.len()
        )));
    }
    Ok(found)
}

/// A path that is to be blocked, whether or not something is there.
#[derive(Debug)]
pub struct Candidate {
    home: Option<PathBuf>,
    /// As it was written, `~` replaced.
    pub path: PathBuf,
}

impl Candidate {
    /// Where it really leads, when something is there and the owner of the home may decide over it.
    #[must_use]
    pub fn find_target(&self) -> Option<PathBuf> {
        let target = fs::canonicalize(&self.path).ok()?;
        let astray = self.home.as_ref().is_some_and(|home| leads_astray(home, &target));
        (!astray).then_some(target)
    }
}

/// All paths that patterns stand for, `~` replaced by every user's home.
pub fn list_candidates<'a>(patterns: impl IntoIterator<Item = &'a str>) -> Vec<Candidate> {
    let homes = list_homes(&fs::read_to_string("/etc/passwd").unwrap_or_default());
    let mut candidates = Vec::new();
    for pattern in patterns {
        match pattern.strip_prefix('~') {
            Some(rest) => candidates.extend(homes.iter().map(|home| Candidate {
                home: Some(PathBuf::from(home)),
                path: PathBuf::from(format!("{home}{rest}")),
            })),
            None => candidates.push(Candidate { home: None, path: PathBuf::from(pattern) }),
        }
    }
    candidates
}

/// Whether a user made something in the own home a link to what belongs to others. Followed, it
/// would let any user hide `/var/log` from whoever looks at the machine.
fn leads_astray(home: &Path, target: &Path) -> bool {
    let inside = fs::canonicalize(home).is_ok_and(|home| target.starts_with(home));
    let owner = |path: &Path| fs::metadata(path).map(|about| about.uid()).ok();
    !inside && owner(home) != owner(target)
}

/// Homes of the users that this machine itself knows, and whatever is in `/home`: users of a
/// directory service have theirs there, and are in no file.
fn list_homes(passwd: &str) -> BTreeSet<String> {
    let mut homes: BTreeSet<String> = passwd
        .lines()
        .filter_map(|line| line.split(':').nth(5))
        .map(|home| home.trim_end_matches('/'))
        .filter(|home| home.starts_with('/'))
        .map(str::to_owned)
        .collect();
    homes.insert("/root".to_owned());
    for entry in fs::read_dir("/home").into_iter().flatten().flatten() {
        homes.insert(entry.path().to_string_lossy().into_owned());
    }
    homes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn homes_come_from_the_file_of_users() {
        let homes = list_homes("a:x:1:1::/srv/a/:/bin/sh\nb:x:2:2::/:/bin/sh\nc:x\n");
        assert!(homes.contains("/srv/a") && homes.contains("/root") && !homes.contains(""));
    }

    #[test]
    fn user_cannot_hide_what_belongs_to_others() {
        let (home, other) = (tempfile::tempdir().expect("a"), tempfile::tempdir().expect("b"));
        std::os::unix::fs::chown(home.path(), Some(1), Some(1)).expect("run the tests as root");
        let target = |path: &Path| fs::canonicalize(path).expect("there");
        assert!(leads_astray(home.path(), &target(other.path())));
        std::os::unix::fs::chown(other.path(), Some(1), Some(1)).expect("chown");
        assert!(!leads_astray(home.path(), &target(other.path())), "the user's own, elsewhere");
        let inner = home.path().join("of-root");
        std::fs::write(&inner, "").expect("written");
        assert!(!leads_astray(home.path(), &target(&inner)));
    }

    #[test]
    fn only_what_exists_is_hidden_and_links_are_followed() {
        let folder = tempfile::tempdir().expect("a folder");
        let secret = folder.path().join("secret");
        std::fs::write(&secret, "x").expect("written");
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&secret, &link).expect("linked");
        let patterns = [link.to_str().expect("text"), "/no/such/thing"];
        let found = expand(patterns).expect("expands");
        assert_eq!(found.len(), 1);
        assert!(found.iter().all(|path| path.ends_with("/secret")));
        assert!(expand(["/"]).is_err());
    }
}
