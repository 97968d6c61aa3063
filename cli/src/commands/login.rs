//! `reeve login`, `logout` and `whoami`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use reeve_sdk::api::{LoginRequest, LoginResponse, SetupRequest};
use reeve_sdk::{Client, Pin, probe};

use crate::args::Global;
use crate::connection::{Connection, connect, read_secret, split_pin};
use crate::contexts::{self, Context, Contexts};
use crate::exit;
use crate::failure::Failure;
use crate::output::print_one;
use crate::terminal::{ask, ask_secret, can_ask, confirm, note};

const EXAMPLES: &str = "\
Examples:
  reeve login https://reeve.example:7717#sha256:4c1f…
  reeve login reeve.example --user ada
  reeve login reeve.example --code-file code --password-file new-password  no questions

The first login uses the one-time code that the coordinator printed at its first
start, and sets the password. The session goes to $XDG_CONFIG_HOME/reeve/config.toml.";

/// Looking at a coordinator's certificate takes no longer.
const PROBE_TIMEOUT: Duration = Duration::from_secs(10);

/// Log in to a coordinator.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Login {
    /// Its address; with #sha256:PIN behind it only that coordinator is trusted
    #[arg(value_name = "URL")]
    address: String,
    /// Your name
    #[arg(long)]
    user: Option<String>,
    /// Read the password from this file ('-' is stdin)
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// Read a one-time code from this file ('-' is stdin) and set the password
    #[arg(long, value_name = "FILE")]
    code_file: Option<PathBuf>,
}

impl Login {
    pub async fn perform(self, global: &Global) -> Result<u8, Failure> {
        if [&self.password_file, &self.code_file]
            .iter()
            .all(|file| file.as_ref().is_some_and(|path| path.as_os_str() == "-"))
        {
            return Err(Failure::usage("only one of code and password can come from stdin"));
        }
        let (url, fragment) = split_pin(&self.address)?;
        let given = match &global.pin {
            Some(text) if !text.is_empty() => Some(
                text.parse().map_err(|error| Failure::usage(format!("--pin '{text}': {error}")))?,
            ),
            _ => fragment,
        };
        let pin = match (given, &global.ca_file) {
            (Some(pin), _) => Some(pin),
            (None, None) if url.starts_with("https:") => find_pin(&url).await?,
            _ => None,
        };
        let connection =
            Connection { url, token: None, pin, ca_file: global.ca_file.clone(), context: None };
        let client = connection.client()?;
        let info = client.info().await?;
        if info.product != "reeve" {
            return Err(Failure::new(format!("{} is no Reeve coordinator", connection.url)));
        }
        let response = if self.code_file.is_some() || info.setup_needed {
            self.set_up(&client).await?
        } else {
            self.log_in(&client).await?
        };
        save(global, &connection, &response)?;
        Ok(exit::OK)
    }

    async fn set_up(&self, client: &Client) -> Result<LoginResponse, Failure> {
        let code = match &self.code_file {
            Some(path) => read_secret(path, "one-time code")?,
            None if can_ask() => {
                note(
                    "Nobody has logged in to this coordinator yet. It printed a one-time code at its first start.",
                );
                ask("One-time code: ")?
            }
            None => {
                return Err(Failure::usage(
                    "this coordinator waits for its first user; give the one-time code it printed with --code-file FILE",
                ));
            }
        };
        let password = self.password(true)?;
        Ok(client.setup(&SetupRequest { code, password, name: self.user.clone() }).await?)
    }

    async fn log_in(&self, client: &Client) -> Result<LoginResponse, Failure> {
        let name = match &self.user {
            Some(name) => name.clone(),
            None if can_ask() => ask("User: ")?,
            None => return Err(Failure::usage("who logs in? give --user NAME")),
        };
        let password = self.password(false)?;
        Ok(client.login(&LoginRequest { name, password, cookie: false }).await?)
    }

    fn password(&self, new: bool) -> Result<String, Failure> {
        match &self.password_file {
            Some(path) => read_secret(path, "password"),
            None if can_ask() => ask_secret(
                if new { "New password (at least 10 characters):" } else { "Password:" },
                new,
            ),
            None => Err(Failure::usage(
                "the password cannot be asked for here; give --password-file FILE",
            )),
        }
    }
}

