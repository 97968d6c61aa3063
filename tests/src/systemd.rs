//! A systemd that manages nothing, on a system bus of its own: it answers as the real one does
//! (org.freedesktop.systemd1(5)), and fails in the ways the real one fails.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use tempfile::TempDir;
use zbus::message::{Header, Message, Type};
use zbus::{Connection, MessageStream, ObjectPath, OwnedObjectPath, Variant};

use crate::wait::eventually;

const NAME: &str = "org.freedesktop.systemd1";
const OBJECT: &str = "/org/freedesktop/systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";

/// What happens when a unit is started, stopped or the like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Behaviour {
    /// It does as it is told.
    #[default]
    Works,
    /// Its job fails.
    Fails,
    /// Its job never ends.
    Hangs,
    /// It starts, and ends at once with 1.
    Dies,
    /// polkit says no.
    Denied,
    /// It is masked.
    Masked,
    /// It has no `[Install]`.
    Static,
}

/// A unit of it.
#[derive(Clone, Debug, Default)]
pub struct FakeUnit {
    /// What happens to it.
    pub behaviour: Behaviour,
    /// Its `ActiveState`.
    pub active: String,
    /// Its `UnitFileState`.
    pub enabled: String,
    /// Jobs it was given, such as `StartUnit`.
    pub jobs: Vec<String>,
}

#[derive(Default)]
struct State {
    units: BTreeMap<String, FakeUnit>,
    next_job: u32,
    /// Jobs that go on.
    open: Vec<String>,
    /// `daemon-reload`s.
    reloads: u32,
}

/// The bus and what is on it. Both end with this value.
pub struct FakeSystemd {
    bus: Child,
    address: String,
    state: Arc<Mutex<State>>,
    _runtime: Option<tokio::runtime::Runtime>,
    _folder: TempDir,
}

/// Whoever asks may do everything: this bus is for one test.
fn configuration(socket: &str) -> String {
    format!(
        r#"<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>system</type>
  <listen>unix:path={socket}</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow send_destination="*" eavesdrop="true"/>
    <allow receive_sender="*"/>
    <allow own="*"/>
    <allow user="*"/>
  </policy>
</busconfig>
"#
    )
}

impl FakeSystemd {
    /// A bus with a systemd that has these units.
    ///
    /// # Panics
    /// When it does not come up.
    #[must_use]
    pub fn start(units: &[(&str, Behaviour)]) -> Self {
        let mut fake = Self::bus_alone();
        {
            let mut state = lock(&fake.state);
            for (name, behaviour) in units {
                let unit = FakeUnit {
                    behaviour: *behaviour,
                    active: "inactive".to_owned(),
                    enabled: match behaviour {
                        Behaviour::Masked => "masked".to_owned(),
                        Behaviour::Static => "static".to_owned(),
                        _ => "disabled".to_owned(),
                    },
                    jobs: Vec::new(),
                };
                state.units.insert((*name).to_owned(), unit);
            }
        }
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let (address, state) = (fake.address.clone(), fake.state.clone());
        let connection = runtime.block_on(async {
            let connection = zbus::connection::Builder::address(address.as_str())
                .build()
                .await
                .expect("the bus lets us in");
            let calls = MessageStream::from(&connection);
            tokio::spawn(serve(connection.clone(), calls, state));
            connection.request_name(NAME).await.expect("the name is free");
            connection
        });
        drop(connection);
        fake._runtime = Some(runtime);
        fake
    }

