//! One attempt to pay: what was asked for, where it stands, and what the shop is told of it.

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Value;

use super::method::{Account, PayMethod};
use crate::config::ChannelType;
use crate::random::Random;

/// Life of a virtual account if nothing else is said.
pub(crate) const ACCOUNT_LIFETIME: TimeDelta = TimeDelta::hours(72);

/// When something happens, and where its ids come from.
#[derive(Clone, Copy)]
pub(crate) struct Moment<'a> {
    pub(crate) now: DateTime<Utc>,
    pub(crate) random: &'a Random,
}

/// `status` of a payment or of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Status {
    Ready,
    PayPending,
    VirtualAccountIssued,
    Paid,
    Failed,
    PartialCancelled,
    Cancelled,
}

impl Status {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ready => "READY",
            Self::PayPending => "PAY_PENDING",
            Self::VirtualAccountIssued => "VIRTUAL_ACCOUNT_ISSUED",
            Self::Paid => "PAID",
            Self::Failed => "FAILED",
            Self::PartialCancelled => "PARTIAL_CANCELLED",
            Self::Cancelled => "CANCELLED",
        }
    }

    /// The name in the filter of the payment list, which differs in one case.
    pub(crate) fn filter_name(self) -> &'static str {
        match self {
            Self::PayPending => "PENDING",
            other => other.name(),
        }
    }

    pub(crate) fn is_settled(self) -> bool {
        matches!(self, Self::Paid | Self::PartialCancelled | Self::Cancelled)
    }
}

/// What the shop is told by webhook; the names follow `Transaction.`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HappeningKind {
    Ready,
    Paid,
    VirtualAccountIssued,
    Failed,
    PayPending,
    PartialCancelled,
    Cancelled,
    CancelPending,
    DisputeCreated,
    DisputeResolved,
}

impl HappeningKind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ready => "Ready",
            Self::Paid => "Paid",
            Self::VirtualAccountIssued => "VirtualAccountIssued",
            Self::Failed => "Failed",
            Self::PayPending => "PayPending",
            Self::PartialCancelled => "PartialCancelled",
            Self::Cancelled => "Cancelled",
            Self::CancelPending => "CancelPending",
            Self::DisputeCreated => "DisputeCreated",
            Self::DisputeResolved => "DisputeResolved",
        }
    }
}

/// One thing that happened to a payment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Happening {
    pub(crate) kind: HappeningKind,
    pub(crate) transaction_id: String,
    pub(crate) cancellation_id: Option<String>,
    pub(crate) at: DateTime<Utc>,
}

/// Why the payment window refuses, with the code the browser SDK would give.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) code: &'static str,
    pub(crate) message: String,
}

impl Refusal {
    pub(crate) fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }

    pub(crate) fn state(message: impl Into<String>) -> Self {
        Self::new("InvalidEntityState", message)
    }
}

/// What the browser asked for when it opened the window.
#[derive(Debug, Clone)]
pub(crate) struct Opening {
    pub(crate) channel_type: ChannelType,
    pub(crate) channel_key: String,
    pub(crate) order_name: String,
    pub(crate) total: i64,
    pub(crate) tax_free: i64,
    pub(crate) vat: Option<i64>,
    pub(crate) currency: String,
    pub(crate) method: PayMethod,
    pub(crate) customer: Value,
    pub(crate) custom_data: Option<String>,
    pub(crate) notice_urls: Vec<String>,
    pub(crate) platform: &'static str,
    /// When a virtual account issued by this window shall end.
    pub(crate) account_expiry: Option<DateTime<Utc>>,
}

impl Opening {
    /// VAT as given, else a tenth on top of the supply price, rounded half up.
    pub(crate) fn vat(&self) -> i64 {
        self.vat.unwrap_or_else(|| vat_within(self.total - self.tax_free))
    }

    /// Replaces the total by what was really charged; the parts follow.
    pub(crate) fn charge(&mut self, total: i64) {
        if total != self.total {
            self.total = total;
            self.tax_free = self.tax_free.min(total);
            self.vat = None;
        }
    }
}

/// The VAT contained in a taxed amount: an eleventh, rounded half up.
pub(crate) fn vat_within(taxed: i64) -> i64 {
    (2 * taxed + 11) / 22
}

/// Why an attempt failed.
#[derive(Debug, Clone)]
pub(crate) struct Failure {
    pub(crate) reason: String,
    pub(crate) pg_code: String,
    pub(crate) pg_message: String,
}

/// One attempt to pay.
#[derive(Debug, Clone)]
pub(crate) struct Attempt {
    pub(crate) transaction_id: String,
    pub(crate) opening: Opening,
    pub(crate) status: Status,
    pub(crate) discount: i64,
    pub(crate) requested_at: DateTime<Utc>,
    pub(crate) updated_at: DateTime<Utc>,
    pub(crate) status_changed_at: DateTime<Utc>,
    pub(crate) paid_at: Option<DateTime<Utc>>,
    pub(crate) closed_at: Option<DateTime<Utc>>,
    pub(crate) failure: Option<Failure>,
    pub(crate) account: Option<Account>,
    pub(crate) approval: String,
    pub(crate) pg_tx_id: Option<String>,
    pub(crate) payment_token: Option<String>,
}

impl Attempt {
    pub(crate) fn become_status(&mut self, status: Status, now: DateTime<Utc>) {
        self.status = status;
        self.updated_at = now;
        self.status_changed_at = now;
    }

    pub(crate) fn happening(&self, kind: HappeningKind, at: DateTime<Utc>) -> Happening {
        Happening {
            kind,
            transaction_id: self.transaction_id.clone(),
            cancellation_id: None,
            at,
        }
    }
}
