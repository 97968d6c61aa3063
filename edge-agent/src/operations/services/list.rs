//! `service_list`.

use std::collections::BTreeMap;

use reeve_protocol::ops::{Failure, Service, ServiceList, Services};

use super::with_systemd;
use crate::operations::worker::{Needs, Perform, Worker};

impl Perform for ServiceList {
    const NEEDS: Needs = Needs::Nothing;

    fn perform(self, worker: &mut Worker) -> Result<(), Failure> {
        let (loaded, files) = with_systemd(async |systemd| {
            Ok((systemd.list_units().await?, systemd.list_files().await?))
        })?;
        let loaded = loaded.into_iter().map(|unit| Service {
            unit: unit.0,
            description: unit.1,
            load: unit.2,
            active: unit.3,
            sub: unit.4,
            enabled: String::new(),
        });
        worker.answer(&choose(&self, loaded, files))
    }
}

/// Of what is loaded and what is installed, what was asked for.
fn choose(
    asked: &ServiceList,
    loaded: impl Iterator<Item = Service>,
    files: Vec<(String, String)>,
) -> Services {
    let is_wanted = |unit: &str| {
        let kind = unit.rsplit_once('.').map_or("", |(_, kind)| kind);
        match asked.kinds.as_slice() {
            [] => kind == "service",
            kinds => kinds.iter().any(|wanted| wanted == kind),
        }
    };
    let mut units: BTreeMap<String, Service> = loaded
        .filter(|service| is_wanted(&service.unit))
        // What others merely name is not a service of this machine.
        .filter(|service| asked.all || service.load != "not-found")
        .map(|service| (service.unit.clone(), service))
        .collect();
    for (path, enabled) in files {
        let name = path.rsplit('/').next().unwrap_or_default();
        if let Some(service) = units.get_mut(name) {
            service.enabled = enabled;
        } else if asked.all && is_wanted(name) {
            let unit = name.to_owned();
            units.insert(unit.clone(), Service { unit, enabled, ..Service::default() });
        }
    }
    Services { units: units.into_values().collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loaded(unit: &str, load: &str) -> Service {
        Service { unit: unit.to_owned(), load: load.to_owned(), ..Service::default() }
    }

    fn names(asked: &ServiceList) -> Vec<String> {
        let all = [
            loaded("nginx.service", "loaded"),
            loaded("gone.service", "not-found"),
            loaded("apt-daily.timer", "loaded"),
        ];
        let files = vec![
            ("/lib/systemd/system/nginx.service".to_owned(), "enabled".to_owned()),
            ("/lib/systemd/system/rare.service".to_owned(), "disabled".to_owned()),
        ];
        let services = choose(asked, all.into_iter(), files);
        services.units.into_iter().map(|unit| format!("{} {}", unit.unit, unit.enabled)).collect()
    }

    #[test]
    fn loaded_services_are_listed_and_the_rest_when_asked_for() {
        assert_eq!(names(&ServiceList::default()), ["nginx.service enabled"]);
        let all = ServiceList { all: true, kinds: Vec::new() };
        assert_eq!(
            names(&all),
            ["gone.service ", "nginx.service enabled", "rare.service disabled"]
        );
        let timers = ServiceList { all: false, kinds: vec!["timer".to_owned()] };
        assert_eq!(names(&timers), ["apt-daily.timer "]);
    }
}
