//! The tables of leases and members, through a connection of their own: terms must be renewed
//! however busy the pool is.

use std::time::Duration;

use sqlx::{
    ConnectOptions as _, Connection as _, PgConnection,
    postgres::{PgConnectOptions, types::PgInterval},
};
use tokio::time::{Instant, timeout_at};
use uuid::Uuid;

use super::core::{Ask, Seen};

/// Why the database said nothing.
#[derive(Debug, thiserror::Error)]
pub enum Silence {
    #[error(transparent)]
    Failed(#[from] sqlx::Error),
    #[error("no answer in time")]
    TooLate,
}

/// What a lease was before we took it.
#[derive(Debug)]
pub struct Taken {
    pub name: String,
    pub epoch: i64,
    /// Since its last holder renewed or released it, in seconds; `None` if it never had one.
    pub idle_seconds: Option<f64>,
}

/// The rows, as one holder sees them.
pub struct Rows {
    options: PgConnectOptions,
    connection: Option<PgConnection>,
    holder: Uuid,
    ttl: Duration,
}

impl Rows {
    pub fn new(options: PgConnectOptions, holder: Uuid, ttl: Duration) -> Self {
        Self {
            // A slow disk must not cost anybody a lease. If the server crashes it may forget the
            // last moments, but never an epoch under which something was written that it remembers.
            options: options.options([("synchronous_commit", "off")]),
            connection: None,
            holder,
            ttl,
        }
    }

    /// Works on the connection until `deadline`. What was begun then may be done or not, so the
    /// connection is closed and the next one is another.
    async fn within<T>(
        &mut self,
        deadline: Instant,
        work: impl AsyncFnOnce(&mut PgConnection) -> sqlx::Result<T>,
    ) -> Result<T, Silence> {
        let known = self.connection.take();
        let options = &self.options;
        let worked = timeout_at(deadline, async {
            let mut connection = match known {
                Some(connection) => connection,
                None => options.connect().await?,
            };
            let answer = work(&mut connection).await?;
            Ok::<_, sqlx::Error>((connection, answer))
        });
        let (connection, answer) = worked.await.map_err(|_| Silence::TooLate)??;
        self.connection = Some(connection);
        Ok(answer)
    }

    /// Prolongs what is held and our membership, then looks at the others.
    pub async fn renew_and_look(&mut self, ask: &Ask, deadline: Instant) -> Result<Seen, Silence> {
        let (holder, ttl) = (self.holder, self.ttl);
        self.within(deadline, async |db| {
            let renewed = renew(db, holder, ttl, ask).await?;
            let mut seen = look(db, holder, ttl, ask).await?;
            seen.renewed = renewed;
            Ok(seen)
        })
        .await
    }

    /// Takes those that are free, under new epochs.
    pub async fn take(&mut self, names: &[String], deadline: Instant) -> Result<Vec<Taken>, Silence> {
        let (holder, ttl) = (self.holder, self.ttl);
        self.within(deadline, async |db| take(db, holder, ttl, names).await)
            .await
    }

    /// Lets others have them at once; with `leave` we are no member any more either.
    pub async fn release(&mut self, leases: &[(String, i64)], leave: bool, deadline: Instant) -> Result<(), Silence> {
        let holder = self.holder;
        self.within(deadline, async |db| {
            if !leases.is_empty() {
                release(db, holder, leases).await?;
            }
            if leave {
                sqlx::query!("delete from lease_members where holder = $1", holder)
                    .execute(&mut *db)
                    .await?;
            }
            Ok(())
        })
        .await
    }

    /// Lets others have these of a group at once; we are no member of it any more.
    pub async fn leave(&mut self, group: &str, leases: &[(String, i64)], deadline: Instant) -> Result<(), Silence> {
        let holder = self.holder;
        self.within(deadline, async |db| {
            if !leases.is_empty() {
                release(db, holder, leases).await?;
            }
            sqlx::query!(
                "delete from lease_members where holder = $1 and group_name = $2",
                holder,
                group
            )
            .execute(&mut *db)
            .await?;
            Ok(())
        })
        .await
    }

    /// Removes members that are long gone; nobody counts them.
    pub async fn tidy(&mut self, deadline: Instant) -> Result<(), Silence> {
        let ttl = self.ttl;
        self.within(deadline, async |db| {
            sqlx::query!(
                "delete from lease_members
                 where (group_name, holder) in (
                     select group_name, holder
                     from lease_members
                     where expires_at < now() - 10 * $1::interval
                     for update skip locked
                 )",
                interval(ttl),
            )
            .execute(&mut *db)
            .await?;
            Ok(())
        })
        .await
    }

