//! Orders of whoever bought them: a member, or a guest with the cart's token.

use axum::{extract::State, http::HeaderMap};
use jangbu_domain::{Order, OrderCommand, OrderError, Payment};
use jangbu_events::{
    AggregateId, CancelReason, OrderId, Orderer, PaymentId, Recipient, RefundReason, Sealed,
    personal::{AccountNumber, RefundAccount},
};
use jangbu_projections::order_history;
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use super::{
    App,
    auth::{Caller, unauthorized},
    extract::{Path, Query},
    keys::{self, Command},
    past::{self, Dated, PastQuery},
    problem::{Code, Problem},
    products::limit,
    progress::MinPosition,
    refund_account::{self, RefundAccountInput},
    views::{Answer, List, OrderListItem, OrderView, OrdererView, PaymentView, People, RecipientView},
};
use crate::{
    as_of::Moment,
    executor::{Committed, ExecuteError, Loaded},
};

/// Whose eyes an order is shown to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reader {
    /// The buyer or the shop: everything in clear.
    Entitled,
    /// Somebody who knows its number and a phone: masked.
    Stranger,
}

/// An order with its payment, folded as of now.
#[derive(Debug)]
pub struct Whole {
    id: OrderId,
    order: Loaded<Order>,
    payment: Option<(PaymentId, Loaded<Payment>)>,
}

impl Whole {
    /// With the payment that paid for it, or that it waits for.
    pub async fn load(app: &App, id: OrderId) -> Result<Self, Problem> {
        Self::load_as_of(app, id, None).await
    }

    /// As it was then, or as it is now.
    pub async fn load_as_of(app: &App, id: OrderId, moment: Option<Moment>) -> Result<Self, Problem> {
        let order = past::load::<Order>(app, id, moment).await?;
        Self::around(app, id, order, moment).await
    }

    /// Around an order that is known already.
    pub async fn with_payment(app: &App, id: OrderId, order: Loaded<Order>) -> Result<Self, Problem> {
        Self::around(app, id, order, None).await
    }

    async fn around(app: &App, id: OrderId, order: Loaded<Order>, moment: Option<Moment>) -> Result<Self, Problem> {
        let sold = order.state.sale().map(|sale| sale.payment_id);
        let awaited = order.state.details().and_then(|details| details.payment_id);
        let payment = match sold.or(awaited) {
            Some(payment_id) => Some((payment_id, past::load::<Payment>(app, payment_id, moment).await?)),
            None => None,
        };
        Ok(Self { id, order, payment })
    }

    /// Which order.
    pub const fn id(&self) -> OrderId {
        self.id
    }

    /// The order itself.
    pub fn order(&self) -> &Order {
        &self.order.state
    }

    /// The payment that paid for it, or that it waits for.
    pub fn payment_id(&self) -> Option<PaymentId> {
        self.payment.as_ref().map(|(id, _)| *id)
    }

    /// With its payment as a command left it: a repeat of that command is answered with no other.
    pub fn after(self, payment_id: PaymentId, committed: Committed<Payment>) -> Self {
        if self.payment_id() != Some(payment_id) {
            return self;
        }
        let payment = Loaded {
            state: committed.state,
            sequence: committed.sequence,
            position: committed.position,
        };
        Self {
            payment: Some((payment_id, payment)),
            ..self
        }
    }

    /// A reader that has come so far sees all of it.
    pub fn position(&self) -> i64 {
        let payment = self.payment.as_ref().map_or(0, |(_, payment)| payment.position);
        self.order.position.max(payment)
    }

    /// As its reader may see it; 404 where there is no such order.
    pub async fn view(&self, app: &App, reader: Reader) -> Result<OrderView, Problem> {
        let opened = self.open(app).await?;
        let (people, account) = match reader {
            Reader::Entitled => (
                People {
                    orderer: opened.orderer.as_ref().map(OrdererView::open),
                    recipient: opened.recipient.as_ref().map(RecipientView::open),
                },
                opened.account,
            ),
            Reader::Stranger => (
                People {
                    orderer: opened.orderer.as_ref().map(OrdererView::masked),
                    recipient: opened.recipient.as_ref().map(RecipientView::masked),
                },
                None,
            ),
        };
        let payment = self
            .payment
            .as_ref()
            .and_then(|(id, payment)| PaymentView::of(*id, &payment.state, account.as_ref()));
        OrderView::of(self.id, &self.order.state, self.order.sequence, people, payment)
            .ok_or_else(|| Code::OrderNotFound.into())
    }

