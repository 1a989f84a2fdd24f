//! Turns a cart into an order: prices it anew, seals the personal data, and leads it as far as its
//! payment within the request.

mod order_number;

use std::{sync::Arc, time::Duration};

use chrono::TimeDelta;
use cqrs_es::Aggregate;
use jangbu_domain::{
    Cart, CartCommand, CartError, Order, Payment, PricingError, Product, ProductStatus,
    cart::{CheckOut, Contents},
    line_total,
    order::OrderStatus,
    order_name, totals,
};
use jangbu_events::{
    AggregateId, CartEvent, CartId, Consents, Event, Money, OrderEvent, OrderId, OrderLine, Orderer, Owner, PayMethod,
    PaymentEvent, PaymentId, Recipient, Recorded, Shortage, Sku,
};

pub use self::order_number::read_order_number;
use crate::{
    consent,
    executor::{CommandEnvelope, Committed, ExecuteError, Executor, LoadError},
    log::UniqueKey,
    payments::{Payments, Shop},
    portone::{self, AccountExpiry, RequestCustomer, RequestPayment, VirtualAccountOptions},
    processes::{self, SendError},
    sealing::{SealError, Sealer},
};

/// How long a buyer waits for the stock to be held.
const DRIVE: Duration = Duration::from_secs(2);
/// How long a buyer waits for PortOne to learn the amount beforehand, which is best effort.
const PRE_REGISTER: Duration = Duration::from_millis(800);
/// How long a virtual account lasts, in hours: the stock is held no longer either.
const ACCOUNT_HOURS: u32 = 72;
/// Order numbers drawn until one is free.
const NUMBERS_MAX: u32 = 5;

/// Checks carts out. Cheap to clone.
#[derive(Clone)]
pub struct CheckoutService {
    executor: Executor,
    sealer: Sealer,
    payments: Payments,
    payment_deadline: TimeDelta,
}

/// What a buyer says at the till.
#[derive(Debug, Clone)]
pub struct CheckOutRequest {
    /// Who orders.
    pub orderer: Orderer,
    /// Who receives the goods.
    pub recipient: Recipient,
    /// How to pay.
    pub pay_method: PayMethod,
    /// The total that the buyer saw, in won; a changed price is taken only with it.
    pub expected_total: Option<i64>,
    /// Where the payment window sends a phone's browser back to.
    pub redirect_url: Option<String>,
}

/// An order that waits for its payment.
#[derive(Debug)]
pub struct CheckedOut {
    /// Which.
    pub order_id: OrderId,
    /// As it stands.
    pub order: Arc<Order>,
    /// Of the order.
    pub sequence: i64,
    /// For `PortOne.requestPayment`, verbatim.
    pub payment_request: RequestPayment,
    /// A reader that has come so far sees the order.
    pub position: i64,
    /// Whether this very request had been carried out before.
    pub duplicate: bool,
}

/// A line whose price is another than the buyer saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PriceChange {
    /// Which.
    pub sku: Sku,
    /// What the cart says.
    pub previous: Money,
    /// What it costs now.
    pub current: Money,
}