    pub async fn close(self) {
        if let Some(connection) = self.connection {
            // If it cannot be told, the server notices by itself.
            _ = tokio::time::timeout(self.ttl, connection.close()).await;
        }
    }
}

async fn renew(db: &mut PgConnection, holder: Uuid, ttl: Duration, ask: &Ask) -> sqlx::Result<Vec<String>> {
    let (names, epochs): (Vec<String>, Vec<i64>) = ask.renew.iter().cloned().unzip();
    // Rows are always locked by name, or two nodes could wait for each other.
    sqlx::query_scalar!(
        "with mine as (
             select l.name
             from leases l
             join unnest($1::text[], $2::bigint[]) as held (name, epoch) on l.name = held.name and l.epoch = held.epoch
             where l.holder = $3
             order by l.name
             for update of l
         ),
         present as (
             insert into lease_members (group_name, holder, expires_at)
             select group_name, $3, now() + $4
             from unnest($5::text[]) as ours (group_name)
             on conflict (group_name, holder) do update
             set expires_at = excluded.expires_at
         )
         update leases
         set expires_at = now() + $4
         from mine
         where leases.name = mine.name
         returning leases.name",
        &names,
        &epochs,
        holder,
        interval(ttl),
        &ask.groups,
    )
    .fetch_all(db)
    .await
}

/// A term that ends much later than any that is given was written before the clock was set back,
/// and does not count.
async fn look(db: &mut PgConnection, holder: Uuid, ttl: Duration, ask: &Ask) -> sqlx::Result<Seen> {
    let rows = sqlx::query!(
        r#"select name as "name!", member, ceil(extract(epoch from expires_at - now()) * 1000)::bigint as "left_ms!"
           from (
               select name, null::uuid as member, expires_at
               from leases
               where name = any($1) and holder <> $2
               union all
               select group_name, holder, expires_at
               from lease_members
               where group_name = any($3) and holder <> $2
           ) as others
           where expires_at > now() and expires_at <= now() + 2 * $4::interval"#,
        &ask.wanted,
        holder,
        &ask.groups,
        interval(ttl),
    )
    .fetch_all(db)
    .await?;
    let mut seen = Seen::default();
    for row in rows {
        let left = Duration::from_millis(u64::try_from(row.left_ms).unwrap_or(0));
        match row.member {
            Some(member) => seen.members.push((row.name, member, left)),
            None => seen.held.push((row.name, left)),
        }
    }
    Ok(seen)
}

async fn take(db: &mut PgConnection, holder: Uuid, ttl: Duration, names: &[String]) -> sqlx::Result<Vec<Taken>> {
    let rows = sqlx::query!(
        r#"with before as (
               select name, expires_at - case when holder = $4 then interval '0' else $3 end as seen_at
               from leases
               where name = any($1)
           ),
           taken as (
               insert into leases (name, holder, epoch, expires_at)
               select name, $2, 1, now() + $3
               from unnest($1::text[]) as wanted (name)
               order by name
               on conflict (name) do update
               set holder = excluded.holder, epoch = leases.epoch + 1, expires_at = excluded.expires_at
               where leases.expires_at <= now()
                   or leases.expires_at > now() + 2 * $3::interval
                   or leases.holder = excluded.holder
               returning name, epoch
           )
           select taken.name, taken.epoch, extract(epoch from now() - seen_at)::float8 as idle_seconds
           from taken
           left join before on before.name = taken.name"#,
        names,
        holder,
        interval(ttl),
        Uuid::nil(),
    )
    .fetch_all(db)
    .await?;
    let taken = rows.into_iter().map(|row| Taken {
        name: row.name,
        epoch: row.epoch,
        idle_seconds: row.idle_seconds,
    });
    Ok(taken.collect())
}

async fn release(db: &mut PgConnection, holder: Uuid, leases: &[(String, i64)]) -> sqlx::Result<()> {
    let (names, epochs): (Vec<String>, Vec<i64>) = leases.iter().cloned().unzip();
    sqlx::query!(
        "with mine as (
             select l.name
             from leases l
             join unnest($1::text[], $2::bigint[]) as held (name, epoch) on l.name = held.name and l.epoch = held.epoch
             where l.holder = $3
             order by l.name
             for update of l
         )
         update leases
         set expires_at = now(), holder = $4
         from mine
         where leases.name = mine.name",
        &names,
        &epochs,
        holder,
        Uuid::nil(),
    )
    .execute(db)
    .await?;
    Ok(())
}

fn interval(duration: Duration) -> PgInterval {
    PgInterval {
        months: 0,
        days: 0,
        microseconds: i64::try_from(duration.as_micros()).unwrap_or(i64::MAX),
    }
}
