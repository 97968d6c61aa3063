//! What a direct command may do, as far as the policy has to know.

use reeve_protocol::ops::{Effect, Mode, Network};
use reeve_sdk::api::OperationRequest;

use crate::operations::{self, Body};
use crate::problem::ApiError;

/// The effect, and why it has it.
///
/// # Errors
/// 422 when the operation is none.
pub(super) fn assess(operation: &OperationRequest) -> Result<(Effect, Vec<String>), ApiError> {
    let command = match operations::build_body(operation)? {
        Body::ExecuteCommand(command) => command,
        Body::ExplainOperation(_) => {
            return Ok((
                Effect::Read,
                vec!["it looks at what runs, and changes nothing".to_owned()],
            ));
        }
        // Known exactly: no shell takes part in it.
        Body::Work(work) => return Ok((work.effect, vec![work.about])),
    };
    // What may talk to others can change them.
    if command.mode == Mode::Inspect && command.network != Network::Use {
        return Ok((
            Effect::Read,
            vec!["inspect mode: the kernel lets it change nothing".to_owned()],
        ));
    }
    let assessment = reeve_risk::assess(&command.command, &command.env);
    let findings = assessment.findings.iter();
    let reasons = findings.map(|finding| format!("{}: {}", finding.segment, finding.reason));
    Ok((assessment.effect, reasons.collect()))
}
