//! What is known of a payment, and how events add to it.

use std::collections::BTreeSet;

use jangbu_events::{
    Money, OrderId, PayMethod, PaymentEvent, PaymentId, PaymentMeans, RefundReason, RefuseReason, Sealed, Timestamp,
    personal::{AccountNumber, RefundAccount},
};
use serde::{Deserialize, Serialize};

use super::{ObservedCancellation, refund_id};

/// What is known of a payment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Payment {
    /// Nobody has asked for it.
    #[default]
    NotRequested,
    /// No money has come.
    Requested {
        /// What was asked for.
        request: Request,
        /// Attempts that failed, by PortOne's id.
        failed: BTreeSet<String>,
        /// Attempts that were given an account number, by PortOne's id.
        issued: BTreeSet<String>,
        /// The latest of those accounts.
        account: Option<VirtualAccount>,
    },
    /// The right money came.
    Confirmed {
        /// What was asked for.
        request: Request,
        /// What came.
        received: Received,
        /// What went back.
        returned: Returned,
    },
    /// Money came that the shop does not take.
    Refused {
        /// What was asked for.
        request: Request,
        /// Why it is not taken.
        reason: RefuseReason,
        /// What came.
        received: Received,
        /// What went back.
        returned: Returned,
    },
}

/// What was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// For which order.
    pub order_id: OrderId,
    /// To the won.
    pub due: Money,
    /// The part of it that carries no VAT.
    pub tax_free: Money,
    /// How the buyer wants to pay.
    pub pay_method: PayMethod,
    /// What the payment window shows.
    pub order_name: String,
}

/// Where the buyer may pay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VirtualAccount {
    /// PortOne's name of the bank, if told.
    pub bank: Option<String>,
    /// The number.
    pub account: Sealed<AccountNumber>,
    /// Until when, if told.
    pub expires_at: Option<Timestamp>,
}

/// Money that came.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Received {
    /// PortOne's id of the attempt.
    pub transaction_id: String,
    /// How much, in the smallest unit of `currency`.
    pub amount: i64,
    /// The part of it that carries no VAT.
    pub tax_free: i64,
    /// ISO 4217 code.
    pub currency: String,
    /// When, by PortOne's clock.
    pub paid_at: Timestamp,
    /// How it came.
    pub means: PaymentMeans,
}

/// What went back, and what shall.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Returned {
    /// What went back, in the order in which it was learnt.
    pub cancellations: Vec<ObservedCancellation>,
    /// Every refund that the shop ever asked for, by its id.
    pub requested: BTreeSet<String>,
    /// The one under way.
    pub open: Option<OpenRefund>,
    /// The latest one, if it failed, its money has not gone back and nothing has been asked for since: an
    /// operator must look.
    pub failed: Option<OpenRefund>,
    /// Where money that came by bank transfer goes to.
    pub account: Option<Sealed<RefundAccount>>,
}

/// A refund under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenRefund {
    /// Its id, and `Idempotency-Key`.
    pub refund_id: String,
    /// How much was asked for, in the smallest unit of the payment's currency.
    pub amount: i64,
    /// The part of it that carries no VAT.
    pub tax_free: i64,
    /// What could be cancelled when it was asked for, PortOne's compare-and-set.
    pub cancellable: i64,
    /// Why.
    pub reason: RefundReason,
    /// How much of `amount` has not been seen to go back.
    pub outstanding: i64,
}

/// Where a payment stands, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PaymentStatus {
    /// No money has come.
    Requested,
    /// No money has come, but the buyer has an account number to pay to.
    VirtualAccountIssued,
    /// The right money came.
    Confirmed,
    /// Money came that the shop does not take.
    Refused,
    /// Some of it went back.
    PartlyCancelled,
    /// All of it went back.
    Cancelled,
}

impl Payment {
    /// In one word; `None` where nobody has asked for it.
    pub fn status(&self) -> Option<PaymentStatus> {
        let came = |otherwise, returned: &Returned| {
            if self.refundable() <= 0 {
                PaymentStatus::Cancelled
            } else if returned.cancellations.is_empty() {
                otherwise
            } else {
                PaymentStatus::PartlyCancelled
            }
        };
        match self {
            Self::NotRequested => None,
            Self::Requested { account: None, .. } => Some(PaymentStatus::Requested),
            Self::Requested { account: Some(_), .. } => Some(PaymentStatus::VirtualAccountIssued),
            Self::Confirmed { returned, .. } => Some(came(PaymentStatus::Confirmed, returned)),
            Self::Refused { returned, .. } => Some(came(PaymentStatus::Refused, returned)),
        }
    }

