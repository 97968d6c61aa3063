//! The body of every operation, as it comes to a machine (MessagePack) and as it is asked for
//! (JSON): read, written and read again it is the same, has the same faults, does the same to the
//! machine, and is told in one line without control characters.
#![no_main]

use libfuzzer_sys::fuzz_target;
use reeve_fuzz::{choose, read, read_json};
use reeve_protocol::ops::{
    AnyWork, ExecuteCommand, ExplainOperation, Failure, FileEntry, FileVersion, Findings,
    LogRecord, OpenTerminal, RemotePath, WriteAnswer, *,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

fn work<W: Work + Serialize + DeserializeOwned>(bytes: &[u8]) {
    if let Some(value) = read::<W>(bytes) {
        look(&value);
    }
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Some(value) = read_json::<W>(text)
    {
        look(&value);
        // The same through the wire as through the API.
        let wire = AnyWork::encode(&value).expect("encodes");
        let there: W = reeve_protocol::decode(&wire).expect("decodes");
        assert_eq!(Work::validate(&value), Work::validate(&there));
        assert_eq!(Work::effect(&value), Work::effect(&there));
        assert_eq!(Work::describe(&value), Work::describe(&there));
    }
}

fn look<W: Work>(value: &W) {
    let fault = Work::validate(value);
    let _ = Work::effect(value);
    let _ = Work::has_stdin(value);
    let told = Work::describe(value);
    // What is refused is told to nobody but whoever asked.
    if fault.is_ok() {
        assert!(!told.chars().any(char::is_control), "{told:?}");
    }
    if let Err(fault) = fault {
        let _ = fault.to_string();
    }
}

macro_rules! works {
    ($($name:ident: $about:literal,)*) => {
        /// One function for each.
        const WORKS: &[fn(&[u8])] = &[$(work::<$name>,)*];
    };
}
reeve_protocol::for_each_work!(works);

fuzz_target!(|data: &[u8]| {
    let Some((which, bytes)) = choose(data) else { return };
    let text = std::str::from_utf8(bytes).unwrap_or_default();
    let which = usize::from(which) % (WORKS.len() + 4);
    if let Some(work) = WORKS.get(which) {
        return work(bytes);
    }
    match which - WORKS.len() {
        0 => {
            if let Some(command) = read::<ExecuteCommand>(bytes) {
                let _ = command.validate();
            }
        }
        1 => {
            if let Some(terminal) = read::<OpenTerminal>(bytes) {
                let _ = Work::validate(&terminal);
            }
            {
                let _ = read::<ExplainOperation>(bytes);
            };
        }
        // What workers write, which comes from the machine.
        2 => {
            {
                let _ = read_json::<Failure>(text);
            };
            {
                let _ = read_json::<FileEntry>(text);
            };
            {
                let _ = read_json::<FileVersion>(text);
            };
            {
                let _ = read_json::<LogRecord>(text);
            };
            {
                let _ = read_json::<WriteAnswer>(text);
            };
            {
                let _ = read_json::<Processes>(text);
            };
            {
                let _ = read_json::<Services>(text);
            };
            {
                let _ = read_json::<UnitStatus>(text);
            };
            {
                let _ = read_json::<MachineDescription>(text);
            };
            {
                let _ = read_json::<WatchSample>(text);
            };
            {
                let _ = read_json::<GrepReport>(text);
            };
            {
                let _ = read_json::<FileListLine>(text);
            };
            {
                let _ = read_json::<Findings>(text);
            };
        }
        _ => {
            let path = RemotePath::new(bytes);
            assert!(!path.display().chars().any(char::is_control));
            let json = serde_json::to_string(&path).expect("any path is JSON");
            assert_eq!(serde_json::from_str::<RemotePath>(&json).expect("reads"), path);
            let wire = reeve_protocol::encode(&path).expect("any path goes over the wire");
            assert_eq!(reeve_protocol::decode::<RemotePath>(&wire).expect("reads"), path);
            if path.check().is_ok() {
                assert!(path.join(b"x").check().is_ok() || bytes.len() + 2 > MAX_PATH_BYTES);
            }
        }
    }
});
