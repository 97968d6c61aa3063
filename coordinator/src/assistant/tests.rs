mod bad_input;
mod cancelling;
mod reading;
mod restarts;
mod scopes;