    /// What was asked for, if anything.
    pub const fn request(&self) -> Option<&Request> {
        match self {
            Self::NotRequested => None,
            Self::Requested { request, .. } | Self::Confirmed { request, .. } | Self::Refused { request, .. } => {
                Some(request)
            }
        }
    }

    /// What came and what went back, once money came.
    pub const fn money(&self) -> Option<(&Received, &Returned)> {
        match self {
            Self::NotRequested | Self::Requested { .. } => None,
            Self::Confirmed { received, returned, .. } | Self::Refused { received, returned, .. } => {
                Some((received, returned))
            }
        }
    }

    /// The account number that the buyer was given, while no money has come.
    pub const fn account(&self) -> Option<&VirtualAccount> {
        match self {
            Self::Requested { account, .. } => account.as_ref(),
            Self::NotRequested | Self::Confirmed { .. } | Self::Refused { .. } => None,
        }
    }

    /// What came and has not gone back, in the smallest unit of its currency.
    pub fn refundable(&self) -> i64 {
        self.money().map_or(0, |(received, returned)| {
            received.amount.saturating_sub(returned.total())
        })
    }

    /// Whether money is left that came by bank transfer, and nobody has said where it may go back to.
    pub fn lacks_refund_account(&self) -> bool {
        self.refundable() > 0
            && self
                .money()
                .is_some_and(|(received, returned)| received.came_by_transfer() && returned.account.is_none())
    }

    /// Whether a refund waits for an account, or failed and may have failed for its account.
    pub fn needs_refund_account(&self) -> bool {
        let Some((received, returned)) = self.money() else {
            return false;
        };
        let waits = returned.open.is_some() && returned.account.is_none();
        received.came_by_transfer() && self.refundable() > 0 && (waits || returned.failed.is_some())
    }

    /// The id for a refund that is to be asked for now.
    pub fn next_refund_id(&self, payment: PaymentId) -> String {
        let asked = self.money().map_or(0, |(_, returned)| returned.requested.len());
        refund_id(
            payment,
            u32::try_from(asked + 1).expect("fewer than 2^32 refunds of one payment"),
        )
    }

    pub(super) fn attempt_failed(&self, transaction_id: &str) -> bool {
        matches!(self, Self::Requested { failed, .. } if failed.contains(transaction_id))
    }

    pub(super) fn account_issued(&self, transaction_id: &str) -> bool {
        matches!(self, Self::Requested { issued, .. } if issued.contains(transaction_id))
    }

    fn returned_mut(&mut self) -> Option<&mut Returned> {
        match self {
            Self::NotRequested | Self::Requested { .. } => None,
            Self::Confirmed { returned, .. } | Self::Refused { returned, .. } => Some(returned),
        }
    }

