//! What the coordinator knows of itself, in the table `settings`.

use reeve_protocol::CoordinatorId;
use sqlx::Row;

use super::{Db, DbError};

/// Our id, made at first start. The database holds it, so whoever has the database is the
/// coordinator.
///
/// # Errors
/// When the database does not answer or holds something else.
pub async fn load_coordinator_id(db: &Db) -> Result<CoordinatorId, DbError> {
    let mut tx = db.begin().await?;
    sqlx::query(
        "insert into settings (name, value) values ('coordinator_id', $1)
         on conflict (name) do nothing",
    )
    .bind(CoordinatorId::new().to_string())
    .execute(&mut *tx)
    .await?;
    let row = sqlx::query("select value from settings where name = 'coordinator_id'")
        .fetch_one(&mut *tx)
        .await?;
    let id = row
        .try_get::<&str, _>(0)?
        .parse()
        .map_err(|_| DbError::Content("the setting coordinator_id, which is no UUID".to_owned()))?;
    tx.commit().await?;
    Ok(id)
}
