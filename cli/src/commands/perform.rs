//! What workers on machines do, asked from the command line: of each machine one answer, and who
//! gave none is told on stderr.

use reeve_sdk::api::{JobRequest, OperationRequest};
use reeve_sdk::{Answered, Client};
use serde::de::DeserializeOwned;

use super::approved;
use crate::exit;
use crate::failure::Failure;
use crate::terminal::note;

/// What machines answered.
pub struct Replies<T> {
    /// Those that could be read, by machine.
    pub answers: Vec<(String, T)>,
    /// How many machines were asked.
    pub asked: usize,
    /// The exit code: of one machine its own, of many whether all succeeded.
    pub code: u8,
}

/// Has it done on every machine of a selector.
pub async fn perform<T: DeserializeOwned>(
    client: &Client,
    selector: &str,
    operation: impl Into<OperationRequest>,
) -> Result<Replies<T>, Failure> {
    let request = JobRequest::new(selector, operation);
    let answered = match client.perform(&request).await.map_err(Failure::from) {
        Ok(answered) => answered,
        Err(failure) => {
            let job = approved::wait_for_job(client, failure, None).await?;
            Answered::gather(client.follow(job)).await?
        }
    };
    let code = exit::of_job(answered.iter().map(|answer| &answer.operation));
    let mut replies = Replies { answers: Vec::new(), asked: answered.len(), code };
    for Answered { operation, stdout, warnings, failure } in answered {
        let name = operation.machine;
        for warning in warnings {
            note(&format!("{name}: {warning}"));
        }
        if let Some(failure) = &failure {
            note(&format!("{name}: {failure}"));
        }
        // What failed may have answered in part.
        match serde_json::from_slice(&stdout) {
            Ok(answer) => replies.answers.push((name, answer)),
            Err(_) if failure.is_some() => {}
            Err(error) => {
                note(&format!("{name}: its answer makes no sense: {error}"));
                replies.code =
                    if replies.asked == 1 { exit::OWN_FAILURE } else { exit::SOME_FAILED };
            }
        }
    }
    Ok(replies)
}

/// Machines named one by one, as a selector.
pub fn to_selector(machines: &[String]) -> String {
    machines.join(",")
}
