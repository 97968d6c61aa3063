//! Which coordinator is talked to, as whom, and whom it may be: flag, then environment, then the
//! context file.

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use reeve_sdk::{Client, Pin, RetryLimits};

use crate::args::Global;
use crate::contexts::{self, Context, Contexts};
use crate::failure::Failure;

/// How long a call goes on trying when the coordinator cannot be reached: long enough for a quick
/// restart, short enough for a person who mistyped the address.
const RETRY_TOTAL: Duration = Duration::from_secs(3);
/// How long a followed job waits for its coordinator to come back.
const FOLLOW_PATIENCE: Duration = Duration::from_secs(600);
/// Secrets are short; a file longer than this is the wrong file.
const MAX_SECRET_BYTES: u64 = 64 * 1024;

/// Everything that was decided.
#[derive(Clone)]
pub struct Connection {
    pub url: String,
    pub token: Option<String>,
    pub pin: Option<Pin>,
    pub ca_file: Option<PathBuf>,
    /// The context it comes from, if from one.
    pub context: Option<String>,
}

impl Connection {
    /// Decides from flags, environment and file.
    pub fn load(global: &Global) -> Result<Self, Failure> {
        let contexts = Contexts::load(&contexts::path()?)?;
        let key = match &global.api_key_file {
            Some(path) => Some(read_secret(path, "API key")?),
            None => std::env::var("REEVE_API_KEY").ok().filter(|key| !key.trim().is_empty()),
        };
        Self::decide(global, &contexts, key)
    }

    fn decide(global: &Global, contexts: &Contexts, key: Option<String>) -> Result<Self, Failure> {
        let selected = contexts.select(global.context.as_deref())?;
        let given = global.url.as_deref().filter(|url| !url.is_empty());
        let (address, fragment_pin) = match given {
            Some(url) => split_pin(url)?,
            None => (String::new(), None),
        };
        // Token and pin belong to the address they were stored with and go to no other.
        let stored: Option<(&str, &Context)> =
            selected.filter(|(_, context)| given.is_none() || same_address(&context.url, &address));
        let url = match (given, stored) {
            (Some(_), _) => address,
            (None, Some((_, context))) => context.url.clone(),
            (None, None) => {
                return Err(Failure::new(
                    "no coordinator is known; log in with 'reeve login URL' or set REEVE_URL",
                ));
            }
        };
        let context = stored.map(|(_, context)| context);
        let pin_text = global.pin.as_deref().filter(|pin| !pin.is_empty());
        let pin = match (pin_text, fragment_pin) {
            (Some(text), _) => Some(parse_pin(text)?),
            (None, Some(pin)) => Some(pin),
            (None, None) => context
                .filter(|_| global.ca_file.is_none())
                .and_then(|context| context.pin.as_deref())
                .map(parse_pin)
                .transpose()?,
        };
        let ca_file =
            global.ca_file.clone().or_else(|| context.and_then(|context| context.ca_file.clone()));
        Ok(Self {
            url,
            token: key.or_else(|| context.and_then(|context| context.token.clone())),
            pin,
            ca_file,
            context: stored.map(|(name, _)| name.to_owned()),
        })
    }

    /// A client for it.
    pub fn client(&self) -> Result<Client, Failure> {
        self.client_trying_for(RETRY_TOTAL)
    }

    /// A client that gives up on unreachable coordinators after `total`.
    pub fn client_trying_for(&self, total: Duration) -> Result<Client, Failure> {
        let mut builder =
            Client::builder(&self.url).retry(RetryLimits { total, follow: FOLLOW_PATIENCE });
        if let Some(token) = &self.token {
            builder = builder.token(token);
        }
        if let Some(pin) = self.pin {
            builder = builder.pin(pin);
        } else if let Some(path) = &self.ca_file {
            let pem = std::fs::read(path).map_err(|error| {
                Failure::new(format!("cannot read the CA file {}: {error}", path.display()))
            })?;
            builder = builder.ca_pem(pem);
        }
        Ok(builder.build()?)
    }
}

/// A client for commands that need no more than that.
pub fn connect(global: &Global) -> Result<Client, Failure> {
    Connection::load(global)?.client()
}

