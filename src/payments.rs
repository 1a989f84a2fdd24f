//! Payments: what PortOne says is re-read, observed and acted upon. Webhook, browser return,
//! deadline and reconciliation all come through [`Payments::settle`]; nothing that anybody sends is
//! believed.

use std::{sync::Arc, time::Duration};

use chrono::TimeDelta;
use cqrs_es::Aggregate;
use jangbu_domain::{
    Observation, Observed, Order, Payment, PaymentCommand, PaymentError, Refunding,
    payment::{ObservedCancellation, PaidFacts},
};
use jangbu_events::{
    AggregateId, ChannelType, Event, Metadata, OrderId, PaymentEvent, PaymentId, PaymentMeans, Recorded, RefundReason,
    Sealed, Timestamp,
    personal::{PersonalError, RefundAccount},
};
use uuid::Uuid;

use crate::{
    executor::{CommandEnvelope, Committed, ExecuteError, Executor, LoadError, Loaded},
    portone::{self, CancellationStatus, PaymentStatus, Rereader},
    processes::{self, SendError},
    sealing::{SealError, Sealer},
};

/// How long an order's confirmation may take inside a request.
const DRIVE: Duration = Duration::from_secs(2);

/// Knows PortOne and the log. Cheap to clone.
#[derive(Clone)]
pub struct Payments {
    executor: Executor,
    sealer: Sealer,
    portone: Option<Shop>,
    live: bool,
}

/// The shop as PortOne knows it.
#[derive(Clone)]
pub struct Shop {
    /// Speaks to PortOne.
    pub client: portone::Client,
    /// Reads one payment for many callers at once.
    pub rereader: Rereader,
    /// `store-…`.
    pub store_id: String,
    /// `channel-key-…`.
    pub channel_key: String,
}

/// A payment after what PortOne says has been acted upon.
#[derive(Debug, Clone)]
pub struct Settled {
    /// The payment.
    pub payment: Loaded<Payment>,
    /// Its order's id.
    pub order_id: OrderId,
    /// Its order.
    pub order: Loaded<Order>,
    /// What PortOne said, if it knows the payment: nobody may have opened its window yet.
    pub seen: Option<Arc<portone::Payment>>,
}

impl Settled {
    /// A reader that has come so far sees all of it.
    pub fn position(&self) -> i64 {
        self.payment.position.max(self.order.position)
    }
}

