//! What people carry and type: tokens, pins, ids. What is read is written as it was, white space and
//! the case of digits aside, and nothing of a secret shows in its debug form.
#![no_main]

use libfuzzer_sys::fuzz_target;
use reeve_protocol::token::{Pin, Token};
use reeve_protocol::{MachineId, OperationId};

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(token) = Token::parse(text) {
        let written = token.to_text();
        assert_eq!(Token::parse(&written), Ok(token.clone()));
        let secret: String = token.secret.iter().map(|byte| format!("{byte:02x}")).collect();
        assert!(!format!("{token:?}").contains(&secret));
    }
    // With a checksum that is right, which no fuzzer finds by itself.
    let signed = text.trim();
    if let Some(token) = with_checksum(signed) {
        assert_eq!(Token::parse(&token.to_text()), Ok(token));
    }
    if let Ok(pin) = text.parse::<Pin>() {
        assert_eq!(pin.to_string().parse(), Ok(pin));
    }
    if let Ok(id) = text.parse::<MachineId>() {
        assert_eq!(id.to_string().parse::<MachineId>().ok(), Some(id));
    }
    if let Ok(id) = text.parse::<OperationId>() {
        assert_eq!(id.to_string().parse::<OperationId>().ok(), Some(id));
    }
});

fn with_checksum(signed: &str) -> Option<Token> {
    let mut crc = u32::MAX;
    for byte in signed.bytes() {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0xEDB8_8320 & (crc & 1).wrapping_neg());
        }
    }
    Token::parse(&format!("{signed}_{:08x}", !crc)).ok()
}
