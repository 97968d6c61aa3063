//! `MACHINE:PATH`: what is understood prints to what is understood as the same, and a file here is
//! never taken for one elsewhere.
#![no_main]

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use libfuzzer_sys::fuzz_target;
use reeve_cli::target::Target;

fuzz_target!(|data: &[u8]| {
    match Target::parse(OsStr::from_bytes(data)) {
        Ok(Target::Remote(remote)) => {
            assert!(remote.path.check().is_ok());
            assert!(!remote.selector.is_empty());
            let text = [remote.selector.as_bytes(), b":", remote.path.as_bytes()].concat();
            assert_eq!(text, data);
            let _ = (remote.may_be_many(), remote.file_name());
            assert!(!remote.path.display().chars().any(char::is_control));
        }
        Ok(Target::Local(path)) => assert_eq!(path.as_os_str().as_bytes(), data),
        Ok(Target::Standard) => assert_eq!(data, b"-"),
        Err(error) => {
            let _ = error.to_string();
        }
    }
});
