//! The agent's own small files, `identity.json` and `status.json`: any bytes are a value or an error, a
//! value is written as it was read, and what is read of an identity can be dialled or is refused.
#![no_main]

use libfuzzer_sys::fuzz_target;
use reeve_agent::state::StateFolder;
use reeve_agent::state::identity::{Identity, load_key};
use reeve_agent::state::status::StatusFile;
use reeve_agent::uplink::endpoint::Endpoint;
use reeve_fuzz::{choose, folder};

fuzz_target!(|data: &[u8]| {
    let Some((which, bytes)) = choose(data) else { return };
    let folder = folder();
    let state = StateFolder::create(folder.path().join("state")).expect("a state folder");
    let path = folder.path().join("state");
    match which % 3 {
        0 => {
            std::fs::write(path.join("identity.json"), bytes).expect("written");
            let Ok(identity) = Identity::load(&state) else { return };
            let pin = identity.pin.parse().ok();
            let _ = Endpoint::new(&identity.url, pin);
            identity.save(&state).expect("what was read can be written");
            let once = std::fs::read(path.join("identity.json")).expect("read");
            Identity::load(&state).expect("read again").save(&state).expect("written again");
            assert_eq!(once, std::fs::read(path.join("identity.json")).expect("read"));
        }
        1 => {
            std::fs::write(path.join("status.json"), bytes).expect("written");
            let Some(status) = StatusFile::find(&state) else { return };
            status.save(&state).expect("what was read can be written");
            assert_eq!(StatusFile::find(&state), Some(status));
        }
        _ => {
            std::fs::write(path.join("key"), bytes).expect("written");
            assert_eq!(load_key(&state).is_ok(), bytes.len() == 32);
        }
    }
});