/// Why a cart was not checked out.
#[derive(Debug, thiserror::Error)]
pub enum CheckoutError {
    /// The cart says no, or could not be written.
    #[error(transparent)]
    Cart(#[from] ExecuteError<CartError>),
    /// Prices moved since they were shown.
    #[error("the total is {total}, not {previous_total}")]
    PriceChanged {
        /// Which lines.
        lines: Vec<PriceChange>,
        /// What the buyer saw.
        previous_total: Money,
        /// What it costs now.
        total: Money,
    },
    /// Some of it is not for sale any more.
    #[error("not for sale: {skus:?}")]
    NotForSale {
        /// Which.
        skus: Vec<Sku>,
    },
    /// Some of it is sold out; nothing was charged, and the cart can be changed again.
    #[error("sold out")]
    SoldOut {
        /// The order that was refused.
        order_id: OrderId,
        /// Every line that is short.
        shortages: Vec<Shortage>,
    },
    /// The shop has no account at PortOne configured.
    #[error("payments are not configured")]
    NotConfigured,
    /// The order is on its way; the same request again tells how it went.
    #[error("the order is being placed")]
    StillWorking {
        /// Which order.
        order_id: OrderId,
    },
    /// This request's order has ended since.
    #[error("the order has ended: {}", status.as_str())]
    Ended {
        /// Which order.
        order_id: OrderId,
        /// How.
        status: OrderStatus,
    },
    /// Prices that cannot be summed.
    #[error(transparent)]
    Pricing(#[from] PricingError),
    /// The streams could not be read.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// A step could not be recorded.
    #[error(transparent)]
    Send(#[from] SendError),
    /// Personal data could not be opened again.
    #[error(transparent)]
    Seal(#[from] SealError),
}

impl CheckoutService {
    /// With all it needs; an order waits `payment_deadline` for its payment.
    pub const fn new(executor: Executor, sealer: Sealer, payments: Payments, payment_deadline: TimeDelta) -> Self {
        Self {
            executor,
            sealer,
            payments,
            payment_deadline,
        }
    }

    /// Checks a cart out. The same request again gives the same order, or how it ended.
    pub async fn check_out(
        &self,
        cart_id: CartId,
        request: CheckOutRequest,
        envelope: CommandEnvelope,
    ) -> Result<CheckedOut, CheckoutError> {
        let shop = self.payments.shop().ok_or(CheckoutError::NotConfigured)?;
        let committed = match self.executor.replayed::<Cart>(cart_id, &envelope).await? {
            Some(committed) => committed,
            None => self.record(cart_id, &request, envelope).await?,
        };
        let duplicate = committed.duplicate;
        let events: Vec<Recorded<Event>> = committed
            .events
            .into_iter()
            .map(|event| {
                let payload = Event::from(event.payload.clone());
                event.with(payload)
            })
            .collect();
        let order_id = events
            .iter()
            .find_map(|event| match &event.payload {
                Event::Cart(CartEvent::CheckedOut { order_id, .. }) => Some(*order_id),
                _ => None,
            })
            .expect("a cart that was checked out says into which order");
        let cart_position = committed.position;
        let followed = processes::drive(&self.executor, events, DRIVE).await?;
        let order = self.executor.load::<Order>(order_id).await?;
        match order.state.status() {
            Some(OrderStatus::AwaitingPayment | OrderStatus::Confirmed) => {
                // Until the payment is asked for, a webhook of it would be a stranger's.
                let asked =
                    |event: &Recorded<Event>| matches!(event.payload, Event::Payment(PaymentEvent::Requested { .. }));
                if !followed.iter().any(asked) && !self.payment_is_requested(order_id, &order.state).await? {
                    return Err(CheckoutError::StillWorking { order_id });
                }
            }
            Some(OrderStatus::Refused) => {
                let shortages = self.shortages(order_id).await?;
                return Err(CheckoutError::SoldOut { order_id, shortages });
            }
            Some(status @ (OrderStatus::Cancelled | OrderStatus::Expired | OrderStatus::Imported)) => {
                return Err(CheckoutError::Ended { order_id, status });
            }
            Some(OrderStatus::Placed) | None => return Err(CheckoutError::StillWorking { order_id }),
        }
        let payment_request = payment_request(shop, order_id, &order.state, &request);
        // For a repeat too: it may come because the first try never got here.
        if order.state.status() == Some(OrderStatus::AwaitingPayment) {
            pre_register(shop, &payment_request).await;
        }
        Ok(CheckedOut {
            order_id,
            sequence: order.sequence,
            position: order.position.max(cart_position),
            order: order.state,
            payment_request,
            duplicate,
        })
    }

    async fn payment_is_requested(&self, order_id: OrderId, order: &Order) -> Result<bool, CheckoutError> {
        let payment_id = payment_id(order_id, order);
        Ok(self
            .executor
            .load::<Payment>(payment_id)
            .await?
            .state
            .request()
            .is_some())
    }

    /// Prices, seals and records: from here on nothing is lost, whatever happens.
    async fn record(
        &self,
        cart_id: CartId,
        request: &CheckOutRequest,
        mut envelope: CommandEnvelope,
    ) -> Result<Committed<Cart>, CheckoutError> {
        let surroundings = self.executor.log().surroundings();
        let cart = self.executor.load::<Cart>(cart_id).await?;
        let Some(contents) = cart.state.contents() else {
            return Err(ExecuteError::Refused(CartError::NotOpened).into());
        };
        let lines = self.price(contents, request.expected_total).await?;
        let totals = totals(&lines)?;
        let attempt = contents.attempts + 1;
        let order_id = OrderId::of(cart_id, attempt);
        let person = match &contents.owner {
            Owner::Guest { .. } => order_id.to_string(),
            Owner::Member { customer_id } => customer_id.to_string(),
        };
        let (key, row) = self
            .sealer
            .new_key(surroundings, person, "RET_CONTRACT", Some(&request.orderer.phone));
        envelope.personal_keys = vec![row];
        envelope.correlation_id = Some(order_id.uuid());
        let mut check_out = CheckOut {
            cart_id,
            order_number: String::new(),
            attempt,
            lines,
            totals,
            orderer: key.seal(surroundings, "orderer", &request.orderer),
            recipient: key.seal(surroundings, "recipient", &request.recipient),
            consents: Consents {
                privacy: true,
                privacy_version: consent::PRIVACY.version.to_owned(),
                privacy_text_sha256: consent::PRIVACY.sha256(),
            },
            pay_method: request.pay_method,
            expires_at: envelope.occurred_at + self.payment_deadline,
        };
        let mut drawn = 0;
        loop {
            drawn += 1;
            check_out.order_number = order_number::draw(surroundings, envelope.occurred_at);
            envelope.unique_keys = vec![UniqueKey {
                scope: "order_number",
                value: check_out.order_number.clone(),
                owner: order_id.to_string(),
            }];
            let command = CartCommand::CheckOut(Box::new(check_out.clone()));
            match self.executor.execute::<Cart>(cart_id, command, envelope.clone()).await {
                Err(ExecuteError::KeyTaken { .. }) if drawn < NUMBERS_MAX => {}
                result => return Ok(result?),
            }
        }
    }

    /// Prices every line as of now. Prices that the buyer has not seen need the buyer's word.
    async fn price(&self, contents: &Contents, expected_total: Option<i64>) -> Result<Vec<OrderLine>, CheckoutError> {
        let in_cart: Vec<_> = contents.lines.values().collect();
        let products: Vec<_> = in_cart.iter().map(|line| line.product_id).collect();
        let mut lines = Vec::with_capacity(in_cart.len());
        let mut gone = Vec::new();
        let mut changes = Vec::new();
        let mut previous_total = 0;
        for (line, product) in in_cart.iter().zip(self.executor.load_many::<Product>(&products).await?) {
            let Product::Registered {
                name,
                category,
                price,
                tax_class,
                status: ProductStatus::Published,
                ..
            } = &*product.state
            else {
                gone.push(line.sku.clone());
                continue;
            };
            previous_total += line.unit_price.amount * i64::from(line.quantity);
            if *price != line.unit_price {
                changes.push(PriceChange {
                    sku: line.sku.clone(),
                    previous: line.unit_price,
                    current: *price,
                });
            }
            lines.push(OrderLine {
                line_id: line.line_id,
                product_id: line.product_id,
                sku: line.sku.clone(),
                name: name.clone(),
                category: category.clone(),
                unit_price: *price,
                quantity: line.quantity,
                discount: Money::ZERO,
                tax_class: *tax_class,
                total: line_total(*price, line.quantity, Money::ZERO)?,
            });
        }
        if !gone.is_empty() {
            return Err(CheckoutError::NotForSale { skus: gone });
        }
        let total = totals(&lines)?.total;
        let agreed = expected_total.map_or(changes.is_empty(), |expected| expected == total.amount);
        if !agreed {
            let previous_total = Money::won(expected_total.unwrap_or(previous_total));
            return Err(CheckoutError::PriceChanged {
                lines: changes,
                previous_total,
                total,
            });
        }
        Ok(lines)
    }

    /// Every line of a refused order that was short.
    async fn shortages(&self, order_id: OrderId) -> Result<Vec<Shortage>, CheckoutError> {
        let events = self.executor.log().stream(Order::TYPE, &order_id.to_string(), 0).await;
        let mut shortages = Vec::new();
        for raw in events.map_err(LoadError::from)? {
            let stream = || format!("order/{order_id}");
            let events = raw.decode().map_err(|source| LoadError::Undecodable {
                stream: stream(),
                source,
            })?;
            for event in events {
                if let Event::Order(OrderEvent::Refused { shortages: short }) = event.payload {
                    shortages = short;
                }
            }
        }
        Ok(shortages)
    }
}

/// The payment that an order waits for.
fn payment_id(order_id: OrderId, order: &Order) -> PaymentId {
    order
        .details()
        .and_then(|details| details.payment_id)
        .unwrap_or_else(|| PaymentId::of(order_id, 1))
}

/// What the browser's payment window is opened with.
fn payment_request(shop: &Shop, order_id: OrderId, order: &Order, request: &CheckOutRequest) -> RequestPayment {
    let details = order.details().expect("an order that waits for its payment was placed");
    let payment_id = payment_id(order_id, order);
    let orderer = &request.orderer;
    RequestPayment {
        store_id: shop.store_id.clone(),
        channel_key: shop.channel_key.clone(),
        payment_id: payment_id.portone(),
        order_name: order_name(&details.lines),
        total_amount: details.totals.total.amount,
        currency: "KRW".to_owned(),
        pay_method: pay_method(details.pay_method),
        customer: RequestCustomer::new(orderer.name.as_str(), orderer.phone.digits(), orderer.email.as_str()),
        tax_free_amount: Some(details.totals.tax_free.amount).filter(|amount| *amount > 0),
        redirect_url: request.redirect_url.clone(),
        notice_urls: None,
        virtual_account: (details.pay_method == PayMethod::VirtualAccount).then_some(VirtualAccountOptions {
            account_expiry: Some(AccountExpiry {
                valid_hours: ACCOUNT_HOURS,
            }),
        }),
        easy_pay: None,
    }
}

/// Tells PortOne the amount before the window opens, so that an altered amount fails there. What
/// goes wrong here is found again when the payment is re-read.
async fn pre_register(shop: &Shop, request: &RequestPayment) {
    let tax_free = request.tax_free_amount.unwrap_or(0);
    let registered = shop
        .client
        .pre_register(
            &request.payment_id,
            request.total_amount,
            tax_free,
            &request.currency,
            PRE_REGISTER,
        )
        .await;
    if let Err(error) = registered {
        tracing::warn!(payment.id = request.payment_id, %error, "PortOne could not be told the amount beforehand");
    }
}

const fn pay_method(method: PayMethod) -> portone::PayMethod {
    match method {
        PayMethod::Card => portone::PayMethod::Card,
        PayMethod::VirtualAccount => portone::PayMethod::VirtualAccount,
        PayMethod::Transfer => portone::PayMethod::Transfer,
        PayMethod::Mobile => portone::PayMethod::Mobile,
        PayMethod::GiftCertificate => portone::PayMethod::GiftCertificate,
        PayMethod::EasyPay => portone::PayMethod::EasyPay,
    }
}
