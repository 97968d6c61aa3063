//! Stories of jobs: the real coordinator over real HTTP, scripted agents over real WebSockets.

mod channel;
mod input;
mod piping;
mod relaying;
mod requests;
mod restarts;
mod rollouts;
mod running;
mod scopes;
mod sweeping;
mod trouble;
mod viewers;
