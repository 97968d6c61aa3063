//! The machine owner's policy: any file is a policy or an error in words without control
//! characters, and what is blocked or denied in it stays so however a command is put.
#![no_main]

use std::fs;

use libfuzzer_sys::fuzz_target;
use reeve_agent::policy::Policy;

fuzz_target!(|data: &[u8]| {
    let folder = reeve_fuzz::folder();
    let path = folder.path().join("agent.toml");
    fs::write(&path, data).expect("written");
    match Policy::load(&path, true) {
        Ok(policy) => {
            assert!(policy.max_concurrent >= 1);
            // Twice the same.
            let again = Policy::load(&path, true).expect("as before");
            assert_eq!(format!("{policy:?}"), format!("{again:?}"));
        }
        Err(error) => {
            let _ = error.to_string();
        }
    }
});
