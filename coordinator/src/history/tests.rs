//! Histories, with the time as an argument.

use std::time::Duration;

use reeve_protocol::{MachineId, Metrics, Sample};
use reeve_sdk::api::{Resolution, Time};
use uuid::Uuid;

use super::range::{InvalidRange, Range};
use super::ring::{FILE_BYTES, History, MINUTES, QUARTERS, SAMPLES, Values};
use super::{Histories, to_number};
use crate::tasks::Tasks;

/// A round time: the beginning of an hour, seconds since 1970.
const HOUR: i64 = 1_795_000_000 - 1_795_000_000 % 3600;

/// Processor percent and bytes of memory.
fn values(cpu: f64, memory: f64) -> Values {
    let mut values: Values = [None; super::series::COLUMNS];
    values[0] = Some(cpu);
    values[6] = Some(memory);
    values
}

/// As near as what is kept allows.
fn is_near(found: f64, wanted: f64) -> bool {
    (found - wanted).abs() <= wanted / 500.0
}

fn fresh() -> (tempfile::TempDir, History) {
    let folder = tempfile::tempdir().expect("a folder");
    let history = History::open_or_create(&folder.path().join("m.ring")).expect("made");
    (folder, history)
}

/// Writes one sample every five seconds, three at a time as heartbeats bring them.
fn fill(history: &History, from: i64, seconds: i64, of: impl Fn(i64) -> Values) {
    let numbers: Vec<i64> = (from / 5..(from + seconds) / 5).collect();
    for some in numbers.chunks(3) {
        let samples: Vec<_> = some.iter().map(|number| (*number, of(number * 5))).collect();
        history.record(&samples).expect("written");
    }
}

#[test]
fn minutes_and_quarters_hold_least_mean_and_most_of_their_samples() {
    let (_folder, history) = fresh();
    // In every minute from 0 to 55 percent.
    fill(&history, HOUR, 3600, |at| values((at % 60) as f64, at as f64));
    let minutes = history.read(MINUTES, HOUR / 60, HOUR / 60 + 60).expect("read");
    for (spans, count) in &minutes {
        let cpu = spans.expect("known")[0].expect("known");
        assert_eq!((cpu.min, *count), (0.0, 12));
        assert!(is_near(cpu.avg, 27.5) && is_near(cpu.max, 55.0), "{cpu:?}");
    }
    let quarters = history.read(QUARTERS, HOUR / 900, HOUR / 900 + 4).expect("read");
    for (spans, count) in &quarters {
        let cpu = spans.expect("known")[0].expect("known");
        assert_eq!((cpu.min, *count), (0.0, 180));
        assert!(is_near(cpu.avg, 27.5) && is_near(cpu.max, 55.0), "{cpu:?}");
        let spans = spans.expect("known");
        assert!(spans[6].is_some() && spans[1].is_none(), "{spans:?}");
    }
}

#[test]
fn gaps_are_gaps_and_half_minutes_weigh_half() {
    let (_folder, history) = fresh();
    fill(&history, HOUR, 30, |_| values(10.0, 0.0));
    fill(&history, HOUR + 120, 60, |_| values(40.0, 0.0));
    let minutes = history.read(MINUTES, HOUR / 60, HOUR / 60 + 4).expect("read");
    let known: Vec<_> = minutes.iter().map(|(spans, count)| (spans.is_some(), *count)).collect();
    assert_eq!(known, [(true, 6), (false, 0), (true, 12), (false, 0)]);
    let quarter = history.read(QUARTERS, HOUR / 900, HOUR / 900 + 1).expect("read").remove(0);
    let cpu = quarter.0.expect("known")[0].expect("known");
    assert!(is_near(cpu.avg, 30.0), "{cpu:?}");
    let samples = history.read(SAMPLES, HOUR / 5, HOUR / 5 + 12).expect("read");
    assert_eq!(samples.iter().filter(|(spans, _)| spans.is_some()).count(), 6);
}

#[test]
fn file_stays_as_large_as_it_is_and_forgets_what_is_too_old() {
    let (folder, history) = fresh();
    fill(&history, HOUR, 3600, |_| values(1.0, 1.0));
    // The same places in the ring, a turn later.
    fill(&history, HOUR + 3600, 600, |_| values(2.0, 2.0));
    let old = history.read(SAMPLES, HOUR / 5, HOUR / 5 + 720).expect("read");
    assert!(old[..120].iter().all(|(spans, _)| spans.is_none()));
    assert!(old[120..].iter().all(|(spans, _)| spans.is_some()));
    // A month and a day later: what is as old as that is no more.
    fill(&history, HOUR + 31 * 86_400, 60, |_| values(3.0, 3.0));
    fill(&history, HOUR + 30 * 86_400, 60, |_| values(3.0, 3.0));
    let quarter = history.read(QUARTERS, HOUR / 900, HOUR / 900 + 1).expect("read");
    assert!(quarter[0].0.is_none());
    let length = folder.path().join("m.ring").metadata().expect("there").len();
    assert_eq!(length, FILE_BYTES);
    assert!(length < 512 * 1024, "{length}");
}

#[test]
fn what_was_written_is_there_after_opening_again_and_rolls_up_with_what_follows() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("m.ring");
    let open = || History::open_or_create(&path).expect("opened");
    fill(&open(), HOUR, 30, |_| values(10.0, 0.0));
    fill(&open(), HOUR + 30, 30, |_| values(20.0, 0.0));
    let minute = open().read(MINUTES, HOUR / 60, HOUR / 60 + 1).expect("read").remove(0);
    let cpu = minute.0.expect("known")[0].expect("known");
    assert!(is_near(cpu.min, 10.0) && is_near(cpu.avg, 15.0) && is_near(cpu.max, 20.0), "{cpu:?}");
    assert_eq!(minute.1, 12);
}

