//! Statements that are sent together. SQLite's driver has a thread per connection, and every
//! statement that is waited for goes there and back: two wake-ups of a thread, which take longer
//! than the statement. What needs no answer before the next one is put down with [`Tx::later`] and
//! goes with the next that does, or with the commit.

use futures_util::TryStreamExt;
use sqlx::any::{AnyArguments, AnyRow};
use sqlx::query::Query;
use sqlx::{Any, AnyConnection, AssertSqlSafe, Either, Execute, Executor, SqlStr};

use super::{Conn, DbError, Engine, Tx};

/// Statements sent at once: few enough for their text to come again, so that SQLite has it prepared.
const TOGETHER: usize = 8;

/// Text of statements sent at once, bytes: what is prepared is kept, and rows by the thousand are one
/// text already.
const TOGETHER_BYTES: usize = 8 * 1024;

/// A statement that waits to be sent.
pub(super) struct Statement {
    sql: SqlStr,
    arguments: AnyArguments,
}

impl Statement {
    fn of(mut query: Query<'_, Any, AnyArguments>) -> Result<Self, DbError> {
        let arguments = query.take_arguments().map_err(sqlx::Error::Encode)?.unwrap_or_default();
        Ok(Self { sql: query.sql(), arguments })
    }

    fn bytes(&self) -> usize {
        self.sql.as_str().len()
    }
}

/// Which of the statements sent together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent(usize);

/// What statements that were sent together answered.
#[derive(Default)]
pub struct Answers(Vec<Answer>);

#[derive(Default)]
struct Answer {
    changed: u64,
    rows: Vec<AnyRow>,
}

impl Answers {
    /// Rows that a statement has changed.
    #[must_use]
    pub fn changed(&self, sent: Sent) -> u64 {
        self.0.get(sent.0).map_or(0, |answer| answer.changed)
    }

    /// The rows that a statement has returned.
    #[must_use]
    pub fn rows(&self, sent: Sent) -> &[AnyRow] {
        self.0.get(sent.0).map_or(&[], |answer| &answer.rows)
    }

    /// The first row that a statement has returned.
    #[must_use]
    pub fn row(&self, sent: Sent) -> Option<&AnyRow> {
        self.rows(sent).first()
    }
}

impl Tx {
    /// Puts a statement behind those that wait to be sent. Nothing may be executed on the connection
    /// itself before [`Tx::send`].
    ///
    /// # Errors
    /// When an argument cannot be encoded.
    pub fn later(&mut self, query: Query<'_, Any, AnyArguments>) -> Result<Sent, DbError> {
        self.waiting.push(Statement::of(query)?);
        Ok(Sent(self.waiting.len() - 1))
    }

    /// Sends what waits, and waits for the answers.
    ///
    /// # Errors
    /// What the database says to the first statement that fails; those behind it are not executed.
    pub async fn send(&mut self) -> Result<Answers, DbError> {
        let waiting = std::mem::take(&mut self.waiting);
        send_all(&mut self.conn, self.engine, waiting).await
    }
}

impl Conn {
    /// Asks several things at once; the answers are in their order.
    ///
    /// # Errors
    /// What the database says.
    pub async fn ask<const N: usize>(
        &mut self,
        queries: [Query<'_, Any, AnyArguments>; N],
    ) -> Result<(Answers, [Sent; N]), DbError> {
        let statements = queries.into_iter().map(Statement::of).collect::<Result<_, _>>()?;
        let answers = send_all(&mut self.conn, self.engine, statements).await?;
        Ok((answers, std::array::from_fn(Sent)))
    }
}

async fn send_all(
    conn: &mut AnyConnection,
    engine: Engine,
    statements: Vec<Statement>,
) -> Result<Answers, DbError> {
    let mut waiting = statements.into_iter().peekable();
    let mut answers = Answers::default();
    while let Some(first) = waiting.next() {
        let mut bytes = first.bytes();
        let mut together = vec![first];
        // PostgreSQL's protocol takes one statement with arguments at a time.
        while engine == Engine::Sqlite
            && together.len() < TOGETHER
            && let Some(next) = waiting.next_if(|next| bytes + next.bytes() <= TOGETHER_BYTES)
        {
            bytes += next.bytes();
            together.push(next);
        }
        let (sql, arguments) = join(together);
        let mut stream = conn.fetch_many((sql, Some(arguments)));
        let mut answer = Answer::default();
        while let Some(each) = stream.try_next().await? {
            match each {
                Either::Right(row) => answer.rows.push(row),
                Either::Left(done) => {
                    answer.changed = done.rows_affected();
                    answers.0.push(std::mem::take(&mut answer));
                }
            }
        }
    }
    Ok(answers)
}

/// One text for several statements, their placeholders counted on.
fn join(statements: Vec<Statement>) -> (AssertSqlSafe<String>, AnyArguments) {
    let mut text = String::new();
    let mut arguments = AnyArguments::default();
    for statement in statements {
        if !text.is_empty() {
            text.push_str(";\n");
        }
        let offset = arguments.values.0.len();
        let mut parts = statement.sql.as_str().split('$');
        text.push_str(parts.next().unwrap_or_default());
        for part in parts {
            let digits = part.bytes().take_while(u8::is_ascii_digit).count();
            let (number, rest) = part.split_at(digits);
            let number: usize = number.parse().unwrap_or_default();
            text.push('$');
            text.push_str(&(number + offset).to_string());
            text.push_str(rest);
        }
        arguments.values.0.extend(statement.arguments.values.0);
    }
    (AssertSqlSafe(text), arguments)
}
