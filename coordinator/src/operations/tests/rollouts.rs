//! Jobs on several machines, step by step.

use reeve_protocol::{Control, Kind, Outcome};
use reeve_sdk::api::{JobState, OperationState};
use serde_json::json;

use super::super::testing::{Site, eventually, on_each_engine, shell, with};
use crate::db::testing::postgres_url;
use crate::fleet::testing::Agent;

const GOOD: Outcome = Outcome::Exited { code: 0 };
const BAD: Outcome = Outcome::Exited { code: 1 };

async fn machines(site: &Site, count: usize) -> Vec<Agent> {
    let mut agents = Vec::new();
    for number in 0..count {
        agents.push(site.online(&format!("web-{number}")).await);
    }
    agents
}

/// None of them is asked anything.
async fn idle(agents: &mut [Agent]) {
    for agent in agents {
        agent.settle().await;
        assert_eq!(agent.kept(&Kind::Request), 0, "asked before its turn");
    }
}

#[tokio::test]
async fn batches_follow_each_other_and_forks_bound_them() {
    on_each_engine(|site| async move {
        let mut agents = machines(&site, 5).await;
        let request = with(shell("@all"), json!({ "rollout": { "batch": "40%" } }));
        let job = site.submit(&request).await;
        for (from, to) in [(0, 2), (2, 4), (4, 5)] {
            let mut scripts = Vec::new();
            for agent in &mut agents[from..to] {
                scripts.push(agent.start().await);
            }
            for (at, script) in (from..to).zip(&scripts) {
                idle(&mut agents[to..]).await;
                agents[at].finish(script, GOOD).await;
            }
        }
        site.wait_job(job.id, JobState::Succeeded).await;

        let request = with(shell("@all"), json!({ "rollout": { "forks": 2 } }));
        let job = site.submit(&request).await;
        let first = agents[0].start().await;
        let _second = agents[1].start().await;
        idle(&mut agents[2..]).await;
        agents[0].finish(&first, BAD).await;
        let _third = agents[2].start().await;
        idle(&mut agents[3..]).await;
        assert_eq!(site.job(job.id).await.counts.queued, 2);
    })
    .await;
}

#[tokio::test]
async fn too_many_failures_start_no_more_and_those_that_run_go_on() {
    on_each_engine(|site| async move {
        let mut agents = machines(&site, 5).await;
        let rollout = json!({ "rollout": { "batch": "2", "max_failures": 1 } });
        let job = site.submit(&with(shell("@all"), rollout)).await;
        let first = agents[0].start().await;
        let second = agents[1].start().await;
        agents[0].finish(&first, BAD).await;
        eventually("the rest is given up", || async {
            (site.job(job.id).await.counts.cancelled == 3).then_some(())
        })
        .await;
        assert_eq!(agents[1].kept(&Kind::Control), 0);
        agents[1].finish(&second, GOOD).await;
        let ended = site.wait_job(job.id, JobState::Failed).await;
        assert_eq!((ended.counts.succeeded, ended.counts.failed), (1, 1));
        let given_up = &site.operations(job.id).await[4];
        assert_eq!(given_up.reason.as_ref().expect("a reason").code, "rollout_stopped");
        idle(&mut agents[2..]).await;
    })
    .await;
}

#[tokio::test]
async fn fail_fast_cancels_what_runs() {
    on_each_engine(|site| async move {
        let mut agents = machines(&site, 3).await;
        let rollout = json!({ "rollout": { "forks": 2, "fail_fast": true } });
        let job = site.submit(&with(shell("@all"), rollout)).await;
        let first = agents[0].start().await;
        let second = agents[1].start().await;
        agents[0].finish(&first, BAD).await;
        assert!(matches!(agents[1].control(second.id).await, Control::Cancel { .. }));
        agents[1].finish(&second, Outcome::Cancelled { exit_code: None, signal: Some(15) }).await;
        let ended = eventually("the job's end", || async {
            let job = site.job(job.id).await;
            (job.state != JobState::Running).then_some(job)
        })
        .await;
        assert_eq!((ended.counts.failed, ended.counts.cancelled), (1, 2));
        idle(&mut agents[2..]).await;
    })
    .await;
}

