//! The coordinator's settings: any file is settings or one line that says what is wrong; settings
//! are written as a file that comes to the same, and without the database's password.
#![no_main]

use std::fs;

use libfuzzer_sys::fuzz_target;
use reeve_coordinator::config::{Args, load};

fuzz_target!(|data: &[u8]| {
    let folder = reeve_fuzz::folder();
    let path = folder.path().join("coordinator.toml");
    fs::write(&path, data).expect("written");
    let args = Args { config: Some(path.clone()), ..Args::default() };
    let config = match load(&args) {
        Ok(config) => config,
        Err(error) => {
            let text = error.to_string();
            assert!(!text.contains('\n'), "an error of several lines: {text}");
            return;
        }
    };
    let written = config.to_text();
    fs::write(&path, &written).expect("written");
    let again = load(&args).unwrap_or_else(|error| panic!("{error}:\n{written}"));
    assert_eq!(again.to_text(), written);
    assert!(!config.database.redacted().contains("hunter2"));
});
