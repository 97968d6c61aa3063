//! Landlock (landlock(7)): the second wall around files, and the first around signals and abstract
//! sockets. Rules hold on to files, not to mounts, so they stand even if a mount were undone.

use std::os::fd::OwnedFd;

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, PathBeneath, PathFd, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetError, Scope,
};
use reeve_protocol::ops::Network;

use super::mounts::{DEVICES, SCRATCH};
use super::{SandboxError, Walls};

/// What programs need to run at all, for policies that allow reading in some places only.
const PROGRAMS: &[&str] = &[
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/proc",
    "/sys",
    "/dev",
    "/etc/ld.so.cache",
    "/etc/ld.so.preload",
    "/etc/alternatives",
    "/etc/nsswitch.conf",
    "/etc/passwd",
    "/etc/group",
    "/etc/localtime",
];

/// The newest set of rights that these rules were written for. The kernel's may be older: rights
/// it does not know are left out, as they could not be exercised or are held by other walls.
const WRITTEN_FOR: ABI = ABI::V7;

/// Whether the kernel has Landlock (`LANDLOCK_CREATE_RULESET_VERSION`).
pub fn is_there() -> bool {
    super::enter::find_landlock_version() > 0
}

/// The rules; `None` where the kernel has no Landlock.
///
/// # Errors
/// When it has, and they cannot be made; or when the policy needs it and it is not there.
pub fn build(walls: &Walls, network: Network) -> Result<Option<OwnedFd>, SandboxError> {
    let everywhere = walls.allowed.iter().any(|path| path == "/");
    if !is_there() {
        return if everywhere {
            Ok(None)
        } else {
            Err(SandboxError::Policy(
                "[paths] allowed names some folders only, and this kernel has no Landlock to keep \
                 a command in them"
                    .to_owned(),
            ))
        };
    }
    let rules = try_build(walls, network, everywhere).map_err(|error| SandboxError::Step {
        what: "making the rules of Landlock".to_owned(),
        source: std::io::Error::other(error),
    })?;
    rules.map(Some).ok_or_else(|| SandboxError::Step {
        what: "making the rules of Landlock".to_owned(),
        source: std::io::Error::other("the kernel gave none"),
    })
}

fn try_build(
    walls: &Walls,
    network: Network,
    everywhere: bool,
) -> Result<Option<OwnedFd>, RulesetError> {
    let writing = AccessFs::from_write(WRITTEN_FOR) | AccessFs::IoctlDev;
    let reading = AccessFs::ReadFile | AccessFs::ReadDir;
    let handled = if everywhere { writing } else { writing | reading };
    let ports: BitFlags<AccessNet> = match network {
        Network::Use => AccessNet::BindTcp.into(),
        _ => AccessNet::from_all(WRITTEN_FOR),
    };
    let mut rules = Ruleset::default()
        .handle_access(handled)?
        .handle_access(ports)?
        .scope(Scope::from_all(WRITTEN_FOR))?
        .create()?;
    if let Ok(scratch) = PathFd::new(SCRATCH) {
        rules = rules.add_rule(PathBeneath::new(scratch, handled & !AccessFs::IoctlDev))?;
    }
    let device = AccessFs::WriteFile | AccessFs::Truncate | (handled & AccessFs::ReadFile);
    for name in DEVICES {
        if let Ok(file) = PathFd::new(format!("/dev/{name}")) {
            rules = rules.add_rule(PathBeneath::new(file, device))?;
        }
    }
    if !everywhere {
        let paths = PROGRAMS.iter().copied().chain(walls.allowed.iter().map(String::as_str));
        for path in paths {
            if let Ok(beneath) = PathFd::new(path) {
                let rights = if std::path::Path::new(path).is_dir() {
                    reading
                } else {
                    AccessFs::ReadFile.into()
                };
                rules = rules.add_rule(PathBeneath::new(beneath, rights))?;
            }
        }
    }
    Ok(rules.into())
}
