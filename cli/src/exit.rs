//! Exit codes, decided here and nowhere else.

use reeve_sdk::api::{Operation, OperationState};

/// All went well.
pub const OK: u8 = 0;
/// Some machine did not succeed.
pub const SOME_FAILED: u8 = 1;
/// The command line makes no sense; clap uses the same.
pub const USAGE: u8 = 2;
/// The command's time was up, as timeout(1) says it.
pub const TIMED_OUT: u8 = 124;
/// Ended by Ctrl-C, or somebody cancelled: 128 + SIGINT.
pub const INTERRUPTED: u8 = 130;
/// Nobody reads our stdout any more: 128 + SIGPIPE.
pub const BROKEN_PIPE: u8 = 141;
/// Reeve itself could not do it.
pub const OWN_FAILURE: u8 = 255;

/// For one machine: the remote command's own code.
pub fn of_operation(operation: &Operation) -> u8 {
    match operation.state {
        OperationState::Succeeded => OK,
        OperationState::TimedOut => TIMED_OUT,
        OperationState::Cancelled => INTERRUPTED,
        _ => match (operation.exit_code, operation.signal) {
            (Some(code), _) => match u8::try_from(code & 0xFF) {
                // Not succeeded, so not 0, whatever else is said.
                Ok(0) | Err(_) => OWN_FAILURE,
                Ok(code) => code,
            },
            (None, Some(signal)) => u8::try_from(128 + (signal & 0x7F)).unwrap_or(OWN_FAILURE),
            (None, None) => OWN_FAILURE,
        },
    }
}

/// For a whole job: of one machine its own, of many whether all succeeded.
pub fn of_job<'a>(operations: impl ExactSizeIterator<Item = &'a Operation>) -> u8 {
    let count = operations.len();
    let mut codes = operations.map(of_operation);
    match count {
        0 => OWN_FAILURE,
        1 => codes.next().unwrap_or(OWN_FAILURE),
        _ if codes.all(|code| code == OK) => OK,
        _ => SOME_FAILED,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watch::samples::operation;

    fn code(state: OperationState, exit: Option<i32>, signal: Option<i32>) -> u8 {
        let operation = Operation { exit_code: exit, signal, ..operation("m", state) };
        of_operation(&operation)
    }

    #[test]
    fn one_machine_gives_its_own_code() {
        assert_eq!(code(OperationState::Succeeded, Some(0), None), 0);
        assert_eq!(code(OperationState::Failed, Some(3), None), 3);
        assert_eq!(code(OperationState::Failed, Some(127), None), 127);
        assert_eq!(code(OperationState::Failed, None, Some(9)), 137);
        assert_eq!(code(OperationState::TimedOut, None, Some(15)), 124);
        assert_eq!(code(OperationState::Cancelled, None, Some(2)), 130);
        for state in [OperationState::Refused, OperationState::Expired, OperationState::Lost] {
            assert_eq!(code(state, None, None), 255, "{state:?}");
        }
    }

    #[test]
    fn what_did_not_succeed_is_never_zero() {
        for state in OperationState::ALL {
            for exit in [None, Some(0), Some(256), Some(-1)] {
                let code = code(state, exit, None);
                assert_eq!(code == 0, state == OperationState::Succeeded, "{state:?} {exit:?}");
            }
        }
    }

    #[test]
    fn many_machines_give_zero_only_if_all_succeeded() {
        let ok = operation("a", OperationState::Succeeded);
        let bad = Operation { exit_code: Some(7), ..operation("b", OperationState::Failed) };
        assert_eq!(of_job([&ok, &ok].into_iter()), 0);
        assert_eq!(of_job([&ok, &bad].into_iter()), 1);
        assert_eq!(of_job([&bad].into_iter()), 7);
        assert_eq!(of_job([].into_iter()), 255);
    }
}
