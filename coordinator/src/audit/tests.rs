use serde_json::json;
use sqlx::AssertSqlSafe;

use super::{Entry, Filter, list, record, verify};
use crate::db::Db;
use crate::db::testing::for_each_engine;

async fn record_some(db: &Db, count: usize) {
    for at in 0..count {
        let mut tx = db.begin().await.expect("a transaction");
        let target = format!("machine:{at}");
        let action = if at % 2 == 0 { "job.create" } else { "user.create" };
        let entry =
            Entry { principal: "user:ada", action, target: &target, detail: json!({ "at": at }) };
        record(&mut tx, &entry).await.expect("recorded");
        tx.commit().await.expect("a commit");
    }
}

async fn run(db: &Db, sql: &'static str) {
    let mut tx = db.begin().await.expect("a transaction");
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut *tx).await.expect("done");
    tx.commit().await.expect("a commit");
}

async fn broken_at(db: &Db) -> Option<i64> {
    let mut conn = db.reader().await.expect("a reader");
    let verdict = verify(&mut conn).await.expect("a verdict");
    assert_eq!(verdict.intact, verdict.broken_at.is_none());
    verdict.broken_at
}

#[tokio::test]
async fn an_untouched_chain_is_intact() {
    for_each_engine(|db| async move {
        assert_eq!(broken_at(&db).await, None);
        record_some(&db, 5).await;
        assert_eq!(broken_at(&db).await, None);
        let mut conn = db.reader().await.expect("a reader");
        assert_eq!(verify(&mut conn).await.expect("a verdict").entries, 5);
    })
    .await;
}

#[tokio::test]
async fn every_way_of_tampering_is_found() {
    for (sql, broken) in [
        ("update audit set principal = 'user:eve' where sequence = 2", 2),
        ("update audit set detail = '{}' where sequence = 3", 3),
        ("update audit set at = at + 1 where sequence = 4", 4),
        ("delete from audit where sequence = 2", 2),
        ("delete from audit where sequence = 5", 5),
        ("delete from audit where sequence > 2", 3),
        ("delete from audit_head", 1),
        ("delete from audit where sequence = 5; update audit_head set sequence = 4", 4),
        // Two texts whose bytes in a row are the same.
        ("update audit set action = 'job.creat', target = 'emachine:0' where sequence = 1", 1),
    ] {
        for_each_engine(|db| async move {
            record_some(&db, 5).await;
            run(&db, sql).await;
            assert_eq!(broken_at(&db).await, Some(broken), "{sql}");
        })
        .await;
    }
}

#[tokio::test]
async fn an_entry_is_there_exactly_if_its_transaction_is() {
    for_each_engine(|db| async move {
        record_some(&db, 1).await;
        let mut tx = db.begin().await.expect("a transaction");
        let entry = Entry { principal: "system", action: "a", target: "b", detail: json!(null) };
        record(&mut tx, &entry).await.expect("recorded");
        drop(tx);
        record_some(&db, 1).await;
        assert_eq!(broken_at(&db).await, None);
        let mut conn = db.reader().await.expect("a reader");
        let page =
            list(&mut conn, &Filter { limit: 10, ..Filter::default() }).await.expect("a page");
        let sequences: Vec<i64> = page.items.iter().map(|entry| entry.sequence).collect();
        assert_eq!(sequences, [2, 1]);
    })
    .await;
}

#[tokio::test]
async fn writers_at_the_same_time_make_one_chain() {
    for_each_engine(|db| async move {
        let writers = (0..8).map(|_| record_some(&db, 5));
        futures_util::future::join_all(writers).await;
        let mut conn = db.reader().await.expect("a reader");
        let verdict = verify(&mut conn).await.expect("a verdict");
        assert_eq!((verdict.intact, verdict.entries), (true, 40));
    })
    .await;
}

#[tokio::test]
async fn pages_and_filters_meet_every_entry_once() {
    for_each_engine(|db| async move {
        record_some(&db, 7).await;
        let mut conn = db.reader().await.expect("a reader");
        let mut seen = Vec::new();
        let mut filter = Filter { limit: 3, ..Filter::default() };
        loop {
            let page = list(&mut conn, &filter).await.expect("a page");
            seen.extend(page.items.iter().map(|entry| entry.sequence));
            let Some(next) = page.next else { break };
            filter.before = Some(next.parse().expect("a number"));
        }
        assert_eq!(seen, [7, 6, 5, 4, 3, 2, 1]);
        for (action, principal, count) in [
            (Some("job.create"), None, 4),
            (Some("user."), None, 3),
            (Some("user"), None, 0),
            (None, Some("user:ada"), 7),
            (None, Some("user:eve"), 0),
        ] {
            let filter = Filter {
                limit: 100,
                action: action.map(str::to_owned),
                principal: principal.map(str::to_owned),
                before: None,
            };
            let page = list(&mut conn, &filter).await.expect("a page");
            assert_eq!(page.items.len(), count, "{action:?} {principal:?}");
        }
    })
    .await;
}
