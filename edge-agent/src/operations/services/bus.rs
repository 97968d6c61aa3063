//! systemd's manager on the system bus (org.freedesktop.systemd1(5)).

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use reeve_protocol::ops::Failure;
use zbus::{Connection, DynamicType, Message, OwnedObjectPath, OwnedVariant};

use super::fault;

/// The manager's name.
pub const NAME: &str = "org.freedesktop.systemd1";
/// The manager's object.
pub const OBJECT: &str = "/org/freedesktop/systemd1";
/// The manager's interface.
pub const MANAGER: &str = "org.freedesktop.systemd1.Manager";
/// What every unit has.
const UNIT: &str = "org.freedesktop.systemd1.Unit";

/// The bus may take so long to let us in, and an answer so long to come.
const PATIENCE: Duration = Duration::from_secs(25);

/// What is there exactly if systemd runs the machine (sd_booted(3)).
const BOOTED: &str = "/run/systemd/system";

/// A unit as `ListUnits` tells of it: name, description, load, active and sub state, what it
/// follows, its object, and the id, kind and object of its job.
pub type ListedUnit =
    (String, String, String, String, String, String, OwnedObjectPath, u32, String, OwnedObjectPath);

/// Properties of an object.
pub type Properties = HashMap<String, OwnedVariant>;

/// The manager, connected to.
pub struct Systemd {
    connection: Connection,
}

impl Systemd {
    /// Connects to the system bus and finds systemd on it.
    pub async fn connect() -> Result<Self, Failure> {
        let building = zbus::connection::Builder::system().method_timeout(PATIENCE).build();
        let connected = tokio::time::timeout(PATIENCE, building).await;
        let is_booted = Path::new(BOOTED).exists();
        let connection = match connected {
            Ok(Ok(connection)) => connection,
            Ok(Err(error)) => return Err(fault::no_bus(&error.to_string(), is_booted)),
            Err(_) => return Err(fault::no_bus("it does not answer", is_booted)),
        };
        let systemd = Self { connection };
        let owned = systemd
            .connection
            .call_method(
                Some("org.freedesktop.DBus"),
                "/org/freedesktop/DBus",
                Some("org.freedesktop.DBus"),
                "NameHasOwner",
                &NAME,
            )
            .await
            .and_then(|reply| reply.body().deserialize::<bool>())
            .map_err(|error| fault::describe(&error, ""))?;
        if owned { Ok(systemd) } else { Err(fault::no_systemd()) }
    }

    /// The connection, for signals.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Calls the manager. `unit` is what it is about, for the words of an error.
    pub async fn call<B>(&self, method: &str, body: &B, unit: &str) -> Result<Message, Failure>
    where
        B: serde::Serialize + DynamicType,
    {
        self.connection
            .call_method(Some(NAME), OBJECT, Some(MANAGER), method, body)
            .await
            .map_err(|error| fault::describe(&error, unit))
    }

    /// All units that are loaded.
    pub async fn list_units(&self) -> Result<Vec<ListedUnit>, Failure> {
        read(&self.call("ListUnits", &(), "").await?)
    }

    /// All units that are installed, and whether they start at boot.
    pub async fn list_files(&self) -> Result<Vec<(String, String)>, Failure> {
        read(&self.call("ListUnitFiles", &(), "").await?)
    }

    /// The object of a unit, which is loaded for that if need be.
    pub async fn load(&self, unit: &str) -> Result<OwnedObjectPath, Failure> {
        read(&self.call("LoadUnit", &unit, unit).await?)
    }

    /// What every unit has, and what its kind has.
    pub async fn properties(
        &self,
        object: &OwnedObjectPath,
        unit: &str,
    ) -> Result<(Properties, Properties), Failure> {
        let of_unit = self.get_all(object, UNIT, unit).await?;
        let kind = unit.rsplit_once('.').map_or("", |(_, kind)| kind);
        let mut letters = kind.chars();
        let Some(first) = letters.next() else { return Ok((of_unit, Properties::new())) };
        let interface = format!("{NAME}.{}{}", first.to_ascii_uppercase(), letters.as_str());
        // A kind without properties of its own is none to fail for.
        let of_kind = self.get_all(object, &interface, unit).await.unwrap_or_default();
        Ok((of_unit, of_kind))
    }

    async fn get_all(
        &self,
        object: &OwnedObjectPath,
        interface: &str,
        unit: &str,
    ) -> Result<Properties, Failure> {
        let reply = self
            .connection
            .call_method(
                Some(NAME),
                object,
                Some("org.freedesktop.DBus.Properties"),
                "GetAll",
                &interface,
            )
            .await
            .map_err(|error| fault::describe(&error, unit))?;
        read(&reply)
    }

    /// Whether an object is still there.
    pub async fn has_job(&self, job: &OwnedObjectPath) -> Result<bool, zbus::Error> {
        let body = ("org.freedesktop.systemd1.Job", "State");
        let properties = Some("org.freedesktop.DBus.Properties");
        match self.connection.call_method(Some(NAME), job, properties, "Get", &body).await {
            Ok(_) => Ok(true),
            Err(zbus::Error::FDO(error)) => match *error {
                zbus::fdo::Error::UnknownObject(_)
                | zbus::fdo::Error::UnknownInterface(_)
                | zbus::fdo::Error::UnknownMethod(_) => Ok(false),
                other => Err(zbus::Error::FDO(Box::new(other))),
            },
            Err(other) => Err(other),
        }
    }
}

/// The body of an answer.
pub fn read<T>(reply: &Message) -> Result<T, Failure>
where
    T: for<'d> serde::Deserialize<'d> + zbus::Type,
{
    reply.body().deserialize().map_err(|error| {
        Failure::new("unsupported", format!("systemd's answer could not be understood: {error}"))
    })
}

/// A property that is text.
pub fn text(properties: &Properties, name: &str) -> String {
    let value = properties.get(name).and_then(|value| <&str>::try_from(value).ok());
    value.unwrap_or_default().to_owned()
}

/// A property that is a list of texts.
pub fn texts(properties: &Properties, name: &str) -> Vec<String> {
    let value = properties.get(name).and_then(|value| value.try_clone().ok());
    value.and_then(|value| Vec::<String>::try_from(value).ok()).unwrap_or_default()
}

/// A property that is a flag.
pub fn flag(properties: &Properties, name: &str) -> bool {
    properties.get(name).and_then(|value| bool::try_from(value).ok()).unwrap_or(false)
}

/// A property that is a number of 64 bits; the largest of all means that there is none.
pub fn number(properties: &Properties, name: &str) -> Option<u64> {
    let value = properties.get(name).and_then(|value| u64::try_from(value).ok());
    value.filter(|value| *value != u64::MAX)
}

/// A property that is a time; 0 means never.
pub fn time(properties: &Properties, name: &str) -> Option<i64> {
    let value = number(properties, name).filter(|value| *value != 0)?;
    i64::try_from(value).ok()
}

/// A property that is a number of 32 bits, with sign or without.
pub fn small(properties: &Properties, name: &str) -> Option<i64> {
    let value = properties.get(name)?;
    u32::try_from(value).map(i64::from).or_else(|_| i32::try_from(value).map(i64::from)).ok()
}
