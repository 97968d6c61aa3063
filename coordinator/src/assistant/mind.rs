//! Who answers when a stage asks a model. The assistant knows roles; which models they are, their
//! keys and their limits is the registry's business.

use futures_util::future::BoxFuture;
use reeve_models::{Answer, Ask, AskError, CallRecord, Event};
use reeve_protocol::TaskId;
use reeve_sdk::api::ModelRole;

/// Answers for a role.
pub trait Mind: Send + Sync {
    /// Asks the models of a role, in their order.
    fn ask<'a>(
        &'a self,
        ask: Ask<'a>,
        events: &'a mut (dyn FnMut(Event) + Send),
    ) -> BoxFuture<'a, Result<Answer, AskError>>;

    /// Notes what calls took, for usage and budgets of a day.
    fn record<'a>(
        &'a self,
        calls: &'a [CallRecord],
        role: ModelRole,
        task: TaskId,
        user: &'a str,
    ) -> BoxFuture<'a, ()>;

    /// Tokens that every model of a role can read; `None` when it has no model.
    fn window(&self, role: ModelRole) -> Option<u64>;
}

/// No model: runbooks plan and rules judge.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoMind;

impl Mind for NoMind {
    fn ask<'a>(
        &'a self,
        _ask: Ask<'a>,
        _events: &'a mut (dyn FnMut(Event) + Send),
    ) -> BoxFuture<'a, Result<Answer, AskError>> {
        let (calls, tried) = (Vec::new(), Vec::new());
        Box::pin(std::future::ready(Err(AskError::Builtin { calls, tried })))
    }

    fn record<'a>(
        &'a self,
        _calls: &'a [CallRecord],
        _role: ModelRole,
        _task: TaskId,
        _user: &'a str,
    ) -> BoxFuture<'a, ()> {
        Box::pin(std::future::ready(()))
    }

    fn window(&self, _role: ModelRole) -> Option<u64> {
        None
    }
}
