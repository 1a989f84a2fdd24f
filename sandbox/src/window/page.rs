//! The HTML of the pages: Korean first, English beside it, usable on a telephone, no scripts.

use std::fmt::Write as _;

use crate::control::inspect::Line;
use crate::portone::attempt::{Refusal, Status};
use crate::portone::banks::korean_name;
use crate::portone::method::PayMethod;
use crate::portone::payment::Payment;

/// What every page of the payment window begins with.
const NOTICE: (&str, &str) = (
    "모의 결제창입니다. 실제 돈은 오가지 않습니다.",
    "Simulated payment window: no real money moves.",
);

const STYLE: &str = include_str!("style.css");

/// What the window shows of a payment.
pub(crate) struct View {
    id: String,
    pub(super) transaction_id: String,
    pub(super) status: Status,
    order_name: String,
    total: i64,
    currency: String,
    method: PayMethod,
    channel: &'static str,
    customer: Option<String>,
    account: Option<(String, String, String)>,
    failure: Option<String>,
    cancelled: i64,
    attempts: usize,
}

impl View {
    pub(super) fn of(payment: &Payment) -> Option<Self> {
        let attempt = payment.current()?;
        let opening = &attempt.opening;
        let account = attempt.account.as_ref().map(|account| {
            let korean = account.expired_at + chrono::TimeDelta::hours(9);
            let until = korean.format("%Y-%m-%d %H:%M").to_string();
            (korean_name(&account.bank).to_owned(), account.number.clone(), until)
        });
        Some(Self {
            id: payment.id.clone(),
            transaction_id: attempt.transaction_id.clone(),
            status: attempt.status,
            order_name: opening.order_name.clone(),
            total: opening.total,
            currency: opening.currency.clone(),
            method: opening.method,
            channel: opening.channel_type.name(),
            customer: opening.customer["name"].as_str().map(str::to_owned),
            account,
            failure: attempt.failure.as_ref().map(|failure| failure.reason.clone()),
            cancelled: payment.cancelled().0,
            attempts: payment.attempts.len(),
        })
    }
}

/// Text made safe for element content and for quoted attributes.
pub(crate) fn escape(text: &str) -> String {
    text.chars()
        .fold(String::with_capacity(text.len()), |mut safe, letter| {
            match letter {
                '&' => safe.push_str("&amp;"),
                '<' => safe.push_str("&lt;"),
                '>' => safe.push_str("&gt;"),
                '"' => safe.push_str("&quot;"),
                '\'' => safe.push_str("&#39;"),
                other => safe.push(other),
            }
            safe
        })
}

/// Percent-encodes one path segment or query value.
fn percent(text: &str) -> String {
    text.bytes()
        .fold(String::with_capacity(text.len()), |mut encoded, byte| {
            if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
                encoded.push(char::from(byte));
            } else {
                write!(encoded, "%{byte:02X}").expect("writing to a string cannot fail");
            }
            encoded
        })
}

/// The address of a payment's window.
pub(super) fn address(id: &str, redirect_url: Option<&str>) -> String {
    match redirect_url {
        Some(url) => format!("/window/{}?redirectUrl={}", percent(id), percent(url)),
        None => format!("/window/{}", percent(id)),
    }
}

/// `39,000원`, or the currency's code after the smallest units of another currency.
fn money(amount: i64, currency: &str) -> String {
    let digits = amount.unsigned_abs().to_string();
    let mut grouped = String::with_capacity(digits.len() * 2);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    let sign = if amount < 0 { "-" } else { "" };
    if currency == "KRW" {
        format!("{sign}{grouped}원")
    } else {
        format!("{sign}{grouped} {currency}")
    }
}

/// Korean name, English name and colour class of a status.
fn status_names(status: &str) -> (&'static str, &'static str, &'static str) {
    match status {
        "READY" => ("결제 대기", "Ready", "wait"),
        "PAY_PENDING" => ("승인 대기", "Approval pending", "wait"),
        "VIRTUAL_ACCOUNT_ISSUED" => ("입금 대기", "Waiting for deposit", "wait"),
        "PAID" => ("결제 완료", "Paid", "good"),
        "FAILED" => ("결제 실패", "Failed", "bad"),
        "PARTIAL_CANCELLED" => ("부분 취소", "Partly cancelled", "back"),
        "CANCELLED" => ("결제 취소", "Cancelled", "back"),
        _ => ("사전 등록", "Registered", "wait"),
    }
}

/// The Korean name of a means of payment, with `requestPayment`'s name for it.
fn method_name(method: PayMethod) -> &'static str {
    match method {
        PayMethod::Card => "카드 CARD",
        PayMethod::VirtualAccount => "가상계좌 VIRTUAL_ACCOUNT",
        PayMethod::Transfer => "계좌이체 TRANSFER",
        PayMethod::Mobile => "휴대폰 MOBILE",
        PayMethod::GiftCertificate => "상품권 GIFT_CERTIFICATE",
        PayMethod::EasyPay => "간편결제 EASY_PAY",
        PayMethod::ConvenienceStore => "편의점 CONVENIENCE_STORE",
        PayMethod::Paypal => "페이팔 PAYPAL",
        PayMethod::Alipay => "알리페이 ALIPAY",
        PayMethod::AlipayPlus => "알리페이플러스 ALIPAY_PLUS",
        PayMethod::Crypto => "가상자산 CRYPTO",
    }
}

