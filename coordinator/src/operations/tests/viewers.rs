//! Reading, following and watching.

use futures_util::StreamExt;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use reeve_protocol::{Gap, Outcome, Stream, Totals};
use reeve_sdk::api::follow::{FrameKind, Header};
use reeve_sdk::api::{JobState, Operation, OperationState, Ticket};
use serde_json::json;

use super::super::output::{Reader, Recent, StreamChoice};
use super::super::testing::{Events, Site, on_each_engine, output_of, shell, with};
use crate::events::Change;
use crate::fleet::testing::{Agent, LIMIT};

#[tokio::test]
async fn any_mix_of_streams_is_read_back_byte_for_byte_from_any_offset() {
    on_each_engine(|site| async move {
        let mut agent = site.online("web-1").await;
        for seed in 0..6_u64 {
            let mut random = StdRng::seed_from_u64(seed);
            let job = site.submit(&shell("web-1")).await;
            let mut script = agent.start().await;
            let id = script.id;
            let (mut all, mut stdout, mut stderr) = (Vec::new(), Vec::new(), Vec::new());
            // Every third run is long enough for segment files.
            let most = if seed % 3 == 0 { 60_000 } else { 900 };
            let mut granted = 64 * 1024;
            for _ in 0..random.random_range(1..40) {
                let length = random.random_range(0..most);
                let bytes: Vec<u8> = (0..length).map(|_| random.random()).collect();
                let stream = if random.random() { Stream::Stdout } else { Stream::Stderr };
                let needed = script.totals.all + length as u64;
                if needed > granted {
                    granted = agent.credit(id, needed).await;
                }
                agent.write(&mut script, stream, &bytes).await;
                all.extend_from_slice(&bytes);
                match stream {
                    Stream::Stdout => stdout.extend_from_slice(&bytes),
                    Stream::Stderr => stderr.extend_from_slice(&bytes),
                }
                if random.random_range(0..4) == 0 && script.totals.all > 0 {
                    agent.acknowledged(id, script.totals.all).await;
                }
            }
            agent.finish(&script, Outcome::Exited { code: 0 }).await;
            for (name, expected) in [("all", &all), ("stdout", &stdout), ("stderr", &stderr)] {
                let mut offsets = vec![0, expected.len()];
                offsets.extend((0..6).map(|_| random.random_range(0..=expected.len())));
                for from in offsets {
                    let found = site.output(id, &format!("stream={name}&from={from}")).await;
                    assert!(found == expected[from..], "seed {seed}, {name} from {from}");
                }
            }
            let from = random.random_range(0..=all.len());
            let request = json!({ "offsets": { id.to_string(): from } });
            let frames = site.follow(&site.admin, job.id, &request).await.all().await;
            assert!(output_of(&frames) == all[from..], "seed {seed}, follow from {from}");
        }
    })
    .await;
}

