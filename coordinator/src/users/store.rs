//! People, codes and keys in the database.

use std::collections::HashMap;

use reeve_protocol::{ApiKeyId, UserId};
use reeve_sdk::api::{ApiKey, Page, Role, Time, User};
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Row};

use super::{Principal, SESSION_LIFE, Scope, Via, WEB_IDLE, micros};
use crate::db::{DbError, Tx};
use crate::selector::Selector;

/// A key with what decides about it.
pub(super) struct KeyRow {
    pub id: ApiKeyId,
    pub kind: String,
    pub name: String,
    pub hash: Vec<u8>,
    pub created: i64,
    pub expires: Option<i64>,
    pub last_used: Option<i64>,
    pub user: UserId,
    pub user_name: String,
    pub role: Role,
    pub user_scope: Selector,
    pub key_scope: Option<Selector>,
}

impl KeyRow {
    pub fn principal(&self) -> Result<Principal, DbError> {
        let is_key = self.kind == "key";
        Ok(Principal {
            name: if is_key {
                format!("key:{}", self.name)
            } else {
                format!("user:{}", self.user_name)
            },
            user: self.user,
            user_name: self.user_name.clone(),
            role: self.role,
            scope: self.scope(),
            via: if is_key { Via::Key(self.name.clone()) } else { Via::Session },
            key: self.id,
        })
    }

    fn scope(&self) -> Scope {
        Scope::new(self.user_scope.clone(), self.key_scope.clone())
    }

    pub fn shown(&self) -> ApiKey {
        ApiKey {
            id: self.id,
            name: self.name.clone(),
            kind: self.kind.clone(),
            user: self.user_name.clone(),
            role: self.role,
            scope: self.scope().to_string(),
            created: Time::from_micros(self.created),
            expires: self.expires.map(Time::from_micros),
            last_used: self.last_used.map(Time::from_micros),
        }
    }
}

const KEY_COLUMNS: &str = "k.id, k.kind, k.name, k.hash, k.created, k.expires, k.last_used,
    k.user_id, u.name, u.role, k.role, u.scope, k.scope";

fn content(error: impl std::fmt::Display) -> DbError {
    DbError::Content(error.to_string())
}

fn read_key(row: &AnyRow) -> Result<KeyRow, DbError> {
    let user_role: Role = row.try_get::<&str, _>(9)?.parse().map_err(content)?;
    let key_role =
        row.try_get::<Option<&str>, _>(10)?.map(str::parse::<Role>).transpose().map_err(content)?;
    let key_scope = row
        .try_get::<Option<&str>, _>(12)?
        .map(str::parse::<Selector>)
        .transpose()
        .map_err(content)?;
    Ok(KeyRow {
        id: row.try_get::<&str, _>(0)?.parse().map_err(content)?,
        kind: row.try_get(1)?,
        name: row.try_get(2)?,
        hash: row.try_get(3)?,
        created: row.try_get(4)?,
        expires: row.try_get(5)?,
        last_used: row.try_get(6)?,
        user: row.try_get::<&str, _>(7)?.parse().map_err(content)?,
        user_name: row.try_get(8)?,
        // A key never does more than its owner may at that moment.
        role: key_role.map_or(user_role, |role| role.min(user_role)),
        user_scope: row.try_get::<&str, _>(11)?.parse().map_err(content)?,
        key_scope,
    })
}

pub(super) async fn find_key(
    conn: &mut AnyConnection,
    id: ApiKeyId,
) -> Result<Option<KeyRow>, DbError> {
    let row = sqlx::query(select_keys("where k.id = $1"))
        .bind(id.to_string())
        .fetch_optional(&mut *conn)
        .await?;
    row.as_ref().map(read_key).transpose()
}

/// Only constants go in here.
fn select_keys(filter: &'static str) -> sqlx::AssertSqlSafe<String> {
    sqlx::AssertSqlSafe(format!(
        "select {KEY_COLUMNS} from api_keys k join users u on u.id = k.user_id {filter}"
    ))
}

/// Keys of one person, or of all, in the order they were made.
pub(super) async fn list_keys(
    conn: &mut AnyConnection,
    of: Option<UserId>,
    after: &str,
    limit: i64,
) -> Result<Page<ApiKey>, DbError> {
    let rows = sqlx::query(select_keys(
        "where ($1 = '' or k.user_id = $1) and k.id > $2 order by k.id limit $3",
    ))
    .bind(of.map(|id| id.to_string()).unwrap_or_default())
    .bind(after)
    .bind(limit + 1)
    .fetch_all(&mut *conn)
    .await?;
    let keys = rows.iter().map(read_key).collect::<Result<Vec<_>, _>>()?;
    Ok(page(keys.iter().map(KeyRow::shown).collect(), limit, |key| key.id.to_string()))
}

