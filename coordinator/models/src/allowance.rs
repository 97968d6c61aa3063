//! Whether a call may still be paid for.

use crate::ModelError;

/// A budget. Asked before each call and told after each; what it does is not to wait, so it keeps
/// its counters in memory.
pub trait Allowance: Send + Sync {
    /// May a call to `model` (`provider/model`) that costs at most `most` be made? Takes it into
    /// account until [`Allowance::settle`].
    ///
    /// # Errors
    /// [`crate::ErrorCode::BudgetReached`], with a line that says which budget.
    fn reserve(&self, model: &str, most: f64) -> Result<(), ModelError>;

    /// The call that reserved `most` is over and took `spent`. Also told of a call that was given up
    /// halfway, with what it had taken by then.
    fn settle(&self, model: &str, most: f64, spent: f64);
}

/// No budget.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unlimited;

impl Allowance for Unlimited {
    fn reserve(&self, _model: &str, _most: f64) -> Result<(), ModelError> {
        Ok(())
    }

    fn settle(&self, _model: &str, _most: f64, _spent: f64) {}
}

/// Settles what was reserved, whatever becomes of the call.
pub(crate) struct Reservation<'a> {
    allowance: &'a dyn Allowance,
    model: &'a str,
    most: f64,
    spent: f64,
}

impl<'a> Reservation<'a> {
    pub(crate) fn new(
        allowance: &'a dyn Allowance,
        model: &'a str,
        most: f64,
        // What is owed when the call is given up halfway: it was read by then.
        given_up: f64,
    ) -> Result<Self, ModelError> {
        allowance.reserve(model, most)?;
        Ok(Self { allowance, model, most, spent: given_up })
    }

    pub(crate) fn spent(mut self, cost: f64) {
        self.spent = cost;
    }
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        self.allowance.settle(self.model, self.most, self.spent);
    }
}
