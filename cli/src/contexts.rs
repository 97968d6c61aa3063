//! The configuration file: which coordinators there are, and which one is meant.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use etcetera::BaseStrategy;
use serde::{Deserialize, Serialize};

use crate::failure::Failure;

/// The file's contents.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Contexts {
    /// The one to use when none is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current: Option<String>,
    /// By name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub contexts: BTreeMap<String, Context>,
}

/// One coordinator, and who one is to it.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Context {
    /// Its address.
    pub url: String,
    /// The session's token; none after logging out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// SHA-256 of its authority's key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pin: Option<String>,
    /// A PEM file with its authority's certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// Who logged in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context").field("url", &self.url).finish_non_exhaustive()
    }
}

/// Where the file is: `$XDG_CONFIG_HOME/reeve/config.toml`.
pub fn path() -> Result<PathBuf, Failure> {
    let base = etcetera::choose_base_strategy().map_err(|error| {
        Failure::new(format!("no home directory: {error}; set XDG_CONFIG_HOME"))
    })?;
    Ok(base.config_dir().join("reeve").join("config.toml"))
}

impl Contexts {
    /// Reads the file; an absent one is empty.
    pub fn load(path: &Path) -> Result<Self, Failure> {
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => {
                return Err(Failure::new(format!("cannot read {}: {error}", path.display())));
            }
        };
        if let Ok(metadata) = fs::metadata(path)
            && metadata.permissions().mode() & 0o077 != 0
        {
            // It holds keys. A file that others could read is closed rather than used as it is.
            fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(|error| {
                Failure::new(format!(
                    "{} can be read by others and its mode cannot be changed ({error}); run chmod 600 on it",
                    path.display()
                ))
            })?;
        }
        toml::from_str(&text).map_err(|error| {
            Failure::new(format!(
                "{} is not understood: {}; correct it, or remove it and log in again",
                path.display(),
                error.to_string().lines().collect::<Vec<_>>().join(" ")
            ))
        })
    }

    /// Writes the file, readable by its owner only, whole or not at all.
    pub fn save(&self, path: &Path) -> Result<(), Failure> {
        let text = toml::to_string(self)
            .map_err(|error| Failure::new(format!("cannot write the configuration: {error}")))?;
        write_private(path, text.as_bytes())
            .map_err(|error| Failure::new(format!("cannot write {}: {error}", path.display())))
    }

    /// The named one, or the current one when no name is given.
    pub fn select(&self, name: Option<&str>) -> Result<Option<(&str, &Context)>, Failure> {
        let Some(name) = name.or(self.current.as_deref()) else { return Ok(None) };
        match self.contexts.get_key_value(name) {
            Some((name, context)) => Ok(Some((name, context))),
            None => {
                let known: Vec<&str> = self.contexts.keys().map(String::as_str).collect();
                let known = match known.as_slice() {
                    [] => "there are none yet: 'reeve login URL' makes one".to_owned(),
                    known => format!("there are {}", known.join(", ")),
                };
                Err(Failure::usage(format!("there is no context '{name}'; {known}")))
            }
        }
    }
}

fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or_else(|| Path::new("."));
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let temporary = path.with_extension(format!("new-{}", std::process::id()));
    // A leftover of a killed process may have another mode; a file made anew has this one.
    if let Err(error) = fs::remove_file(&temporary)
        && error.kind() != io::ErrorKind::NotFound
    {
        return Err(error);
    }
    let mut file =
        fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&temporary, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Contexts {
        let context = Context {
            url: "https://a:7717".to_owned(),
            token: Some("t".to_owned()),
            ..Default::default()
        };
        Contexts {
            current: Some("home".to_owned()),
            contexts: BTreeMap::from([("home".to_owned(), context)]),
        }
    }

    #[test]
    fn file_is_private_and_comes_back_as_written() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("reeve/config.toml");
        sample().save(&path).expect("saved");
        let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
        assert_eq!(mode(&path), 0o600);
        assert_eq!(mode(path.parent().expect("folder")), 0o700);
        assert_eq!(Contexts::load(&path).expect("loaded"), sample());
        assert_eq!(fs::read_dir(path.parent().expect("folder")).expect("list").count(), 1);
    }

    #[test]
    fn a_file_others_can_read_is_closed() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("config.toml");
        sample().save(&path).expect("saved");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("opened");
        Contexts::load(&path).expect("loaded");
        assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn unknown_keys_and_names_are_refused_with_their_names() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("config.toml");
        fs::write(&path, "curent = 'home'\n").expect("written");
        let failure = Contexts::load(&path).expect_err("unknown key").to_string();
        assert!(failure.contains("curent") && !failure.contains('\n'), "{failure}");
        let failure = sample().select(Some("work")).expect_err("unknown").to_string();
        assert_eq!(failure, "there is no context 'work'; there are home");
        assert_eq!(sample().select(None).expect("ok").map(|(name, _)| name), Some("home"));
    }
}
