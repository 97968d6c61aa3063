//! What is old goes, and nothing else.

use std::collections::BTreeSet;
use std::time::Duration;

use reeve_protocol::{Outcome, Stream};
use reqwest::{Method, StatusCode};

use super::super::testing::{Site, on_each_engine, shell};
use crate::testing::refused;

fn segments(site: &Site) -> BTreeSet<String> {
    let folder = site.server.folder.path().join("output");
    let entries = std::fs::read_dir(folder).expect("a folder");
    entries.map(|entry| entry.expect("it").file_name().into_string().expect("text")).collect()
}

#[tokio::test]
async fn sweeper_removes_old_jobs_and_segments_of_nobody() {
    on_each_engine(|mut site| async move {
        let identity = site.join("web-1").await;
        let mut jobs = Vec::new();
        // Each run of the coordinator begins a segment of its own.
        for _ in 0..4 {
            let mut agent = site.arrive(&identity).await;
            let job = site.submit(&shell("web-1")).await;
            let mut script = agent.start().await;
            agent.write(&mut script, Stream::Stdout, &vec![b'a'; 40_000]).await;
            agent.finish(&script, Outcome::Exited { code: 0 }).await;
            jobs.push((job, script.id));
            drop(agent);
            site = site.restart().await;
        }
        assert_eq!(segments(&site).len(), 4);
        let mut agent = site.arrive(&identity).await;
        let open = site.submit(&shell("web-1")).await;
        let script = agent.start().await;
        // The first has ended long ago; so has the second's time, but it is open.
        let mut tx = site.server.running.state.db.begin().await.expect("a transaction");
        for (job, sql) in [
            (jobs[0].0.id, "update jobs set finished_us = 1000 where id = $1"),
            (open.id, "update jobs set created_us = 1000 where id = $1"),
        ] {
            sqlx::query(sql).bind(job.to_string()).execute(&mut *tx).await.expect("an update");
        }
        tx.commit().await.expect("committed");
        let operations = &site.server.running.state.operations;
        operations.sweep_once(Duration::from_secs(24 * 3600)).await.expect("swept");

        let path = format!("/api/jobs/{}", jobs[0].0.id);
        let request = site.server.request_as(&site.admin, Method::GET, &path);
        refused(request, StatusCode::NOT_FOUND, "job_not_found").await;
        let left = segments(&site);
        assert_eq!(left.len(), 3, "{left:?}");
        assert!(!left.contains("0000000001.segment"), "{left:?}");
        for (_, operation) in &jobs[1..] {
            assert_eq!(site.output(*operation, "").await.len(), 40_000);
        }
        agent.finish(&script, Outcome::Exited { code: 0 }).await;
    })
    .await;
}
