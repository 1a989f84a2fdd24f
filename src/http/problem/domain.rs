//! What every refusal of the domain means to a client. No arm is `_`: a new error does not compile
//! until somebody has chosen its status.

use jangbu_domain::{CartError, OrderError, PaymentError, ProductError, StockError};
use jangbu_events::Money;

use super::{Code, Problem};
use crate::http::views::MoneyView;

impl From<CartError> for Problem {
    fn from(error: CartError) -> Self {
        match error {
            CartError::NotOpened => Code::CartNotFound.into(),
            CartError::AlreadyOpened => Self::new(Code::Conflict),
            CartError::QuantityOutOfRange { sku, quantity, max } => Self::new(Code::QuantityOutOfRange)
                .detail(
                    format!("There would be {quantity} of {sku} in the cart; 1 to {max} are allowed."),
                    format!("{sku} 상품이 {quantity}개가 됩니다. 1개에서 {max}개까지 담을 수 있습니다."),
                )
                .fact("sku", sku.as_str())
                .fact("quantity", quantity)
                .fact("max", max),
            CartError::TooManyLines { max } => Self::new(Code::TooManyLines)
                .detail(
                    format!("A cart has at most {max} lines."),
                    format!("장바구니에는 상품을 {max}종까지 담을 수 있습니다."),
                )
                .fact("max", max),
            CartError::UnknownLine { sku } => Self::new(Code::LineNotFound).fact("sku", sku.as_str()),
            CartError::Empty => Code::CartEmpty.into(),
            CartError::Changed => Code::CartChanged.into(),
            CartError::WrongTotals => Self::internal("the totals of a checkout are not those of its lines"),
            CartError::ConsentMissing => Self::new(Code::ConsentRequired).at("/consents/privacy"),
            CartError::CheckedOut { order_id } => {
                Self::new(Code::CartCheckedOut).fact("order_id", order_id.to_string())
            }
        }
    }
}

impl From<OrderError> for Problem {
    fn from(error: OrderError) -> Self {
        match error {
            OrderError::NotPlaced => Code::OrderNotFound.into(),
            OrderError::AlreadyPlaced => Self::internal("an order was placed twice with different facts"),
            OrderError::RefundFirst => Self::new(Code::OrderState).detail(
                "The order is paid for; refund it first.",
                "결제가 완료된 주문입니다. 먼저 환불해야 합니다.",
            ),
            OrderError::Ended { status } => Self::new(Code::OrderEnded).fact("order_status", status.as_str()),
            OrderError::StockHeld => Self::new(Code::OrderState).detail(
                "All stock of the order is held.",
                "주문의 재고가 모두 확보되어 있습니다.",
            ),
            OrderError::ExceedsPaid { amount, remaining } => Self::new(Code::RefundExceedsRest)
                .fact("amount", MoneyView::from(amount))
                .fact("refundable", MoneyView::from(remaining)),
            OrderError::Imported => Code::OrderImported.into(),
        }
    }
}

impl From<PaymentError> for Problem {
    fn from(error: PaymentError) -> Self {
        match error {
            PaymentError::NotRequested => Code::PaymentNotFound.into(),
            PaymentError::AlreadyRequested => Self::internal("a payment was asked for twice with different facts"),
            PaymentError::NotPaid => Code::PaymentNotPaid.into(),
            PaymentError::NotPositive { .. } => Self::new(Code::ValidationFailed)
                .detail("The amount must be 1 won or more.", "금액은 1원 이상이어야 합니다.")
                .at("/amount"),
            PaymentError::ExceedsRefundable { left } => {
                let left = Money::won(left);
                Self::new(Code::RefundExceedsRest)
                    .detail(
                        format!("Only {left} can go back."),
                        format!("최대 {left}까지 환불할 수 있습니다."),
                    )
                    .fact("refundable", MoneyView::from(left))
                    .at("/amount")
            }
            PaymentError::RefundInProgress => Code::RefundInProgress.into(),
            PaymentError::RefundAccountRequired => Self::new(Code::RefundAccountRequired)
                .detail(
                    "The money came by bank transfer; say which account of the buyer's it goes back to.",
                    "무통장입금으로 받은 결제입니다. 환불받을 구매자 계좌를 알려 주세요.",
                )
                .at("/refund_account"),
            PaymentError::RefundAccountNotNeeded => Code::RefundAccountNotNeeded.into(),
        }
    }
}

impl From<ProductError> for Problem {
    fn from(error: ProductError) -> Self {
        match error {
            ProductError::AlreadyRegistered => Self::new(Code::ProductExists).at("/sku"),
            ProductError::NotRegistered => Code::ProductNotFound.into(),
            ProductError::Archived => Code::ProductArchived.into(),
            ProductError::PriceOutOfRange => Self::new(Code::PriceOutOfRange)
                .detail(
                    format!("A price is 0 to {}.", Money::won(Money::AMOUNT_MAX)),
                    format!("가격은 0원에서 {}까지입니다.", Money::won(Money::AMOUNT_MAX)),
                )
                .at("/price"),
            ProductError::NoWayBackToDraft => Self::new(Code::ProductNoDraft).at("/status"),
        }
    }
}

impl From<StockError> for Problem {
    fn from(error: StockError) -> Self {
        match error {
            StockError::NoHold => Self::new(Code::StockState).detail(
                "The order holds none of this stock.",
                "이 주문이 확보한 재고가 없습니다.",
            ),
            StockError::HoldsAlready { held } => Self::new(Code::StockState).fact("held", held),
            StockError::BelowHeld { on_hand, held } => Self::new(Code::StockBelowHeld)
                .detail(
                    format!("Of {on_hand} on hand, orders hold {held}."),
                    format!("재고 {on_hand}개 중 {held}개가 주문에 잡혀 있습니다."),
                )
                .fact("on_hand", on_hand)
                .fact("held", held),
            StockError::TooMany => Code::StockTooMany.into(),
            StockError::NeverStocked => Self::new(Code::StockState).detail(
                "The product never had any stock.",
                "재고가 등록된 적이 없는 상품입니다.",
            ),
        }
    }
}
