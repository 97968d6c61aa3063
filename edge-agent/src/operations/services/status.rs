//! `service_status`.

use reeve_protocol::ops::service_status::unit_name;
use reeve_protocol::ops::{Failure, ServiceStatus, UnitStatus};
use zbus::OwnedObjectPath;

use super::bus::{Properties, Systemd, flag, number, small, text, texts, time};
use super::{nearest, with_systemd};
use crate::operations::worker::{Needs, Perform, Worker};

/// `si_code` of a child that exited (waitid(2)); the others are of signals.
const EXITED: i64 = 1;

impl Perform for ServiceStatus {
    const NEEDS: Needs = Needs::Nothing;

    fn perform(self, worker: &mut Worker) -> Result<(), Failure> {
        let unit = unit_name(&self.unit);
        let status = with_systemd(async |systemd| {
            let object = systemd.load(&unit).await?;
            look(systemd, &object, &unit).await
        })?;
        worker.answer(&status)
    }
}

/// How a unit is. That it is unknown is an error, with names it may have been meant for.
pub async fn look(
    systemd: &Systemd,
    object: &OwnedObjectPath,
    unit: &str,
) -> Result<UnitStatus, Failure> {
    let (of_unit, of_kind) = systemd.properties(object, unit).await?;
    let status = describe(unit, &of_unit, &of_kind);
    if status.load == "not-found" {
        return Err(not_found(systemd, unit).await);
    }
    Ok(status)
}

async fn not_found(systemd: &Systemd, unit: &str) -> Failure {
    let units = systemd.list_units().await.unwrap_or_default();
    let files = systemd.list_files().await.unwrap_or_default();
    let loaded = units.iter().filter(|it| it.2 != "not-found").map(|it| it.0.as_str());
    let installed = files.iter().filter_map(|(path, _)| path.rsplit('/').next());
    let near = nearest::find(unit, loaded.chain(installed));
    let hint = match near.as_slice() {
        [] => String::new(),
        names => format!("; did you mean {}?", names.join(" or ")),
    };
    Failure::new("not_found", format!("there is no unit '{unit}'{hint}"))
}

fn describe(unit: &str, of_unit: &Properties, of_kind: &Properties) -> UnitStatus {
    let active = text(of_unit, "ActiveState");
    // As systemctl(1) reckons it.
    let since = match active.as_str() {
        "active" | "reloading" => "ActiveEnterTimestamp",
        "inactive" | "failed" => "InactiveEnterTimestamp",
        "activating" => "InactiveExitTimestamp",
        _ => "ActiveExitTimestamp",
    };
    let id = text(of_unit, "Id");
    let ended = time(of_kind, "ExecMainExitTimestamp");
    let code = ended.and_then(|_| small(of_kind, "ExecMainCode")).filter(|code| *code != 0);
    let status = || small(of_kind, "ExecMainStatus").and_then(|number| i32::try_from(number).ok());
    let pid = small(of_kind, "MainPID").and_then(|pid| u32::try_from(pid).ok());
    let main_pid = pid.filter(|pid| *pid != 0);
    UnitStatus {
        unit: if id.is_empty() { unit.to_owned() } else { id },
        description: text(of_unit, "Description"),
        load: text(of_unit, "LoadState"),
        load_error: load_error(of_unit),
        sub: text(of_unit, "SubState"),
        since_us: time(of_unit, since),
        enabled: text(of_unit, "UnitFileState"),
        path: text(of_unit, "FragmentPath"),
        drop_ins: texts(of_unit, "DropInPaths"),
        needs_daemon_reload: flag(of_unit, "NeedDaemonReload"),
        triggered_by: texts(of_unit, "TriggeredBy"),
        main_pid,
        main_started_us: main_pid.and_then(|_| time(of_kind, "ExecMainStartTimestamp")),
        last_exit: code.filter(|code| *code == EXITED).and_then(|_| status()),
        last_signal: code.filter(|code| *code != EXITED).and_then(|_| status()),
        last_ended_us: ended,
        result: text(of_kind, "Result"),
        restarts: small(of_kind, "NRestarts").and_then(|count| u32::try_from(count).ok()),
        status_text: text(of_kind, "StatusText"),
        memory: number(of_kind, "MemoryCurrent"),
        memory_peak: number(of_kind, "MemoryPeak"),
        cpu_ns: number(of_kind, "CPUUsageNSec"),
        tasks: number(of_kind, "TasksCurrent"),
        cgroup: text(of_kind, "ControlGroup"),
        can_reload: flag(of_unit, "CanReload"),
        active,
    }
}

/// `LoadError` is the name of an error and its text.
fn load_error(of_unit: &Properties) -> String {
    let value = of_unit.get("LoadError").and_then(|value| value.try_clone().ok());
    let pair = value.and_then(|value| zbus::Structure::try_from(value).ok());
    let pair = pair.and_then(|pair| <(String, String)>::try_from(pair).ok());
    pair.map(|(_, text)| text).unwrap_or_default()
}