#[tokio::test]
async fn reader_gets_each_byte_once_whatever_of_it_is_still_in_memory() {
    on_each_engine(|site| async move {
        let mut agent = site.online("web-1").await;
        let job = site.submit(&shell("web-1")).await;
        // What nobody watches is not kept.
        let mut viewer = site.follow(&site.admin, job.id, &json!({})).await;
        let mut script = agent.start().await;
        let id = script.id;
        let large = vec![b'x'; 5000];
        let written: [(Stream, &[u8]); 4] = [
            (Stream::Stdout, b"one"),
            (Stream::Stderr, b"two"),
            (Stream::Stdout, &large),
            (Stream::Stderr, b"four"),
        ];
        for (index, (stream, bytes)) in written.into_iter().enumerate() {
            if index == 3 {
                agent.drop_output(&mut script, 5, 2).await;
            }
            agent.write(&mut script, stream, bytes).await;
            // Each becomes a piece of its own.
            agent.acknowledged(id, script.totals.all).await;
        }
        agent.finish(&script, Outcome::Exited { code: 0 }).await;
        let all: Vec<u8> = written.iter().flat_map(|(_, bytes)| bytes.to_vec()).collect();
        assert!(output_of(&viewer.all().await) == all);

        let inner = &site.server.running.state.operations.0;
        let pieces: Vec<_> = [0, 3, 6, 5013].map(|at| inner.recent.find(id, at)).into();
        let pieces: Vec<_> = pieces.into_iter().map(|piece| piece.expect("in memory")).collect();
        let choices = [
            StreamChoice::All,
            StreamChoice::Only(Stream::Stdout),
            StreamChoice::Only(Stream::Stderr),
        ];
        for (choice, from) in choices.into_iter().flat_map(|c| [0, 2, 3, 7, 5002].map(|at| (c, at)))
        {
            let mut expected = None;
            for kept in 0..1 << pieces.len() {
                let recent = Recent::default();
                for (index, piece) in pieces.iter().enumerate() {
                    if kept & (1 << index) != 0 {
                        recent.keep(id, piece.clone());
                    }
                }
                let (db, segments) = (inner.db.clone(), inner.segments.clone());
                let mut reader = Reader::new(db, segments, recent, id, choice, from);
                let mut parts = Vec::new();
                loop {
                    let more = reader.next(script.totals, 4).await.expect("it is read");
                    if more.is_empty() {
                        break;
                    }
                    parts.extend(more);
                }
                let expected = expected.get_or_insert_with(|| parts.clone());
                assert_eq!(*expected, parts, "{choice:?} from {from}, in memory: {kept:04b}");
            }
            assert!(from > 0 || expected.is_some_and(|parts| !parts.is_empty()), "{choice:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn gap_is_skipped_in_downloads_and_told_exactly_to_followers() {
    on_each_engine(|site| async move {
        let mut agent = site.online("web-1").await;
        let job = site.submit(&shell("web-1")).await;
        let mut script = agent.start().await;
        let id = script.id;
        let mut viewer = site.follow(&site.admin, job.id, &json!({})).await;
        agent.write(&mut script, Stream::Stdout, b"abc").await;
        agent.acknowledged(id, 3).await;
        viewer.wait_for(FrameKind::Output(Stream::Stdout)).await;
        // A gap that nothing comes behind for now.
        let first = agent.drop_output(&mut script, 5, 2).await;
        agent.acknowledged(id, 10).await;
        let (_, payload) = viewer.wait_for(FrameKind::Gap).await;
        assert_eq!(serde_json::from_slice::<Gap>(&payload).expect("a gap"), first);
        agent.write(&mut script, Stream::Stderr, b"def").await;
        let (header, _) = viewer.wait_for(FrameKind::Output(Stream::Stderr)).await;
        assert_eq!((header.all, header.offset), (10, 2));
        let last = agent.drop_output(&mut script, 1, 0).await;
        agent.finish(&script, Outcome::Exited { code: 0 }).await;
        let (_, payload) = viewer.wait_for(FrameKind::Gap).await;
        assert_eq!(serde_json::from_slice::<Gap>(&payload).expect("a gap"), last);

        assert_eq!(site.output(id, "").await, b"abcdef");
        assert_eq!(site.output(id, "stream=stdout").await, b"abc");
        assert_eq!(site.output(id, "stream=stderr&from=1").await, b"def");
        assert_eq!(site.output(id, "stream=stderr&from=3").await, b"ef");
        assert_eq!(site.output(id, "from=5").await, b"def");
        let operation = site.operation(id).await;
        assert_eq!(operation.output.gaps, Some(vec![first, last]));
        let totals = (operation.output.all, operation.output.stdout, operation.output.stderr);
        assert_eq!(totals, (14, 9, 5));
    })
    .await;
}

#[tokio::test]
async fn viewer_that_resumes_before_or_within_a_gap_is_told_of_it() {
    on_each_engine(|site| async move {
        let mut agent = site.online("web-1").await;
        let job = site.submit(&shell("web-1")).await;
        let mut script = agent.start().await;
        agent.write(&mut script, Stream::Stdout, b"abc").await;
        agent.acknowledged(script.id, 3).await;
        let gap = agent.drop_output(&mut script, 5, 2).await;
        agent.write(&mut script, Stream::Stdout, b"xyz").await;
        let last = agent.drop_output(&mut script, 4, 0).await;
        agent.finish(&script, Outcome::Exited { code: 0 }).await;
        for (from, gaps, bytes) in [
            (0, vec![gap, last], &b"abcxyz"[..]),
            (2, vec![gap, last], b"cxyz"),
            (3, vec![gap, last], b"xyz"),
            (6, vec![gap, last], b"xyz"),
            (10, vec![last], b"xyz"),
            (13, vec![last], b""),
            (17, vec![], b""),
        ] {
            let request = json!({ "offsets": { script.id.to_string(): from } });
            let frames = site.follow(&site.admin, job.id, &request).await.all().await;
            let found: Vec<Gap> = frames
                .iter()
                .filter(|(header, _)| header.kind == FrameKind::Gap)
                .map(|(_, payload)| serde_json::from_slice(payload).expect("a gap"))
                .collect();
            assert_eq!(found, gaps, "from {from}");
            assert_eq!(output_of(&frames), bytes, "from {from}");
        }
    })
    .await;
}

#[tokio::test]
async fn output_over_its_limit_keeps_head_and_tail() {
    on_each_engine(|site| async move {
        let mut agent = site.online("web-1").await;
        let limit = 256 * 1024;
        let request = with(shell("web-1"), json!({ "output_limit": limit }));
        let job = site.submit(&request).await;
        let mut script = agent.start().await;
        let id = script.id;
        let mut granted = 64 * 1024;
        let block = |number: u32| number.to_be_bytes().repeat(4096);
        for number in 0..128 {
            let needed = script.totals.all + 16 * 1024;
            if needed > granted {
                granted = agent.credit(id, needed).await;
            }
            agent.write(&mut script, Stream::Stdout, &block(number)).await;
            agent.acknowledged(id, needed).await;
        }
        agent.finish(&script, Outcome::Exited { code: 0 }).await;
        let operation = site.operation(id).await;
        assert_eq!(operation.output.all, 2 * 1024 * 1024);
        let Some([gap]) = operation.output.gaps.as_deref() else {
            panic!("{:?}", operation.output.gaps)
        };
        assert_eq!(gap.to - gap.from, gap.stdout + gap.stderr);
        // Head and tail to the block: that is what was made durable at a time here.
        assert_eq!((gap.from, gap.to), (limit * 3 / 4, 2 * 1024 * 1024 - limit / 4));
        let whole: Vec<u8> = (0..128).flat_map(block).collect();
        let (from, to) = (gap.from as usize, gap.to as usize);
        let expected = [&whole[..from], &whole[to..]].concat();
        assert!(site.output(id, "").await == expected);
        let frames = site.follow(&site.admin, job.id, &json!({})).await.all().await;
        assert!(output_of(&frames) == expected);
    })
    .await;
}

#[tokio::test]
async fn slow_viewer_stalls_nobody_and_gets_everything_in_the_end() {
    on_each_engine(|site| async move {
        let mut agent = site.online("web-1").await;
        let job = site.submit(&shell("web-1")).await;
        // Both read nothing until everything is over.
        let mut viewer = site.follow(&site.admin, job.id, &json!({})).await;
        let path = format!("/api/jobs/{}/events", job.id);
        let mut events = Events::open(&site, &site.admin, &path, None).await;
        let mut script = agent.start().await;
        let id = script.id;
        let mut granted = 64 * 1024;
        let mut written = Vec::new();
        let mut window = 0;
        for number in 0..3000_u32 {
            let bytes = number.to_be_bytes().repeat(1024);
            let needed = script.totals.all + bytes.len() as u64;
            while needed > granted {
                granted = agent.credit(id, granted + 1).await;
                window = window.max(granted - script.totals.all);
            }
            agent.write(&mut script, Stream::Stdout, &bytes).await;
            written.extend_from_slice(&bytes);
        }
        agent.finish(&script, Outcome::Exited { code: 0 }).await;
        assert!(window > 256 * 1024, "credit did not grow: {window}");
        assert!(output_of(&viewer.all().await) == written);
        let events = events.all().await;
        let last = events.last().expect("events");
        assert_eq!((last.name.as_str(), &last.data["state"]), ("job", &json!("succeeded")));
    })
    .await;
}

#[tokio::test]
async fn events_go_on_behind_the_last_one_seen_and_leave_none_out() {
    on_each_engine(|site| async move {
        let mut agents = Vec::new();
        for number in 0..3 {
            agents.push(site.online(&format!("web-{number}")).await);
        }
        let job = site.submit(&with(shell("web-*"), json!({ "wait_ms": 60_000 }))).await;
        for agent in &mut agents {
            agent.request().await;
        }
        let machine = site.operations(job.id).await;
        site.cancel(&format!("jobs/{}", job.id)).await;
        for (agent, operation) in agents.iter_mut().zip(&machine) {
            let script = crate::fleet::testing::Script::new(operation.id);
            let outcome = Outcome::Cancelled { exit_code: None, signal: Some(15) };
            agent.finish(&script, outcome).await;
        }
        site.wait_job(job.id, JobState::Cancelled).await;
        // As when one commit has ended them all.
        let mut tx = site.server.running.state.db.begin().await.expect("a transaction");
        sqlx::query("update operations set updated_us = 1000")
            .execute(&mut *tx)
            .await
            .expect("set");
        tx.commit().await.expect("committed");
        let path = format!("/api/jobs/{}/events", job.id);
        let events = Events::open(&site, &site.admin, &path, None).await.all().await;
        let names: Vec<_> = events.iter().map(|event| event.name.as_str()).collect();
        assert_eq!(names, ["operation", "operation", "operation", "job"]);
        // The connection broke behind the first: the others have the same id and are still to come.
        let last = events[0].id.clone().expect("an id");
        let again = Events::open(&site, &site.admin, &path, Some(&last)).await.all().await;
        for event in &events[1..] {
            let id = &event.data["id"];
            assert!(again.iter().any(|one| one.data["id"] == *id), "{id} was left out");
        }
        let later = (last.parse::<i64>().expect("a number") + 3_600_000_000).to_string();
        let again = Events::open(&site, &site.admin, &path, Some(&later)).await.all().await;
        assert_eq!(again.len(), 1, "{again:?}");
    })
    .await;
}

#[tokio::test]
async fn following_from_the_request_on_misses_nothing() {
    on_each_engine(|site| async move {
        let mut agent = site.online("web-1").await;
        let request = site
            .server
            .request_as(&site.admin, reqwest::Method::POST, "/api/jobs")
            .header("accept", reeve_sdk::api::follow::MEDIA_TYPE)
            .json(&shell("web-1"));
        let answer = request.send().await.expect("an answer");
        assert_eq!(answer.status(), reqwest::StatusCode::CREATED);
        let mut viewer = super::super::testing::Viewer::of(answer);
        let (first, _) = viewer.next().await.expect("a frame");
        assert_eq!(first.kind, FrameKind::Job);
        let mut script = agent.start().await;
        agent.write(&mut script, Stream::Stdout, b"bytes").await;
        agent.finish(&script, Outcome::Exited { code: 3 }).await;
        let frames = viewer.all().await;
        assert_eq!(output_of(&frames), b"bytes");
        // The end of an operation comes behind all its output, the job's behind that.
        let kinds: Vec<_> = frames.iter().rev().take(4).map(|(header, _)| header.kind).collect();
        assert_eq!(
            kinds,
            [
                FrameKind::End,
                FrameKind::Job,
                FrameKind::Operation,
                FrameKind::Output(Stream::Stdout)
            ]
        );
        let operation: reeve_sdk::api::Operation =
            serde_json::from_slice(&frames[frames.len() - 3].1).expect("an operation");
        assert_eq!(operation.state, OperationState::Failed);
    })
    .await;
}

#[tokio::test]
async fn ended_operation_is_told_of_before_its_output() {
    on_each_engine(|site| async move {
        let mut agent = site.online("web-1").await;
        let job = site.submit(&shell("web-1")).await;
        let mut script = agent.start().await;
        agent.write(&mut script, Stream::Stdout, b"all").await;
        agent.finish(&script, Outcome::Exited { code: 3 }).await;
        site.wait_job(job.id, JobState::Failed).await;
        let told = |frames: Vec<(Header, Vec<u8>)>| -> Vec<String> {
            let mut told = Vec::new();
            for (header, payload) in frames {
                match header.kind {
                    FrameKind::Operation => {
                        let operation: Operation = serde_json::from_slice(&payload).expect("JSON");
                        told.push(format!("{:?} {:?}", operation.state, operation.exit_code));
                    }
                    FrameKind::Output(_) => told.push("output".to_owned()),
                    _ => {}
                }
            }
            told
        };
        let whole = site.follow(&site.admin, job.id, &json!({})).await.all().await;
        assert_eq!(told(whole), ["Running None", "output", "Failed Some(3)"]);
        let seen = json!({ "offsets": { script.id.to_string(): 3 } });
        for request in [seen, json!({ "states_only": true })] {
            let rest = site.follow(&site.admin, job.id, &request).await.all().await;
            assert_eq!(told(rest), ["Failed Some(3)"]);
        }
    })
    .await;
}

#[tokio::test]
async fn viewers_that_fall_behind_look_again_and_miss_nothing() {
    let site = Site::start(|_| {}).await;
    let mut agent = site.online("web-1").await;
    let job = site.submit(&shell("web-1")).await;
    let mut script = agent.start().await;
    site.wait_operation(script.id, OperationState::Running).await;
    let mut viewer = site.follow(&site.admin, job.id, &json!({})).await;
    let path = format!("/api/jobs/{}/events", job.id);
    let mut events = Events::open(&site, &site.admin, &path, None).await;
    let ticket: Ticket = site.server.post(&site.admin, "/api/auth/ticket", &json!({})).await;
    let url = format!("/ws/frontend?ticket={}", ticket.ticket);
    let mut frontend = Agent::websocket(&site.server, &url, None).await;
    agent.write(&mut script, Stream::Stdout, b"bytes").await;
    agent.say_about(script.id, &script.result(Outcome::Exited { code: 3 })).await;
    // Nothing else runs between these on this thread, so the watchers lose whatever they have
    // not heard of.
    let flood = || {
        for _ in 0..5000 {
            let durable = Totals::default();
            let (job, operation) = (job.id, script.id);
            site.server.running.state.events.tell(Change::Output { job, operation, durable });
        }
    };
    flood();
    agent.result_acknowledged(script.id).await;
    flood();
    assert_eq!(output_of(&viewer.all().await), b"bytes");
    let last = events.all().await.pop().expect("events");
    assert_eq!((last.name.as_str(), &last.data["state"]), ("job", &json!("failed")));
    loop {
        let next = tokio::time::timeout(LIMIT, frontend.next()).await.expect("in time");
        let text = next.expect("no end").expect("a message").into_text().expect("text");
        if text.contains("resync") {
            break;
        }
    }
}