    /// A bus on which there is no systemd.
    ///
    /// # Panics
    /// When it does not come up.
    #[must_use]
    pub fn bus_alone() -> Self {
        let folder = tempfile::Builder::new().prefix("reeve-bus-").tempdir().expect("a folder");
        let socket = folder.path().join("bus");
        let text = configuration(&socket.to_string_lossy());
        let file: PathBuf = folder.path().join("bus.conf");
        fs::write(&file, text).expect("write the configuration");
        let bus = Command::new("dbus-daemon")
            .arg(format!("--config-file={}", file.display()))
            .args(["--nofork", "--nopidfile"])
            .stdin(Stdio::null())
            .spawn()
            .expect("dbus-daemon starts; the package dbus-daemon has it");
        // The socket is there before it is listened on.
        eventually("the bus listens", Duration::from_secs(10), || {
            std::os::unix::net::UnixStream::connect(&socket).is_ok()
        });
        let address = format!("unix:path={}", socket.display());
        Self { bus, address, state: Arc::default(), _runtime: None, _folder: folder }
    }

    /// For `DBUS_SYSTEM_BUS_ADDRESS`.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// A unit as it is now.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn unit(&self, name: &str) -> FakeUnit {
        lock(&self.state).units.get(name).expect("a unit").clone()
    }

    /// How often it was told to read its files again.
    #[must_use]
    pub fn reloads(&self) -> u32 {
        lock(&self.state).reloads
    }

    /// Takes the bus away.
    ///
    /// # Panics
    /// When that fails.
    pub fn kill_bus(&mut self) {
        self.bus.kill().expect("kill the bus");
        self.bus.wait().expect("wait for the bus");
    }
}

