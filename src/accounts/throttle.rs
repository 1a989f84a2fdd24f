//! Limits on guessing that hold across processes: attempts are counted in PostgreSQL, by what is guessed
//! at and by where from, before it is known whether they are right. So guesses made at once do not slip
//! through, and a right one gives its attempt back.
//!
//! After some free attempts every further one has to wait, twice as long each time. An address that is
//! blocked does not use up the attempts of the account that it goes for, or anybody could lock
//! anybody out from one place; who has many addresses can, for the longest block at a time, which is why that
//! is minutes and not days.

use std::net::IpAddr;

use chrono::TimeDelta;
use jangbu_events::Timestamp;
use sqlx::PgPool;

use super::digests::Digester;

/// Rows that one sweep deletes at a time.
const SWEPT: i64 = 5_000;
/// No policy remembers anything for longer.
const FORGOTTEN: TimeDelta = TimeDelta::days(1);

/// What is guessed at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// A password.
    SignIn,
    /// The phone or the password of a guest's order (KOREA G3: five tries in a quarter of an hour, per
    /// order and per address).
    GuestLookUp,
    /// Six digits. Each code has five tries of its own; this bounds the codes.
    OneTimeCode,
    /// Asking for a code or a link to be sent: never given back, as each is a message that somebody pays for
    /// and somebody reads.
    Sending,
}

/// How often, and then how rarely.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Policy {
    /// Attempts until the first block.
    free: i32,
    /// How long that is.
    first: TimeDelta,
    /// It doubles up to this.
    longest: TimeDelta,
    /// All is forgotten after so long without an attempt.
    forgotten: TimeDelta,
}

const QUARTER: TimeDelta = TimeDelta::minutes(15);

impl Purpose {
    const fn name(self) -> &'static str {
        match self {
            Self::SignIn => "sign in",
            Self::GuestLookUp => "guest look-up",
            Self::OneTimeCode => "one-time code",
            Self::Sending => "sending",
        }
    }

    const fn of_account(self) -> Policy {
        match self {
            Self::SignIn => Policy::new(5, TimeDelta::seconds(30), QUARTER, TimeDelta::hours(12)),
            Self::GuestLookUp => Policy::new(5, QUARTER, QUARTER, QUARTER),
            Self::OneTimeCode => Policy::new(10, TimeDelta::minutes(5), TimeDelta::hours(1), TimeDelta::days(1)),
            Self::Sending => Policy::new(3, TimeDelta::minutes(1), TimeDelta::hours(1), TimeDelta::days(1)),
        }
    }

    /// Many people share an address, in an office or behind a carrier's.
    const fn of_address(self) -> Policy {
        match self {
            Self::SignIn | Self::OneTimeCode => Policy::new(30, TimeDelta::seconds(30), QUARTER, TimeDelta::hours(1)),
            Self::GuestLookUp => Policy::new(5, QUARTER, QUARTER, QUARTER),
            Self::Sending => Policy::new(30, TimeDelta::minutes(1), TimeDelta::hours(1), TimeDelta::hours(12)),
        }
    }
}

impl Policy {
    const fn new(free: i32, first: TimeDelta, longest: TimeDelta, forgotten: TimeDelta) -> Self {
        Self {
            free,
            first,
            longest,
            forgotten,
        }
    }
}

/// Counts attempts.
#[derive(Debug, Clone)]
pub struct Throttle {
    db: PgPool,
    digester: Digester,
}

/// An attempt that was let through and counted. It is counted as wrong unless it is given back.
#[derive(Debug)]
#[must_use = "an attempt that was right is given back"]
pub struct Attempt {
    account: [u8; 32],
    address: [u8; 32],
    address_attempts: i32,
}

/// Too many; there may be one more after so many seconds. An answer like 429 with `Retry-After`, the same
/// whether or not there is such an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many attempts; try again in {retry_after_seconds} s")]
pub struct Blocked {
    /// Rounded up, at least 1.
    pub retry_after_seconds: u64,
}

