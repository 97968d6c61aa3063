//! What agent and keeper say to each other: cut into any pieces it is the same messages, and no
//! message takes more memory than it may.
#![no_main]

use libfuzzer_sys::fuzz_target;
use reeve_agent::keeper::wire::{FromKeeper, Incoming, ToKeeper, to_frame};
use reeve_fuzz::{holds, pieces};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// All messages, and whether the end was a fault.
fn take<T: DeserializeOwned + Serialize>(pieces: &[&[u8]]) -> (Vec<T>, bool) {
    let mut incoming = Incoming::default();
    let mut found = Vec::new();
    for piece in pieces {
        incoming.push(piece);
        loop {
            match incoming.take::<T>() {
                Ok(Some(message)) => found.push(message),
                Ok(None) => break,
                Err(_) => return (found, true),
            }
        }
    }
    (found, false)
}

fn check<T: DeserializeOwned + Serialize + PartialEq + std::fmt::Debug>(data: &[u8], cuts: &[u8]) {
    let (whole, fault) = take::<T>(&[data]);
    let (cut, fault_of_cut) = take::<T>(&pieces(data, cuts));
    assert_eq!(whole, cut);
    assert_eq!(fault, fault_of_cut);
    let mut frames = Vec::new();
    for message in &whole {
        holds(message);
        frames.extend(to_frame(message).expect("what was read can be written"));
    }
    assert_eq!(take::<T>(&[&frames]), (whole, false));
}

fuzz_target!(|data: &[u8]| {
    let (cuts, rest) = data.split_at(data.len().min(4));
    check::<FromKeeper>(rest, cuts);
    check::<ToKeeper>(rest, cuts);
});
