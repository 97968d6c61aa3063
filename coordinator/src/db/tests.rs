use std::time::{Duration, Instant};

use sqlx::Row;

use super::testing::{for_each_engine, sqlite};
use super::{ConstraintKind, Db, DbError, OnConstraint};

async fn add_user(db: &Db, id: &str, name: &str) -> Result<(), DbError> {
    let mut tx = db.begin().await?;
    sqlx::query(
        "insert into users (id, name, role, scope, created) values ($1, $2, 'viewer', '@all', 1)",
    )
    .bind(id)
    .bind(name)
    .execute(&mut *tx)
    .await?;
    tx.commit().await
}

#[tokio::test]
async fn every_column_type_survives_the_way_through_both_engines() {
    for_each_engine(|db| async move {
        let mut tx = db.begin().await.expect("a transaction");
        add_row(&mut tx, Some("pässword\u{1F980}"), i64::MAX, &[0, 255, 0, 1]).await;
        tx.commit().await.expect("a commit");
        let mut conn = db.reader().await.expect("a reader");
        let row = sqlx::query(
            "select u.password, k.expires, k.hash, k.last_used, count(*) over () as n
             from api_keys k join users u on u.id = k.user_id where k.expires = $1",
        )
        .bind(i64::MAX)
        .fetch_one(&mut *conn)
        .await
        .expect("the row");
        assert_eq!(row.get::<Option<String>, _>("password").as_deref(), Some("pässword\u{1F980}"));
        assert_eq!(row.get::<i64, _>(1), i64::MAX);
        assert_eq!(row.get::<Vec<u8>, _>(2), [0, 255, 0, 1]);
        assert_eq!(row.get::<Option<i64>, _>(3), None);
        assert_eq!(row.get::<i64, _>(4), 1);
    })
    .await;
}

async fn add_row(tx: &mut super::Tx, password: Option<&str>, expires: i64, hash: &[u8]) {
    sqlx::query(
        "insert into users (id, name, role, scope, password, created)
         values ('u', 'n', 'r', 's', $1, 1)",
    )
    .bind(password)
    .execute(&mut **tx)
    .await
    .expect("a user");
    sqlx::query(
        "insert into api_keys (id, kind, name, user_id, hash, created, expires, last_used)
         values ('k', 'key', 'n', 'u', $1, 1, $2, $3)",
    )
    .bind(hash)
    .bind(expires)
    .bind(None::<i64>)
    .execute(&mut **tx)
    .await
    .expect("a key");
}

#[tokio::test]
async fn a_broken_rule_is_named_the_same_on_both_engines() {
    for_each_engine(|db| async move {
        add_user(&db, "1", "ada").await.expect("the first");
        let error = add_user(&db, "2", "ada").await.expect_err("the same name");
        assert!(error.is_duplicate("users.name"), "{error:?}");
        let error = add_user(&db, "1", "eve").await.expect_err("the same id");
        assert!(error.is_duplicate("users.id"), "{error:?}");
        let mapped: Result<(), DbError> =
            add_user(&db, "1", "eve").await.on_constraint("users.id", || DbError::Url);
        assert!(matches!(mapped, Err(DbError::Url)));

        let mut tx = db.begin().await.expect("a transaction");
        let error: DbError = sqlx::query(
            "insert into one_time_codes (id, hash, user_id, created) values ('c', $1, 'nobody', 1)",
        )
        .bind([1_u8].as_slice())
        .execute(&mut *tx)
        .await
        .expect_err("no such user")
        .into();
        assert_eq!(error.constraint().map(|rule| rule.kind), Some(ConstraintKind::ForeignKey));
    })
    .await;
}

#[tokio::test]
async fn a_dropped_transaction_leaves_nothing() {
    for_each_engine(|db| async move {
        let mut tx = db.begin().await.expect("a transaction");
        sqlx::query("insert into settings (name, value) values ('a', 'b')")
            .execute(&mut *tx)
            .await
            .expect("a row");
        drop(tx);
        let tx = db.begin().await.expect("the writer came back");
        drop(tx);
        let mut conn = db.reader().await.expect("a reader");
        let rows =
            sqlx::query("select 1 from settings where name = 'a'").fetch_all(&mut *conn).await;
        assert!(rows.expect("an answer").is_empty());
    })
    .await;
}

#[tokio::test]
async fn statements_sent_together_answer_in_their_order() {
    for_each_engine(|db| async move {
        let mut tx = db.begin_later().await.expect("a transaction");
        let insert = "insert into settings (name, value) values ($1, $2)";
        let change = "update settings set value = $2 where name >= $1 returning name";
        // More than go at once.
        let mut inserted = Vec::new();
        for number in 0..20 {
            let name = format!("name {number:02}");
            inserted.push(tx.later(sqlx::query(insert).bind(name).bind("$1")).expect("put down"));
        }
        let none = tx.later(sqlx::query(change).bind("none").bind("x")).expect("put down");
        let some = tx.later(sqlx::query(change).bind("name 17").bind("x")).expect("put down");
        let answers = tx.commit_answered().await.expect("a commit");
        assert!(inserted.iter().all(|sent| answers.changed(*sent) == 1));
        assert_eq!((answers.changed(none), answers.rows(none).len()), (0, 0));
        assert_eq!((answers.changed(some), answers.rows(some).len()), (3, 3));

        let mut conn = db.reader().await.expect("a reader");
        let look = "select value from settings where name = $1";
        let questions = ["name 16", "none", "name 17"].map(|name| sqlx::query(look).bind(name));
        let (answers, [first, none, last]) = conn.ask(questions).await.expect("answers");
        let value = |sent| answers.row(sent).map(|row| row.get::<String, _>(0));
        assert_eq!(value(first).as_deref(), Some("$1"));
        assert_eq!(value(none), None);
        assert_eq!(value(last).as_deref(), Some("x"));
    })
    .await;
}