#[test]
fn file_of_another_kind_or_cut_short_begins_anew_and_harms_nobody() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("m.ring");
    std::fs::write(&path, b"something else").expect("written");
    assert!(History::open(&path).expect("opened").is_none());
    let history = History::open_or_create(&path).expect("made");
    fill(&history, HOUR, 5, |_| values(1.0, 1.0));
    assert!(History::open(&path).expect("opened").is_some());
    // Cut short by a disk that was full when the file was copied.
    std::fs::File::options().write(true).open(&path).expect("opened").set_len(100).expect("cut");
    let cut = History::open(&path).expect("opened").expect("of our kind");
    assert!(cut.read(MINUTES, HOUR / 60, HOUR / 60 + 1).is_err());
}

fn time(seconds: i64) -> Option<Time> {
    Some(Time::from_micros(seconds * 1_000_000))
}

#[test]
fn resolution_is_the_finest_that_reaches_back_far_enough() {
    let now = HOUR + 40 * 86_400;
    let chosen = |back: i64, length: i64| {
        let (from, to) = (time(now - back), time(now - back + length));
        let range = Range::choose(from, to, Resolution::Auto, None, time(now).expect("a time"));
        range.expect("a range").read_none().resolution
    };
    assert_eq!(chosen(3600, 3600), Resolution::FiveSeconds);
    assert_eq!(chosen(3660, 3600), Resolution::Minute);
    assert_eq!(chosen(86_400, 86_400), Resolution::Minute);
    assert_eq!(chosen(86_400, 60), Resolution::Minute);
    assert_eq!(chosen(87_000, 60), Resolution::QuarterHour);
    assert_eq!(chosen(30 * 86_400, 30 * 86_400), Resolution::QuarterHour);
}

#[test]
fn answers_have_a_place_for_every_time_and_no_more_than_is_kept() {
    let now = time(HOUR).expect("a time");
    let all = |from, resolution| {
        Range::choose(time(from), None, resolution, Some("cpu,memory"), now)
            .map(|it| it.read_none())
    };
    let answer = all(0, Resolution::FiveSeconds).expect("a range");
    assert_eq!((answer.times.len(), answer.step_s), (720, 5));
    assert_eq!(answer.series.len(), 2);
    assert!(answer.series.iter().all(|series| series.avg.len() == 720 && series.min.is_empty()));
    let answer = all(HOUR - 600, Resolution::Minute).expect("a range");
    assert_eq!((answer.times.first(), answer.times.len()), (Some(&(HOUR - 600)), 11));
    assert_eq!(answer.series[0].max.len(), 11);
    assert_eq!(all(HOUR + 5, Resolution::Auto).expect_err("none"), InvalidRange::Empty);
    let odd = Range::choose(None, None, Resolution::Auto, Some("cpu,nope"), now);
    assert!(odd.expect_err("none").to_string().contains("'nope'"));
    // Times that no calendar has do no harm.
    for from in [i64::MIN / 2_000_000, -1, i64::MAX / 2_000_000] {
        let _ = all(from, Resolution::Auto);
    }
}

#[test]
fn samples_count_from_the_heartbeat_and_not_from_the_agents_clock() {
    assert_eq!(to_number(HOUR * 1_000_000), HOUR / 5);
    assert_eq!(to_number(HOUR * 1_000_000 + 2_400_000), HOUR / 5);
    assert_eq!(to_number(HOUR * 1_000_000 - 2_400_000), HOUR / 5);
    assert_eq!(to_number(HOUR * 1_000_000 + 2_600_000), HOUR / 5 + 1);
}

#[tokio::test]
async fn heartbeats_become_points_and_removed_machines_leave_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let tasks = Tasks::new();
    let path = folder.path().join("history");
    let histories = Histories::open(path.clone(), tasks.clone()).expect("opened");
    let machine = MachineId(Uuid::from_u128(7));
    let sample = |ago, cpu| Sample { ago, cpu_user: Some(cpu), ..Sample::default() };
    let metrics = Metrics { disk_total: 1000, disk_available: 400, ..Metrics::default() };
    let samples = [sample(2, 100), sample(1, 200), sample(0, 300)];
    histories.take(machine, &samples, Some(&metrics), HOUR * 1_000_000);
    // Nobody keeps what is said to be older than a ring is long.
    histories.take(machine, &[sample(u64::MAX, 1), sample(5000, 1)], None, HOUR * 1_000_000);
    let read = || {
        let wanted = Some("cpu,disk,load");
        let now = time(HOUR).expect("a time");
        let range = Range::choose(time(HOUR - 10), time(HOUR), Resolution::Auto, wanted, now);
        histories.read(machine, range.expect("a range"))
    };
    let answer = tokio::time::timeout(Duration::from_secs(10), async {
        loop {
            let answer = read().await.expect("read");
            if answer.series[0].avg.iter().all(Option::is_some) {
                return answer;
            }
            tokio::task::yield_now().await;
        }
    });
    let answer = answer.await.expect("written in time");
    let near = |at: usize, expected: [f64; 3]| {
        let pairs = answer.series[at].avg.iter().zip(expected);
        pairs.into_iter().all(|(found, wanted)| found.is_some_and(|it| is_near(it, wanted)))
    };
    assert!(near(0, [10.0, 20.0, 30.0]) && near(1, [600.0; 3]), "{answer:?}");
    assert_eq!(answer.series[2].avg, [None; 3]);
    assert_eq!(answer.times, [HOUR - 10, HOUR - 5, HOUR]);
    histories.forget(machine).await;
    assert_eq!(std::fs::read_dir(path).expect("listed").count(), 0);
    assert!(read().await.expect("read").series[0].avg.iter().all(Option::is_none));
}