/// Why an attempt may not be made.
#[derive(Debug, thiserror::Error)]
pub enum ThrottleError {
    /// There were too many.
    #[error(transparent)]
    Blocked(#[from] Blocked),
    /// Nothing can be counted, so nothing may be tried.
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

impl Throttle {
    /// Counts in `db`, under keys that `digester` makes.
    pub const fn new(db: PgPool, digester: Digester) -> Self {
        Self { db, digester }
    }

    /// Counts one attempt at `account` (as it was typed, brought to one spelling by the caller, whether or
    /// not there is one) from `address`, in one statement. Rows are locked in one order, the
    /// address before the account, so attempts never wait for each other in a circle.
    pub async fn attempt(
        &self,
        purpose: Purpose,
        account: &str,
        address: IpAddr,
        now: Timestamp,
    ) -> Result<Attempt, ThrottleError> {
        let key = |kind: &[u8], value: &[u8]| {
            self.digester
                .digest("throttle v1", &[purpose.name().as_bytes(), kind, value])
        };
        let account = key(b"account", account.as_bytes());
        let address = key(b"address", &network(address));
        let (by_address, by_account) = (purpose.of_address(), purpose.of_account());
        let counted = sqlx::query!(
            r#"
            with address as (
                insert into throttles as t (key, attempts, blocked_until, last_at, allowed)
                values ($1, 1, null, $3, true)
                on conflict (key) do update set (attempts, blocked_until, last_at, allowed) = (
                    select attempts, blocked_until, last_at, allowed
                    from count_attempt(t.attempts, t.blocked_until, t.last_at, $3, $4, $5, $6, $7))
                returning t.allowed, t.attempts, t.blocked_until
            ), account as (
                insert into throttles as t (key, attempts, blocked_until, last_at, allowed)
                select $2, 1, null, $3, true from address where address.allowed
                on conflict (key) do update set (attempts, blocked_until, last_at, allowed) = (
                    select attempts, blocked_until, last_at, allowed
                    from count_attempt(t.attempts, t.blocked_until, t.last_at, $3, $8, $9, $10, $11))
                returning t.allowed, t.blocked_until
            )
            select
                address.attempts as "address_attempts!",
                case when not address.allowed then address.blocked_until
                     when not account.allowed then account.blocked_until
                end as blocked_until
            from address left join account on true
            "#,
            address.as_slice(),
            account.as_slice(),
            now,
            by_address.free,
            seconds(by_address.first),
            seconds(by_address.longest),
            seconds(by_address.forgotten),
            by_account.free,
            seconds(by_account.first),
            seconds(by_account.longest),
            seconds(by_account.forgotten),
        )
        .fetch_one(&self.db)
        .await?;
        if let Some(until) = counted.blocked_until {
            metrics::counter!("jangbu_attempts_blocked_total", "purpose" => purpose.name()).increment(1);
            let milliseconds = u64::try_from((until - now).num_milliseconds()).unwrap_or(0);
            return Err(Blocked {
                retry_after_seconds: milliseconds.div_ceil(1_000).max(1),
            }
            .into());
        }
        Ok(Attempt {
            account,
            address,
            address_attempts: counted.address_attempts,
        })
    }

    /// The attempt was right: the account begins anew, and the address gets this one attempt back. It does
    /// not get back the others, or an attacker would sign in to an account of his own between guesses.
    pub async fn succeeded(&self, attempt: Attempt) -> sqlx::Result<()> {
        sqlx::query!(
            "with address as (
                 update throttles set
                     attempts = greatest(attempts - 1, 0),
                     -- A block stays if others have counted since: it may be theirs.
                     blocked_until = case when attempts = $2 then null else blocked_until end
                 where key = $1
             )
             delete from throttles where key = $3",
            attempt.address.as_slice(),
            attempt.address_attempts,
            attempt.account.as_slice()
        )
        .execute(&self.db)
        .await?;
        Ok(())
    }

    /// Deletes what is forgotten anyway, at most 5,000 rows, and says how many.
    pub async fn sweep(&self, now: Timestamp) -> sqlx::Result<u64> {
        let swept = sqlx::query!(
            "delete from throttles where key in (
                 select key from throttles where last_at < $1 limit $2 for update skip locked)",
            now - FORGOTTEN,
            SWEPT
        )
        .execute(&self.db)
        .await?;
        Ok(swept.rows_affected())
    }
}

fn seconds(time: TimeDelta) -> i32 {
    i32::try_from(time.num_seconds()).expect("a policy counts in days at most")
}

/// An IPv6 customer has a whole /64.
fn network(address: IpAddr) -> [u8; 16] {
    match address.to_canonical() {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => {
            let mut octets = address.octets();
            octets[8..].fill(0);
            octets
        }
    }
}
