//! One guest's purchase over HTTP, told step by step with the events that each step made.

use std::time::Duration;

use reqwest::{Client, Method, RequestBuilder};
use serde_json::{Value, json};
use tokio::time::Instant;
use uuid::Uuid;

use super::{
    Addresses, DemoError,
    screen::{Follower, Screen, padded, won},
};

/// For one answer.
const PATIENCE: Duration = Duration::from_secs(15);
/// For the webhook to come and for lists to show it.
const SETTLED_WITHIN: Duration = Duration::from_secs(15);

/// What is bought.
const LINES: [(&str, u32); 2] = [("BALL-TOUR-12", 2), ("GLOVE-L-22", 1)];

/// The person at the till. Nobody of this name lives at this address.
pub(super) fn till() -> Value {
    json!({
        "orderer": {"name": "홍길동", "phone": "010-0000-1234", "email": "hong@example.com"},
        "recipient": {"name": "홍길동", "phone": "010-0000-1234", "postcode": "04524",
            "road": "서울특별시 중구 세종대로 110", "detail": "1층"},
        "consents": {"privacy": true},
        "pay_method": "CARD",
    })
}

/// A guest with a browser.
pub(super) struct Buyer<'a> {
    http: Client,
    addresses: &'a Addresses,
    admin_token: &'a str,
    follower: Follower,
    visit: Uuid,
}

impl<'a> Buyer<'a> {
    /// `visit` tells this buyer from all others.
    pub(super) fn new(addresses: &'a Addresses, admin_token: &'a str, follower: Follower, visit: Uuid) -> Self {
        Self {
            http: Client::builder()
                .no_proxy()
                .timeout(PATIENCE)
                .build()
                .expect("a plain client can be built"),
            addresses,
            admin_token,
            follower,
            visit,
        }
    }

    pub(super) fn into_follower(self) -> Follower {
        self.follower
    }

    /// Buys, and gives the order's number.
    pub(super) async fn buy(&mut self, screen: &mut Screen, today: &str) -> Result<String, DemoError> {
        let before = self.browse(screen).await?;

        screen.step("장바구니", "A guest's cart");
        let opened = self.post(screen, "/api/v1/carts", None, &json!({})).await?;
        let (cart, token) = (text(&opened, "/id")?, text(&opened, "/token")?);
        self.show_events(screen).await?;

        screen.step("담기", "Two lines");
        let lines: Vec<Value> = LINES
            .iter()
            .map(|(sku, quantity)| json!({"sku": sku, "quantity": quantity}))
            .collect();
        let path = format!("/api/v1/carts/{cart}/lines");
        let filled = self.post(screen, &path, Some(&token), &json!({"lines": lines})).await?;
        let total = number(&filled, "/total/amount")?;
        screen.note(&format!("합계 total {}", won(total)));
        self.show_events(screen).await?;

        screen.step("주문", "Checkout holds the stock");
        let path = format!("/api/v1/carts/{cart}/checkout");
        let mut till = till();
        till["expected_total"] = total.into();
        let checked_out = self.post(screen, &path, Some(&token), &till).await?;
        let (order_id, order_number) = (text(&checked_out, "/order/id")?, text(&checked_out, "/order/number")?);
        let payment_id = text(&checked_out, "/payment_request/paymentId")?;
        screen.note(&format!(
            "주문번호 number {order_number}, {}",
            text(&checked_out, "/order/status")?
        ));
        self.show_events(screen).await?;

        screen.step("결제", "The buyer pays in PortOne's window (sandbox)");
        let request = checked_out
            .pointer("/payment_request")
            .ok_or(DemoError::Incomplete("payment_request"))?;
        let path = format!("/_sim/payments/{payment_id}/pay");
        let pay = self
            .http
            .post(format!("{}{path}", self.addresses.sandbox))
            .json(request);
        let paid = self.send(screen, &format!("POST {path}"), pay).await?;
        screen.note(&format!("PortOne: {}", text(&paid, "/status")?));

        screen.step(
            "웹훅",
            "The signed webhook arrives; PortOne is asked; the order is confirmed",
        );
        self.until_sold(screen, &order_id).await?;
        let path = format!("/api/v1/orders/{order_id}");
        let order = self.get(screen, &path, Some(&token)).await?;
        let status = text(&order, "/status")?;
        screen.note(&format!("주문 상태 status {status}"));

        self.show_what_is_seen(screen, &order_number, &before, today).await?;
        Ok(order_number)
    }

    /// The shelf, with what is available of the goods that will be bought.
    async fn browse(&mut self, screen: &mut Screen) -> Result<Vec<i64>, DemoError> {
        screen.step("상품 보기", "Browse");
        let products = self.list(screen, "/api/v1/products?limit=20", false).await?;
        for product in array(&products, "/data") {
            Screen::line(&format!(
                "     {} {} {:>12}   재고 {}",
                padded(&text(product, "/sku")?, 14),
                padded(&text(product, "/name")?, 28),
                won(number(product, "/price/amount")?),
                number(product, "/stock/available")?
            ));
        }
        LINES.iter().map(|(sku, _)| available(&products, sku)).collect()
    }

