//! `reeve version`.

use clap::Args;
use serde::Serialize;

use crate::args::Global;
use crate::connection::connect;
use crate::exit;
use crate::failure::Failure;
use crate::output::print_one;

const EXAMPLES: &str = "\
Examples:
  reeve version
  reeve version --client -o name";

/// Releases of this program and the coordinator.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Version {
    /// Only this program's; asks nobody
    #[arg(long)]
    client: bool,
}

#[derive(Serialize)]
struct Versions {
    client: String,
    server: Option<String>,
    /// Why the server's is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    server_error: Option<String>,
    /// `same`, `differs`, or nothing when the server's is not known.
    skew: Option<&'static str>,
}

impl Version {
    pub async fn perform(self, global: &Global) -> Result<u8, Failure> {
        let client = env!("CARGO_PKG_VERSION").to_owned();
        let (server, server_error) = if self.client {
            (None, None)
        } else {
            let asked = async { Ok::<_, Failure>(connect(global)?.info().await?.version) };
            match asked.await {
                Ok(version) => (Some(version), None),
                Err(failure) => (None, Some(failure.to_string())),
            }
        };
        let skew = server.as_deref().map(|server| skew(&client, server));
        let versions = Versions { client, server, server_error, skew };
        let details = [
            ("client", versions.client.clone()),
            (
                "server",
                match (&versions.server, &versions.server_error) {
                    (Some(version), _) => version.clone(),
                    (None, Some(error)) => format!("not known: {error}"),
                    (None, None) => String::new(),
                },
            ),
            (
                "skew",
                match versions.skew {
                    Some("differs") => "differs: they work together one release apart".to_owned(),
                    _ => String::new(),
                },
            ),
        ];
        print_one(global.output, &versions, &versions.client, &details)?;
        Ok(if versions.server_error.is_some() { exit::OWN_FAILURE } else { exit::OK })
    }
}

fn skew(client: &str, server: &str) -> &'static str {
    let release = |version: &str| version.splitn(3, '.').take(2).collect::<Vec<_>>().join(".");
    if release(client) == release(server) { "same" } else { "differs" }
}

#[cfg(test)]
mod tests {
    #[test]
    fn patch_releases_are_the_same_release() {
        assert_eq!(super::skew("0.1.0", "0.1.9"), "same");
        assert_eq!(super::skew("0.1.0", "0.2.0"), "differs");
    }
}
