//! Names behind which secrets stand: `DB_PASSWORD`, `client-secret`, `apiKey`.

/// Names are looked at this far.
const MAX_NAME: usize = 64;

/// How sure a name is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Name {
    /// Whatever stands behind it is a secret.
    Secret(&'static str),
    /// What stands behind it is one if it looks random.
    Key,
}

/// Words that make a name a secret's when they are its last.
const LAST: &[(&[u8], &str)] = &[
    (b"password", "password"),
    (b"passwd", "password"),
    (b"passphrase", "password"),
    (b"passcode", "password"),
    (b"passwort", "password"),
    (b"pwd", "password"),
    (b"pass", "password"),
    (b"secret", "secret"),
    (b"token", "token"),
    (b"apikey", "key"),
    (b"authkey", "key"),
    (b"secretkey", "key"),
    (b"privatekey", "key"),
    (b"accesskey", "key"),
];

/// Words that end a longer word of the same meaning: `PGPASSWORD`, `authtoken`.
const ENDS: &[(&[u8], &str)] = &[
    (b"password", "password"),
    (b"passwd", "password"),
    (b"passphrase", "password"),
    (b"secret", "secret"),
    (b"token", "token"),
    (b"apikey", "key"),
];

/// Words behind which a secret stands if it looks like one.
const UNSURE: &[&[u8]] = &[
    b"key",
    b"auth",
    b"credential",
    b"credentials",
    b"sig",
    b"signature",
    b"seed",
    b"salt",
    b"sid",
    b"sessionid",
    b"cookie",
    b"code",
    b"psk",
];

/// What makes `… key` a secret.
const BEFORE_KEY: &[&[u8]] = &[
    b"api",
    b"access",
    b"secret",
    b"private",
    b"auth",
    b"encryption",
    b"signing",
    b"master",
    b"account",
    b"shared",
    b"storage",
    b"service",
    b"admin",
    b"app",
    b"application",
    b"webhook",
    b"deploy",
    b"session",
    b"psk",
    b"preshared",
    b"license",
    b"subscription",
];

/// What makes `… key` and the like something to show.
const HARMLESS: &[&[u8]] = &[
    b"public",
    b"cache",
    b"primary",
    b"foreign",
    b"partition",
    b"sort",
    b"host",
    b"gpg",
    b"pub",
    b"row",
    b"index",
    b"unique",
    b"object",
    b"registry",
    b"key",
];

/// Judges a name.
#[must_use]
pub fn judge(name: &[u8]) -> Option<Name> {
    if name.len() > MAX_NAME {
        return None;
    }
    if !may_tell(name) {
        return None;
    }
    let words = split(name);
    let last = words.last()?.as_slice();
    let before = words.len().checked_sub(2).and_then(|at| words.get(at)).map(Vec::as_slice);
    if let Some((_, kind)) = LAST.iter().find(|(word, _)| *word == last) {
        return Some(Name::Secret(kind));
    }
    if let Some((_, kind)) = ENDS.iter().find(|(word, _)| last.ends_with(word)) {
        return Some(Name::Secret(kind));
    }
    let is_secret_key = |pair: &[Vec<u8>]| pair[0] == b"secret" && pair[1] == b"key";
    if words.windows(2).any(is_secret_key) {
        return Some(Name::Secret("key"));
    }
    match last {
        b"key" if before.is_some_and(|word| BEFORE_KEY.contains(&word)) => {
            Some(Name::Secret("key"))
        }
        last if UNSURE.contains(&last)
            && !words.iter().any(|word| word != b"key" && HARMLESS.contains(&word.as_slice())) =>
        {
            Some(Name::Key)
        }
        _ => None,
    }
}

/// Quickly: most names end in nothing of interest.
fn may_tell(name: &[u8]) -> bool {
    let ends = |word: &[u8]| {
        name.len() >= word.len() && name[name.len() - word.len()..].eq_ignore_ascii_case(word)
    };
    LAST.iter().any(|(word, _)| ends(word))
        || UNSURE.iter().any(|word| ends(word))
        || name.windows(6).any(|part| part.eq_ignore_ascii_case(b"secret"))
}

/// Whether a word says that what it names may be shown.
#[must_use]
pub fn is_harmless(word: &[u8]) -> bool {
    HARMLESS.iter().any(|each| each.eq_ignore_ascii_case(word))
}

/// `DB_PASSWORD`, `db.password`, `dbPassword` are all `db`, `password`.
fn split(name: &[u8]) -> Vec<Vec<u8>> {
    let mut words: Vec<Vec<u8>> = Vec::new();
    let mut before = b'_';
    for &byte in name {
        if !byte.is_ascii_alphanumeric() {
            before = b'_';
            continue;
        }
        let begins = !before.is_ascii_alphanumeric()
            || (byte.is_ascii_uppercase() && before.is_ascii_lowercase());
        if begins {
            words.push(Vec::new());
        }
        if let Some(word) = words.last_mut() {
            word.push(byte.to_ascii_lowercase());
        }
        before = byte;
    }
    words
}
