//! Where the programs under test are. Cargo builds no other package's programs for a test, so they
//! are looked up beside the test itself, and an old one is refused: a story about yesterday's
//! program proves nothing.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// The folder with the programs: `REEVE_BIN_DIR`, else where this test was built.
fn folder() -> PathBuf {
    if let Some(folder) = std::env::var_os("REEVE_BIN_DIR") {
        return PathBuf::from(folder);
    }
    let me = std::env::current_exe().expect("a running program has a path");
    let folder = me.parent().expect("a program is in a folder");
    // Tests are in target/PROFILE/deps, programs in target/PROFILE.
    if folder.ends_with("deps") { folder.parent().expect("deps has a parent") } else { folder }
        .to_owned()
}

fn find(name: &str) -> PathBuf {
    let program = folder().join(name);
    assert!(
        program.is_file(),
        "{} is missing. Build the programs first: `cargo build --workspace --bins` (`make test` does).",
        program.display()
    );
    if std::env::var_os("REEVE_BIN_DIR").is_none() {
        check_freshness(&program);
    }
    program
}

/// Cargo writes beside each program the list of sources it was made from.
fn check_freshness(program: &Path) {
    let list = program.with_extension("d");
    let (Ok(list), Ok(built)) =
        (std::fs::read_to_string(&list), program.metadata().and_then(|meta| meta.modified()))
    else {
        return;
    };
    let sources = list.split_once(": ").map_or("", |(_, sources)| sources);
    // Spaces inside a path are written as `\ `.
    for source in sources.trim().replace("\\ ", "\0").split(' ') {
        let source = PathBuf::from(source.replace('\0', " "));
        let changed = source.metadata().and_then(|meta| meta.modified());
        assert!(
            !changed.is_ok_and(|changed| changed > built),
            "{} is older than {}. Build again: `cargo build --workspace --bins` (`make test` does).",
            program.display(),
            source.display()
        );
    }
}

macro_rules! programs {
    ($($(#[$doc:meta])* $function:ident = $name:literal;)*) => {
        $(
            $(#[$doc])*
            ///
            /// # Panics
            /// When it is missing or older than its sources.
            pub fn $function() -> &'static Path {
                static FOUND: OnceLock<PathBuf> = OnceLock::new();
                FOUND.get_or_init(|| find($name))
            }
        )*
    };
}

programs! {
    /// `reeve-coordinator`.
    coordinator = "reeve-coordinator";
    /// `reeve-agent`.
    agent = "reeve-agent";
    /// `reeve`.
    reeve = "reeve";
    /// `reeve-syscall-faults`.
    syscall_faults = "reeve-syscall-faults";
}