/// Why a payment could not be settled.
#[derive(Debug, thiserror::Error)]
pub enum SettleError {
    /// The shop has no account at PortOne configured.
    #[error("payments are not configured")]
    NotConfigured,
    /// PortOne did not answer, or not in a way that says anything.
    #[error(transparent)]
    Portone(#[from] portone::Error),
    /// PortOne says the payment is another store's.
    #[error("the payment belongs to another store")]
    ForeignStore,
    /// What PortOne says could not be recorded.
    #[error(transparent)]
    Execute(#[from] ExecuteError<PaymentError>),
    /// What follows from it could not be recorded yet.
    #[error(transparent)]
    Send(#[from] SendError),
    /// The streams could not be read.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// An account number could not be sealed.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// An account number that is none.
    #[error("PortOne's account number: {0}")]
    Account(#[from] PersonalError),
}

impl Payments {
    /// Without a shop every call answers [`SettleError::NotConfigured`]. In a live shop play money
    /// is refused.
    pub const fn new(executor: Executor, sealer: Sealer, portone: Option<Shop>, live: bool) -> Self {
        Self {
            executor,
            sealer,
            portone,
            live,
        }
    }

    /// The shop as PortOne knows it, if it is configured.
    pub const fn shop(&self) -> Option<&Shop> {
        self.portone.as_ref()
    }

    /// Re-reads a payment from PortOne (at most 5 s, shared with whoever asks at the same time),
    /// records what it says, and confirms or refuses the order. `None`: no payment of ours.
    pub async fn settle(&self, payment_id: PaymentId, metadata: Metadata) -> Result<Option<Settled>, SettleError> {
        let shop = self.portone.as_ref().ok_or(SettleError::NotConfigured)?;
        let known = self.executor.load::<Payment>(payment_id).await?;
        let Some(request) = known.state.request() else {
            return Ok(None);
        };
        let order_id = request.order_id;
        let seen = shop.rereader.payment(&payment_id.portone()).await?;
        if let Some(seen) = &seen {
            if seen.store_id != shop.store_id {
                return Err(SettleError::ForeignStore);
            }
            self.observe(payment_id, order_id, &known.state, seen, metadata).await?;
        }
        Ok(Some(Settled {
            payment: self.executor.load::<Payment>(payment_id).await?,
            order_id,
            order: self.executor.load::<Order>(order_id).await?,
            seen,
        }))
    }

    /// Records the wish to give money back; PortOne is asked soon after, until it answers.
    pub async fn refund(
        &self,
        payment_id: PaymentId,
        amount: Option<i64>,
        reason: RefundReason,
        account: Option<Sealed<RefundAccount>>,
        mut envelope: CommandEnvelope,
    ) -> Result<Committed<Payment>, ExecuteError<PaymentError>> {
        let known = self.executor.load::<Payment>(payment_id).await?;
        envelope.correlation_id = known.state.request().map(|request| request.order_id.uuid());
        let command = PaymentCommand::RequestRefund {
            payment_id,
            refund: Refunding::Next,
            amount,
            reason,
            account,
        };
        self.executor.execute(payment_id, command, envelope).await
    }

    /// Where money of a payment goes back to, if that was said and can still be read.
    pub async fn refund_account(&self, payment: &Payment) -> Result<Option<RefundAccount>, SealError> {
        let Some(account) = payment.money().and_then(|(_, returned)| returned.account.as_ref()) else {
            return Ok(None);
        };
        self.sealer
            .open(self.executor.log().pool(), "refund_account", account)
            .await
    }

    /// The executor it records with.
    pub const fn executor(&self) -> &Executor {
        &self.executor
    }

    async fn observe(
        &self,
        payment_id: PaymentId,
        order_id: OrderId,
        known: &Payment,
        seen: &portone::Payment,
        metadata: Metadata,
    ) -> Result<(), SettleError> {
        let observation = Observation {
            payment_id,
            transaction_id: seen.transaction_id.clone(),
            live_shop: self.live,
            currency: seen.currency.clone(),
            total: seen.amount.total,
            status: self.status(order_id, known, seen).await?,
            paid: paid_facts(seen),
            cancellations: succeeded(seen),
        };
        let mut envelope = CommandEnvelope::new(
            command_id(payment_id, seen),
            metadata,
            self.executor.log().surroundings().now(),
        );
        envelope.correlation_id = Some(order_id.uuid());
        let command = PaymentCommand::Observe(Box::new(observation));
        let committed = self.executor.execute::<Payment>(payment_id, command, envelope).await?;
        let mut events: Vec<Recorded<Event>> = committed
            .events
            .into_iter()
            .map(|event| {
                let payload = Event::from(event.payload.clone());
                event.with(payload)
            })
            .collect();
        let confirmed =
            |event: &Recorded<Event>| matches!(event.payload, Event::Payment(PaymentEvent::Confirmed { .. }));
        if known.money().is_some() && !events.iter().any(confirmed) {
            // Whoever learnt of the money may have died before the order did: what came after it
            // must not overtake it there.
            let stored = self.stored(payment_id).await?;
            events.splice(0..0, stored.into_iter().filter(confirmed));
        }
        processes::drive(&self.executor, events, DRIVE).await?;
        Ok(())
    }

    /// Every event of a payment.
    async fn stored(&self, payment_id: PaymentId) -> Result<Vec<Recorded<Event>>, LoadError> {
        let raw = self
            .executor
            .log()
            .stream(Payment::TYPE, &payment_id.to_string(), 0)
            .await?;
        let stream = || format!("payment/{payment_id}");
        let mut events = Vec::with_capacity(raw.len());
        for raw in raw {
            events.extend(raw.decode().map_err(|source| LoadError::Undecodable {
                stream: stream(),
                source,
            })?);
        }
        Ok(events)
    }

    async fn status(
        &self,
        order_id: OrderId,
        known: &Payment,
        seen: &portone::Payment,
    ) -> Result<Observed, SettleError> {
        let account = seen.method.as_ref().and_then(|method| method.virtual_account.as_ref());
        Ok(match (&seen.status, account) {
            (PaymentStatus::Paid | PaymentStatus::PartialCancelled, _) => Observed::Paid,
            (PaymentStatus::Cancelled, _) if seen.paid_at.is_some() => Observed::Paid,
            (PaymentStatus::Failed, _) => Observed::Failed {
                failed_at: seen.failed_at.unwrap_or(seen.status_changed_at),
                pg_code: seen.failure.as_ref().and_then(|failure| failure.pg_code.clone()),
            },
            (PaymentStatus::VirtualAccountIssued, Some(account)) if known.money().is_none() => {
                let order = self.executor.load::<Order>(order_id).await?;
                let key_id = order.state.details().map(|details| details.orderer.key_id);
                let key = match key_id {
                    Some(key_id) => self.sealer.key(self.executor.log().pool(), key_id).await?,
                    None => None,
                };
                // Without the key its person is gone, and the number is not worth knowing.
                let Some(key) = key else { return Ok(Observed::Pending) };
                Observed::VirtualAccountIssued {
                    bank: account.bank.clone(),
                    account: key.seal(
                        self.executor.log().surroundings(),
                        "account",
                        &account.account_number.parse()?,
                    ),
                    expires_at: account.expired_at,
                }
            }
            _ => Observed::Pending,
        })
    }
}

/// The same state of a payment is observed once, however often and by whom it is read (DESIGN 3).
fn command_id(payment_id: PaymentId, seen: &portone::Payment) -> Uuid {
    let mut cancellations: Vec<String> = seen
        .cancellations
        .iter()
        .map(|one| format!("{} {:?}", one.id, one.status))
        .collect();
    cancellations.sort();
    let state = format!(
        "{} {} {}",
        seen.transaction_id,
        seen.status.as_str(),
        cancellations.join(",")
    );
    Uuid::new_v5(&payment_id.uuid(), state.as_bytes())
}

fn paid_facts(seen: &portone::Payment) -> Option<PaidFacts> {
    let paid = match seen.status {
        PaymentStatus::Paid | PaymentStatus::PartialCancelled => true,
        PaymentStatus::Cancelled => seen.paid_at.is_some(),
        _ => false,
    };
    let method = seen.method.as_ref();
    paid.then(|| PaidFacts {
        paid_at: seen.paid_at.unwrap_or(seen.status_changed_at),
        tax_free: seen.amount.tax_free,
        vat: seen.amount.vat,
        discount: seen.amount.discount,
        means: PaymentMeans {
            method: method.map_or_else(|| "unknown".to_owned(), |method| method.kind.clone()),
            provider: method.and_then(|method| method.provider.clone()),
            issuer: method.and_then(|method| method.issuer.clone()),
            installment_months: method.and_then(|method| method.installment_months),
            approval_number: method.and_then(|method| method.approval_number.clone()),
            // A channel that does not say so moves no real money.
            channel: if seen.channel_type == portone::ChannelType::Live {
                ChannelType::Live
            } else {
                ChannelType::Test
            },
            pg_provider: seen.pg_provider.clone(),
            pg_tx_id: seen.pg_tx_id.clone(),
        },
    })
}

/// Only these returned money; those under way may still fail (PROTOCOL A7).
fn succeeded(seen: &portone::Payment) -> Vec<ObservedCancellation> {
    seen.cancellations
        .iter()
        .filter(|one| one.status == CancellationStatus::Succeeded)
        .map(|one| ObservedCancellation {
            cancelled_at: one.cancelled_at.unwrap_or(one.requested_at),
            id: one.id.clone(),
            amount: one.total_amount,
            tax_free: one.tax_free_amount,
            vat: one.vat_amount,
            trigger: one.trigger.clone(),
        })
        .collect()
}

/// What reconciliation found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Reconciled {
    /// Payments that changed at PortOne in the range.
    pub read: u32,
    /// Of them, ours.
    pub ours: u32,
    /// Of ours, those that had news for the shop.
    pub repaired: u32,
    /// Those that could not be settled; they are tried again next time.
    pub failed: u32,
}

impl Payments {
    /// Walks what changed at PortOne in a range of time and settles every payment of ours: repairs
    /// what webhooks missed.
    pub async fn reconcile(&self, from: Timestamp, until: Timestamp) -> Result<Reconciled, SettleError> {
        let shop = self.portone.as_ref().ok_or(SettleError::NotConfigured)?;
        let mut found = Reconciled::default();
        let mut changes = shop.client.changes(from, until, Vec::new(), Duration::from_secs(30));
        while let Some(page) = changes.next().await? {
            let unreadable = page.unreadable.len();
            found.read += u32::try_from(page.payments.len() + unreadable).unwrap_or(u32::MAX);
            found.failed += u32::try_from(unreadable).unwrap_or(u32::MAX);
            for seen in &page.payments {
                let Some(payment_id) = PaymentId::from_portone(&seen.id) else {
                    continue;
                };
                match self.reconcile_one(payment_id, seen).await {
                    Ok(None) => {}
                    Ok(Some(news)) => {
                        found.ours += 1;
                        found.repaired += u32::from(news);
                    }
                    Err(error) => {
                        tracing::warn!(payment.id = %payment_id, %error, "a payment could not be reconciled");
                        found.failed += 1;
                    }
                }
            }
        }
        Ok(found)
    }

    /// `Some(true)` if the shop had not known.
    async fn reconcile_one(&self, payment_id: PaymentId, seen: &portone::Payment) -> Result<Option<bool>, SettleError> {
        let before = self.executor.load::<Payment>(payment_id).await?;
        if before.state.request().is_none() {
            return Ok(None);
        }
        // Most payments are long known in this very state: no need to ask PortOne again.
        let id = command_id(payment_id, seen);
        if self
            .executor
            .log()
            .commands(&[id])
            .await
            .map_err(LoadError::from)?
            .contains_key(&id)
        {
            return Ok(Some(false));
        }
        let metadata = Metadata {
            actor_kind: "portone".to_owned(),
            channel: "reconciliation".to_owned(),
            ..Metadata::default()
        };
        let settled = self.settle(payment_id, metadata).await?;
        Ok(settled.map(|settled| settled.payment.sequence > before.sequence))
    }
}

/// How often the regular reconciliation runs.
pub const RECONCILED_EVERY: Duration = Duration::from_secs(300);
/// What is read again each time: clocks differ, and a list may lag behind what happened.
const OVERLAP: TimeDelta = TimeDelta::hours(1);
/// As far back as PortOne lists by default, and where the first reconciliation begins at the most.
const FIRST: TimeDelta = TimeDelta::days(1);
/// The most that is walked after a long outage.
const LONGEST: TimeDelta = TimeDelta::days(90);

impl Payments {
    /// One regular reconciliation: goes on from where everything was settled last, however long ago
    /// that was, and moves on only when everything was settled.
    pub async fn reconcile_on(&self) -> Result<Reconciled, SettleError> {
        let db = self.executor.log().pool();
        let until = self.executor.log().surroundings().now();
        let settled = sqlx::query_scalar!("select settled_until from reconciliation")
            .fetch_optional(db)
            .await
            .map_err(LoadError::from)?;
        let from = settled
            .map_or(until - FIRST, |settled| settled.min(until) - OVERLAP)
            .max(until - LONGEST);
        let found = self.reconcile(from, until).await?;
        if found.failed == 0 {
            sqlx::query!(
                "insert into reconciliation (settled_until) values ($1)
                on conflict (only_one) do update set settled_until = $1",
                until,
            )
            .execute(db)
            .await
            .map_err(LoadError::from)?;
        }
        Ok(found)
    }
}
