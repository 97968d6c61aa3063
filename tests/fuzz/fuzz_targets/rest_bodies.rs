//! Bodies of requests: what is understood is written and understood again as the same, and what is
//! asked of machines is checked, turned into the wire's form, and read there as the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use reeve_coordinator::operations::body::{Body, build};
use reeve_fuzz::{choose, read_json};
use reeve_sdk::api::*;

macro_rules! bodies {
    ($($body:ty),* $(,)?) => {
        /// One function for each.
        const BODIES: &[fn(&str)] = &[$(|text| { let _ = read_json::<$body>(text); },)*];
    };
}
bodies!(
    follow::FollowRequest,
    ResizeRequest,
    SignalRequest,
    CancelRequest,
    Withdraw,
    Decide,
    VaultPassphrase,
    NewVaultEntry,
    LoginRequest,
    SetupRequest,
    NewApiKey,
    NewUpload,
    JobInput,
    OutputTo,
    PlannedCommand,
    TaskRequest,
    TaskDecision,
    ApprovalChoice,
    TaskAnswer,
    NewUser,
    UserChange,
    ProviderSettings,
    RoleModels,
    ModelTestRequest,
    MachineChange,
    NewEnrolmentToken,
    TypedPiece,
    Job,
    Operation,
    Task,
    TaskEvent,
    Machine,
    Problem,
);

fuzz_target!(|data: &[u8]| {
    let Some((which, rest)) = choose(data) else { return };
    let Ok(text) = std::str::from_utf8(rest) else { return };
    let which = usize::from(which) % (BODIES.len() + 8);
    if let Some(body) = BODIES.get(which) {
        return body(text);
    }
    let Some(request) = read_json::<JobRequest>(text) else { return };
    let Ok(body) = build(&request.operation) else { return };
    let bytes = body.encode().expect("what is understood can be sent");
    let _ = (body.name(), body.has_stdin(), body.lane());
    match &body {
        Body::ExecuteCommand(command) => {
            let there: reeve_protocol::ops::ExecuteCommand =
                reeve_protocol::decode(&bytes).expect("the machine understands it");
            assert_eq!(there, **command);
            assert!(there.validate().is_ok());
        }
        Body::ExplainOperation(question) => {
            let there: reeve_protocol::ops::ExplainOperation =
                reeve_protocol::decode(&bytes).expect("the machine understands it");
            assert_eq!(there, *question);
        }
        Body::Work(_) => {
            let _: serde::de::IgnoredAny =
                reeve_protocol::decode(&bytes).expect("the machine understands it");
        }
    }
});