#[tokio::test]
async fn one_that_fails_of_those_sent_together_leaves_nothing_of_them() {
    for_each_engine(|db| async move {
        let insert = "insert into settings (name, value) values ($1, 'x')";
        let mut tx = db.begin_later().await.expect("a transaction");
        for name in ["a", "b", "a", "c"] {
            tx.later(sqlx::query(insert).bind(name)).expect("put down");
        }
        let error = tx.commit().await.expect_err("the same name twice");
        assert_eq!(error.constraint().map(|rule| rule.kind), Some(ConstraintKind::Unique));
        // What was put down is not passed over.
        let mut tx = db.begin().await.expect("the writer came back");
        tx.later(sqlx::query(insert).bind("d")).expect("put down");
        sqlx::query(insert).bind("e").execute(&mut *tx).await.expect("executed before it");
        tx.commit().await.expect_err("out of order");
        let mut conn = db.reader().await.expect("a reader");
        let rows = sqlx::query("select name from settings where value = 'x'")
            .fetch_all(&mut *conn)
            .await
            .expect("an answer");
        assert!(rows.is_empty());
    })
    .await;
}

#[tokio::test]
async fn migrating_again_changes_nothing_and_a_newer_schema_is_refused() {
    for_each_engine(|db| async move {
        db.migrate().await.expect("again");
        let mut tx = db.begin().await.expect("a transaction");
        sqlx::query("insert into migrations (number, name, checksum) values (999, 'future', '')")
            .execute(&mut *tx)
            .await
            .expect("a row");
        tx.commit().await.expect("a commit");
        let error = db.migrate().await.expect_err("a newer schema").to_string();
        assert!(error.contains("999 future"), "{error}");
    })
    .await;
}

#[tokio::test]
async fn a_second_writer_waits_and_gives_up_as_busy() {
    let (db, _folder) = sqlite().await;
    let held = db.begin().await.expect("the writer");
    let start = Instant::now();
    let error = db.begin().await.err().expect("no second writer");
    assert!(matches!(error, DbError::Busy(_)), "{error:?}");
    assert!(start.elapsed() < Duration::from_secs(20));
    // Readers do not wait for a writer.
    db.ping().await.expect("a reader");
    drop(held);
    db.begin().await.expect("the writer again");
}

#[tokio::test]
async fn a_reader_cannot_write_to_sqlite() {
    let (db, _folder) = sqlite().await;
    let mut conn = db.reader().await.expect("a reader");
    sqlx::query("insert into settings (name, value) values ('a', 'b')")
        .execute(&mut *conn)
        .await
        .expect_err("refused");
}

#[tokio::test]
async fn sqlite_is_durable_and_private() {
    use std::os::unix::fs::PermissionsExt;
    let (db, _folder) = sqlite().await;
    let mut tx = db.begin().await.expect("the writer");
    for (pragma, expected) in
        [("pragma synchronous", 2), ("pragma foreign_keys", 1), ("pragma busy_timeout", 5000)]
    {
        let row = sqlx::query(pragma).fetch_one(&mut *tx).await.expect("a value");
        assert_eq!(row.get::<i64, _>(0), expected, "{pragma}");
    }
    let row = sqlx::query("pragma journal_mode").fetch_one(&mut *tx).await.expect("a value");
    assert_eq!(row.get::<String, _>(0), "wal");
    let mode = std::fs::metadata(db.file().expect("a file")).expect("the file").permissions();
    assert_eq!(mode.mode() & 0o777, 0o600);
}

#[tokio::test]
async fn a_full_disk_is_told_apart() {
    let (db, _folder) = sqlite().await;
    let mut tx = db.begin().await.expect("the writer");
    // As SQLite sees a file system without a free page.
    sqlx::query("pragma max_page_count = 1").fetch_all(&mut *tx).await.expect("a limit");
    let big = "x".repeat(1 << 20);
    let error = sqlx::query("insert into settings (name, value) values ('big', $1)")
        .bind(big)
        .execute(&mut *tx)
        .await
        .expect_err("no room");
    assert!(matches!(DbError::from(error), DbError::DiskFull(_)));
}

#[tokio::test]
async fn a_server_that_is_away_is_lost_not_busy() {
    let error = Db::connect("postgres://nobody@localhost/none?host=/nonexistent").await.err();
    assert!(matches!(error, Some(DbError::Lost(_))), "{error:?}");
}
