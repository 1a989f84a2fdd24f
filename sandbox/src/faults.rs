//! Hostile switches. Each is armed for all payments or one, for a number of times or until cleared.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Switches armed at once; more is a test gone wild.
const FAULTS_MAX: usize = 1_000;

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum FaultKind {
    WebhookDuplicate,
    WebhookDelay,
    WebhookReorder,
    WebhookDrop,
    WebhookWrongSignature,
    WebhookOldTimestamp,
    WebhookFutureTimestamp,
    WebhookTwoSignatures,
    ApiDelay,
    ApiError,
    ApiDropBefore,
    ApiDropAfter,
    PgProvider,
    CancelRequested,
    CancelFailed,
    DepositShort,
    OauthNoIdToken,
    OauthWrongNonce,
    OauthWrongAudience,
    OauthWrongIssuer,
    OauthExpired,
    OauthOtherSubject,
    OauthEmailChanged,
    OauthHugeId,
}

/// A switch as the control surface takes it. Only the fields that its kind knows have a meaning.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Fault {
    #[serde(rename = "fault")]
    pub(crate) kind: FaultKind,
    /// Only for this payment; absent = for all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) payment_id: Option<String>,
    /// How many times it strikes; absent = until cleared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) times: Option<u32>,
    /// API faults: only for this operation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) operation: Option<String>,
    #[serde(default = "default_ms")]
    ms: u64,
    #[serde(default)]
    pub(crate) when: When,
    #[serde(default = "default_copies")]
    pub(crate) copies: u32,
    #[serde(default = "default_hold")]
    pub(crate) hold: usize,
    #[serde(default = "default_seconds")]
    pub(crate) seconds: i64,
    #[serde(default = "default_status")]
    pub(crate) status: u16,
    #[serde(default = "default_won")]
    pub(crate) won: i64,
    #[serde(default = "default_pg_code")]
    pub(crate) pg_code: String,
    #[serde(default = "default_pg_message")]
    pub(crate) pg_message: String,
}

/// Whether an API delay passes before the effect or after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum When {
    #[default]
    Before,
    After,
}

fn default_ms() -> u64 {
    1_000
}
fn default_copies() -> u32 {
    2
}
fn default_hold() -> usize {
    2
}
fn default_seconds() -> i64 {
    600
}
fn default_status() -> u16 {
    503
}
fn default_won() -> i64 {
    1
}
fn default_pg_code() -> String {
    "PROVIDER_ERROR".to_owned()
}
fn default_pg_message() -> String {
    "일시적인 오류가 발생했습니다".to_owned()
}

impl Fault {
    pub(crate) fn delay(&self) -> Duration {
        Duration::from_millis(self.ms)
    }

    pub(crate) fn validate(&self, operations: &[&str]) -> Result<(), String> {
        let checks = [
            (self.ms <= 600_000, "ms must be at most 600000"),
            ((2..=100).contains(&self.copies), "copies must be from 2 to 100"),
            ((2..=1_000).contains(&self.hold), "hold must be from 2 to 1000"),
            (
                (1..=1_000_000_000).contains(&self.seconds),
                "seconds must be from 1 to 1000000000",
            ),
            ((400..=599).contains(&self.status), "status must be from 400 to 599"),
            (
                (1..=1_000_000_000).contains(&self.won),
                "won must be from 1 to 1000000000",
            ),
            (self.times != Some(0), "times must be at least 1"),
        ];
        if let Some((_, why)) = checks.into_iter().find(|(holds, _)| !holds) {
            return Err(why.to_owned());
        }
        match &self.operation {
            Some(name) if !operations.contains(&name.as_str()) => {
                Err(format!("operation must be one of {}", operations.join(", ")))
            }
            _ => Ok(()),
        }
    }
}

/// The armed switches.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    armed: Mutex<Vec<Fault>>,
    /// Lets the usual case, no fault at all, pass without the lock.
    count: AtomicUsize,
}

