//! The stable codes, each with its status, its title in both languages and what to do about it.

use axum::http::StatusCode;

use super::{Retry, Text};

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $status:ident, $retry:ident, $english:literal, $korean:literal;)*) => {
        /// What went wrong, in one stable word.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Code {
            $($(#[$doc])* $name,)*
        }

        impl Code {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// As in `code`; never changes.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $code,)*
                }
            }

            /// The status of the answer.
            pub const fn status(self) -> StatusCode {
                match self {
                    $(Self::$name => StatusCode::$status,)*
                }
            }

            /// What a program may do about it.
            pub const fn retry(self) -> Retry {
                match self {
                    $(Self::$name => Retry::$retry,)*
                }
            }

            /// In few words.
            pub fn title(self) -> Text {
                match self {
                    $(Self::$name => Text::new($english, $korean),)*
                }
            }
        }
    };
}

codes! {
    // The request itself.
    /// The body is not JSON.
    MalformedJson = "malformed_json", BAD_REQUEST, Never, "The body is not JSON", "본문이 JSON 형식이 아닙니다";
    /// Fields or parameters are missing, unknown or wrong; see `errors`.
    ValidationFailed = "validation_failed", UNPROCESSABLE_ENTITY, Never, "Something in the request is wrong", "요청 내용에 잘못된 항목이 있습니다";
    /// More than 64 KiB.
    BodyTooLarge = "body_too_large", PAYLOAD_TOO_LARGE, Never, "The body is too large", "본문이 너무 큽니다";
    /// The body did not come in time.
    RequestTimeout = "request_timeout", REQUEST_TIMEOUT, SameKey, "The body did not come in time", "본문이 제때 도착하지 않았습니다";
    /// Bodies are `application/json`.
    UnsupportedMediaType = "unsupported_media_type", UNSUPPORTED_MEDIA_TYPE, Never, "The body must be application/json", "본문은 application/json이어야 합니다";
    /// The address knows other methods.
    MethodNotAllowed = "method_not_allowed", METHOD_NOT_ALLOWED, Never, "This address does not take this method", "이 주소에서는 쓸 수 없는 메서드입니다";
    /// There is nothing here.
    NotFound = "not_found", NOT_FOUND, Never, "There is nothing at this address", "요청한 주소를 찾을 수 없습니다";
    /// Too many requests; see `Retry-After`.
    RateLimited = "rate_limited", TOO_MANY_REQUESTS, SameKey, "Too many requests", "요청이 너무 많습니다";

    // Who asks.
    /// A token is needed.
    Unauthenticated = "unauthenticated", UNAUTHORIZED, Never, "A token is needed", "인증이 필요합니다";
    /// The token is not one of ours.
    TokenInvalid = "token_invalid", UNAUTHORIZED, Never, "The token is not valid", "토큰이 올바르지 않습니다";
    /// The token has ended.
    TokenExpired = "token_expired", UNAUTHORIZED, Never, "The token has expired", "토큰이 만료되었습니다";
    /// The token is of another role.
    Forbidden = "forbidden", FORBIDDEN, Never, "Your role may not do this", "권한이 없습니다";

    // Upkeep.
    /// An event in the way was written by a newer version, or is damaged.
    EventUnreadable = "event_unreadable", CONFLICT, AfterReload, "This version cannot read an event in the way", "이 버전이 읽을 수 없는 이벤트가 있습니다";

    // The feed of events.
    /// There is no event of such a type.
    UnknownEventType = "unknown_event_type", BAD_REQUEST, Never, "There is no such event type", "알 수 없는 이벤트 종류입니다";
    /// The log was restored, and positions of before mean other events.
    CursorOfAnotherLog = "cursor_of_another_log", CONFLICT, AfterReload, "The cursor is of another log", "다른 로그의 커서입니다";
    /// No such endpoint.
    WebhookNotFound = "webhook_not_found", NOT_FOUND, Never, "There is no such webhook", "웹훅을 찾을 수 없습니다";
    /// A hundred.
    TooManyWebhooks = "too_many_webhooks", CONFLICT, AfterReload, "There are too many webhooks", "등록된 웹훅이 너무 많습니다";
    /// As many as one process answers at a time.
    TooManyStreams = "too_many_streams", SERVICE_UNAVAILABLE, SameKey, "Too many streams are open", "열려 있는 스트림이 너무 많습니다";

    // Command ids and versions.
    /// Money moves: the client must choose the key.
    IdempotencyKeyRequired = "idempotency_key_required", BAD_REQUEST, Never, "This request needs an Idempotency-Key", "Idempotency-Key 헤더가 필요합니다";
    /// 1 to 255 printable ASCII characters.
    IdempotencyKeyInvalid = "idempotency_key_invalid", BAD_REQUEST, Never, "The Idempotency-Key cannot be used", "Idempotency-Key를 사용할 수 없습니다";
    /// The key belongs to another request.
    IdempotencyKeyReused = "idempotency_key_reused", UNPROCESSABLE_ENTITY, Never, "This Idempotency-Key was used for another request", "이미 다른 요청에 사용된 Idempotency-Key입니다";
    /// An edit must say which version it was made on.
    VersionRequired = "version_required", PRECONDITION_REQUIRED, AfterReload, "Say which version you edit, with If-Match or version", "수정할 버전을 If-Match 또는 version으로 알려 주세요";
    /// `If-Match` is not `"v<number>"`.
    IfMatchInvalid = "if_match_invalid", BAD_REQUEST, Never, "If-Match must be \"v<number>\"", "If-Match는 \"v<숫자>\" 형식이어야 합니다";
    /// Somebody else was faster.
    VersionStale = "version_stale", PRECONDITION_FAILED, AfterReload, "It has changed since you read it", "읽은 뒤에 내용이 바뀌었습니다";
    /// Several changed it at the same time.
    Conflict = "conflict", CONFLICT, SameKey, "Others changed it at the same time", "동시에 다른 변경이 있었습니다";
    /// A value that must be unique belongs to something else.
    Taken = "taken", CONFLICT, Never, "This value is taken", "이미 사용 중인 값입니다";

    // Products and stock.
    /// No such product, or none that shoppers may see.
    ProductNotFound = "product_not_found", NOT_FOUND, Never, "There is no such product", "상품을 찾을 수 없습니다";
    /// Not published, or not there.
    ProductNotForSale = "product_not_for_sale", UNPROCESSABLE_ENTITY, Never, "This product is not for sale", "판매 중인 상품이 아닙니다";
    /// The sku is registered with other facts.
    ProductExists = "product_exists", CONFLICT, Never, "This sku is registered already", "이미 등록된 상품 코드입니다";
    /// It is out of the range for good.
    ProductArchived = "product_archived", CONFLICT, Never, "The product is archived", "보관 처리된 상품입니다";
    /// What was published once is no draft again.
    ProductNoDraft = "product_no_way_back_to_draft", CONFLICT, Never, "A product does not become a draft again", "상품을 다시 초안으로 되돌릴 수 없습니다";
    /// 0 to 1 trillion won.
    PriceOutOfRange = "price_out_of_range", UNPROCESSABLE_ENTITY, Never, "The price is out of range", "가격이 허용 범위를 벗어났습니다";
    /// Orders hold more than would be left.
    StockBelowHeld = "stock_below_held", CONFLICT, AfterReload, "Orders hold more than would be left", "주문에 잡힌 수량보다 적게 줄일 수 없습니다";
    /// More than one billion of one product.
    StockTooMany = "stock_too_many", UNPROCESSABLE_ENTITY, Never, "So much of one product cannot be kept", "재고 수량이 한도를 넘습니다";
    /// The stock is in another state than the request needs.
    StockState = "stock_state", CONFLICT, AfterReload, "The stock does not allow this now", "현재 재고 상태에서는 할 수 없습니다";

    // Carts and checkout.
    /// No such cart, or somebody else's.
    CartNotFound = "cart_not_found", NOT_FOUND, Never, "There is no such cart", "장바구니를 찾을 수 없습니다";
    /// It is an order now.
    CartCheckedOut = "cart_checked_out", CONFLICT, AfterReload, "The cart has become an order", "이미 주문된 장바구니입니다";
    /// There is nothing to order.
    CartEmpty = "cart_empty", UNPROCESSABLE_ENTITY, AfterReload, "The cart is empty", "장바구니가 비어 있습니다";
    /// It changed during the checkout.
    CartChanged = "cart_changed", CONFLICT, AfterReload, "The cart has changed", "장바구니 내용이 바뀌었습니다";
    /// 1 to 99 of one sku.
    QuantityOutOfRange = "quantity_out_of_range", UNPROCESSABLE_ENTITY, Never, "The quantity is out of range", "수량이 허용 범위를 벗어났습니다";
    /// 500 different skus.
    TooManyLines = "too_many_lines", UNPROCESSABLE_ENTITY, Never, "The cart has too many lines", "장바구니에 담을 수 있는 상품 종류를 넘었습니다";
    /// The sku is not in the cart.
    LineNotFound = "line_not_found", NOT_FOUND, AfterReload, "The cart has no such line", "장바구니에 없는 상품입니다";
    /// Without it no personal data may be taken.
    ConsentRequired = "consent_required", UNPROCESSABLE_ENTITY, Never, "Consent to the use of personal data is required", "개인정보 수집·이용 동의가 필요합니다";
    /// The buyer must agree to the new total first.
    PriceChanged = "price_changed", CONFLICT, AfterReload, "A price has changed", "가격이 변경되었습니다";
    /// Some lines cannot be had.
    SoldOut = "sold_out", CONFLICT, AfterReload, "Sold out", "품절";
    /// The sum passes 1 trillion won.
    AmountTooLarge = "amount_too_large", UNPROCESSABLE_ENTITY, Never, "The amount is too large", "주문 금액이 한도를 넘습니다";

    // Customers.
    /// Another customer has the address.
    EmailTaken = "email_taken", CONFLICT, Never, "The e-mail address is taken", "이미 사용 중인 이메일입니다";
    /// Another customer has the phone.
    PhoneTaken = "phone_taken", CONFLICT, Never, "The phone is taken", "이미 사용 중인 휴대전화번호입니다";
    /// The address or the password: which of the two is not said.
    CredentialsWrong = "credentials_wrong", UNAUTHORIZED, Never, "The e-mail address or the password is wrong", "이메일 또는 비밀번호가 올바르지 않습니다";
    /// Signed out, here or elsewhere, or too long ago.
    SessionEnded = "session_ended", UNAUTHORIZED, Never, "The session has ended", "로그인이 만료되었습니다";
    /// No such session that is open.
    SessionNotFound = "session_not_found", NOT_FOUND, AfterReload, "There is no such session", "로그인 기록을 찾을 수 없습니다";
    /// No such customer.
    CustomerNotFound = "customer_not_found", NOT_FOUND, Never, "There is no such customer", "회원을 찾을 수 없습니다";
    /// Registered with other facts.
    CustomerExists = "customer_exists", CONFLICT, Never, "The customer is registered already", "이미 가입한 회원입니다";
    /// Left for ever.
    CustomerWithdrawn = "customer_withdrawn", CONFLICT, Never, "The customer has left", "탈퇴한 회원입니다";
    /// Kept from signing in and ordering.
    CustomerSuspended = "customer_suspended", FORBIDDEN, Never, "The account is suspended", "이용이 정지된 회원입니다";
    /// The assertion to be 14 or older is missing; nothing was stored.
    UnderFourteen = "under_fourteen", UNPROCESSABLE_ENTITY, Never, "Only who is 14 or older can register", "만 14세 이상만 가입할 수 있습니다";
    /// Nobody registers without it.
    ConsentMissing = "consent_missing", UNPROCESSABLE_ENTITY, Never, "A required consent is missing", "필수 약관에 동의해야 합니다";
    /// Each consent is given once.
    ConsentTwice = "consent_twice", UNPROCESSABLE_ENTITY, Never, "A consent is given twice", "같은 동의 항목이 두 번 있습니다";
    /// It ends when the customer leaves.
    ConsentNotWithdrawable = "consent_not_withdrawable", CONFLICT, Never, "This consent ends only when you leave", "필수 동의는 탈퇴해야 철회됩니다";
    /// A password goes with an e-mail address.
    EmailRequired = "email_required", UNPROCESSABLE_ENTITY, Never, "An e-mail address is required", "이메일 주소가 필요합니다";
    /// It was changed after the code was sent.
    ContactChanged = "contact_changed", CONFLICT, AfterReload, "The e-mail address or phone has changed since", "인증 중에 이메일 주소나 전화번호가 변경되었습니다";
    /// 20.
    TooManyAddresses = "too_many_addresses", UNPROCESSABLE_ENTITY, Never, "There are too many addresses", "저장할 수 있는 배송지 수를 넘었습니다";
    /// The customer keeps no such address.
    AddressNotFound = "address_not_found", NOT_FOUND, AfterReload, "There is no such address", "배송지를 찾을 수 없습니다";
    /// It would not be the first one.
    PasswordExists = "password_exists", CONFLICT, AfterReload, "There is a password already", "이미 비밀번호가 있습니다";
    /// None that could be changed.
    PasswordMissing = "password_missing", CONFLICT, AfterReload, "There is no password", "설정된 비밀번호가 없습니다";
    /// 10.
    TooManySocialAccounts = "too_many_social_accounts", UNPROCESSABLE_ENTITY, Never, "There are too many linked accounts", "연결할 수 있는 소셜 계정 수를 넘었습니다";
    /// Both accounts must be shown to belong to one person.
    SocialProofRequired = "social_proof_required", FORBIDDEN, Never, "Sign in to both accounts first", "두 계정 모두 로그인해야 연결할 수 있습니다";
    /// Without it the customer could not sign in.
    LastWayToSignIn = "last_way_to_sign_in", CONFLICT, AfterReload, "It is the last way to sign in", "마지막 로그인 수단은 해제할 수 없습니다";
    /// It can still be cancelled.
    WithdrawalRequested = "withdrawal_requested", CONFLICT, AfterReload, "The customer has asked to leave", "탈퇴 신청 중인 회원입니다";
    /// It cannot be cancelled any more.
    WithdrawalDue = "withdrawal_due", CONFLICT, Never, "It is too late to stay", "탈퇴를 취소할 수 있는 기간이 지났습니다";
    /// It cannot be completed yet.
    WithdrawalNotDue = "withdrawal_not_due", CONFLICT, AfterReload, "The withdrawal is not due yet", "아직 탈퇴 취소 가능 기간입니다";
    /// Every customer has it.
    CustomerRole = "customer_role", CONFLICT, Never, "The role of a customer cannot be revoked", "기본 회원 권한은 해제할 수 없습니다";
    /// 100.
    TooManyRoles = "too_many_roles", UNPROCESSABLE_ENTITY, Never, "There are too many roles", "부여할 수 있는 권한 수를 넘었습니다";

    // Orders and payments.
    /// No such order, or somebody else's.
    OrderNotFound = "order_not_found", NOT_FOUND, Never, "There is no such order", "주문을 찾을 수 없습니다";
    /// It is cancelled, expired or refused.
    OrderEnded = "order_ended", CONFLICT, AfterReload, "The order has ended", "이미 종료된 주문입니다";
    /// The order is in another state than the request needs.
    OrderState = "order_state", CONFLICT, AfterReload, "The order does not allow this now", "현재 주문 상태에서는 할 수 없습니다";
    /// A past order of another system.
    OrderImported = "order_imported", CONFLICT, Never, "An imported order cannot be changed", "이관된 주문은 변경할 수 없습니다";
    /// No such payment, or somebody else's.
    PaymentNotFound = "payment_not_found", NOT_FOUND, Never, "There is no such payment", "결제를 찾을 수 없습니다";
    /// No money has come that could go back.
    PaymentNotPaid = "payment_not_paid", CONFLICT, AfterReload, "The order is not paid", "결제되지 않은 주문입니다";
    /// The payment is in another state than the request needs.
    PaymentState = "payment_state", CONFLICT, AfterReload, "The payment does not allow this now", "현재 결제 상태에서는 할 수 없습니다";
    /// More than is left.
    RefundExceedsRest = "refund_exceeds_rest", CONFLICT, AfterReload, "More than is left cannot go back", "환불 가능 금액을 넘습니다";
    /// One refund at a time.
    RefundInProgress = "refund_in_progress", CONFLICT, AfterReload, "Another refund is under way", "다른 환불이 진행 중입니다";
    /// Money that came by bank transfer goes back to an account.
    RefundAccountRequired = "refund_account_required", UNPROCESSABLE_ENTITY, Never, "The refund needs an account to go to", "환불받을 계좌가 필요합니다";
    /// It goes back the way it came, or nothing is left to go back.
    RefundAccountNotNeeded = "refund_account_not_needed", CONFLICT, Never, "No account is needed", "환불 계좌가 필요하지 않은 결제입니다";
    /// The key of its personal data is destroyed.
    PersonalDataGone = "personal_data_gone", CONFLICT, Never, "The personal data of this order is destroyed", "개인정보가 파기된 주문입니다";
    /// `PORTONE_*` is not configured.
    PaymentsNotConfigured = "payments_not_configured", SERVICE_UNAVAILABLE, SameKey, "Payments are not configured", "결제가 설정되지 않았습니다";
    /// PortOne does not answer.
    PaymentProviderUnreachable = "payment_provider_unreachable", SERVICE_UNAVAILABLE, SameKey, "The payment service does not answer", "결제 서비스가 응답하지 않습니다";
    /// The signature, the time or the form of a webhook is wrong.
    WebhookRefused = "webhook_refused", BAD_REQUEST, Never, "The webhook is refused", "웹훅을 받을 수 없습니다";

    // Ourselves.
    /// More than one answer may read; `jangbu replay` makes tables of any moment.
    LogTooLong = "log_too_long", UNPROCESSABLE_ENTITY, Never, "The log is too long to be read for one answer", "한 번에 읽기에는 로그가 너무 깁니다";
    /// The read side has not come as far as `Jangbu-Min-Position`.
    ProjectionBehind = "projection_behind", GATEWAY_TIMEOUT, SameKey, "The list is not that far yet", "아직 최신 내용이 반영되지 않았습니다";
    /// Nothing was recorded.
    Busy = "busy", SERVICE_UNAVAILABLE, SameKey, "Too much is going on; nothing was done", "요청이 몰려 처리하지 못했습니다";
    /// It may have been recorded or not.
    OutcomeUnknown = "outcome_unknown", SERVICE_UNAVAILABLE, SameKey, "It is not known whether this was done", "처리 결과를 확인하지 못했습니다";
    /// The database does not answer.
    DatabaseUnavailable = "database_unavailable", SERVICE_UNAVAILABLE, SameKey, "The database does not answer", "데이터베이스가 응답하지 않습니다";
    /// Not to be sent requests yet, or any more.
    NotReady = "not_ready", SERVICE_UNAVAILABLE, SameKey, "Not ready", "아직 준비되지 않았습니다";
    /// A defect of ours.
    Internal = "internal_error", INTERNAL_SERVER_ERROR, SameKey, "Something went wrong on our side", "서버에서 오류가 발생했습니다";
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::http::problem::is_failure;

    #[test]
    fn every_code_is_one_of_its_own_and_fails() {
        let codes: HashSet<&str> = Code::ALL.iter().map(|code| code.as_str()).collect();
        assert_eq!(codes.len(), Code::ALL.len());
        for code in Code::ALL {
            assert!(is_failure(code.status()), "{code:?}");
            assert!(
                code.as_str().bytes().all(|b| b.is_ascii_lowercase() || b == b'_'),
                "{code:?}"
            );
        }
    }
}