impl Drop for FakeSystemd {
    fn drop(&mut self) {
        let _gone = self.bus.kill();
        let _gone = self.bus.wait();
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An error as D-Bus has it.
struct Refused(&'static str, String);

const DENIED: &str = "org.freedesktop.DBus.Error.InteractiveAuthorizationRequired";
const UNKNOWN: &str = "org.freedesktop.DBus.Error.UnknownObject";

async fn serve(connection: Connection, mut calls: MessageStream, state: Arc<Mutex<State>>) {
    while let Some(Ok(message)) = calls.next().await {
        if message.message_type() != Type::MethodCall {
            continue;
        }
        let header = message.header();
        if let Err(Refused(name, text)) = answer(&connection, &state, &header, &message).await {
            let _gone = connection.reply_error(&header, name, &text).await;
        }
    }
}

async fn answer(
    connection: &Connection,
    state: &Mutex<State>,
    header: &Header<'_>,
    message: &Message,
) -> Result<(), Refused> {
    let member = header.member().map(ToString::to_string).unwrap_or_default();
    let path = header.path().map(ToString::to_string).unwrap_or_default();
    let body = message.body();
    let replied = match member.as_str() {
        "Subscribe" => connection.reply(header, &()).await,
        "Reload" => {
            lock(state).reloads += 1;
            connection.reply(header, &()).await
        }
        "ListUnits" => connection.reply(header, &list_units(state)).await,
        "ListUnitFiles" => {
            let files: Vec<(String, String)> = lock(state)
                .units
                .iter()
                .map(|(name, unit)| (format!("/etc/systemd/system/{name}"), unit.enabled.clone()))
                .collect();
            connection.reply(header, &files).await
        }
        "LoadUnit" => {
            let name: String = body.deserialize().expect("a name");
            connection.reply(header, &unit_path(&name)).await
        }
        "StartUnit" | "StopUnit" | "RestartUnit" | "ReloadUnit" => {
            let (name, _mode): (String, String) = body.deserialize().expect("a name and a mode");
            return run_job(connection, state, header, &member, &name).await;
        }
        "EnableUnitFiles" => {
            let (names, _, _): (Vec<String>, bool, bool) = body.deserialize().expect("names");
            let changed = change_file(state, &names, "enabled", "symlink")?;
            let carries = changed.is_some();
            connection.reply(header, &(carries, changed.unwrap_or_default())).await
        }
        "DisableUnitFiles" => {
            let (names, _): (Vec<String>, bool) = body.deserialize().expect("names");
            let changed = change_file(state, &names, "disabled", "unlink")?;
            connection.reply(header, &changed.unwrap_or_default()).await
        }
        "MaskUnitFiles" => {
            let (names, _, _): (Vec<String>, bool, bool) = body.deserialize().expect("names");
            let changed = change_file(state, &names, "masked", "symlink")?;
            connection.reply(header, &changed.unwrap_or_default()).await
        }
        "UnmaskUnitFiles" => {
            let (names, _): (Vec<String>, bool) = body.deserialize().expect("names");
            let changed = change_file(state, &names, "disabled", "unlink")?;
            connection.reply(header, &changed.unwrap_or_default()).await
        }
        "GetAll" => {
            let interface: String = body.deserialize().expect("an interface");
            connection.reply(header, &properties(state, &path, &interface)).await
        }
        "Get" if lock(state).open.contains(&path) => {
            connection.reply(header, &Variant::from("running")).await
        }
        _ => return Err(Refused(UNKNOWN, format!("{path} has no {member}"))),
    };
    // Whoever asked may be gone.
    let _gone = replied;
    Ok(())
}

type Listed =
    (String, String, String, String, String, String, OwnedObjectPath, u32, String, OwnedObjectPath);

fn list_units(state: &Mutex<State>) -> Vec<Listed> {
    let state = lock(state);
    let none = ObjectPath::try_from("/").expect("a path");
    let units = state.units.iter().map(|(name, unit)| {
        (
            name.clone(),
            format!("The unit {name}"),
            if unit.enabled == "masked" { "masked" } else { "loaded" }.to_owned(),
            unit.active.clone(),
            sub(&unit.active).to_owned(),
            String::new(),
            unit_path(name),
            0,
            String::new(),
            none.clone().into(),
        )
    });
    units.collect()
}

fn sub(active: &str) -> &'static str {
    match active {
        "active" => "running",
        "failed" => "failed",
        "activating" => "start",
        _ => "dead",
    }
}

/// As systemd does it: what is no letter or digit becomes its number.
fn unit_path(name: &str) -> OwnedObjectPath {
    let escaped: String = name
        .bytes()
        .map(|byte| {
            if byte.is_ascii_alphanumeric() {
                char::from(byte).to_string()
            } else {
                format!("_{byte:02x}")
            }
        })
        .collect();
    ObjectPath::try_from(format!("{OBJECT}/unit/{escaped}")).expect("a path").into()
}

async fn run_job(
    connection: &Connection,
    state: &Mutex<State>,
    header: &Header<'_>,
    method: &str,
    name: &str,
) -> Result<(), Refused> {
    let (job, path, result) = {
        let mut state = lock(state);
        state.next_job += 1;
        let number = state.next_job;
        let Some(unit) = state.units.get_mut(name) else {
            let text = format!("Unit {name} not found.");
            return Err(Refused("org.freedesktop.systemd1.NoSuchUnit", text));
        };
        unit.jobs.push(method.to_owned());
        let starts = matches!(method, "StartUnit" | "RestartUnit");
        let result = match unit.behaviour {
            Behaviour::Denied => {
                return Err(Refused(DENIED, "Interactive authentication required.".to_owned()));
            }
            Behaviour::Masked if starts => {
                let text = format!("Unit {name} is masked.");
                return Err(Refused("org.freedesktop.systemd1.UnitMasked", text));
            }
            Behaviour::Static if method == "ReloadUnit" => {
                let text = format!("Job type reload is not applicable for unit {name}.");
                return Err(Refused("org.freedesktop.systemd1.JobTypeNotApplicable", text));
            }
            Behaviour::Hangs => {
                "activating".clone_into(&mut unit.active);
                None
            }
            Behaviour::Fails => {
                "failed".clone_into(&mut unit.active);
                Some("failed")
            }
            Behaviour::Dies if starts => {
                "failed".clone_into(&mut unit.active);
                Some("done")
            }
            _ => {
                let active = if method == "StopUnit" { "inactive" } else { "active" };
                active.clone_into(&mut unit.active);
                Some("done")
            }
        };
        let path = format!("{OBJECT}/job/{number}");
        if result.is_none() {
            state.open.push(path.clone());
        }
        (number, OwnedObjectPath::from(ObjectPath::try_from(path).expect("a path")), result)
    };
    let _gone = connection.reply(header, &path).await;
    if let Some(result) = result {
        let body = (job, path, name, result);
        let _gone =
            connection.emit_signal(None::<&str>, OBJECT, MANAGER, "JobRemoved", &body).await;
    }
    Ok(())
}

/// Kind of change, link and what it leads to.
type Link = (String, String, String);

/// The links that were changed; `None` when the unit cannot be installed.
fn change_file(
    state: &Mutex<State>,
    names: &[String],
    enabled: &str,
    kind: &str,
) -> Result<Option<Vec<Link>>, Refused> {
    let mut changes = Vec::new();
    let mut state = lock(state);
    for name in names {
        let Some(unit) = state.units.get_mut(name) else {
            let text = format!("Unit file {name} does not exist.");
            return Err(Refused("org.freedesktop.systemd1.NoSuchUnit", text));
        };
        match unit.behaviour {
            Behaviour::Denied => {
                return Err(Refused(DENIED, "Interactive authentication required.".to_owned()));
            }
            Behaviour::Static if enabled == "enabled" => return Ok(None),
            _ => {}
        }
        if unit.enabled != enabled {
            enabled.clone_into(&mut unit.enabled);
            let link = format!("/etc/systemd/system/multi-user.target.wants/{name}");
            changes.push((kind.to_owned(), link, format!("/lib/systemd/system/{name}")));
        }
    }
    Ok(Some(changes))
}

fn properties(
    state: &Mutex<State>,
    path: &str,
    interface: &str,
) -> HashMap<&'static str, Variant<'static>> {
    let state = lock(state);
    let found = state.units.iter().find(|(name, _)| unit_path(name).as_str() == path);
    let mut all = HashMap::new();
    let mut text = |key, value: &str| all.insert(key, Variant::from(value.to_owned()));
    let Some((name, unit)) = found else {
        if interface.ends_with(".Unit") {
            text("LoadState", "not-found");
            text("ActiveState", "inactive");
        }
        return all;
    };
    if interface.ends_with(".Unit") {
        text("Id", name);
        text("Description", &format!("The unit {name}"));
        text("LoadState", if unit.enabled == "masked" { "masked" } else { "loaded" });
        text("ActiveState", &unit.active);
        text("SubState", sub(&unit.active));
        text("UnitFileState", &unit.enabled);
        text("FragmentPath", &format!("/etc/systemd/system/{name}"));
        for key in ["ActiveEnterTimestamp", "InactiveEnterTimestamp"] {
            all.insert(key, Variant::from(1_700_000_000_000_000_u64));
        }
        all.insert("TriggeredBy", Variant::from(vec!["other.timer".to_owned()]));
        all.insert("LoadError", Variant::from((String::new(), String::new())));
        all.insert("CanReload", Variant::from(unit.behaviour != Behaviour::Static));
        return all;
    }
    let failed = unit.active == "failed";
    text("Result", if failed { "exit-code" } else { "success" });
    let pid = if unit.active == "active" { std::process::id() } else { 0 };
    all.insert("MainPID", Variant::from(pid));
    all.insert("NRestarts", Variant::from(2_u32));
    all.insert("ExecMainCode", Variant::from(i32::from(failed)));
    all.insert("ExecMainStatus", Variant::from(i32::from(failed)));
    let ended = if failed { 1_700_000_001_000_000_u64 } else { 0 };
    all.insert("ExecMainExitTimestamp", Variant::from(ended));
    all.insert("MemoryCurrent", Variant::from(4096_u64));
    all.insert("CPUUsageNSec", Variant::from(u64::MAX));
    all
}
