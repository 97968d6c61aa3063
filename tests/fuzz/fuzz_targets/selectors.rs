//! Selectors: one that is understood prints to one that selects the same machines; none but `@all`
//! means every machine there is.
#![no_main]

use std::collections::BTreeMap;

use libfuzzer_sys::fuzz_target;
use reeve_coordinator::selector::{MAX_SELECTOR_BYTES, Selector, is_name};
use reeve_protocol::MachineId;
use uuid::Uuid;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(selector) = text.parse::<Selector>() else { return };
    assert!(selector.as_str().len() <= MAX_SELECTOR_BYTES);
    let printed = selector.to_string();
    let again: Selector = printed.parse().expect("what was printed is understood");
    assert_eq!(again.to_string(), printed);
    assert_eq!(selector.is_all(), text.trim() == "@all");
    let value = text.split(['=', ',']).next_back().unwrap_or_default().trim();
    let key = text.split(['=', '!', ',']).next().unwrap_or_default().trim();
    let labels =
        BTreeMap::from([("role".to_owned(), "web".to_owned()), (key.to_owned(), value.to_owned())]);
    for (number, name) in [(1, "web-1"), (2, "db"), (3, value)] {
        let id = MachineId(Uuid::from_u128(number));
        for labels in [&labels, &BTreeMap::new()] {
            let found = selector.matches(id, name, labels);
            assert_eq!(found, again.matches(id, name, labels));
            assert!(found || !selector.is_all());
        }
    }
    for name in selector.exact_names() {
        assert!(is_name(name));
    }
});
