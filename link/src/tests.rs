use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, Waker};

use reeve_protocol::{Acknowledge, Heartbeat, Kind, Output, Stream};

use super::queue::{Next, SendQueue};
use super::*;

fn heartbeat() -> Envelope {
    Envelope::of(&Heartbeat::default()).expect("encodes")
}

fn output(operation: OperationId, all: u64, size: usize) -> Envelope {
    let body =
        Output { stream: Stream::Stdout, offset: all, all, bytes: vec![b'x'; size], gap: None };
    Envelope::about(operation, &body).expect("encodes")
}

type Ends = (Sender, Receiver<MemoryTransport>);

fn pair(settings: Settings) -> (Ends, Ends, Vec<tokio::task::JoinHandle<()>>) {
    let (left, right) = memory_pair();
    let (left_sender, left_receiver, left_driver) = open(left, settings);
    let (right_sender, right_receiver, right_driver) = open(right, settings);
    #[allow(clippy::disallowed_methods, reason = "a test waits for its own tasks")]
    let tasks = vec![tokio::spawn(left_driver.run()), tokio::spawn(right_driver.run())];
    ((left_sender, left_receiver), (right_sender, right_receiver), tasks)
}

#[tokio::test]
async fn frame_arrives_as_it_was_sent() {
    let ((sender, _receiver), (_other, mut receiver), _tasks) = pair(Settings::default());
    let operation = OperationId::new();
    sender.data(operation, &output(operation, 7, 100)).await.expect("open");
    let envelope = receiver.next().await.expect("a frame");
    assert_eq!(envelope, output(operation, 7, 100));
}

#[tokio::test]
async fn control_overtakes_data_and_operations_take_turns() {
    let (left, right) = memory_pair();
    let (sender, _keep, driver) = open(left, Settings::default());
    let (_other, mut receiver, _other_driver) = open(right, Settings::default());
    let (first, second) = (OperationId::new(), OperationId::new());
    // Nothing is written before the driver runs, so the order is decided by the queue alone.
    for all in 0..3 {
        sender.data(first, &output(first, all, 10)).await.expect("open");
    }
    sender.data(second, &output(second, 0, 10)).await.expect("open");
    sender.control(&heartbeat()).expect("open");
    #[allow(clippy::disallowed_methods, reason = "a test waits for its own tasks")]
    let _task = tokio::spawn(driver.run());
    let mut order = Vec::new();
    for _ in 0..5 {
        let envelope = receiver.next().await.expect("a frame");
        order.push((envelope.kind.as_str().to_owned(), envelope.id));
    }
    let expected: Vec<_> = [
        ("heartbeat", None),
        ("output", Some(first)),
        ("output", Some(second)),
        ("output", Some(first)),
        ("output", Some(first)),
    ]
    .map(|(kind, id)| (kind.to_owned(), id))
    .into();
    assert_eq!(order, expected);
}

#[tokio::test]
async fn operation_whose_queue_is_full_waits_and_others_do_not() {
    let (left, _right) = memory_pair();
    let (sender, _receiver, _driver) = open(left, Settings::default());
    let (bulk, small) = (OperationId::new(), OperationId::new());
    for all in 0..limits::DATA_QUEUE_PER_OPERATION as u64 {
        sender.data(bulk, &output(bulk, all, 10)).await.expect("room");
    }
    let one_more = output(bulk, 99, 10);
    let mut waiting = std::pin::pin!(sender.data(bulk, &one_more));
    assert!(futures_util::poll!(&mut waiting).is_pending());
    sender.data(small, &output(small, 0, 10)).await.expect("room of its own");
}

#[tokio::test]
async fn peer_that_does_not_read_control_loses_its_link() {
    let (left, _right) = memory_pair();
    let (sender, _receiver, _driver) = open(left, Settings::default());
    for _ in 0..limits::CONTROL_QUEUE {
        sender.control(&heartbeat()).expect("room");
    }
    assert_eq!(sender.control(&heartbeat()), Err(Closed));
    assert!(sender.is_closed());
}

