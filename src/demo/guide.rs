//! What to try next: addresses, a token, and a purchase to paste into a shell.

use super::{Addresses, purchase::till, screen::Screen};

pub(super) fn print(screen: &Screen, addresses: &Addresses, token: &str, today: &str) {
    let Addresses { shop, sandbox } = addresses;
    screen.heading("주소", "Addresses");
    screen.fact("API 문서", "docs", &format!("{shop}/docs"));
    screen.fact("OpenAPI", "", &format!("{shop}/openapi.json"));
    screen.fact("상태", "health", &format!("{shop}/readyz"));
    screen.fact("지표", "metrics", &format!("{shop}/metrics"));
    screen.fact("결제창", "window", &format!("{sandbox}/"));

    screen.heading("관리자 토큰", "Admin token, good for 24 hours");
    Screen::line(token);

    screen.heading("직접 해 보기", "Buy something yourself: paste this into bash");
    for line in purchase(addresses, token, today) {
        Screen::line(&line);
    }
}

/// Works when pasted as a whole and line by line; needs nothing but curl, grep and sed.
fn purchase(addresses: &Addresses, token: &str, today: &str) -> Vec<String> {
    let Addresses { shop, sandbox } = addresses;
    let till = till();
    vec![
        format!("SHOP={shop} PORTONE={sandbox}"),
        "CART=$(curl -s -X POST $SHOP/api/v1/carts); echo \"$CART\"".to_owned(),
        "CART_ID=$(echo \"$CART\" | grep -o 'crt_[0-9a-f]*' | head -n 1)".to_owned(),
        "TOKEN=$(echo \"$CART\" | sed -E 's/.*\"token\":\"([^\"]*)\".*/\\1/')".to_owned(),
        "curl -s $SHOP/api/v1/carts/$CART_ID/lines -H \"Authorization: Bearer $TOKEN\" \
         -H 'Content-Type: application/json' -d '{\"sku\": \"CAP-SUN-F\", \"quantity\": 1}'; echo"
            .to_owned(),
        format!(
            "ORDER=$(curl -s $SHOP/api/v1/carts/$CART_ID/checkout -H \"Authorization: Bearer $TOKEN\" \
             -H \"Idempotency-Key: first-$CART_ID\" -H 'Content-Type: application/json' -d '{till}'); echo \"$ORDER\""
        ),
        "ORDER_ID=$(echo \"$ORDER\" | grep -o 'ord_[0-9a-f]*' | head -n 1)".to_owned(),
        "PAYMENT=$(echo \"$ORDER\" | sed -E 's/.*\"paymentId\":\"([^\"]*)\".*/\\1/')".to_owned(),
        "REQUEST=$(echo \"$ORDER\" | sed -E 's/.*\"payment_request\":(.*)\\}$/\\1/')".to_owned(),
        "curl -s $PORTONE/_sim/payments/$PAYMENT/pay -H 'Content-Type: application/json' -d \"$REQUEST\"; echo"
            .to_owned(),
        "curl -s -X POST $SHOP/api/v1/payments/$PAYMENT/complete -H \"Authorization: Bearer $TOKEN\" \
         | grep -o '\"status\":\"[a-z_]*\"' | head -n 1"
            .to_owned(),
        "curl -s $SHOP/api/v1/orders/$ORDER_ID -H \"Authorization: Bearer $TOKEN\"; echo".to_owned(),
        format!("ADMIN={token}"),
        format!(
            "curl -s \"$SHOP/api/v1/admin/sales?from={today}&to={today}&by=product\" \
             -H \"Authorization: Bearer $ADMIN\"; echo"
        ),
    ]
}