    /// Prints events until every line of the order is sold.
    async fn until_sold(&mut self, screen: &Screen, order_id: &str) -> Result<(), DemoError> {
        let deadline = Instant::now() + SETTLED_WITHIN;
        let (mut confirmed, mut sold) = (false, 0);
        while !confirmed || sold < LINES.len() {
            let events = tokio::time::timeout_at(deadline, self.follower.wait())
                .await
                .map_err(|_| DemoError::TooSlow("the confirmation of the order"))??;
            for event in events {
                screen.event(&event);
                let kind = event.payload.event_type.as_str();
                confirmed |= kind == "order.confirmed" && event.aggregate_id == order_id;
                sold += usize::from(kind == "stock.committed" && event.payload.payload.contains(order_id));
            }
        }
        Ok(())
    }

    async fn show_what_is_seen(
        &mut self,
        screen: &mut Screen,
        order_number: &str,
        before: &[i64],
        today: &str,
    ) -> Result<(), DemoError> {
        screen.step("이제 보이는 것", "What everyone sees now");
        let products = self.list(screen, "/api/v1/products?limit=20", false).await?;
        for ((sku, _), before) in LINES.iter().zip(before) {
            Screen::line(&format!(
                "     {} 재고 stock {before} -> {}",
                padded(sku, 14),
                available(&products, sku)?
            ));
        }
        let orders = self.list(screen, "/api/v1/admin/orders?limit=3", true).await?;
        let ours = array(&orders, "/data")
            .iter()
            .find(|order| order.pointer("/number").and_then(Value::as_str) == Some(order_number))
            .ok_or(DemoError::Incomplete("the order among the orders"))?;
        Screen::line(&format!(
            "     {order_number}  {}  {}",
            text(ours, "/status")?,
            won(number(ours, "/total/amount")?)
        ));
        let path = format!("/api/v1/admin/sales?from={today}&to={today}&by=product");
        let sales = self.list(screen, &path, true).await?;
        for row in array(&sales, "/data") {
            Screen::line(&format!(
                "     {} 판매 sold {}, {}",
                padded(&text(row, "/sku")?, 14),
                number(row, "/units")?,
                won(number(row, "/net")?)
            ));
        }
        Screen::line(&format!(
            "     {} {} 주문 orders, {}",
            padded("오늘 today", 14),
            number(&sales, "/total/orders")?,
            won(number(&sales, "/total/net")?)
        ));
        Ok(())
    }

    async fn show_events(&mut self, screen: &Screen) -> Result<(), DemoError> {
        for event in self.follower.news().await? {
            screen.event(&event);
        }
        Ok(())
    }

    async fn post(&self, screen: &Screen, path: &str, token: Option<&str>, body: &Value) -> Result<Value, DemoError> {
        let request = self.request(Method::POST, path, token).json(body);
        // Another buyer every time, as the shop knows a repeat by its key.
        let request = request.header("Idempotency-Key", format!("demo-{}", self.visit));
        self.send(screen, &format!("POST {path}"), request).await
    }

    async fn get(&self, screen: &Screen, path: &str, token: Option<&str>) -> Result<Value, DemoError> {
        let request = self.request(Method::GET, path, token);
        self.send(screen, &format!("GET {path}"), request).await
    }

    /// A list that shows everything that has happened so far. Workers that have just started may
    /// take a little longer than the shop lets its readers wait.
    async fn list(&self, screen: &Screen, path: &str, as_admin: bool) -> Result<Value, DemoError> {
        let deadline = Instant::now() + SETTLED_WITHIN;
        let token = as_admin.then_some(self.admin_token);
        loop {
            let request = self
                .request(Method::GET, path, token)
                .header("Jangbu-Min-Position", self.follower.position());
            match self.send(screen, &format!("GET {path}"), request).await {
                Err(DemoError::Refused { status: 504, .. }) if Instant::now() < deadline => {}
                answer => return answer,
            }
        }
    }

    fn request(&self, method: Method, path: &str, token: Option<&str>) -> RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.addresses.shop));
        match token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    async fn send(&self, screen: &Screen, call: &str, request: RequestBuilder) -> Result<Value, DemoError> {
        let unanswered = |source| DemoError::Unanswered {
            call: call.to_owned(),
            source,
        };
        let response = request.send().await.map_err(unanswered)?;
        let status = response.status();
        if !status.is_success() {
            return Err(DemoError::Refused {
                call: call.to_owned(),
                status: status.as_u16(),
                body: response.text().await.unwrap_or_default(),
            });
        }
        let body = response.json().await.map_err(unanswered)?;
        screen.call(call, status.as_u16());
        Ok(body)
    }
}

fn text(value: &Value, pointer: &'static str) -> Result<String, DemoError> {
    let text = value.pointer(pointer).and_then(Value::as_str);
    text.map(str::to_owned).ok_or(DemoError::Incomplete(pointer))
}

fn number(value: &Value, pointer: &'static str) -> Result<i64, DemoError> {
    value
        .pointer(pointer)
        .and_then(Value::as_i64)
        .ok_or(DemoError::Incomplete(pointer))
}

fn array<'v>(value: &'v Value, pointer: &str) -> &'v [Value] {
    value
        .pointer(pointer)
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

fn available(products: &Value, sku: &str) -> Result<i64, DemoError> {
    let product = array(products, "/data")
        .iter()
        .find(|product| product.pointer("/sku").and_then(Value::as_str) == Some(sku))
        .ok_or(DemoError::Incomplete("the goods on the shelf"))?;
    number(product, "/stock/available")
}