/// Whom to trust at an address seen for the first time.
async fn find_pin(url: &str) -> Result<Option<Pin>, Failure> {
    let presented = probe(url, PROBE_TIMEOUT).await?;
    if presented.trusted {
        return Ok(None);
    }
    let Some(pin) = presented.authority() else {
        return Err(Failure::new(format!(
            "{url} presents a certificate that is not trusted, without the authority that signed it; give --ca-file FILE"
        )));
    };
    if !can_ask() {
        return Err(Failure::usage(format!(
            "{url} is signed by an authority that is not known here; compare its pin with what the coordinator printed (or DATA/ca.pin there), then give --pin {pin}"
        )));
    }
    note(&format!("{url} is signed by an authority that is not known here. Its pin is"));
    note(&format!("  sha256:{pin}"));
    note(
        "Compare it with what the coordinator printed at its first start, or with DATA/ca.pin there.",
    );
    if confirm("Is it the same?")? {
        Ok(Some(pin))
    } else {
        Err(Failure::new("not trusted; nothing was sent"))
    }
}

fn save(global: &Global, connection: &Connection, response: &LoginResponse) -> Result<(), Failure> {
    let path = contexts::path()?;
    let mut file = Contexts::load(&path)?;
    let name = match &global.context {
        Some(name) => name.clone(),
        None => context_name(&connection.url),
    };
    let ca_file =
        match &connection.ca_file {
            Some(path) => Some(std::path::absolute(path).map_err(|error| {
                Failure::new(format!("cannot find {}: {error}", path.display()))
            })?),
            None => None,
        };
    let context = Context {
        url: connection.url.clone(),
        token: Some(response.token.clone()),
        pin: connection.pin.map(|pin| pin.to_string()),
        ca_file,
        user: Some(response.me.name.clone()),
    };
    file.contexts.insert(name.clone(), context);
    file.current = Some(name.clone());
    file.save(&path)?;
    let me = &response.me;
    note(&format!(
        "Logged in to {} as {} ({}, machines {}); context '{name}' in {}.",
        connection.url,
        me.name,
        me.role.as_str(),
        me.scope,
        path.display()
    ));
    Ok(())
}

/// The host, with the port when it is not the usual one.
fn context_name(url: &str) -> String {
    match url::Url::parse(url) {
        Ok(parsed) => {
            let host = parsed.host_str().unwrap_or("default").to_owned();
            match parsed.port_or_known_default() {
                None | Some(7717) => host,
                Some(port) => format!("{host}:{port}"),
            }
        }
        Err(_) => "default".to_owned(),
    }
}

/// Ends the session and forgets its token.
pub async fn logout(global: &Global) -> Result<u8, Failure> {
    let connection = Connection::load(global)?;
    let ended = match &connection.token {
        Some(_) => connection.client()?.logout().await,
        None => Ok(()),
    };
    if let Some(name) = &connection.context {
        let path = contexts::path()?;
        let mut file = Contexts::load(&path)?;
        if let Some(context) = file.contexts.get_mut(name) {
            context.token = None;
            file.save(&path)?;
        }
    }
    match ended {
        Ok(()) => note(&format!("Logged out of {}.", connection.url)),
        Err(error) if error.code() == Some("unauthenticated") => {
            note(&format!("The session at {} had ended already.", connection.url));
        }
        Err(error) => {
            return Err(Failure::new(format!(
                "the token was removed here, but the session could not be ended there: {error}"
            )));
        }
    }
    Ok(exit::OK)
}

/// Who one is.
pub async fn whoami(global: &Global) -> Result<u8, Failure> {
    let client = connect(global)?;
    let me = client.me().await?;
    let details = [
        ("name", me.name.clone()),
        ("role", me.role.as_str().to_owned()),
        ("machines", me.scope.clone()),
        ("via", me.via.clone()),
        ("coordinator", client.url().to_owned()),
    ];
    print_one(global.output, &me, &me.name, &details)?;
    Ok(exit::OK)
}

#[cfg(test)]
mod tests {
    use super::context_name;

    #[test]
    fn contexts_are_named_by_their_host() {
        assert_eq!(context_name("https://reeve.example:7717"), "reeve.example");
        assert_eq!(context_name("https://reeve.example"), "reeve.example:443");
    }
}
