//! Where money goes back to that came by bank transfer: PortOne wants to be told (PROTOCOL A7).

use axum::extract::State;
use jangbu_domain::{Order, Payment, PaymentCommand};
use jangbu_events::{AggregateId, PaymentId, Sealed, personal::RefundAccount};
use serde::Deserialize;
use utoipa::ToSchema;

use super::{
    App,
    auth::{Admin, Caller},
    checks::Checks,
    context::RequestContext,
    extract::Path,
    keys::{Command, json_body},
    orders::{Reader, Whole},
    payments::{self, AnyPaymentId},
    problem::{Code, Problem},
    views::{Answer, OrderView},
};

/// The buyer's own account.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"bank": "SHINHAN", "number": "110-123-456789", "holder_name": "홍길동"}))]
pub struct RefundAccountInput {
    /// PortOne's name of the bank, such as `SHINHAN`, `KOOKMIN`, `KAKAO` or `TOSS`.
    bank: String,
    /// 6 to 20 digits; dashes and spaces between them are passed over.
    number: String,
    /// Who holds it, at most 50 characters.
    holder_name: String,
    /// The holder's Korean number in any spelling; some gateways want it.
    holder_phone: Option<String>,
}

json_body!(key required: RefundAccountInput);

impl std::fmt::Debug for RefundAccountInput {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RefundAccountInput([personal])")
    }
}

impl RefundAccountInput {
    /// `at`: where it stands in the body.
    fn checked(&self, at: &str) -> Result<RefundAccount, Problem> {
        let mut checks = Checks::default();
        let bank = checks.parse(&format!("{at}/bank"), &self.bank);
        let number = checks.parse(&format!("{at}/number"), &self.number);
        let holder_name = checks.parse(&format!("{at}/holder_name"), &self.holder_name);
        let phone = self.holder_phone.as_deref().filter(|phone| !phone.trim().is_empty());
        let holder_phone = checks.parse_if_given(&format!("{at}/holder_phone"), phone);
        let account = (|| {
            Some(RefundAccount {
                bank: bank?,
                number: number?,
                holder_name: holder_name?,
                holder_phone,
            })
        })();
        checks.finish(account)
    }
}

/// Checks and seals what came as `refund_account` of a body, under the key of the order's buyer.
pub async fn sealed_if_given(
    app: &App,
    order: &Order,
    given: Option<&RefundAccountInput>,
) -> Result<Option<Sealed<RefundAccount>>, Problem> {
    match given {
        // An imported order has no buyer of ours, and refuses on its own.
        Some(given) if order.details().is_some() => {
            let account = given.checked("/refund_account")?;
            sealed(app, order, account).await.map(Some)
        }
        Some(_) | None => Ok(None),
    }
}

async fn sealed(app: &App, order: &Order, account: RefundAccount) -> Result<Sealed<RefundAccount>, Problem> {
    let details = order.details().ok_or(Code::PaymentNotPaid)?;
    let key = app.sealer.key(app.log.pool(), details.orderer.key_id).await?;
    let key = key.ok_or(Code::PersonalDataGone)?;
    Ok(key.seal(&app.surroundings, "refund_account", &account))
}

/// Says where money goes back to that came by bank transfer. A refund that waits for it goes on at
/// once, and one that the shop owes and PortOne refused is asked for again.
#[utoipa::path(put, path = "/api/v1/payments/{payment_id}/refund-account", tag = "payments",
    security(("guest" = []), ("member" = [])),
    params(("payment_id" = String, Path, description = "`pay_…`, or the digits alone"),
        ("Idempotency-Key" = String, Header, description = "chosen by the client, required")),
    request_body = RefundAccountInput,
    responses((status = 200, body = OrderView), (status = 400, description = "idempotency_key_required"),
        (status = 404, description = "payment_not_found"),
        (status = 409, description = "payment_not_paid, refund_account_not_needed, refund_in_progress, personal_data_gone"),
        (status = 422, description = "validation_failed")))]
pub async fn give(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<AnyPaymentId>,
    command: Command<RefundAccountInput>,
) -> Result<Answer<OrderView>, Problem> {
    let whole = payments::owned(&app, &caller, id.0).await?;
    record(&app, whole, id.0, &command).await
}

/// The same, by the shop, for a buyer who says it on the telephone.
#[utoipa::path(put, path = "/api/v1/admin/payments/{payment_id}/refund-account", tag = "admin",
    security(("admin" = [])),
    params(("payment_id" = String, Path, description = "`pay_…`, or the digits alone"),
        ("Idempotency-Key" = String, Header, description = "chosen by the client, required")),
    request_body = RefundAccountInput,
    responses((status = 200, body = OrderView), (status = 400, description = "idempotency_key_required"),
        (status = 404, description = "payment_not_found"),
        (status = 409, description = "payment_not_paid, refund_account_not_needed, refund_in_progress, personal_data_gone"),
        (status = 422, description = "validation_failed")))]
pub async fn give_as_admin(
    State(app): State<App>,
    context: RequestContext,
    admin: Admin,
    Path(id): Path<AnyPaymentId>,
    command: Command<RefundAccountInput>,
) -> Result<Answer<OrderView>, Problem> {
    let payment = app.executor.load::<Payment>(id.0).await?;
    let request = payment.state.request().ok_or(Code::PaymentNotFound)?;
    let order_id = request.order_id;
    let whole = Whole::load(&app, order_id).await?;
    let answer = record(&app, whole, id.0, &command).await?;
    super::admin_orders::opened(&context, &admin, order_id, "refund_account");
    Ok(answer)
}

async fn record(
    app: &App,
    whole: Whole,
    payment_id: PaymentId,
    command: &Command<RefundAccountInput>,
) -> Result<Answer<OrderView>, Problem> {
    let account = sealed(app, whole.order(), command.body.checked("")?).await?;
    let mut envelope = command.envelope(app);
    envelope.correlation_id = Some(whole.id().uuid());
    let given = PaymentCommand::GiveRefundAccount { payment_id, account };
    let committed = app.executor.execute::<Payment>(payment_id, given, envelope).await?;
    let (position, duplicate) = (committed.position, committed.duplicate);
    let view = whole.after(payment_id, committed).view(app, Reader::Entitled).await?;
    Ok(Answer::ok(view).at(position).replayed(duplicate))
}