/// Takes `#sha256:…` off an address, and puts `https://` and the port before and behind a bare
/// name.
pub fn split_pin(text: &str) -> Result<(String, Option<Pin>), Failure> {
    let (address, pin) = match text.split_once('#') {
        Some((address, pin)) => (address, Some(parse_pin(pin)?)),
        None => (text, None),
    };
    if address.contains("://") {
        return Ok((address.trim_end_matches('/').to_owned(), pin));
    }
    let bare = address.trim_end_matches('/');
    let has_port = bare.rsplit_once(':').is_some_and(|(host, port)| {
        !port.is_empty()
            && port.bytes().all(|b| b.is_ascii_digit())
            && !host.ends_with(':')
            && (!host.contains(':') || host.ends_with(']'))
    });
    let port = if has_port { "" } else { ":7717" };
    Ok((format!("https://{bare}{port}"), pin))
}

fn parse_pin(text: &str) -> Result<Pin, Failure> {
    text.trim().parse().map_err(|error| Failure::usage(format!("'{text}': {error}")))
}

fn same_address(left: &str, right: &str) -> bool {
    match (url::Url::parse(left), url::Url::parse(right)) {
        (Ok(left), Ok(right)) => {
            left.origin() == right.origin()
                && left.path().trim_end_matches('/') == right.path().trim_end_matches('/')
        }
        _ => false,
    }
}

/// A secret from a file, `-` for stdin. White space around it does not belong to it.
pub fn read_secret(path: &Path, what: &str) -> Result<String, Failure> {
    let mut text = String::new();
    let read = if path.as_os_str() == "-" {
        io::stdin().lock().take(MAX_SECRET_BYTES).read_to_string(&mut text)
    } else {
        std::fs::File::open(path)
            .and_then(|file| file.take(MAX_SECRET_BYTES).read_to_string(&mut text))
    };
    read.map_err(|error| {
        Failure::new(format!("cannot read the {what} from {}: {error}", path.display()))
    })?;
    let text = text.trim();
    if text.is_empty() {
        return Err(Failure::new(format!("the {what} file {} is empty", path.display())));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    const PIN: &str = "a94a8fe5ccb19ba61c4c0873d391e987982fbbd3a94a8fe5ccb19ba61c4c0873";

    fn contexts() -> Contexts {
        let context = Context {
            url: "https://home:7717".to_owned(),
            token: Some("stored".to_owned()),
            pin: Some(PIN.to_owned()),
            ..Default::default()
        };
        Contexts {
            current: Some("home".to_owned()),
            contexts: BTreeMap::from([("home".to_owned(), context)]),
        }
    }

    #[test]
    fn environment_key_goes_before_the_stored_one() {
        let decided = Connection::decide(&Global::default(), &contexts(), Some("env".to_owned()));
        assert_eq!(decided.ok().and_then(|c| c.token).as_deref(), Some("env"));
    }

    /// Else `REEVE_URL=https://evil reeve status` would hand over the key.
    #[test]
    fn the_stored_key_never_goes_to_another_address() {
        let elsewhere =
            Global { url: Some("https://elsewhere:7717".to_owned()), ..Default::default() };
        let decided = Connection::decide(&elsewhere, &contexts(), None).expect("decided");
        assert_eq!((decided.token, decided.pin), (None, None));
        let home = Global { url: Some("https://home:7717/".to_owned()), ..Default::default() };
        let decided = Connection::decide(&home, &contexts(), None).expect("decided");
        assert_eq!(decided.token.as_deref(), Some("stored"));
        assert!(decided.pin.is_some());
    }

    #[test]
    fn addresses_are_completed_and_pins_taken_off() {
        let address = |text| split_pin(text).expect("address").0;
        assert_eq!(address("reeve.example"), "https://reeve.example:7717");
        assert_eq!(address("reeve.example:443"), "https://reeve.example:443");
        assert_eq!(address("[::1]:7"), "https://[::1]:7");
        assert_eq!(address("http://localhost:1/"), "http://localhost:1");
        let (address, pin) = split_pin(&format!("https://a:1#sha256:{PIN}")).expect("pinned");
        assert_eq!(
            (address.as_str(), pin.map(|p| p.to_string()).as_deref()),
            ("https://a:1", Some(PIN))
        );
        assert!(split_pin("https://a#sha256:12").is_err());
    }

    #[test]
    fn without_any_coordinator_the_remedy_is_named() {
        let failure = Connection::decide(&Global::default(), &Contexts::default(), None);
        assert!(failure.err().is_some_and(|f| f.to_string().contains("reeve login URL")));
    }
}
