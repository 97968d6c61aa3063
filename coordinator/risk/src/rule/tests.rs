use super::*;

#[test]
fn every_example_of_every_rule_is_as_the_rule_says() {
    let rules = Rules::parse(FILES).unwrap_or_else(|error| panic!("{error}"));
    let wrong: Vec<String> = rules.wrong_examples().iter().map(ToString::to_string).collect();
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn damaged_rules_are_refused_and_say_which() {
    let refused = |text: &str| match Rules::parse(&[("x.toml", text)]) {
        Ok(rules) => rules.wrong_examples().first().map(ToString::to_string).unwrap_or_default(),
        Err(error) => error.to_string(),
    };
    let good = "[[rule]]\nnames = [\"a\"]\neffect = \"read\"\nmatch = [\"a x\"]\nmustnot = [\"a x > /etc/y\"]\n";
    assert_eq!(refused(good), "");
    assert!(refused(&good.replace("effect", "effekt")).contains("x.toml"));
    assert!(refused(&good.replace("\"read\"", "\"change\"")).contains("why"));
    assert!(refused(&good.replace("mustnot = [\"a x > /etc/y\"]", "")).contains("examples"));
    assert!(refused(&good.replace("a x > /etc/y", "a y")).contains("should not be read"));
    assert!(refused(&good.replace("[\"a x\"]", "[\"a > /etc/x\"]")).contains("should be read"));
    assert!(refused(&format!("{good}{good}")).contains("another rule"));
}
