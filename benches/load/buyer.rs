//! A guest who buys: over the connections of a browser, with a key for everything that moves money.

use std::{net::SocketAddr, time::Duration};

use anyhow::Context as _;
use jangbu::clock::Surroundings;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::client::{Answer, Connection, Request};

/// When the page behind the payment window asks whether the order is paid for: soon, and then ever less often. Each
/// time is three reads for the shop.
const LOOK_FIRST: Duration = Duration::from_millis(20);
const LOOK_LAST: Duration = Duration::from_millis(160);
/// Before a request that the shop could not finish is sent again.
const PAUSE: Duration = Duration::from_millis(10);
/// The longest that it asks.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often a request that the shop could not finish is sent again, under its key.
const TRIES: u32 = 200;

/// One guest after the other, over the same two connections.
pub struct Buyer {
    shop: Connection,
    portone: Connection,
    surroundings: Surroundings,
    /// Requests that had to be sent again.
    pub repeats: u64,
}

/// A cart and the token that opens it.
pub struct Cart {
    /// `crt_…`.
    pub id: String,
    /// Of its guest.
    pub token: String,
}

/// What came of a checkout.
pub enum CheckedOut {
    /// An order waits for its payment.
    Placed(Placed),
    /// Something is sold out.
    SoldOut,
}

/// An order that waits for its payment.
pub struct Placed {
    /// `ord_…`.
    pub order: String,
    /// For the payment window.
    pub payment_request: Value,
}

impl Buyer {
    /// At a shop and its PortOne.
    pub const fn new(shop: SocketAddr, portone: SocketAddr, surroundings: Surroundings) -> Self {
        Self {
            shop: Connection::new(shop),
            portone: Connection::new(portone),
            surroundings,
            repeats: 0,
        }
    }

    /// Takes a cart.
    pub async fn take_cart(&mut self) -> anyhow::Result<Cart> {
        let cart = self
            .shop
            .send(Request::post("/api/v1/carts", &json!({})))
            .await?
            .expect(201)?;
        Ok(Cart {
            id: text(&cart, "/id")?,
            token: text(&cart, "/token")?,
        })
    }

    /// Puts goods in: (sku, quantity).
    pub async fn add(&mut self, cart: &Cart, lines: &[(String, u32)]) -> anyhow::Result<()> {
        let lines: Vec<Value> = lines
            .iter()
            .map(|(sku, quantity)| json!({"sku": sku, "quantity": quantity}))
            .collect();
        let path = format!("/api/v1/carts/{}/lines", cart.id);
        let body = json!({"lines": lines});
        let request = Request {
            token: Some(&cart.token),
            ..Request::post(&path, &body)
        };
        self.shop.send(request).await?.expect(200)?;
        Ok(())
    }

    /// Orders what is in the cart.
    pub async fn check_out(&mut self, cart: &Cart) -> anyhow::Result<CheckedOut> {
        let path = format!("/api/v1/carts/{}/checkout", cart.id);
        let body = json!({
            "orderer": {"name": "홍길동", "phone": "010-9876-5432", "email": "hong.gildong@example.com"},
            "recipient": {"name": "성춘향", "phone": "010-1111-2222", "postcode": "06236",
                "road": "서울특별시 강남구 테헤란로 152", "detail": "9층 904호"},
            "consents": {"privacy": true}, "pay_method": "CARD",
        });
        let key = self.surroundings.ids.uuid().to_string();
        let request = Request {
            token: Some(&cart.token),
            key: Some(&key),
            ..Request::post(&path, &body)
        };
        let answer = self.send_until_done(request).await?;
        let code = (answer.status == 409).then(|| answer.json()).transpose()?;
        if code.is_some_and(|problem| problem["code"] == "sold_out") {
            return Ok(CheckedOut::SoldOut);
        }
        let placed = answer.expect(201)?;
        Ok(CheckedOut::Placed(Placed {
            order: text(&placed, "/order/id")?,
            payment_request: placed["payment_request"].clone(),
        }))
    }

    /// Pays in the payment window; PortOne tells the shop by webhook.
    pub async fn pay(&mut self, placed: &Placed) -> anyhow::Result<()> {
        let payment = text(&placed.payment_request, "/paymentId")?;
        let path = format!("/_sim/payments/{payment}/pay");
        let answer = self.portone.send(Request::post(&path, &placed.payment_request)).await?;
        answer.expect(200)?;
        Ok(())
    }

    /// Asks until the order is confirmed.
    pub async fn wait_confirmed(&mut self, cart: &Cart, placed: &Placed) -> anyhow::Result<()> {
        let path = format!("/api/v1/orders/{}", placed.order);
        let begun = Instant::now();
        let mut look = LOOK_FIRST;
        loop {
            sleep(look).await;
            look = (2 * look).min(LOOK_LAST);
            let request = Request {
                token: Some(&cart.token),
                ..Request::get(&path)
            };
            let order = self.shop.send(request).await?.expect(200)?;
            if order["status"] == "confirmed" {
                return Ok(());
            }
            anyhow::ensure!(begun.elapsed() < PATIENCE, "{} stays {}", placed.order, order["status"]);
        }
    }

    /// Buys these goods, all the way. `false` if they were sold out.
    pub async fn buy(&mut self, lines: &[(String, u32)]) -> anyhow::Result<bool> {
        let cart = self.take_cart().await?;
        self.add(&cart, lines).await?;
        let CheckedOut::Placed(placed) = self.check_out(&cart).await? else {
            return Ok(false);
        };
        self.pay(&placed).await?;
        self.wait_confirmed(&cart, &placed).await?;
        Ok(true)
    }

    /// As a client should: on 503 with the same key again.
    async fn send_until_done(&mut self, request: Request<'_>) -> anyhow::Result<Answer> {
        for _ in 0..TRIES {
            let answer = self.shop.send(request).await?;
            if answer.status != 503 {
                return Ok(answer);
            }
            self.repeats += 1;
            sleep(PAUSE).await;
        }
        anyhow::bail!("{} stays unavailable", request.path)
    }
}

fn text(value: &Value, pointer: &str) -> anyhow::Result<String> {
    let text = value.pointer(pointer).and_then(Value::as_str);
    Ok(text.with_context(|| format!("no {pointer} in {value}"))?.to_owned())
}
