//! A day of shopping in which personal data goes wherever it can go.

use serde_json::{Value, json};

use super::{
    needles::Needles,
    served::{API_SECRET, JWT_SECRET, MASTER_KEY, Served, WEBHOOK_SECRET},
};

const PRODUCT_NAME: &str = "공개된 드라이버 9.5도";

const NAME: &str = "남궁표식";
const EMAIL: &str = "pyosik.7391@marker-mail.example";
const RECIPIENT: &str = "독고수령";
const POSTCODE: &str = "06397";
const ROAD: &str = "서울특별시 강남구 표식대로 7391길";
const HOLDER: &str = "제갈예금주";
const DETAIL: &str = "가람동 1846호 문앞";

/// What must be nowhere, and the one order that may be everywhere.
pub struct Secret {
    pub order: String,
    account: String,
    tokens: Vec<String>,
}

impl Secret {
    /// What must be found wherever the log is.
    pub fn public(&self) -> Needles {
        let texts = [
            ("the product", PRODUCT_NAME.to_owned()),
            ("the order", self.order.clone()),
        ];
        Needles::of(&texts, &[])
    }

    pub fn needles(&self) -> Needles {
        let mut all = vec![
            ("name", NAME.to_owned()),
            ("recipient", RECIPIENT.to_owned()),
            ("e-mail", EMAIL.to_owned()),
            ("e-mail's box", "pyosik.7391".to_owned()),
            ("postcode", POSTCODE.to_owned()),
            ("road", ROAD.to_owned()),
            // Its first two words are what a stranger may see.
            ("rest of the road", "표식대로 7391길".to_owned()),
            ("detail", DETAIL.to_owned()),
            ("part of the detail", "1846호".to_owned()),
            ("account number", self.account.clone()),
            ("number of the buyer's account", "41790386251748".to_owned()),
            ("its spelling", "417-9038-6251748".to_owned()),
            ("its holder", HOLDER.to_owned()),
        ];
        for (area, middle, last) in [("10", "7391", "2846"), ("10", "6482", "9157")] {
            all.extend(
                [
                    format!("0{area}-{middle}-{last}"),
                    format!("0{area}{middle}{last}"),
                    format!("+82{area}{middle}{last}"),
                    format!("82{area}{middle}{last}"),
                    format!("{area}{middle}{last}"),
                    format!("{middle}-{last}"),
                    format!("{middle} {last}"),
                    format!("{middle}.{last}"),
                ]
                .map(|phone| ("phone", phone)),
            );
        }
        let mut random = vec![
            ("key of tokens", JWT_SECRET.to_owned()),
            ("master key", MASTER_KEY.to_owned()),
            ("secret of PortOne", API_SECRET.to_owned()),
            ("secret of webhooks", WEBHOOK_SECRET["whsec_".len()..].to_owned()),
        ];
        random.extend(self.tokens.iter().map(|token| ("token", token.clone())));
        Needles::of(&all, &random)
    }
}

fn checkout(phone: &str, recipient_phone: &str, pay_method: &str) -> Value {
    json!({
        "orderer": {"name": NAME, "phone": phone, "email": "Pyosik.7391@Marker-Mail.example"},
        "recipient": {"name": RECIPIENT, "phone": recipient_phone, "postcode": POSTCODE, "road": ROAD,
            "detail": DETAIL},
        "consents": {"privacy": true}, "pay_method": pay_method,
    })
}

struct Ordered {
    order: String,
    number: String,
    payment: String,
    token: String,
}

async fn cart(served: &Served) -> (String, String) {
    let cart = served.post("/api/v1/carts", None, &json!({})).await.expect(201);
    let (id, token) = (cart.text_of("/id"), cart.text_of("/token"));
    let lines = json!({"lines": [{"sku": "OPEN-9.5", "quantity": 2}]});
    let path = format!("/api/v1/carts/{id}/lines");
    served.post(&path, Some(&token), &lines).await.expect(200);
    (format!("/api/v1/carts/{id}/checkout"), token)
}

async fn order(served: &Served, body: &Value) -> Ordered {
    let (path, token) = cart(served).await;
    let order = served.post(&path, Some(&token), body).await.expect(201);
    Ordered {
        order: order.text_of("/order/id"),
        number: order.text_of("/order/number"),
        payment: order.text_of("/payment_request/paymentId"),
        token,
    }
}

/// Its owner sees everything, as it was meant.
fn assert_open(order: &Value) {
    let (orderer, recipient) = (&order["orderer"], &order["recipient"]);
    assert_eq!(
        *orderer,
        json!({"name": NAME, "phone": "010-7391-2846", "email": EMAIL}),
        "{order}"
    );
    assert_eq!(
        *recipient,
        json!({"name": RECIPIENT, "phone": "010-6482-9157", "postcode": POSTCODE, "road": ROAD, "detail": DETAIL}),
        "{order}"
    );
}

