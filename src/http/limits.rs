//! How often one client may ask. Counts are kept in this process, for a bounded number of clients:
//! a limit keeps one client from taking everything, it is no lock.

use std::{
    hash::Hash,
    net::IpAddr,
    num::NonZeroUsize,
    sync::{Mutex, MutexGuard, PoisonError},
};

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use jangbu_events::Timestamp;
use lru::LruCache;

use super::problem::{Code, Problem};
use crate::config::RateLimits;

/// Clients that are remembered; whoever has not asked for longest is forgotten first.
const CLIENTS_MAX: NonZeroUsize = NonZeroUsize::new(65_536).expect("not zero");
const MINUTE_US: i64 = 60_000_000;
/// Tries to find a guest's order, per order number and per address (KOREA G3).
const LOOKUP_TRIES: u32 = 5;
const LOOKUP_PERIOD_US: i64 = 15 * MINUTE_US;

/// So many requests in a period; they come back one by one as it passes.
#[derive(Debug)]
pub struct Limit<K: Hash + Eq> {
    requests: u32,
    period_us: i64,
    /// When each client will have all its requests again, in microseconds since 1970: the arrival
    /// time of the generic cell rate algorithm, one number a client.
    clients: Mutex<LruCache<K, i64>>,
}

/// What is left to a client after a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allowance {
    /// Requests in a period.
    pub limit: u32,
    /// That could be made at once now.
    pub remaining: u32,
    /// Until all are there again.
    pub reset_seconds: u64,
}

/// Too many; there is one more after so many seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exceeded {
    /// What was exceeded, with nothing left of it.
    pub allowance: Allowance,
    /// Until the next request has a chance, rounded up.
    pub retry_after_seconds: u64,
}

impl<K: Hash + Eq> Limit<K> {
    /// `requests`, at least 1, in `period_us` microseconds.
    fn new(requests: u32, period_us: i64) -> Self {
        Self {
            requests: requests.max(1),
            period_us,
            clients: Mutex::new(LruCache::new(CLIENTS_MAX)),
        }
    }

    /// The time that one request costs.
    fn cost_us(&self) -> i64 {
        (self.period_us / i64::from(self.requests)).max(1)
    }

    /// Takes one request.
    pub fn take(&self, client: K, now: Timestamp) -> Result<Allowance, Exceeded> {
        let now = now.timestamp_micros();
        let mut clients = self.clients();
        let full_at = clients.get(&client).copied().unwrap_or(0);
        // A clock that was set back must not lock anybody out for longer than a period.
        let full_at = full_at.clamp(now, now + self.period_us);
        let next = full_at + self.cost_us();
        if next > now + self.period_us {
            let wait = next - now - self.period_us;
            clients.put(client, full_at);
            return Err(Exceeded {
                allowance: self.allowance(full_at, now),
                retry_after_seconds: seconds_up(wait).max(1),
            });
        }
        clients.put(client, next);
        Ok(self.allowance(next, now))
    }

    /// Gives a taken request back.
    pub fn give_back(&self, client: &K) {
        let cost = self.cost_us();
        if let Some(full_at) = self.clients().get_mut(client) {
            *full_at -= cost;
        }
    }

    fn allowance(&self, full_at: i64, now: i64) -> Allowance {
        let used = (full_at - now).max(0);
        let remaining = (self.period_us - used) / self.cost_us();
        Allowance {
            limit: self.requests,
            remaining: u32::try_from(remaining.clamp(0, self.requests.into())).unwrap_or(0),
            reset_seconds: seconds_up(used),
        }
    }

    fn clients(&self) -> MutexGuard<'_, LruCache<K, i64>> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn seconds_up(microseconds: i64) -> u64 {
    u64::try_from(microseconds.max(0)).unwrap_or(0).div_ceil(1_000_000)
}

impl Allowance {
    /// Writes `RateLimit-Limit`, `RateLimit-Remaining` and `RateLimit-Reset`.
    pub fn write(self, headers: &mut HeaderMap) {
        headers.insert(HeaderName::from_static("ratelimit-limit"), self.limit.into());
        headers.insert(HeaderName::from_static("ratelimit-remaining"), self.remaining.into());
        headers.insert(HeaderName::from_static("ratelimit-reset"), self.reset_seconds.into());
    }

    /// The tighter of two.
    #[must_use]
    pub fn or_tighter(self, other: Option<Self>) -> Self {
        match other {
            Some(other) if other.remaining < self.remaining => other,
            _ => self,
        }
    }
}

impl From<Exceeded> for Problem {
    fn from(exceeded: Exceeded) -> Self {
        let mut headers = HeaderMap::new();
        exceeded.allowance.write(&mut headers);
        let seconds = exceeded.retry_after_seconds;
        let problem = Self::new(Code::RateLimited)
            .detail(
                format!("Try again in {seconds} s."),
                format!("{seconds}초 뒤에 다시 시도해 주세요."),
            )
            .retry_after(seconds);
        headers
            .into_iter()
            .fold(problem, |problem, (name, value): (_, HeaderValue)| match name {
                Some(name) => problem.header(name, value),
                None => problem,
            })
    }
}

/// A client by its address. An IPv6 customer has a whole /64.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Address([u8; 16]);

