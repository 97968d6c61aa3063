//! People, what they may do, and the keys they show.

mod principal;
mod scope;

pub use principal::{Principal, Via};
pub use scope::Scope;