    #[expect(clippy::too_many_lines, reason = "one arm for each event")]
    pub(super) fn fold(&mut self, event: PaymentEvent) {
        match event {
            PaymentEvent::Requested {
                order_id,
                due,
                tax_free,
                pay_method,
                order_name,
            } => {
                *self = Self::Requested {
                    request: Request {
                        order_id,
                        due,
                        tax_free,
                        pay_method,
                        order_name,
                    },
                    failed: BTreeSet::new(),
                    issued: BTreeSet::new(),
                    account: None,
                };
            }
            PaymentEvent::VirtualAccountIssued {
                transaction_id,
                bank,
                account: number,
                expires_at,
                ..
            } => {
                if let Self::Requested { issued, account, .. } = self {
                    issued.insert(transaction_id);
                    *account = Some(VirtualAccount {
                        bank,
                        account: number,
                        expires_at,
                    });
                }
            }
            PaymentEvent::Failed { transaction_id, .. } => {
                if let Self::Requested { failed, .. } = self {
                    failed.insert(transaction_id);
                }
            }
            PaymentEvent::Confirmed {
                transaction_id,
                paid,
                tax_free,
                paid_at,
                means,
                ..
            } => self.receive(
                None,
                Received {
                    transaction_id,
                    amount: paid.amount,
                    tax_free: tax_free.amount,
                    currency: "KRW".to_owned(),
                    paid_at,
                    means,
                },
            ),
            PaymentEvent::Refused {
                transaction_id,
                reason,
                paid_amount,
                paid_currency,
                tax_free,
                paid_at,
                means,
                ..
            } => self.receive(
                Some(reason),
                Received {
                    transaction_id,
                    amount: paid_amount,
                    tax_free,
                    currency: paid_currency,
                    paid_at,
                    means,
                },
            ),
            PaymentEvent::CancellationRequested {
                refund_id,
                amount,
                tax_free,
                cancellable,
                reason,
                ..
            } => {
                if let Some(returned) = self.returned_mut() {
                    returned.requested.insert(refund_id.clone());
                    returned.failed = None;
                    returned.open = Some(OpenRefund {
                        refund_id,
                        amount,
                        tax_free,
                        cancellable,
                        reason,
                        outstanding: amount,
                    });
                }
            }
            PaymentEvent::RefundAccountGiven { account, .. } => {
                if let Some(returned) = self.returned_mut() {
                    returned.account = Some(account);
                }
            }
            PaymentEvent::CancellationFailed { .. } => {
                if let Some(returned) = self.returned_mut() {
                    returned.failed = returned.open.take();
                }
            }
            PaymentEvent::Cancelled {
                cancellation_id,
                amount,
                tax_free,
                vat,
                cancelled_at,
                trigger,
                ..
            } => {
                if let Some(returned) = self.returned_mut() {
                    returned.add(ObservedCancellation {
                        cancelled_at,
                        id: cancellation_id,
                        amount,
                        tax_free,
                        vat,
                        trigger,
                    });
                }
            }
        }
    }

    fn receive(&mut self, refused: Option<RefuseReason>, received: Received) {
        let Some(request) = self.request().cloned() else {
            return;
        };
        let returned = Returned::default();
        *self = match refused {
            None => Self::Confirmed {
                request,
                received,
                returned,
            },
            Some(reason) => Self::Refused {
                request,
                reason,
                received,
                returned,
            },
        };
    }
}

impl Received {
    /// Whether PortOne needs to be told where it goes back to (PROTOCOL A7).
    pub fn came_by_transfer(&self) -> bool {
        self.means.method == "virtual_account"
    }

    /// The part of `amount` that carries no VAT: in proportion, and what is left of it when all that
    /// is left goes back, so that the parts sum to the whole. Of what was paid, not of what was
    /// asked for: PortOne refuses any other.
    pub(super) fn tax_free_share(&self, amount: i64, left: i64, before: &[ObservedCancellation]) -> i64 {
        let returned: i64 = before.iter().map(|cancellation| cancellation.tax_free).sum();
        let rest = self.tax_free.saturating_sub(returned).max(0);
        if amount >= left {
            return rest.min(amount);
        }
        let taxed = self.amount.saturating_sub(self.tax_free).max(0);
        let share = Money::won(amount).spread(&[taxed, self.tax_free.max(0)]);
        share.last().map_or(0, |share| share.amount).min(rest)
    }
}

impl Returned {
    /// What has gone back in all, in the smallest unit of the payment's currency.
    pub fn total(&self) -> i64 {
        sum(&self.cancellations)
    }

    fn add(&mut self, cancellation: ObservedCancellation) {
        // Whoever asked for it: an operator who used PortOne's console while our own request was
        // under way has done its work, and PortOne will answer ours with an error.
        let asked = if self.open.is_some() {
            &mut self.open
        } else {
            &mut self.failed
        };
        if let Some(refund) = asked {
            refund.outstanding = refund.outstanding.saturating_sub(cancellation.amount);
            if refund.outstanding <= 0 {
                *asked = None;
            }
        }
        self.cancellations.push(cancellation);
    }
}

/// Amounts come from outside, and a nonsensical one must not stop the program.
pub(super) fn sum(cancellations: &[ObservedCancellation]) -> i64 {
    cancellations.iter().fold(0, |sum, c| sum.saturating_add(c.amount))
}
