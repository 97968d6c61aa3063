//! The files of an operation (`spec`, `keeper`, `exit`, `asked`), the agent's identity and its status: any
//! bytes are a value or an error, and a value is written as it was read.
#![no_main]

use libfuzzer_sys::fuzz_target;
use reeve_agent::keeper::files::{self, Filed};
use reeve_fuzz::choose;

fn check<T: Filed>(data: &[u8]) {
    // With the name in front, and without.
    for bytes in [[T::MAGIC.as_slice(), data].concat(), data.to_vec()] {
        if let Ok(value) = files::from_bytes::<T>(&bytes) {
            let once = files::to_bytes(&value).expect("what was read can be written");
            let again = files::from_bytes::<T>(&once).expect("what was written can be read");
            assert_eq!(once, files::to_bytes(&again).expect("written"));
        }
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((which, bytes)) = choose(data) else { return };
    match which % 4 {
        0 => check::<files::Spec>(bytes),
        1 => check::<files::KeeperFile>(bytes),
        2 => check::<reeve_protocol::OperationResult>(bytes),
        _ => check::<files::Asked>(bytes),
    }
});