    /// Everything sealed in it, opened with one read.
    async fn open(&self, app: &App) -> Result<Opened, Problem> {
        let Some(details) = self.order.state.details() else {
            return Ok(Opened::default());
        };
        let account = self
            .payment
            .as_ref()
            .and_then(|(_, payment)| payment.state.account())
            .map(|issued| &issued.account);
        let mut ids = vec![details.orderer.key_id, details.recipient.key_id];
        ids.extend(account.map(|account| account.key_id));
        ids.sort_unstable();
        ids.dedup();
        let keys = app.sealer.keys(app.log.pool(), &ids).await?;
        let open = |key_id| keys.get(&key_id);
        Ok(Opened {
            orderer: open(details.orderer.key_id)
                .map(|key| key.open("orderer", &details.orderer))
                .transpose()?,
            recipient: open(details.recipient.key_id)
                .map(|key| key.open("recipient", &details.recipient))
                .transpose()?,
            account: match account {
                Some(account) => open(account.key_id)
                    .map(|key| key.open("account", account))
                    .transpose()?,
                None => None,
            },
        })
    }
}

#[derive(Default)]
struct Opened {
    orderer: Option<Orderer>,
    recipient: Option<Recipient>,
    account: Option<AccountNumber>,
}

/// The order as it is now, or as it was at a moment of the past.
#[utoipa::path(get, path = "/api/v1/orders/{order_id}", tag = "orders", security(("guest" = []), ("member" = [])),
    params(("order_id" = String, Path, description = "`ord_…`"), PastQuery),
    responses((status = 200, body = Dated<OrderView>), (status = 404, description = "order_not_found"),
        (status = 422, description = "validation_failed")))]
pub async fn one(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<OrderId>,
    Query(query): Query<PastQuery>,
) -> Result<Answer<Dated<OrderView>>, Problem> {
    let moment = past::moment(&app, query.as_of).await?;
    let whole = owned_as_of(&app, &caller, id, moment).await?;
    let view = whole.view(&app, Reader::Entitled).await?;
    let position = moment.map_or(whole.position(), |moment| moment.position);
    Ok(Answer::ok(Dated::new(view, moment)).at(position))
}

async fn owned(app: &App, caller: &Caller, id: OrderId) -> Result<Whole, Problem> {
    owned_as_of(app, caller, id, None).await
}

/// An order never changes hands, so whose it was is whose it is.
async fn owned_as_of(app: &App, caller: &Caller, id: OrderId, moment: Option<Moment>) -> Result<Whole, Problem> {
    let order = past::load::<Order>(app, id, moment).await?;
    if !order.state.details().is_some_and(|details| caller.is(&details.owner)) {
        return Err(Code::OrderNotFound.into());
    }
    Whole::around(app, id, order, moment).await
}

/// Which orders to list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListQuery {
    /// 1 to 100; 20 by default.
    limit: Option<u32>,
    /// `page.next` of the page before.
    after: Option<String>,
}

/// The caller's own orders, newest first: a member's, or those made of a guest's cart.
#[utoipa::path(get, path = "/api/v1/orders", tag = "orders", security(("guest" = []), ("member" = [])),
    params(ListQuery, ("Jangbu-Min-Position" = Option<i64>, Header)),
    responses((status = 200, body = List<OrderListItem>), (status = 401, description = "unauthenticated"),
        (status = 504, description = "projection_behind")))]
pub async fn list(
    State(app): State<App>,
    caller: Caller,
    min: MinPosition,
    Query(query): Query<ListQuery>,
) -> Result<Answer<List<OrderListItem>>, Problem> {
    let limit = limit(query.limit, 20, 100)?;
    let after = query.after.as_deref();
    match caller {
        Caller::Nobody => return Err(unauthorized(Code::Unauthenticated)),
        Caller::Admin(_) => return Err(Code::Forbidden.into()),
        Caller::Guest(_) | Caller::Member(_) => {}
    }
    let position = app.progress.of(&app, "order_history", min).await?;
    let page = match &caller {
        Caller::Member(customer) => {
            order_history::by_customer(app.query_pool().pool(), *customer, after, limit).await?
        }
        Caller::Guest(_) | Caller::Nobody | Caller::Admin(_) => {
            let token_hash = caller.guest_token_hash().unwrap_or_default();
            order_history::by_guest(app.query_pool().pool(), token_hash, after, limit).await?
        }
    };
    Ok(Answer::ok(List::of(page, |row| OrderListItem::of(row, None))).at(position))
}

