//! Things to test with.

use reeve_protocol::{JobId, MachineId, OperationId};
use reeve_sdk::api::{
    ExecuteCommandRequest, Job, JobCounts, JobState, Operation, OperationRequest, OperationState,
    OutputInfo, Rollout, Time,
};

pub fn operation(machine: &str, state: OperationState) -> Operation {
    Operation {
        id: OperationId::new(),
        job_id: JobId::new(),
        machine_id: MachineId::new(),
        machine: machine.to_owned(),
        state,
        reachable: None,
        exit_code: None,
        signal: None,
        reason: None,
        containment: None,
        created: Time::from_micros(0),
        sent: None,
        started: None,
        finished: None,
        duration_ms: None,
        output: OutputInfo::default(),
        leftovers_killed: 0,
        usage: None,
        stdin_received: 0,
        stdin_closed: false,
    }
}

pub fn job(total: u32) -> Job {
    Job {
        id: JobId::new(),
        selector: "@all".to_owned(),
        operation: OperationRequest::ExecuteCommand(ExecuteCommandRequest {
            argv: Some(vec!["echo".to_owned(), "it's".to_owned()]),
            ..Default::default()
        }),
        rollout: Rollout::default(),
        input: None,
        output_to: None,
        state: JobState::Running,
        counts: JobCounts { total, ..Default::default() },
        created_by: "user:ada".to_owned(),
        created: Time::from_micros(0),
        finished: None,
        cancel_requested: None,
        relay: false,
        single: None,
    }
}
