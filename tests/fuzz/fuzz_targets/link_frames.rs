//! Frames of the link, both directions: an envelope with any body of its kind, and each body by
//! itself. What is read, written and read again is the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use reeve_fuzz::{choose, holds, read};
use reeve_protocol::{
    Accepted, Acknowledge, Body, ClientLog, Control, Credit, Envelope, Facts, Goodbye, Heartbeat,
    OperationResult, Output, Report, Request, Sample,
};

fn open<B: Body>(envelope: &Envelope) {
    match envelope.open::<B>() {
        Ok(body) => {
            holds(&body);
            let mut wrapped = Envelope::of(&body).expect("a body that was read can be sent");
            wrapped.id = envelope.id;
            assert!(wrapped.open::<B>().is_ok());
            assert_eq!(envelope.kind, B::KIND);
        }
        Err(error) => {
            let _ = error.to_string();
        }
    }
}

fuzz_target!(|data: &[u8]| {
    if let Some(envelope) = read::<Envelope>(data) {
        let again: Envelope =
            reeve_protocol::decode(&reeve_protocol::encode(&envelope).expect("encodes"))
                .expect("decodes");
        assert_eq!(envelope, again);
        let _ = envelope.operation();
        macro_rules! each { ($($body:ty),*) => { $(open::<$body>(&envelope);)* } }
        each!(
            Request,
            Accepted,
            Output,
            Credit,
            Control,
            OperationResult,
            Acknowledge,
            Heartbeat,
            ClientLog,
            Report,
            Facts,
            Goodbye
        );
    }
    let Some((which, bytes)) = choose(data) else { return };
    match which % 13 {
        0 => {
            let _ = read::<Request>(bytes);
        }
        1 => {
            let _ = read::<Accepted>(bytes);
        }
        2 => {
            let _ = read::<Output>(bytes);
        }
        3 => {
            let _ = read::<Credit>(bytes);
        }
        4 => {
            let _ = read::<Control>(bytes);
        }
        5 => {
            let _ = read::<OperationResult>(bytes);
        }
        6 => {
            let _ = read::<Acknowledge>(bytes);
        }
        7 => {
            let _ = read::<Heartbeat>(bytes);
        }
        8 => {
            let _ = read::<ClientLog>(bytes);
        }
        9 => {
            let _ = read::<Report>(bytes);
        }
        10 => {
            let _ = read::<Facts>(bytes);
        }
        11 => {
            let _ = read::<Goodbye>(bytes);
        }
        _ => {
            let _ = read::<Sample>(bytes);
        }
    }
});