/// What a buyer says who calls an order off.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"refund_account": {"bank": "SHINHAN", "number": "110-123-456789", "holder_name": "홍길동"}}))]
pub struct CancelOwnOrder {
    /// Where the money goes to. Needed where it came by bank transfer; passed over, and not kept,
    /// where it goes back the way it came.
    refund_account: Option<RefundAccountInput>,
}

impl keys::Body for CancelOwnOrder {
    const KEY_REQUIRED: bool = true;

    fn read(headers: &HeaderMap, bytes: &[u8]) -> Result<Self, Problem> {
        if bytes.trim_ascii().is_empty() {
            return Ok(Self::default());
        }
        keys::read_json(headers, bytes)
    }
}

/// Calls an order off: at once while it is not paid for; afterwards all its money is asked to go back,
/// and the order is off when it has.
#[utoipa::path(post, path = "/api/v1/orders/{order_id}/cancel", tag = "orders",
    security(("guest" = []), ("member" = [])),
    params(("order_id" = String, Path, description = "`ord_…`"),
        ("Idempotency-Key" = String, Header, description = "chosen by the client, required")),
    request_body(content = Option<CancelOwnOrder>, description = "may be left out"),
    responses((status = 200, body = OrderView), (status = 400, description = "idempotency_key_required"),
        (status = 404, description = "order_not_found"), (status = 409, description = "order_ended, order_imported"),
        (status = 422, description = "refund_account_required, validation_failed")))]
pub async fn cancel(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<OrderId>,
    command: Command<CancelOwnOrder>,
) -> Result<Answer<OrderView>, Problem> {
    let whole = owned(&app, &caller, id).await?;
    let account = refund_account::sealed_if_given(&app, whole.order(), command.body.refund_account.as_ref()).await?;
    let reasons = (CancelReason::Customer, RefundReason::Customer);
    call_off(&app, whole, reasons, account, &command).await
}

/// Cancels an order that is not paid for, or asks for all its money to go back. A repeat goes the way
/// that the first request went, wherever the order stands by now.
pub async fn call_off<B>(
    app: &App,
    whole: Whole,
    (reason, refund_reason): (CancelReason, RefundReason),
    account: Option<Sealed<RefundAccount>>,
    command: &Command<B>,
) -> Result<Answer<OrderView>, Problem> {
    let id = whole.id;
    let refunded_before = command.done_before(app).await?.map(|kind| kind == "payment");
    let paid = matches!(whole.order(), Order::Confirmed(..));
    if !refunded_before.unwrap_or(paid) {
        let mut envelope = command.envelope(app);
        envelope.correlation_id = Some(id.uuid());
        let cancelled = app
            .executor
            .execute::<Order>(id, OrderCommand::Cancel { reason }, envelope)
            .await;
        match cancelled {
            Ok(committed) => {
                let order = Loaded {
                    state: committed.state,
                    sequence: committed.sequence,
                    position: committed.position,
                };
                let view = Whole::with_payment(app, id, order)
                    .await?
                    .view(app, Reader::Entitled)
                    .await?;
                return Ok(Answer::ok(view).at(committed.position).replayed(committed.duplicate));
            }
            // It was paid for in this very moment.
            Err(ExecuteError::Refused(OrderError::RefundFirst)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    refund(app, whole, None, refund_reason, account, command).await
}

/// Asks for money of an order to go back: `amount` won, or all that is left.
pub async fn refund<B>(
    app: &App,
    whole: Whole,
    amount: Option<i64>,
    reason: RefundReason,
    account: Option<Sealed<RefundAccount>>,
    command: &Command<B>,
) -> Result<Answer<OrderView>, Problem> {
    let Some(payment_id) = whole.payment_id() else {
        return Err(Code::PaymentNotPaid.into());
    };
    if let Some(expected) = command.if_match
        && expected != whole.order.sequence
        && command.done_before(app).await?.is_none()
    {
        return Err(ExecuteError::<OrderError>::Stale {
            current: whole.order.sequence,
        }
        .into());
    }
    let envelope = crate::executor::CommandEnvelope {
        // `If-Match` speaks of the order, not of the payment.
        expected_sequence: None,
        ..command.envelope(app)
    };
    let committed = app
        .payments
        .refund(payment_id, amount, reason, account, envelope)
        .await?;
    let (position, duplicate) = (committed.position, committed.duplicate);
    let order = app.executor.load::<Order>(whole.id).await?;
    let view = Whole { order, ..whole }
        .after(payment_id, committed)
        .view(app, Reader::Entitled)
        .await?;
    Ok(Answer::ok(view).at(position).replayed(duplicate))
}