impl Faults {
    fn lock(&self) -> MutexGuard<'_, Vec<Fault>> {
        self.armed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn arm(&self, faults: Vec<Fault>) -> Result<(), String> {
        let mut armed = self.lock();
        if armed.len() + faults.len() > FAULTS_MAX {
            return Err(format!("at most {FAULTS_MAX} faults can be armed"));
        }
        armed.extend(faults);
        self.count.store(armed.len(), Ordering::Release);
        Ok(())
    }

    pub(crate) fn clear(&self) {
        let mut armed = self.lock();
        armed.clear();
        self.count.store(0, Ordering::Release);
    }

    pub(crate) fn list(&self) -> Vec<Fault> {
        self.lock().clone()
    }

    /// The first armed switch of this kind that fits; it has then struck once.
    pub(crate) fn strike(&self, kind: FaultKind, payment: Option<&str>, operation: Option<&str>) -> Option<Fault> {
        if self.count.load(Ordering::Acquire) == 0 {
            return None;
        }
        let mut armed = self.lock();
        let index = armed.iter().position(|fault| {
            fault.kind == kind
                && fault.payment_id.as_deref().is_none_or(|wanted| payment == Some(wanted))
                && fault
                    .operation
                    .as_deref()
                    .is_none_or(|wanted| operation == Some(wanted))
        })?;
        let fault = armed[index].clone();
        if let Some(times) = &mut armed[index].times {
            *times -= 1;
            if *times == 0 {
                armed.remove(index);
                self.count.store(armed.len(), Ordering::Release);
            }
        }
        Some(fault)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn fault(spec: Value) -> Fault {
        serde_json::from_value(spec).expect("the fault is well formed")
    }

    #[test]
    fn a_fault_strikes_as_often_as_it_is_armed_for_and_only_where_it_fits() {
        let faults = Faults::default();
        let spec = json!({"fault": "api_error", "times": 2, "paymentId": "p1", "operation": "cancel"});
        faults.arm(vec![fault(spec)]).expect("there is room");
        let strike = |payment, operation| faults.strike(FaultKind::ApiError, payment, operation).is_some();
        assert!(!strike(Some("p2"), Some("cancel")));
        assert!(!strike(Some("p1"), Some("get")));
        assert!(!strike(None, None));
        assert!(faults.strike(FaultKind::ApiDelay, Some("p1"), Some("cancel")).is_none());
        assert!(strike(Some("p1"), Some("cancel")));
        assert!(strike(Some("p1"), Some("cancel")));
        assert!(!strike(Some("p1"), Some("cancel")));
        assert!(faults.list().is_empty());
    }

    #[test]
    fn a_fault_without_a_count_stays_until_cleared() {
        let faults = Faults::default();
        faults
            .arm(vec![fault(json!({"fault": "webhook_drop"}))])
            .expect("there is room");
        for _ in 0..10 {
            assert!(faults.strike(FaultKind::WebhookDrop, Some("any"), None).is_some());
        }
        faults.clear();
        assert!(faults.strike(FaultKind::WebhookDrop, Some("any"), None).is_none());
    }

    #[test]
    fn senseless_faults_are_refused() {
        for spec in [
            json!({"fault": "api_error", "status": 200}),
            json!({"fault": "webhook_duplicate", "copies": 1}),
            json!({"fault": "webhook_drop", "times": 0}),
            json!({"fault": "api_delay", "ms": 3_600_000}),
            json!({"fault": "api_delay", "operation": "nonsense"}),
        ] {
            assert!(fault(spec.clone()).validate(&["cancel"]).is_err(), "{spec}");
        }
        assert!(serde_json::from_value::<Fault>(json!({"fault": "unknown"})).is_err());
        assert!(serde_json::from_value::<Fault>(json!({"fault": "webhook_drop", "tmies": 3})).is_err());
    }
}
