mod approvals;
mod bad_input;
mod cancelling;
mod models;
mod reading;
mod restarts;
mod scopes;