#[tokio::test]
async fn closing_writes_control_that_waits_and_wakes_everybody() {
    let ((sender, mut own), (other, mut receiver), tasks) = pair(Settings::default());
    sender
        .control(&Envelope::of(&Acknowledge { durable: 1, result: true }).expect("encodes"))
        .expect("open");
    sender.close();
    assert_eq!(receiver.next().await.expect("a frame").kind, Kind::Acknowledge);
    assert!(matches!(receiver.next().await, Err(LinkError::Closed)));
    assert!(matches!(own.next().await, Err(LinkError::Closed)));
    drop(other);
    let operation = OperationId::new();
    assert_eq!(sender.data(operation, &output(operation, 0, 1)).await, Err(Closed));
    for task in tasks {
        task.await.expect("drivers end");
    }
}

#[tokio::test(start_paused = true)]
async fn silence_is_noticed() {
    let settings = Settings { silence_limit: Duration::from_secs(40), ..Settings::default() };
    let ((_sender, mut receiver), _other, _tasks) = pair(settings);
    let before = tokio::time::Instant::now();
    assert!(matches!(receiver.next().await, Err(LinkError::Silent(_))));
    assert_eq!(before.elapsed().as_secs(), 40);
}

#[tokio::test(start_paused = true)]
async fn silence_is_noticed_by_a_receiver_that_does_other_things_meanwhile() {
    let settings = Settings { silence_limit: Duration::from_secs(40), ..Settings::default() };
    let ((_sender, mut receiver), _other, _tasks) = pair(settings);
    let before = tokio::time::Instant::now();
    let mut heartbeat = tokio::time::interval(Duration::from_secs(15));
    let error = loop {
        tokio::select! {
            received = receiver.next() => break received,
            _ = heartbeat.tick() => {}
        }
        assert!(before.elapsed() < Duration::from_secs(100), "silence was never noticed");
    };
    assert!(matches!(error, Err(LinkError::Silent(_))));
    assert_eq!(before.elapsed().as_secs(), 40);
}

#[tokio::test]
async fn garbage_and_oversize_close_this_link() {
    for (bytes, too_large) in
        [(vec![0xC1; 10], false), (vec![0; limits::MAX_FRAME_BYTES + 1], true)]
    {
        let (left, mut right) = memory_pair();
        let (sender, mut receiver, _driver) = open(left, Settings::default());
        right.send(Bytes::from(bytes)).await.expect("room");
        match receiver.next().await {
            Err(LinkError::TooLarge(..)) => assert!(too_large),
            Err(LinkError::Malformed(_)) => assert!(!too_large),
            other => panic!("expected an error, got {other:?}"),
        }
        assert!(sender.is_closed());
    }
}

/// A writer that never rests looks at the queue at every moment around the last word and the end.
#[test]
fn last_word_before_closing_is_always_written() {
    for round in 0..3_000 {
        let queue = SendQueue::new();
        let looks = AtomicU32::new(0);
        let written = std::thread::scope(|threads| {
            let writer = threads.spawn(|| {
                let mut context = Context::from_waker(Waker::noop());
                let mut written = 0;
                loop {
                    looks.fetch_add(1, Ordering::Relaxed);
                    match pin!(queue.next()).poll(&mut context) {
                        Poll::Ready(Next::Frame(_)) => written += 1,
                        Poll::Ready(Next::Finished) => return written,
                        // Where there are fewer processors than threads, nobody waits for its slice.
                        Poll::Pending => std::thread::yield_now(),
                    }
                }
            });
            while looks.load(Ordering::Relaxed) < round % 64 {
                std::thread::yield_now();
            }
            queue.push_control(Bytes::from_static(b"goodbye")).expect("open");
            queue.finish();
            writer.join().expect("ends")
        });
        assert_eq!(written, 1, "round {round}");
    }
}

#[tokio::test]
async fn word_after_the_last_one_does_not_cut_the_last_one_off() {
    let (left, right) = memory_pair();
    let (sender, _keep, driver) = open(left, Settings::default());
    let (_other, mut receiver, _other_driver) = open(right, Settings::default());
    sender.control(&heartbeat()).expect("open");
    sender.close();
    // Both before the driver has written anything.
    assert_eq!(sender.control(&heartbeat()), Err(Closed));
    #[allow(clippy::disallowed_methods, reason = "a test waits for its own tasks")]
    tokio::spawn(driver.run());
    assert_eq!(receiver.next().await.expect("the last word"), heartbeat());
}