impl From<IpAddr> for Address {
    fn from(ip: IpAddr) -> Self {
        match ip.to_canonical() {
            IpAddr::V4(ip) => Self(ip.to_ipv6_mapped().octets()),
            IpAddr::V6(ip) => {
                let mut octets = ip.octets();
                octets[8..].fill(0);
                Self(octets)
            }
        }
    }
}

/// The limits of this process.
#[derive(Debug)]
pub struct Limits {
    requests: Option<Limit<Address>>,
    tokens: Option<Limit<[u8; 8]>>,
    lookups: Option<Limit<Address>>,
    lookups_by_number: Limit<String>,
    lookups_by_address: Limit<Address>,
}

impl Limits {
    /// As configured. Every token has the same limit as an address has.
    pub fn new(rates: &RateLimits) -> Self {
        Self {
            requests: rates.requests_per_minute.map(|n| Limit::new(n, MINUTE_US)),
            tokens: rates.requests_per_minute.map(|n| Limit::new(n, MINUTE_US)),
            lookups: rates.lookups_per_minute.map(|n| Limit::new(n, MINUTE_US)),
            lookups_by_number: Limit::new(LOOKUP_TRIES, LOOKUP_PERIOD_US),
            lookups_by_address: Limit::new(LOOKUP_TRIES, LOOKUP_PERIOD_US),
        }
    }

    /// Any request, of an address and of a token by the first bytes of its hash. `None` is without limit.
    pub fn request(
        &self,
        address: Address,
        token: Option<[u8; 8]>,
        now: Timestamp,
    ) -> Result<Option<Allowance>, Exceeded> {
        let by_address = self
            .requests
            .as_ref()
            .map(|limit| limit.take(address, now))
            .transpose()?;
        let by_token = match (&self.tokens, token) {
            (Some(limit), Some(token)) => Some(limit.take(token, now)?),
            _ => None,
        };
        Ok(by_address.map(|allowance| allowance.or_tighter(by_token)))
    }

    /// One try to find an order by its number. A try that found it does not count: see [`Limits::lookup_found`].
    pub fn lookup(&self, address: Address, number: &str, now: Timestamp) -> Result<(), Exceeded> {
        if let Some(limit) = &self.lookups {
            limit.take(address, now)?;
            self.lookups_by_address.take(address, now)?;
        }
        self.lookups_by_number.take(number.to_owned(), now)?;
        Ok(())
    }

    /// The try found an order: only wrong guesses use tries up.
    pub fn lookup_found(&self, address: Address, number: &str) {
        self.lookups_by_address.give_back(&address);
        self.lookups_by_number.give_back(&number.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_timestamp(1_700_000_000 + seconds, 0).expect("a time")
    }

    #[test]
    fn requests_run_out_and_come_back_one_by_one() {
        let limit = Limit::new(3, MINUTE_US);
        let remaining = |now| limit.take("kim", now).map(|allowance| allowance.remaining);
        assert_eq!(
            [remaining(at(0)), remaining(at(0)), remaining(at(0))],
            [Ok(2), Ok(1), Ok(0)]
        );
        let exceeded = limit.take("kim", at(1)).expect_err("too many");
        assert_eq!((exceeded.retry_after_seconds, exceeded.allowance.remaining), (19, 0));
        assert_eq!(limit.take("lee", at(1)).map(|a| a.remaining), Ok(2));
        assert_eq!(remaining(at(20)), Ok(0));
        assert!(remaining(at(21)).is_err());
        assert_eq!(remaining(at(20 + 60)), Ok(2), "all came back");
    }

    #[test]
    fn a_clock_that_was_set_back_locks_nobody_out() {
        let limit = Limit::new(1, MINUTE_US);
        limit.take("kim", at(0)).expect("one");
        let long_ago = at(0) - TimeDelta::days(1);
        assert_eq!(limit.take("kim", long_ago).map_err(|e| e.retry_after_seconds), Err(60));
        assert!(limit.take("kim", long_ago + TimeDelta::seconds(60)).is_ok());
    }

    #[test]
    fn only_wrong_guesses_use_tries_up() {
        let limits = Limits::new(&RateLimits {
            requests_per_minute: None,
            sign_ins_per_minute: None,
            lookups_per_minute: Some(1_000),
        });
        let (home, elsewhere) = (address("203.0.113.7"), address("203.0.113.8"));
        for _ in 0..20 {
            limits.lookup(home, "1", at(0)).expect("found every time");
            limits.lookup_found(home, "1");
        }
        for _ in 0..5 {
            limits.lookup(home, "1", at(0)).expect("five wrong ones");
        }
        assert!(
            limits.lookup(home, "2", at(0)).is_err(),
            "the address has used its tries up"
        );
        assert!(limits.lookup(elsewhere, "1", at(0)).is_err(), "so has the number");
        assert!(limits.lookup(elsewhere, "2", at(0)).is_ok());
        assert!(
            limits.lookup(home, "1", at(180)).is_ok(),
            "a fifth of the quarter of an hour later"
        );
    }

    fn address(text: &str) -> Address {
        text.parse::<IpAddr>().expect("an address").into()
    }

    #[test]
    fn a_whole_ipv6_network_is_one_client() {
        assert_eq!(address("2001:db8:0:1::1"), address("2001:db8:0:1:ffff::2"));
        assert_ne!(address("2001:db8:0:1::1"), address("2001:db8:0:2::1"));
        assert_eq!(address("::ffff:203.0.113.7"), address("203.0.113.7"));
        assert_ne!(address("203.0.113.7"), address("203.0.113.8"));
    }
}