fn page<T>(mut items: Vec<T>, limit: i64, cursor: impl Fn(&T) -> String) -> Page<T> {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let more = items.len() > limit;
    items.truncate(limit);
    Page { next: items.last().filter(|_| more).map(cursor), items }
}

/// A key to add.
pub(super) struct NewKey<'a> {
    pub id: ApiKeyId,
    pub kind: &'a str,
    pub name: &'a str,
    pub user: UserId,
    pub role: Option<Role>,
    pub scope: Option<&'a Selector>,
    pub hash: [u8; 32],
    pub created: i64,
    pub expires: Option<i64>,
}

pub(super) async fn add_key(tx: &mut Tx, key: &NewKey<'_>) -> Result<(), DbError> {
    sqlx::query(
        "insert into api_keys (id, kind, name, user_id, role, scope, hash, created, expires)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
    )
    .bind(key.id.to_string())
    .bind(key.kind)
    .bind(key.name)
    .bind(key.user.to_string())
    .bind(key.role.map(|role| role.as_str().to_owned()))
    .bind(key.scope.map(ToString::to_string))
    .bind(key.hash.as_slice())
    .bind(key.created)
    .bind(key.expires)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Whether it was there.
pub(super) async fn remove_key(tx: &mut Tx, id: ApiKeyId) -> Result<bool, DbError> {
    let done = sqlx::query("delete from api_keys where id = $1")
        .bind(id.to_string())
        .execute(&mut **tx)
        .await?;
    Ok(done.rows_affected() > 0)
}

/// Also gives browsers' sessions more time, within their whole life.
pub(super) async fn touch_keys(
    tx: &mut Tx,
    touched: &HashMap<ApiKeyId, i64>,
) -> Result<(), DbError> {
    for (id, at) in touched {
        sqlx::query(
            "update api_keys set last_used = $1,
                expires = case when kind <> 'web' then expires
                    when $1 + $2 < created + $3 then $1 + $2 else created + $3 end
             where id = $4",
        )
        .bind(*at)
        .bind(micros(WEB_IDLE))
        .bind(micros(SESSION_LIFE))
        .bind(id.to_string())
        .execute(&mut **tx)
        .await?;
    }
    Ok(())
}

/// Sessions and codes that nobody can use any more. Keys stay, so that their owners see why.
pub(super) async fn remove_expired(tx: &mut Tx, now: i64) -> Result<(), DbError> {
    sqlx::query("delete from api_keys where kind <> 'key' and expires < $1")
        .bind(now)
        .execute(&mut **tx)
        .await?;
    sqlx::query("delete from one_time_codes where expires < $1")
        .bind(now)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// A person with the password's hash.
pub(super) struct UserRow {
    pub user: User,
    pub password: Option<String>,
}

impl UserRow {
    /// What they may do by themselves. The key is none: no login is behind it.
    pub fn principal(self) -> Result<Principal, DbError> {
        Ok(Principal {
            name: format!("user:{}", self.user.name),
            user: self.user.id,
            role: self.user.role,
            scope: Scope::new(self.user.scope.parse().map_err(content)?, None),
            via: Via::Session,
            key: ApiKeyId(uuid::Uuid::nil()),
            user_name: self.user.name,
        })
    }
}

fn read_user(row: &AnyRow) -> Result<UserRow, DbError> {
    let password: Option<String> = row.try_get(4)?;
    Ok(UserRow {
        user: User {
            id: row.try_get::<&str, _>(0)?.parse().map_err(content)?,
            name: row.try_get(1)?,
            role: row.try_get::<&str, _>(2)?.parse().map_err(content)?,
            scope: row.try_get(3)?,
            created: Time::from_micros(row.try_get(5)?),
            active: password.is_some(),
        },
        password,
    })
}

/// By name or id.
pub(super) async fn find_user(
    conn: &mut AnyConnection,
    name_or_id: &str,
) -> Result<Option<UserRow>, DbError> {
    let row = sqlx::query(
        "select id, name, role, scope, password, created from users where name = $1 or id = $1",
    )
    .bind(name_or_id)
    .fetch_optional(&mut *conn)
    .await?;
    row.as_ref().map(read_user).transpose()
}

pub(super) async fn list_users(
    conn: &mut AnyConnection,
    after: &str,
    limit: i64,
) -> Result<Page<User>, DbError> {
    let rows = sqlx::query(
        "select id, name, role, scope, password, created from users
         where name > $1 order by name limit $2",
    )
    .bind(after)
    .bind(limit + 1)
    .fetch_all(&mut *conn)
    .await?;
    let users = rows.iter().map(read_user).collect::<Result<Vec<_>, _>>()?;
    let users = users.into_iter().map(|row| row.user).collect();
    Ok(page(users, limit, |user: &User| user.name.clone()))
}

pub(super) async fn list_user_names(conn: &mut AnyConnection) -> Result<Vec<String>, DbError> {
    let rows = sqlx::query("select name from users order by name limit 1000")
        .fetch_all(&mut *conn)
        .await?;
    rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
}

pub(super) async fn add_user(
    tx: &mut Tx,
    user: &User,
    password: Option<&str>,
) -> Result<(), DbError> {
    sqlx::query(
        "insert into users (id, name, role, scope, password, created)
         values ($1, $2, $3, $4, $5, $6)",
    )
    .bind(user.id.to_string())
    .bind(&*user.name)
    .bind(user.role.as_str())
    .bind(&*user.scope)
    .bind(password.map(str::to_owned))
    .bind(user.created.as_micros())
    .execute(&mut **tx)
    .await?;
    Ok(())
}

pub(super) async fn set_password(tx: &mut Tx, user: UserId, password: &str) -> Result<(), DbError> {
    sqlx::query("update users set password = $1 where id = $2")
        .bind(password)
        .bind(user.to_string())
        .execute(&mut **tx)
        .await?;
    Ok(())
}

pub(super) async fn change_user(
    tx: &mut Tx,
    user: UserId,
    role: Role,
    scope: &str,
) -> Result<(), DbError> {
    sqlx::query("update users set role = $1, scope = $2 where id = $3")
        .bind(role.as_str())
        .bind(scope)
        .bind(user.to_string())
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Keys, sessions and codes go with them.
pub(super) async fn remove_user(tx: &mut Tx, user: UserId) -> Result<(), DbError> {
    sqlx::query("delete from users where id = $1")
        .bind(user.to_string())
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// People who can do everything, besides this one.
pub(super) async fn count_other_admins(tx: &mut Tx, user: UserId) -> Result<i64, DbError> {
    let row = sqlx::query(
        "select count(*) from users
         where role = 'admin' and scope = '@all' and password is not null and id <> $1",
    )
    .bind(user.to_string())
    .fetch_one(&mut **tx)
    .await?;
    Ok(row.try_get(0)?)
}

pub(super) async fn add_code(
    tx: &mut Tx,
    hash: [u8; 32],
    user: Option<UserId>,
    created: i64,
    expires: Option<i64>,
) -> Result<(), DbError> {
    sqlx::query(
        "insert into one_time_codes (id, hash, user_id, created, expires)
         values ($1, $2, $3, $4, $5)",
    )
    .bind(uuid::Uuid::now_v7().hyphenated().to_string())
    .bind(hash.as_slice())
    .bind(user.map(|id| id.to_string()))
    .bind(created)
    .bind(expires)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Uses a code up: whom it is for, `Some(None)` for the one of the first start.
pub(super) async fn take_code(
    tx: &mut Tx,
    hash: [u8; 32],
    now: i64,
) -> Result<Option<Option<UserId>>, DbError> {
    let row = sqlx::query(
        "delete from one_time_codes where hash = $1 and (expires is null or expires > $2)
         returning user_id",
    )
    .bind(hash.as_slice())
    .bind(now)
    .fetch_optional(&mut **tx)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let user = row.try_get::<Option<&str>, _>(0)?.map(str::parse).transpose().map_err(content)?;
    Ok(Some(user))
}

/// The hash of the first start's code, while nobody has used it.
pub(super) async fn find_setup_code(conn: &mut AnyConnection) -> Result<Option<Vec<u8>>, DbError> {
    let row = sqlx::query("select hash from one_time_codes where user_id is null limit 1")
        .fetch_optional(&mut *conn)
        .await?;
    Ok(row.map(|row| row.try_get(0)).transpose()?)
}

pub(super) async fn remove_setup_codes(tx: &mut Tx) -> Result<(), DbError> {
    sqlx::query("delete from one_time_codes where user_id is null").execute(&mut **tx).await?;
    Ok(())
}

pub(super) async fn has_users(conn: &mut AnyConnection) -> Result<bool, DbError> {
    let row = sqlx::query("select 1 from users limit 1").fetch_optional(&mut *conn).await?;
    Ok(row.is_some())
}
