use reeve_protocol::{JobId, OperationId, Totals};
use reeve_sdk::api::{JobState, Time};
use tokio::sync::broadcast::error::{RecvError, TryRecvError};

use super::{Change, Hub, JOB_BACKLOG, JobEnd, LOOK_AT, Mailbox};

fn output(job: JobId, all: u64) -> Change {
    let durable = Totals { all, ..Totals::default() };
    Change::Output { job, operation: OperationId::new(), durable }
}

#[tokio::test]
async fn watcher_of_a_job_hears_of_that_job_only() {
    let hub = Hub::default();
    let (mine, other) = (JobId::new(), JobId::new());
    let (mut watcher, mut everything) = (hub.watch_job(mine), hub.watch_all());
    hub.tell(output(other, 1));
    hub.tell(output(mine, 2));
    assert_eq!(watcher.recv().await.expect("a change").job(), mine);
    assert_eq!(watcher.try_recv().err(), Some(TryRecvError::Empty));
    assert_eq!(everything.recv().await.expect("a change").job(), other);
    assert_eq!(everything.recv().await.expect("a change").job(), mine);
}

#[tokio::test]
async fn watcher_that_is_too_slow_is_told_and_slows_nobody() {
    let hub = Hub::default();
    let job = JobId::new();
    let mut slow = hub.watch_job(job);
    for at in 0..2 * JOB_BACKLOG as u64 {
        hub.tell(output(job, at));
    }
    assert!(matches!(slow.recv().await, Err(RecvError::Lagged(_))));
    assert!(slow.recv().await.is_ok());
}

#[tokio::test]
async fn jobs_that_nobody_watches_any_more_are_forgotten() {
    let hub = Hub::default();
    let gone: Vec<JobId> = (0..2000).map(|_| JobId::new()).collect();
    for job in &gone {
        drop(hub.watch_job(*job));
    }
    assert!(hub.jobs().watched.len() <= 2 * LOOK_AT, "{}", hub.jobs().watched.len());
    let job = JobId::new();
    drop(hub.watch_job(job));
    hub.tell(Change::Job(JobEnd {
        job,
        state: JobState::Succeeded,
        finished: Time::from_micros(0),
        cancel_requested: None,
    }));
    assert!(!hub.jobs().watched.contains_key(&job));
}

#[tokio::test]
async fn letters_wait_in_order_and_wake_the_reader_once() {
    let mailbox = Mailbox::default();
    mailbox.put(1);
    mailbox.put(2);
    mailbox.arrived().await;
    assert_eq!(mailbox.take(), [1, 2]);
    assert!(mailbox.take().is_empty());
    let mut waiting = std::pin::pin!(mailbox.arrived());
    assert!(futures_util::poll!(&mut waiting).is_pending());
    mailbox.put(3);
    waiting.await;
    assert_eq!(mailbox.take(), [3]);
}