/// Money of a bank transfer goes back to the buyer's own account, once it was said where that is.
async fn call_off_to_an_account(served: &Served, paid: &Ordered) {
    let path = format!("/api/v1/orders/{}/cancel", paid.order);
    let account_of = |number: &str| {
        json!({"refund_account":
            {"bank": "SHINHAN", "number": number, "holder_name": HOLDER, "holder_phone": "010-6482-9157"}})
    };
    for body in [json!({}), account_of("417-9038-625174 팔")] {
        served.post(&path, Some(&paid.token), &body).await.expect(422);
    }
    let body = account_of("417-9038-6251748");
    served.post(&path, Some(&paid.token), &body).await.expect(200);
    served
        .order_becomes(&paid.order, &paid.token, "/status", "cancelled")
        .await;
}

/// Buys, refunds, cancels, looks up and goes wrong.
pub async fn go(served: &Served) -> Secret {
    let admin = Some(served.admin.as_str());
    let product = json!({"sku": "OPEN-9.5", "name": PRODUCT_NAME, "category": "골프채", "price": 39_000,
        "status": "published"});
    served.post("/api/v1/admin/products", admin, &product).await.expect(201);
    let quantity = json!({"quantity": 100});
    served
        .post("/api/v1/admin/stock/OPEN-9.5/receive", admin, &quantity)
        .await
        .expect(200);

    // Paid by card, then given back in part.
    let bought = order(served, &checkout("010-7391-2846", "+82 10-6482-9157", "CARD")).await;
    served.at_portone(&bought.payment, "pay").await;
    let confirmed = served
        .order_becomes(&bought.order, &bought.token, "/status", "confirmed")
        .await;
    assert_open(&confirmed.body);
    let refund = json!({"amount": 1_000, "reason": "customer"});
    let path = format!("/api/v1/admin/orders/{}/refund", bought.order);
    served.post(&path, admin, &refund).await.expect(200);
    served
        .order_becomes(&bought.order, &bought.token, "/payment/status", "partly_cancelled")
        .await;

    // By virtual account: the number is personal as well.
    let by_account = order(served, &checkout("01073912846", "(010) 6482 9157", "VIRTUAL_ACCOUNT")).await;
    served.at_portone(&by_account.payment, "issue").await;
    let issued = served
        .order_becomes(
            &by_account.order,
            &by_account.token,
            "/payment/status",
            "virtual_account_issued",
        )
        .await;
    assert_open(&issued.body);
    let account = issued.text_of("/payment/virtual_account/account_number");
    served.at_portone(&by_account.payment, "deposit").await;
    served
        .order_becomes(&by_account.order, &by_account.token, "/status", "confirmed")
        .await;

    call_off_to_an_account(served, &by_account).await;

    // Called off by the guest.
    let called_off = order(served, &checkout("+82-010-7391-2846", "010.6482.9157", "CARD")).await;
    let path = format!("/api/v1/orders/{}/cancel", called_off.order);
    served
        .post(&path, Some(&called_off.token), &json!({}))
        .await
        .expect(200);

    // Looked up by number and phone, rightly and wrongly.
    for (phone, status) in [("+82 10 7391 2846", 200), ("01064829157", 404), ("7391-2846", 422)] {
        let body = json!({"number": bought.number, "phone": phone});
        served.post("/api/v1/orders/lookup", None, &body).await.expect(status);
    }

    // Refused in every way that a till refuses.
    let (path, token) = cart(served).await;
    let good = checkout("010-7391-2846", "010-6482-9157", "CARD");
    let with = |pointer: &str, value: Value| {
        let mut body = good.clone();
        *body.pointer_mut(pointer).expect("it is there") = value;
        body
    };
    for body in [
        with("/consents/privacy", json!(false)),
        with("/orderer/phone", json!("010-7391-2846-0")),
        with("/orderer/phone", json!(1_073_912_846)),
        with("/orderer/email", json!(format!("{EMAIL}@"))),
        with("/orderer/name", json!([NAME])),
        with("/recipient/road", json!(ROAD.repeat(20))),
        with("/recipient/postcode", json!(format!("{POSTCODE} {ROAD}"))),
        with("/recipient", json!({"name": RECIPIENT, NAME: ROAD})),
        with("/pay_method", json!(NAME)),
    ] {
        served.post(&path, Some(&token), &body).await.expect(422);
    }
    let text = good.to_string();
    for broken in [&text[..text.len() - 2], NAME, EMAIL, "\"010-7391-2846\""] {
        let status = served.post_text(&path, Some(&token), broken).await.status;
        assert!(matches!(status, 400 | 422), "{status} for {broken}");
    }

    // Read by those who run the shop.
    let list = served.get("/api/v1/admin/orders", admin).await.expect(200);
    assert!(
        // Ids are hexadecimal digits: four of them may be any number.
        [NAME, "-7391", "73912846"].iter().all(|text| !list.text.contains(text)),
        "{}",
        list.text
    );
    let whole = served
        .get(&format!("/api/v1/admin/orders/{}", bought.order), admin)
        .await
        .expect(200);
    assert_open(&whole.body);
    served.sandbox.sandbox().webhooks_idle().await;
    Secret {
        order: bought.order,
        account,
        tokens: vec![bought.token, by_account.token, served.admin.clone()],
    }
}