fn badge(status: &str) -> String {
    let (korean, english, class) = status_names(status);
    format!(r#"<span class="badge {class}">{korean} <small lang="en">{english}</small></span>"#)
}

/// A whole page; `notice` says, in Korean and in English, that nothing of it is real.
pub(crate) fn document(title: &str, class: &str, notice: (&str, &str), body: &str) -> String {
    let (korean, english) = notice;
    format!(
        "<!doctype html>\n<html lang=\"ko\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<meta name=\"robots\" content=\"noindex\">\n\
         <link rel=\"icon\" href=\"data:,\">\n<title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n\
         <p class=\"notice\">{korean} <span lang=\"en\">{english}</span></p>\n\
         <main class=\"{class}\">\n{body}</main>\n</body>\n</html>\n",
        title = escape(title),
    )
}

/// One button with its own form.
struct Button<'a> {
    action: &'a str,
    class: &'a str,
    korean: &'a str,
    english: &'a str,
    /// Korean and English label of an amount field, with its first value.
    amount: Option<(&'a str, &'a str, i64)>,
}

impl Button<'_> {
    fn html(&self, id: &str, redirect_url: Option<&str>) -> String {
        let mut html = format!(
            r#"<form method="post" action="/window/{}/{}">"#,
            percent(id),
            self.action
        );
        if let Some(url) = redirect_url {
            let _ = write!(
                html,
                r#"<input type="hidden" name="redirectUrl" value="{}">"#,
                escape(url)
            );
        }
        if let Some((korean, english, value)) = self.amount {
            let _ = write!(
                html,
                r#"<label>{korean} <small lang="en">{english}</small><input type="number" name="totalAmount" value="{value}" min="1" step="1" inputmode="numeric" required></label>"#
            );
        }
        let _ = writeln!(
            html,
            "<button class=\"{}\">{} <small lang=\"en\">{}</small></button></form>",
            self.class, self.korean, self.english
        );
        html
    }
}

fn buttons(view: &View) -> (Vec<Button<'static>>, Vec<Button<'static>>) {
    let plain = |action, class, korean, english| Button {
        action,
        class,
        korean,
        english,
        amount: None,
    };
    match view.status {
        Status::Ready | Status::PayPending => (
            vec![
                plain("pay", "primary", "결제하기", "Pay"),
                plain("issue", "", "가상계좌 발급", "Virtual account"),
                plain("fail", "danger", "결제 실패", "Fail"),
            ],
            vec![Button {
                amount: Some(("결제할 금액", "Amount charged", view.total)),
                ..plain("pay", "", "이 금액으로 결제", "Pay this amount")
            }],
        ),
        Status::VirtualAccountIssued => (
            vec![plain("deposit", "primary", "입금하기", "Deposit")],
            vec![Button {
                amount: Some(("입금할 금액", "Amount deposited", view.total)),
                ..plain("deposit", "", "이 금액만 입금", "Deposit this amount")
            }],
        ),
        Status::Failed => (vec![plain("open", "primary", "다시 시도", "Try again")], vec![]),
        Status::Paid | Status::PartialCancelled | Status::Cancelled => (vec![], vec![]),
    }
}

/// The window itself; `back` is where the shop is.
pub(super) fn window(view: &View, redirect_url: Option<&str>, back: Option<&str>) -> String {
    let mut body = format!(
        "<header>{}<h1>{}</h1><p class=\"amount\">{}</p></header>\n<dl>",
        badge(view.status.name()),
        escape(&view.order_name),
        money(view.total, &view.currency)
    );
    let mut row = |korean: &str, english: &str, value: &str| {
        let _ = write!(
            body,
            "<div><dt>{korean} <small lang=\"en\">{english}</small></dt><dd>{}</dd></div>",
            escape(value)
        );
    };
    if let Some(customer) = &view.customer {
        row("구매자", "Buyer", customer);
    }
    if let Some((bank, number, until)) = &view.account {
        row("입금 은행", "Bank", bank);
        row("계좌번호", "Account", number);
        row("입금 기한", "Pay until", until);
    }
    if let Some(failure) = view.failure.as_ref().filter(|_| view.status == Status::Failed) {
        row("실패 사유", "Reason", failure);
    }
    if view.cancelled > 0 {
        row("취소 금액", "Cancelled", &money(view.cancelled, &view.currency));
    }
    row("결제 수단", "Method", method_name(view.method));
    row("채널", "Channel", view.channel);
    row("시도", "Attempt", &view.attempts.to_string());
    row("결제번호", "Payment", &view.id);
    body.push_str("</dl>\n<div class=\"buttons\">\n");
    let (usual, hostile) = buttons(view);
    for button in usual {
        body.push_str(&button.html(&view.id, redirect_url));
    }
    if let Some(back) = back {
        let link =
            "<a class=\"button\" href=\"{}\">쇼핑몰로 돌아가기 <small lang=\"en\">Back to the shop</small></a>\n";
        body.push_str(&link.replace("{}", &escape(back)));
    }
    body.push_str("</div>\n");
    if !hostile.is_empty() {
        body.push_str("<details><summary>금액 바꾸기 <small lang=\"en\">Alter the amount</small></summary>\n");
        for button in hostile {
            body.push_str(&button.html(&view.id, redirect_url));
        }
        body.push_str("</details>\n");
    }
    let _ = writeln!(
        body,
        "<footer><a href=\"/\">결제 목록 <small lang=\"en\">All payments</small></a> \
         <a href=\"/_sim/payments/{}\">내부 상태 <small lang=\"en\">Internal state</small></a></footer>",
        percent(&view.id)
    );
    document("모의 결제창", "card", NOTICE, &body)
}

