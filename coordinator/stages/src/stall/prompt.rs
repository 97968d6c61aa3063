//! Whether the end of a command's output asks for something.

use reeve_protocol::ops::explain_operation::LastOutput;

/// What it asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prompt {
    /// A secret.
    Password,
    /// Yes or no.
    Choice,
    /// A key, to go on.
    Key,
    /// Something else.
    Text,
}

/// Words of secrets, in the languages installers speak most.
const SECRETS: &[&str] = &[
    "password",
    "passphrase",
    "passcode",
    "passwort",
    "kennwort",
    "mot de passe",
    "contraseña",
    "senha",
    "wachtwoord",
    "lösenord",
    "hasło",
    "пароль",
    "パスワード",
    "密码",
    "verification code",
    "one-time code",
    "otp",
    "pin:",
    "pin for",
    "enter pin",
    "2fa",
    "secret key:",
    "api key:",
    "access token:",
];

const CHOICES: &[&str] = &[
    "[y/n",
    "[yes/no",
    "(y/n",
    "(yes/no",
    "[y|n",
    "(y|n",
    "y/n?",
    "[j/n",
    "(j/n",
    "[o/n",
    "[s/n",
    "[y/i/n",
    "(yes/no/[fingerprint])",
    "[ynaq",
    "[default=n",
    "[a/y/n",
];

const KEYS: &[&str] = &[
    "press any key",
    "press enter",
    "press return",
    "press [enter]",
    "hit enter",
    "hit any key",
    "press ctrl",
    "press q",
    "--more--",
    "(end)",
    "drücken sie",
];

/// Reads the last output. Only a line without an end asks, except for choices: some programs ask on
/// a line of its own.
#[must_use]
pub fn find_prompt(last: &LastOutput) -> Option<Prompt> {
    let text = last.text.to_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| text.contains(word));
    if last.is_whole_line {
        return if has(CHOICES) { Some(Prompt::Choice) } else { None };
    }
    let end = text.trim_end();
    let asks = end.ends_with([':', '?', '>', ']', ')', '#', '$', '=', '）', '：']);
    if has(SECRETS) && asks {
        Some(Prompt::Password)
    } else if has(CHOICES) {
        Some(Prompt::Choice)
    } else if has(KEYS) {
        Some(Prompt::Key)
    } else if asks {
        Some(Prompt::Text)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prompts_are_told_from_output() {
        let open = |text: &str| {
            find_prompt(&LastOutput { text: text.to_owned(), ..LastOutput::default() })
        };
        for (text, expected) in [
            ("[sudo] password for deploy: ", Some(Prompt::Password)),
            ("Enter passphrase for key '/home/x/.ssh/id': ", Some(Prompt::Password)),
            ("Passwort: ", Some(Prompt::Password)),
            ("Do you want to continue? [Y/n] ", Some(Prompt::Choice)),
            (
                "Are you sure you want to continue connecting (yes/no/[fingerprint])? ",
                Some(Prompt::Choice),
            ),
            ("Press any key to continue . . .", Some(Prompt::Key)),
            ("--More--", Some(Prompt::Key)),
            ("Your name? ", Some(Prompt::Text)),
            ("mysql> ", Some(Prompt::Text)),
            ("Downloading 41%", None),
            ("changing password of 3 users", None),
            ("", None),
        ] {
            assert_eq!(open(text), expected, "{text}");
        }
        let whole = LastOutput {
            text: "Password:".to_owned(),
            is_whole_line: true,
            ..LastOutput::default()
        };
        assert_eq!(find_prompt(&whole), None);
    }
}
