//! Stories of jobs: the real coordinator over real HTTP, scripted agents over real WebSockets.

mod restarts;
mod running;
mod scopes;
mod trouble;
mod viewers;
