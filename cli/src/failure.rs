//! What is told when something does not work: one line with the thing, the reason and the remedy.

use std::io::{self, Write};
use std::process::ExitCode;

use crate::exit;
use crate::terminal::escape;

/// Why the program ends without having done what it was asked.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    message: String,
    code: u8,
    #[source]
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
    request_id: Option<String>,
}

impl Failure {
    /// Reeve could not do it.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), code: exit::OWN_FAILURE, source: None, request_id: None }
    }

    /// With an exit code of its own.
    pub fn with_code(message: impl Into<String>, code: u8) -> Self {
        Self { code, ..Self::new(message) }
    }

    /// The command line asks for something that makes no sense.
    pub fn usage(message: impl Into<String>) -> Self {
        Self { code: exit::USAGE, ..Self::new(message) }
    }

    /// End with this code and say nothing.
    pub fn silent(code: u8) -> Self {
        Self { code, ..Self::new(String::new()) }
    }

    /// What the coordinator wants people to say yes to first, if that is why.
    pub fn approval(&self) -> Option<&reeve_sdk::api::ApprovalNeeded> {
        let error = self.source.as_ref()?.downcast_ref::<reeve_sdk::Error>()?;
        error.problem()?.approval.as_deref()
    }

    /// With what was behind it.
    pub fn because(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Says it on stderr and gives the exit code.
    pub fn report(&self, verbose: u8) -> ExitCode {
        if !self.message.is_empty() {
            let mut text = format!("reeve: {}\n", escape(&self.message));
            if verbose > 0 {
                let mut next = std::error::Error::source(self);
                let mut said = self.message.clone();
                while let Some(cause) = next {
                    let words = cause.to_string();
                    // Many errors repeat what is behind them.
                    if !said.contains(&words) {
                        text.push_str(&format!("  because: {}\n", escape(&words)));
                    }
                    said = words;
                    next = cause.source();
                }
                if let Some(id) = &self.request_id {
                    text.push_str(&format!("  request id: {}\n", escape(id)));
                }
            }
            // When even this cannot be written, the exit code has to do.
            let _ = io::stderr().write_all(text.as_bytes());
        }
        ExitCode::from(self.code)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self::silent(exit::BROKEN_PIPE);
        }
        Self::new(format!("cannot write the output: {error}"))
    }
}

impl From<reeve_sdk::Error> for Failure {
    fn from(error: reeve_sdk::Error) -> Self {
        let mut message = error.to_string();
        let mut request_id = None;
        if let Some(problem) = error.problem() {
            if let [first, rest @ ..] = problem.nearest.as_slice() {
                let mut names = format!("'{first}'");
                for (index, name) in rest.iter().enumerate() {
                    let joint = if index + 1 == rest.len() { " or" } else { "," };
                    names.push_str(&format!("{joint} '{name}'"));
                }
                message.push_str(&format!("; did you mean {names}?"));
            }
            if problem.code == "unauthenticated" && !message.contains("reeve login") {
                message.push_str("; log in with 'reeve login URL' or set REEVE_API_KEY");
            }
            if !problem.request_id.is_empty() {
                request_id = Some(problem.request_id.clone());
            }
        }
        if matches!(error, reeve_sdk::Error::Tls { .. }) {
            message.push_str(" (--pin SHA256 or --ca-file FILE)");
        }
        // The message already says what the error says; the chain begins behind it.
        let source = Some(Box::new(error) as Box<dyn std::error::Error + Send + Sync>);
        Self { message, code: exit::OWN_FAILURE, source, request_id }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use reeve_sdk::api::Problem;

    #[test]
    fn near_names_are_offered() {
        let problem = Problem {
            kind: String::new(),
            title: "Not Found".to_owned(),
            status: 404,
            detail: "there is no machine 'wbe-1'".to_owned(),
            code: "machine_not_found".to_owned(),
            request_id: "r1".to_owned(),
            nearest: vec!["web-1".to_owned(), "web-2".to_owned()],
            approval: None,
            received: None,
        };
        let failure = Failure::from(reeve_sdk::Error::Problem(Box::new(problem), None));
        assert_eq!(
            failure.to_string(),
            "there is no machine 'wbe-1'; did you mean 'web-1' or 'web-2'?"
        );
        assert_eq!(failure.request_id.as_deref(), Some("r1"));
    }
}
