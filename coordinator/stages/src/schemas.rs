//! The schemas of answers. They are files, read like code, in the subset that every provider's
//! strict mode knows; `tests/schemas.rs` holds them to it and to the types that read the answers.

use serde_json::Value;

macro_rules! schema {
    ($(#[$doc:meta])* $name:ident, $file:literal) => {
        $(#[$doc])*
        pub(crate) fn $name() -> Value {
            // That it parses is tested; a schema that did not would be refused by every provider.
            serde_json::from_str(include_str!(concat!("../schemas/", $file))).unwrap_or_default()
        }
    };
}

schema!(plan, "plan.json");
schema!(verdict, "verdict.json");
schema!(alternative, "alternative.json");
schema!(stall, "stall.json");
schema!(summary, "summary.json");
