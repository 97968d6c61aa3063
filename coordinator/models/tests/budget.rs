//! A budget is asked before each call, and told after.

#![allow(clippy::unwrap_used)] // Helpers of tests, which fail by it.

mod support;

use std::sync::Mutex;

use reeve_models::fakes::{Behaviour, Trouble};
use reeve_models::{Allowance, Ask, ErrorCode, Event, ModelError, Prompt};
use reeve_sdk::api::ModelRole;
use support::{ask, code, two};

fn hello() -> Prompt {
    Prompt::text("", "Hello?")
}

#[derive(Default)]
struct Purse {
    left: Mutex<f64>,
    told: Mutex<Vec<(f64, f64)>>,
}

impl Allowance for Purse {
    fn reserve(&self, _model: &str, most: f64) -> Result<(), ModelError> {
        if most > *self.left.lock().unwrap() {
            return Err(ModelError::new(
                ErrorCode::BudgetReached,
                "the budget of this task is reached",
            ));
        }
        Ok(())
    }

    fn settle(&self, _model: &str, most: f64, spent: f64) {
        *self.left.lock().unwrap() -= spent;
        self.told.lock().unwrap().push((most, spent));
    }
}

#[tokio::test]
async fn a_budget_is_asked_with_an_upper_bound_and_told_the_real_cost_of_every_call() {
    let two = two(&["one/fake-model", "two/fake-model"]).await;
    let purse = Purse { left: Mutex::new(1.0), ..Purse::default() };
    two.first.script([Behaviour::Trouble(Trouble::Server(500))]);
    let prompt = hello();
    let wanted = Ask { allowance: &purse, ..Ask::new(ModelRole::Planner, &prompt) };
    let answer = ask(&two.models, &wanted).await.0.unwrap();
    let told = purse.told.lock().unwrap().clone();
    assert_eq!(told.len(), 2);
    assert!((told[0].1, told[1].1) == (0.0, answer.cost), "{told:?}");
    assert!(told.iter().all(|(most, spent)| most >= spent && *most >= 8_192.0 * 2.0 / 1e6));
}

#[tokio::test]
async fn a_budget_that_is_reached_asks_nobody() {
    let two = two(&["one/fake-model", "two/fake-model", "builtin"]).await;
    let purse = Purse { left: Mutex::new(0.001), ..Purse::default() };
    let prompt = hello();
    let wanted = Ask { allowance: &purse, ..Ask::new(ModelRole::Planner, &prompt) };
    let (result, _) = ask(&two.models, &wanted).await;
    assert_eq!(code(&result), "budget_reached");
    assert!(two.first.asked().is_empty() && two.second.asked().is_empty());
}

#[tokio::test]
async fn a_call_given_up_halfway_settles_with_the_budget() {
    let two = two(&["one/fake-model"]).await;
    two.first.script([Behaviour::HangsAfterText]);
    let purse = Purse { left: Mutex::new(1.0), ..Purse::default() };
    let prompt = hello();
    let mut nothing = |_: Event| {};
    {
        let wanted = Ask { allowance: &purse, ..Ask::new(ModelRole::Planner, &prompt) };
        let asking = two.models.ask(wanted, &mut nothing);
        tokio::select! { _ = asking => unreachable!(), () = two.first.hung() => {} }
    }
    let told = purse.told.lock().unwrap().clone();
    assert_eq!(told.len(), 1);
    assert!(told[0].1 > 0.0, "what was sent was read");
}