/// Why the window does not open.
pub(super) fn refusal(id: &str, refusal: &Refusal, back: Option<&str>) -> String {
    let mut body = format!(
        "<header><span class=\"badge bad\">오류 <small lang=\"en\">Error</small></span>\
         <h1>결제를 진행할 수 없습니다</h1><p lang=\"en\">The payment cannot go on.</p></header>\n\
         <dl><div><dt>코드 <small lang=\"en\">Code</small></dt><dd>{}</dd></div>\
         <div><dt>내용 <small lang=\"en\">Message</small></dt><dd lang=\"en\">{}</dd></div>\
         <div><dt>결제번호 <small lang=\"en\">Payment</small></dt><dd>{}</dd></div></dl>\n<div class=\"buttons\">\n",
        escape(refusal.code),
        escape(&refusal.message),
        escape(id)
    );
    if let Some(back) = back {
        let _ = writeln!(
            body,
            "<a class=\"button\" href=\"{}\">쇼핑몰로 돌아가기 <small lang=\"en\">Back to the shop</small></a>",
            escape(back)
        );
    }
    body.push_str("</div>\n<footer><a href=\"/\">결제 목록 <small lang=\"en\">All payments</small></a></footer>\n");
    document("모의 결제창", "card", NOTICE, &body)
}

/// The list of payments.
pub(super) fn index(lines: &[Line], count: usize) -> String {
    let mut body = format!(
        "<header><h1>모의 결제 <small lang=\"en\">Simulated payments</small></h1>\
         <p>결제 {count}건 <small lang=\"en\">{count} in all, newest first</small></p></header>\n"
    );
    if lines.is_empty() {
        body.push_str(
            "<p class=\"empty\">아직 결제가 없습니다. 쇼핑몰에서 주문하면 여기에 나타납니다. \
             <span lang=\"en\">No payments yet. Order something in the shop and it will appear here.</span></p>\n",
        );
    } else {
        body.push_str("<ul class=\"list\">\n");
        for line in lines {
            let total = line
                .total
                .map_or_else(String::new, |total| money(total, &line.currency));
            let name = if line.order_name.is_empty() {
                "(주문명 없음)"
            } else {
                &line.order_name
            };
            let _ = writeln!(
                body,
                "<li><a href=\"{}\"><span class=\"name\">{}</span><span class=\"sum\">{total}</span>\
                 <code>{}</code>{}</a></li>",
                address(&line.id, None),
                escape(name),
                escape(&line.id),
                badge(line.status.unwrap_or_default())
            );
        }
        body.push_str("</ul>\n");
    }
    body.push_str(
        "<footer><a href=\"/_sim/payments\">결제 <small lang=\"en\">Payments</small></a> \
         <a href=\"/_sim/webhooks\">웹훅 <small lang=\"en\">Webhooks</small></a> \
         <a href=\"/_sim/faults\">장애 설정 <small lang=\"en\">Faults</small></a></footer>\n",
    );
    document("모의 결제", "wide", NOTICE, &body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_from_outside_cannot_become_markup() {
        assert_eq!(escape(r#"<a b="c">'&"#), "&lt;a b=&quot;c&quot;&gt;&#39;&amp;");
        assert_eq!(percent("a/b?한\"<"), "a%2Fb%3F%ED%95%9C%22%3C");
    }

    #[test]
    fn won_are_grouped_by_thousands() {
        let shown = [0, 7, 999, 1_000, 39_000, 1_234_567].map(|amount| money(amount, "KRW"));
        assert_eq!(shown, ["0원", "7원", "999원", "1,000원", "39,000원", "1,234,567원"]);
        assert_eq!(money(1_050, "USD"), "1,050 USD");
    }
}
