//! Messages of a channel to one operation: what is understood is written as the same bytes.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use reeve_sdk::api::channel::{ClientMessage, HEADER_BYTES, MAX_INPUT_BYTES};

fuzz_target!(|data: &[u8]| {
    let Some(message) = ClientMessage::parse(Bytes::copy_from_slice(data)) else { return };
    assert!(data.len() <= HEADER_BYTES + MAX_INPUT_BYTES);
    assert_eq!(message.to_bytes(), data);
    assert_eq!(ClientMessage::parse(message.to_bytes()), Some(message));
});