#[tokio::test]
async fn rollout_goes_on_after_a_restart_where_it_was() {
    on_each_engine(|site| async move {
        let mut identities = Vec::new();
        for number in 0..4 {
            identities.push(site.join(&format!("web-{number}")).await);
        }
        let mut first = site.arrive(&identities[0]).await;
        let rollout = json!({ "wait_ms": 600_000, "rollout": { "batch": "1", "max_failures": 2 } });
        let job = site.submit(&with(shell("@all"), rollout)).await;
        let script = first.start().await;
        site.wait_operation(script.id, OperationState::Running).await;
        first.finish(&script, BAD).await;
        let site = site.restart().await;
        let mut agents = Vec::new();
        for identity in &identities {
            agents.push(site.arrive(identity).await);
        }
        let script = agents[1].start().await;
        idle(&mut agents[2..]).await;
        agents[1].finish(&script, BAD).await;
        // The failure from before the restart counts.
        let ended = site.wait_job(job.id, JobState::Failed).await;
        assert_eq!((ended.counts.failed, ended.counts.cancelled), (2, 2));
        idle(&mut agents[2..]).await;
    })
    .await;
}

/// On SQLite transactions follow each other, so this is about PostgreSQL.
#[tokio::test]
async fn job_ends_when_its_last_two_operations_end_in_two_commits_at_once() {
    let url = postgres_url().await;
    let site = Site::start(|config| config.database.url = url).await;
    let mut staying = site.online("staying").await;
    let mut leaving = site.online("leaving").await;
    let first = site.submit(&shell("staying,leaving")).await;
    let script = staying.start().await;
    leaving.start().await;
    let second = site.submit(&shell("leaving")).await;
    leaving.start().await;
    assert!(first.id < second.id);
    // The conductor gives both up in one commit, and is held up by the second job when it has
    // looked at the first.
    let db = &site.server.running.state.db;
    let mut held = db.begin().await.expect("a transaction");
    sqlx::query("update jobs set selector = selector where id = $1")
        .bind(second.id.to_string())
        .execute(&mut *held)
        .await
        .expect("the row's lock");
    let revoke =
        site.server.request_as(&site.admin, reqwest::Method::POST, "/api/machines/leaving/revoke");
    let rest = async {
        eventually("the conductor waits", || async {
            let mut conn = db.reader().await.expect("a reader");
            let waiting: i64 = sqlx::query_scalar(
                "select count(*) from pg_locks where not granted and pid <> pg_backend_pid()",
            )
            .fetch_one(&mut *conn)
            .await
            .expect("a count");
            (waiting > 0).then_some(())
        })
        .await;
        staying.finish(&script, GOOD).await;
        drop(held);
    };
    let (answer, ()) = tokio::join!(revoke.send(), rest);
    assert!(answer.expect("an answer").status().is_success());
    site.wait_job(second.id, JobState::Failed).await;
    site.wait_job(first.id, JobState::Failed).await;
}

/// Only the audit is held, which results do not need and decisions do.
#[tokio::test]
async fn fail_fast_is_not_forgotten_when_it_cannot_be_recorded_at_once() {
    let url = postgres_url().await;
    let site = Site::start(|config| config.database.url = url).await;
    let mut agents = machines(&site, 2).await;
    let rollout = json!({ "rollout": { "fail_fast": true } });
    site.submit(&with(shell("@all"), rollout)).await;
    let first = agents[0].start().await;
    let second = agents[1].start().await;
    let mut held = site.server.running.state.db.begin().await.expect("a transaction");
    sqlx::query("lock table audit_head in exclusive mode")
        .execute(&mut *held)
        .await
        .expect("the lock");
    agents[0].finish(&first, BAD).await;
    // A decision that fails behind it shows that the first has failed, too.
    let request = site.server.request_as(&site.admin, reqwest::Method::POST, "/api/jobs");
    let answer = request.json(&shell("web-0")).send().await.expect("an answer");
    assert!(answer.status().is_server_error(), "{}", answer.status());
    drop(held);
    assert!(matches!(agents[1].control(second.id).await, Control::Cancel { .. }));
}
