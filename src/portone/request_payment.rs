//! What the shop hands to the page that opens the payment window: the argument of `PortOne.requestPayment`.

use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Redacted;

/// The longest buyer's name that Inicis takes, in UTF-8 bytes: ten Korean letters.
pub const FULL_NAME_BYTES_MAX: usize = 30;

/// The argument of the browser SDK's `requestPayment`, to be passed on as it is.
///
/// All of it is public, and all of it can be altered by the shopper: compare the paid amount afterwards.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct RequestPayment {
    /// The public `store-…` id.
    pub store_id: String,
    /// The public `channel-key-…`.
    pub channel_key: String,
    /// 26 to 32 characters of `A-Z a-z 0-9`, fresh for each checkout.
    pub payment_id: String,
    /// What the window shows: at most 40 bytes, which every PG takes (`jangbu_domain::order_name`).
    pub order_name: String,
    /// In the smallest unit.
    pub total_amount: i64,
    /// `KRW`.
    pub currency: String,
    /// How to pay.
    pub pay_method: PayMethod,
    /// Who pays.
    pub customer: RequestCustomer,
    /// The tax-free share of the total.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tax_free_amount: Option<i64>,
    /// Where the browser comes back to; phones always leave the page, so they need it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redirect_url: Option<String>,
    /// Webhook addresses in place of the console's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notice_urls: Option<Vec<String>>,
    /// Wishes about the account number, with [`PayMethod::VirtualAccount`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub virtual_account: Option<VirtualAccountOptions>,
    /// Wishes about the wallet, with [`PayMethod::EasyPay`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub easy_pay: Option<EasyPayOptions>,
}

/// The longest start of `text` of at most `bytes_max` bytes that ends between letters, without a space at its end.
fn cut(text: &str, bytes_max: usize) -> &str {
    let end = (0..=bytes_max.min(text.len()))
        .rev()
        .find(|&end| text.is_char_boundary(end))
        .unwrap_or(0);
    text[..end].trim_end()
}

/// How to pay, by the browser SDK's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum PayMethod {
    /// A card.
    Card,
    /// A deposit to an account number made for this purchase.
    VirtualAccount,
    /// An immediate bank transfer.
    Transfer,
    /// The phone bill.
    Mobile,
    /// A gift certificate.
    GiftCertificate,
    /// A wallet such as Kakao Pay.
    EasyPay,
    /// `PayPal`.
    Paypal,
    /// Alipay.
    Alipay,
    /// Cash at a convenience store.
    ConvenienceStore,
    /// Alipay+.
    AlipayPlus,
}

/// Who pays. All three fields always go along, since Inicis and Welcome insist on them. `Debug` shows none.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct RequestCustomer {
    full_name: String,
    phone_number: String,
    email: String,
}

impl RequestCustomer {
    /// Takes the buyer's contact, the name cut to [`FULL_NAME_BYTES_MAX`].
    pub fn new(full_name: &str, phone_number: impl Into<String>, email: impl Into<String>) -> Self {
        Self {
            full_name: cut(full_name.trim(), FULL_NAME_BYTES_MAX).to_owned(),
            phone_number: phone_number.into(),
            email: email.into(),
        }
    }
}

impl fmt::Debug for RequestCustomer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RequestCustomer").field(&Redacted).finish()
    }
}

/// Wishes about a virtual account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct VirtualAccountOptions {
    /// Until when it can be paid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account_expiry: Option<AccountExpiry>,
}

/// Until when a virtual account can be paid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct AccountExpiry {
    /// Hours from its issue; at most 2160 at Toss Payments.
    pub valid_hours: u32,
}

/// Wishes about a wallet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct EasyPayOptions {
    /// The wallet by its name at `PortOne`, such as `KAKAOPAY`; absent, the shopper chooses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub easy_pay_provider: Option<String>,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn request(pay_method: PayMethod) -> RequestPayment {
        RequestPayment {
            store_id: "store-1".into(),
            channel_key: "channel-key-1".into(),
            payment_id: "01J9ZK3V6Q8W2N4B7XJ5RT0M1C".into(),
            order_name: "손뜨개 가방 외 1건".into(),
            total_amount: 39_000,
            currency: "KRW".into(),
            pay_method,
            customer: RequestCustomer::new("홍길동", "01012345678", "hong@example.com"),
            tax_free_amount: None,
            redirect_url: None,
            notice_urls: None,
            virtual_account: None,
            easy_pay: None,
        }
    }

    #[test]
    fn it_is_written_as_the_browser_sdk_reads_it() {
        let card = json!({
            "storeId": "store-1", "channelKey": "channel-key-1", "paymentId": "01J9ZK3V6Q8W2N4B7XJ5RT0M1C",
            "orderName": "손뜨개 가방 외 1건", "totalAmount": 39000, "currency": "KRW", "payMethod": "CARD",
            "customer": {"fullName": "홍길동", "phoneNumber": "01012345678", "email": "hong@example.com"},
        });
        assert_eq!(
            serde_json::to_value(request(PayMethod::Card)).expect("JSON"),
            card,
            "nothing that is absent appears"
        );
    }

    #[test]
    fn the_options_have_their_place() {
        let whole = RequestPayment {
            tax_free_amount: Some(9_000),
            redirect_url: Some("https://shop.example/return".into()),
            notice_urls: Some(vec!["https://shop.example/webhooks/portone".into()]),
            virtual_account: Some(VirtualAccountOptions {
                account_expiry: Some(AccountExpiry { valid_hours: 72 }),
            }),
            easy_pay: Some(EasyPayOptions {
                easy_pay_provider: Some("KAKAOPAY".into()),
            }),
            ..request(PayMethod::VirtualAccount)
        };
        let written = serde_json::to_value(&whole).expect("JSON");
        assert_eq!(written["payMethod"], "VIRTUAL_ACCOUNT");
        assert_eq!(written["taxFreeAmount"], 9_000);
        assert_eq!(written["redirectUrl"], "https://shop.example/return");
        assert_eq!(written["noticeUrls"][0], "https://shop.example/webhooks/portone");
        assert_eq!(written["virtualAccount"], json!({"accountExpiry": {"validHours": 72}}));
        assert_eq!(written["easyPay"], json!({"easyPayProvider": "KAKAOPAY"}));
        assert_eq!(
            serde_json::from_value::<RequestPayment>(written).expect("the same again"),
            whole
        );
    }

    #[test]
    fn a_long_name_is_cut_between_letters() {
        let customer = RequestCustomer::new(" 남궁가나다라마바사아자차 ", "01012345678", "a@example.com");
        assert_eq!(customer.full_name, "남궁가나다라마바사아");
        assert_eq!(
            RequestCustomer::new("A남궁가나다라마바사아", "", "").full_name,
            "A남궁가나다라마바사"
        );
    }

    #[test]
    fn a_request_shows_no_person() {
        let shown = format!("{:?}", request(PayMethod::Card));
        assert!(shown.contains("[redacted]"), "{shown}");
        for hidden in ["홍길동", "01012345678", "hong@example.com"] {
            assert!(!shown.contains(hidden), "{shown}");
        }
    }
}
