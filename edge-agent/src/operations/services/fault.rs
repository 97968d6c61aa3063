//! What goes wrong between us and systemd, in words that say what to do.

use reeve_protocol::ops::Failure;
use zbus::fdo;

/// The machine is run by something else.
pub fn no_systemd() -> Failure {
    Failure::new(
        "no_systemd",
        "this machine is not run by systemd, so there are no units; use its own tools with 'reeve \
         run'",
    )
}

/// The system bus cannot be used.
pub fn no_bus(reason: &str, is_booted: bool) -> Failure {
    if !is_booted {
        return no_systemd();
    }
    Failure::new(
        "no_bus",
        format!(
            "systemd runs this machine, and the system bus cannot be used to talk to it: {reason}; \
             install or start dbus"
        ),
    )
}

/// The connection ended in the middle.
pub fn bus_gone(unit: &str) -> Failure {
    let about = if unit.is_empty() { String::new() } else { format!(" about {unit}") };
    Failure::new(
        "bus_gone",
        format!(
            "the connection to the system bus was lost while systemd was being asked{about}; what \
             was begun may go on; look at the unit"
        ),
    )
}

/// An error of a call.
pub fn describe(error: &zbus::Error, unit: &str) -> Failure {
    match error {
        zbus::Error::MethodError(name, text, _) => {
            named(name.as_str(), text.as_deref().unwrap_or_default(), unit)
        }
        zbus::Error::FDO(known) => match &**known {
            fdo::Error::AccessDenied(text)
            | fdo::Error::AuthFailed(text)
            | fdo::Error::InteractiveAuthorizationRequired(text) => not_permitted(text, unit),
            fdo::Error::ServiceUnknown(_) | fdo::Error::NameHasNoOwner(_) => no_systemd(),
            fdo::Error::NoReply(_) | fdo::Error::Disconnected(_) => bus_gone(unit),
            fdo::Error::Timeout(_) | fdo::Error::TimedOut(_) => silent(unit),
            fdo::Error::UnknownMethod(text) => Failure::new(
                "unsupported",
                format!("this machine's systemd does not know how to do that: {text}"),
            ),
            other => Failure::new("failed", format!("systemd: {other}")),
        },
        zbus::Error::InputOutput(error) if error.kind() == std::io::ErrorKind::TimedOut => {
            silent(unit)
        }
        zbus::Error::InputOutput(_) => bus_gone(unit),
        other => Failure::new("failed", format!("the system bus: {other}")),
    }
}

fn silent(unit: &str) -> Failure {
    let about = if unit.is_empty() { String::new() } else { format!(" about {unit}") };
    Failure::new("timed_out", format!("systemd does not answer{about}"))
}

fn not_permitted(text: &str, unit: &str) -> Failure {
    let user = crate::host::users::load_own_account().name;
    Failure::new(
        "not_permitted",
        format!(
            "the agent runs as '{user}', who may not do that with {unit} ({text}); run it as root, \
             or let polkit allow org.freedesktop.systemd1.manage-units"
        ),
    )
}

/// Errors of systemd and polkit by their names.
fn named(name: &str, text: &str, unit: &str) -> Failure {
    let short = name.rsplit('.').next().unwrap_or_default();
    match short {
        "NoSuchUnit" => Failure::new("not_found", format!("there is no unit '{unit}'")),
        "UnitMasked" => Failure::new(
            "masked",
            format!("{unit} is masked, so it cannot be started; unmask it first"),
        ),
        "JobTypeNotApplicable" => {
            Failure::new("not_applicable", format!("that cannot be done with {unit}: {text}"))
        }
        "TransactionIsDestructive"
        | "TransactionJobsConflicting"
        | "TransactionOrderIsCyclic"
        | "OnlyByDependency" => Failure::new("conflict", format!("systemd refuses it: {text}")),
        "LoadFailed" | "BadUnitSetting" => {
            Failure::new("bad_unit", format!("{unit} cannot be loaded: {text}"))
        }
        _ if name.starts_with("org.freedesktop.PolicyKit1.") => not_permitted(text, unit),
        _ => Failure::new("failed", format!("systemd: {text} ({short})")),
    }
}
