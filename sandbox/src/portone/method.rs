//! Means of payment, the shopper and their address: from the browser's names to the API's.

use chrono::{DateTime, Utc};
use serde_json::{Map, Value, json};

use super::view::time;

/// The means of payment as `requestPayment` names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PayMethod {
    Card,
    VirtualAccount,
    Transfer,
    Mobile,
    GiftCertificate,
    EasyPay,
    ConvenienceStore,
    Paypal,
    Alipay,
    AlipayPlus,
    Crypto,
}

impl PayMethod {
    const ALL: [Self; 11] = [
        Self::Card,
        Self::VirtualAccount,
        Self::Transfer,
        Self::Mobile,
        Self::GiftCertificate,
        Self::EasyPay,
        Self::ConvenienceStore,
        Self::Paypal,
        Self::Alipay,
        Self::AlipayPlus,
        Self::Crypto,
    ];

    pub(crate) fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|method| method.name() == name)
    }

    /// The browser's name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Card => "CARD",
            Self::VirtualAccount => "VIRTUAL_ACCOUNT",
            Self::Transfer => "TRANSFER",
            Self::Mobile => "MOBILE",
            Self::GiftCertificate => "GIFT_CERTIFICATE",
            Self::EasyPay => "EASY_PAY",
            Self::ConvenienceStore => "CONVENIENCE_STORE",
            Self::Paypal => "PAYPAL",
            Self::Alipay => "ALIPAY",
            Self::AlipayPlus => "ALIPAY_PLUS",
            Self::Crypto => "CRYPTO",
        }
    }

    /// The name in the filter of the payment list, where foreign wallets are easy payments.
    pub(crate) fn filter_name(self) -> &'static str {
        match self {
            Self::Paypal | Self::Alipay | Self::AlipayPlus => "EASY_PAY",
            other => other.name(),
        }
    }

    /// `method` of the payment; `approval` is a number of eight digits, `account` the virtual account.
    pub(crate) fn view(self, approval: &str, phone: Option<&str>, account: Option<&Account>) -> Value {
        let easy_pay = |provider: &str| {
            json!({"type": "PaymentMethodEasyPay", "provider": provider,
                   "easyPayMethod": {"type": "PaymentMethodEasyPayMethodCharge"}})
        };
        match self {
            Self::Card => json!({
                "type": "PaymentMethodCard",
                "card": {"publisher": "SHINHAN_CARD", "issuer": "SHINHAN_CARD", "brand": "LOCAL", "type": "CREDIT",
                         "ownerType": "PERSONAL", "bin": "123456", "name": "신한카드", "number": "123456**********"},
                "approvalNumber": approval,
                "installment": {"month": 0, "isInterestFree": false},
                "pointUsed": false,
            }),
            Self::VirtualAccount => match account {
                Some(account) => account.view(),
                // The window is open, but no number has been given yet.
                None => json!({"type": "PaymentMethodVirtualAccount", "accountNumber": ""}),
            },
            Self::Transfer => json!({"type": "PaymentMethodTransfer", "bank": "SHINHAN"}),
            Self::Mobile => match phone {
                Some(phone) => json!({"type": "PaymentMethodMobile", "phoneNumber": phone}),
                None => json!({"type": "PaymentMethodMobile"}),
            },
            Self::GiftCertificate => json!({
                "type": "PaymentMethodGiftCertificate", "giftCertificateType": "CULTURELAND", "approvalNumber": approval,
            }),
            Self::EasyPay => easy_pay("KAKAOPAY"),
            Self::Paypal => easy_pay("PAYPAL"),
            Self::Alipay | Self::AlipayPlus => easy_pay("ALIPAY"),
            Self::ConvenienceStore => json!({
                "type": "PaymentMethodConvenienceStore", "convenienceStoreBrand": "LAWSON", "receiptNumber": approval,
            }),
            Self::Crypto => json!({"type": "PaymentMethodCrypto"}),
        }
    }
}

/// A virtual account that was given out.
#[derive(Debug, Clone)]
pub(crate) struct Account {
    pub(crate) bank: String,
    pub(crate) number: String,
    pub(crate) remitter: Option<String>,
    pub(crate) issued_at: DateTime<Utc>,
    pub(crate) expired_at: DateTime<Utc>,
}

impl Account {
    fn view(&self) -> Value {
        let mut view = json!({
            "type": "PaymentMethodVirtualAccount",
            "bank": self.bank,
            "accountNumber": self.number,
            "accountType": "NORMAL",
            "remitteeName": "샌드박스상점",
            "issuedAt": time(self.issued_at),
            "expiredAt": time(self.expired_at),
        });
        if let Some(remitter) = &self.remitter {
            view["remitterName"] = remitter.as_str().into();
        }
        view
    }
}

/// Turns `customer` of `requestPayment` into `customer` of the API; the API's own names are taken as well.
pub(crate) fn customer(given: &Value) -> Value {
    let text = |name: &str| given.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    let joined = || Some(format!("{}{}", text("lastName")?, text("firstName")?));
    let mut customer = Map::new();
    let mut put = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            customer.insert(name.to_owned(), value.into());
        }
    };
    put("id", text("customerId").or_else(|| text("id")).map(str::to_owned));
    put(
        "name",
        text("fullName")
            .or_else(|| text("name"))
            .map(str::to_owned)
            .or_else(joined),
    );
    for name in ["email", "phoneNumber", "zipcode", "birthYear", "birthMonth", "birthDay"] {
        put(name, text(name).map(str::to_owned));
    }
    put(
        "gender",
        text("gender")
            .filter(|gender| matches!(*gender, "MALE" | "FEMALE" | "OTHER"))
            .map(str::to_owned),
    );
    if let Some(address) = given.get("address").and_then(address) {
        customer.insert("address".to_owned(), address);
    }
    Value::Object(customer)
}

fn address(given: &Value) -> Option<Value> {
    let text = |name: &str| given.get(name).and_then(Value::as_str);
    let (first, second) = (text("addressLine1")?, text("addressLine2").unwrap_or_default());
    let parts = [text("province"), text("city"), Some(first), Some(second)];
    let one_line = parts
        .into_iter()
        .flatten()
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join(" ");
    let mut view = json!({"type": "SEPARATED", "oneLine": one_line, "addressLine1": first, "addressLine2": second});
    for name in ["city", "province"] {
        if let Some(value) = text(name) {
            view[name] = value.into();
        }
    }
    Some(view)
}
