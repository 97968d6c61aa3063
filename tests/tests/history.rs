//! What machines did: told by their agents, kept by the coordinator, asked for over the API.

use std::time::Duration;

use reeve_sdk::api::{History, Resolution};
use reeve_tests::{Cluster, eventually_some};

fn load(cluster: &Cluster, query: &str) -> History {
    cluster.api.load(&format!("/api/machines/web-1/metrics?{query}"))
}

/// Values that are known.
fn known(history: &History, name: &str) -> Vec<f64> {
    let series = history.series.iter().find(|series| series.name == name).expect("the series");
    series.avg.iter().flatten().copied().collect()
}

#[test]
fn points_appear_and_outlive_the_coordinator() {
    let mut cluster = Cluster::start();
    let _web = cluster.agent("web-1").start();
    let history = eventually_some("there are samples", Duration::from_secs(60), || {
        let history = load(&cluster, "series=cpu,memory,disk,load");
        (known(&history, "memory").len() >= 2).then_some(history)
    });
    assert_eq!((history.resolution, history.step_s), (Resolution::FiveSeconds, 5));
    assert_eq!(history.series.len(), 4);
    let total: u64 = std::fs::read_to_string("/proc/meminfo")
        .expect("memory")
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:")?.trim().split(' ').next()?.parse().ok())
        .expect("a number");
    let memory = known(&history, "memory");
    assert!(memory.iter().all(|used| *used > 0.0 && *used < total as f64 * 1024.0), "{memory:?}");
    assert!(known(&history, "cpu").iter().all(|percent| (0.0..=100.0).contains(percent)));
    assert!(known(&history, "disk").iter().all(|used| *used > 0.0));
    let first = history.times[history.series[1].avg.iter().position(Option::is_some).expect("one")];

    cluster.coordinator.kill9();
    cluster.coordinator.start();
    let history = load(&cluster, "series=memory");
    let at = history.times.iter().position(|time| *time == first).expect("still asked for");
    assert!(history.series[0].avg[at].is_some(), "{history:?}");
    // And it goes on.
    let before = known(&history, "memory").len();
    eventually_some("there is more", Duration::from_secs(60), || {
        (known(&load(&cluster, "series=memory"), "memory").len() > before).then_some(())
    });
    let minutes = load(&cluster, "series=memory&resolution=1m");
    assert_eq!(minutes.step_s, 60);
    assert!(!known(&minutes, "memory").is_empty());
    let series = &minutes.series[0];
    for ((min, avg), max) in series.min.iter().zip(&series.avg).zip(&series.max) {
        assert!(min <= avg && avg <= max, "{series:?}");
    }
    cluster.reeve(["machines", "remove", "web-1", "--yes"]).expect_code(0);
    let folder = cluster.coordinator.data().join("history");
    assert_eq!(std::fs::read_dir(folder).expect("listed").count(), 0);
}

#[test]
fn history_is_for_those_who_may_see_the_machine() {
    let cluster = Cluster::start();
    let _web = cluster.agent("web-1").label("role", "web").start();
    let answer = cluster.guest.get("/api/machines/web-1/metrics");
    assert_eq!(answer.status, 401, "{answer}");
    for (query, said) in [
        ("series=nope", "'nope'"),
        ("resolution=2s", "resolution"),
        ("from=yesterday", "from"),
        ("from=2026-11-21T10:00:00Z&to=2026-11-21T09:00:00Z", "'from'"),
        ("odd=1", "odd"),
    ] {
        let answer = cluster.api.get(&format!("/api/machines/web-1/metrics?{query}"));
        assert_eq!(answer.status, 400, "{query}: {answer}");
        assert!(answer.to_string().contains(said), "{query}: {answer}");
    }
    assert_eq!(cluster.api.get("/api/machines/no-such/metrics").status, 404);
}
