//! Programs that believe it is another time: libfaketime, loaded into them alone.

use std::path::PathBuf;

/// What has to be in a program's environment so that its clock differs, as faketime(1) says it:
/// `+2h`. Steady clocks stay as they are, as they would on a machine whose clock is wrong.
///
/// # Panics
/// When libfaketime is missing.
#[must_use]
pub(crate) fn environment(clock: Option<&str>) -> Vec<(&'static str, String)> {
    let Some(clock) = clock else { return Vec::new() };
    vec![
        ("LD_PRELOAD", find_library().to_string_lossy().into_owned()),
        ("FAKETIME", clock.to_owned()),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
        ("DONT_FAKE_MONOTONIC", "1".to_owned()),
    ]
}

fn find_library() -> PathBuf {
    let places = std::fs::read_dir("/usr/lib").into_iter().flatten().flatten();
    places
        .map(|place| place.path().join("faketime/libfaketimeMT.so.1"))
        .find(|path| path.exists())
        .expect("libfaketime is missing. Run `make install-prerequisites`.")
}
