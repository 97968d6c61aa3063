//! Addresses of coordinators, as people type them and as agents keep them: what is understood leads
//! to the host that was named, without TLS to this machine alone, and prints to the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use reeve_agent::uplink::endpoint::Endpoint;
use reeve_cli::connection::split_pin;

const PIN: &str = "4b928d6aac531f405854654024b1ab87c80e57eef1a72cf8725dd4e978b93030";

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    // Of `https://` alone the slashes go, and what is left is no address, as people are told.
    if let Ok((address, _)) = split_pin(text)
        && address.contains("://")
    {
        // Only what stands behind the first # is a pin.
        assert!(!address.contains('#'));
        let (again, pin) = split_pin(&address).expect("understood once, understood again");
        assert!(pin.is_none());
        assert_eq!(address, again);
    }
    let pin = PIN.parse().ok();
    for pin in [pin, None] {
        if let Ok(endpoint) = Endpoint::new(text, pin) {
            let shown = format!("{endpoint:?}");
            assert!(!shown.is_empty());
        }
    }
});
