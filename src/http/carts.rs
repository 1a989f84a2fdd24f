//! Carts: guests hold one by its token, members by who they are.

use std::collections::{HashMap, HashSet};

use axum::{extract::State, http::HeaderMap};
use jangbu_domain::{Cart, CartCommand, CartError, Product, ProductStatus, cart::NewLine};
use jangbu_events::{AggregateId, CartId, LineId, Owner, ProductId, Sku, StoreId};
use serde::Deserialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{
    App,
    auth::Caller,
    extract::{Path, Path2, json, require_json},
    keys::{Body, Command, Nothing, json_body},
    problem::{Code, FieldError, Problem, Text},
    views::{Answer, CartView, NewCartView},
};
use crate::executor::Committed;

/// Some of one product.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"sku": "DRIVER-10.5", "quantity": 1}))]
pub struct LineInput {
    /// Of what.
    #[schema(value_type = String)]
    pub sku: Sku,
    /// 1 to 99.
    pub quantity: u32,
}

/// Goods to put into a cart: `{"lines": [{"sku", "quantity"}]}`, or one such object.
#[derive(Debug, ToSchema)]
#[schema(example = json!({"lines": [{"sku": "DRIVER-10.5", "quantity": 1}]}))]
pub struct AddLines {
    /// All or none of them.
    pub lines: Vec<LineInput>,
    #[schema(ignore)]
    single: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ManyLines {
    lines: Vec<LineInput>,
}

#[derive(Deserialize)]
struct Peek {
    lines: Option<serde::de::IgnoredAny>,
}

impl Body for AddLines {
    fn read(headers: &HeaderMap, bytes: &[u8]) -> Result<Self, Problem> {
        require_json(headers)?;
        let single = serde_json::from_slice::<Peek>(bytes).is_ok_and(|peek| peek.lines.is_none());
        let lines = if single {
            vec![json(bytes)?]
        } else {
            json::<ManyLines>(bytes)?.lines
        };
        if lines.is_empty() {
            return Err(Problem::field(FieldError::at(
                "/lines",
                "empty",
                Text::new("must not be empty", "비워 둘 수 없습니다."),
            )));
        }
        Ok(Self { lines, single })
    }
}

impl AddLines {
    fn pointer(&self, index: usize, field: &str) -> String {
        if self.single {
            format!("/{field}")
        } else {
            format!("/lines/{index}/{field}")
        }
    }

    /// The first line that names a sku.
    fn pointer_of(&self, sku: &Sku, field: &str) -> Option<String> {
        let index = self.lines.iter().position(|line| line.sku == *sku)?;
        Some(self.pointer(index, field))
    }
}

/// Another quantity for a line.
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"quantity": 2}))]
pub struct ChangeQuantity {
    /// 1 to 99.
    pub quantity: u32,
}

json_body!(ChangeQuantity);

/// Takes an empty cart. Without a token it is a guest's, and the answer has the token for it; with a
/// member's token it is the member's. The same `Idempotency-Key` gives the same cart and token again.
#[utoipa::path(post, path = "/api/v1/carts", tag = "carts",
    responses((status = 201, body = NewCartView), (status = 401, description = "token_invalid, token_expired"),
        (status = 403, description = "forbidden")))]
pub async fn open(
    State(app): State<App>,
    caller: Caller,
    command: Command<Nothing>,
) -> Result<Answer<NewCartView>, Problem> {
    // Derived, so that a repeat names the same cart before anything is read. Nobody can choose it: the
    // command id is a hash of more than the client's key.
    let id = CartId::from_uuid(Uuid::new_v5(&command.id, b"cart"));
    let (owner, token) = match caller {
        Caller::Nobody | Caller::Guest(_) => (app.tokens.guest(id), Some(app.tokens.cart_token(id))),
        Caller::Member(customer_id) => (Owner::Member { customer_id }, None),
        Caller::Admin(_) => return Err(Code::Forbidden.into()),
    };
    let envelope = command.envelope(&app);
    let committed = app
        .executor
        .execute::<Cart>(id, CartCommand::Open { owner }, envelope)
        .await?;
    let cart = CartView::of(id, &committed.state, committed.sequence);
    let location = format!("/api/v1/carts/{id}");
    Ok(Answer::to(&committed, NewCartView { token, cart })
        .version(committed.sequence)
        .created(&location))
}

/// The cart as it is now.
#[utoipa::path(get, path = "/api/v1/carts/{cart_id}", tag = "carts", security(("guest" = []), ("member" = [])),
    params(("cart_id" = String, Path, description = "`crt_…`")),
    responses((status = 200, body = CartView), (status = 404, description = "cart_not_found")))]
pub async fn one(State(app): State<App>, caller: Caller, Path(id): Path<CartId>) -> Result<Answer<CartView>, Problem> {
    let cart = app.executor.load::<Cart>(id).await?;
    if !is_owner(&caller, &cart.state) {
        return Err(Code::CartNotFound.into());
    }
    Ok(Answer::ok(CartView::of(id, &cart.state, cart.sequence))
        .at(cart.position)
        .version(cart.sequence))
}

/// Puts goods in, all or none. What is in the cart already becomes more.
#[utoipa::path(post, path = "/api/v1/carts/{cart_id}/lines", tag = "carts",
    security(("guest" = []), ("member" = [])), request_body = AddLines,
    params(("cart_id" = String, Path, description = "`crt_…`")),
    responses((status = 200, body = CartView), (status = 404, description = "cart_not_found"),
        (status = 409, description = "cart_checked_out"),
        (status = 422, description = "product_not_for_sale, quantity_out_of_range, too_many_lines, validation_failed")))]
pub async fn add_lines(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<CartId>,
    command: Command<AddLines>,
) -> Result<Answer<CartView>, Problem> {
    require_owner(&app, &caller, id).await?;
    let lines = match priced(&app, id, &command.body).await {
        Ok(lines) => lines,
        // What was for sale when this request first came need not be so any more.
        Err(problem) => {
            let replayed = app.executor.replayed::<Cart>(id, &command.envelope(&app)).await?;
            return replayed.map(|committed| answer(id, &committed)).ok_or(problem);
        }
    };
    let result = app
        .executor
        .execute::<Cart>(id, CartCommand::AddLines { lines }, command.envelope(&app))
        .await;
    let committed = result.map_err(|error| {
        let pointer = match &error {
            crate::executor::ExecuteError::Refused(CartError::QuantityOutOfRange { sku, .. }) => {
                command.body.pointer_of(sku, "quantity")
            }
            _ => None,
        };
        let problem = Problem::from(error);
        match pointer {
            Some(pointer) => problem.at(pointer),
            None => problem,
        }
    })?;
    Ok(answer(id, &committed))
}

/// Names and prices of what is wanted, as they are now.
async fn priced(app: &App, cart: CartId, wanted: &AddLines) -> Result<Vec<NewLine>, Problem> {
    let products: HashSet<ProductId> = wanted
        .lines
        .iter()
        .map(|line| ProductId::of(StoreId::DEFAULT, &line.sku))
        .collect();
    let products: Vec<ProductId> = products.into_iter().collect();
    let loaded = app.executor.load_many::<Product>(&products).await?;
    let products: HashMap<ProductId, _> = products.into_iter().zip(loaded).collect();
    let mut lines = Vec::with_capacity(wanted.lines.len());
    let mut missing: Option<Problem> = None;
    for (index, line) in wanted.lines.iter().enumerate() {
        let product_id = ProductId::of(StoreId::DEFAULT, &line.sku);
        match products.get(&product_id).map(|product| &*product.state) {
            Some(Product::Registered {
                name,
                price,
                status: ProductStatus::Published,
                ..
            }) => lines.push(NewLine {
                line_id: LineId::of(cart, &line.sku),
                product_id,
                sku: line.sku.clone(),
                name: name.clone(),
                unit_price: *price,
                quantity: line.quantity,
            }),
            Some(Product::NotRegistered | Product::Registered { .. }) | None => {
                let problem = missing.unwrap_or_else(|| Problem::new(Code::ProductNotForSale));
                missing = Some(problem.at(wanted.pointer(index, "sku")));
            }
        }
    }
    missing.map_or(Ok(lines), Err)
}

/// Sets how many of a line.
#[utoipa::path(patch, path = "/api/v1/carts/{cart_id}/lines/{sku}", tag = "carts",
    security(("guest" = []), ("member" = [])), request_body = ChangeQuantity,
    params(("cart_id" = String, Path, description = "`crt_…`"), ("sku" = String, Path)),
    responses((status = 200, body = CartView), (status = 404, description = "cart_not_found, line_not_found"),
        (status = 409, description = "cart_checked_out"), (status = 422, description = "quantity_out_of_range")))]
pub async fn change_quantity(
    State(app): State<App>,
    caller: Caller,
    Path2(id, sku): Path2<CartId, Sku>,
    command: Command<ChangeQuantity>,
) -> Result<Answer<CartView>, Problem> {
    let quantity = command.body.quantity;
    let change = CartCommand::ChangeQuantity { sku, quantity };
    execute(&app, &caller, id, change, &command).await.map_err(|problem| {
        if problem.code() == Code::QuantityOutOfRange {
            problem.at("/quantity")
        } else {
            problem
        }
    })
}

/// Takes a line out; one that is not there is no error.
#[utoipa::path(delete, path = "/api/v1/carts/{cart_id}/lines/{sku}", tag = "carts",
    security(("guest" = []), ("member" = [])),
    params(("cart_id" = String, Path, description = "`crt_…`"), ("sku" = String, Path)),
    responses((status = 200, body = CartView), (status = 404, description = "cart_not_found"),
        (status = 409, description = "cart_checked_out")))]
pub async fn remove_line(
    State(app): State<App>,
    caller: Caller,
    Path2(id, sku): Path2<CartId, Sku>,
    command: Command<Nothing>,
) -> Result<Answer<CartView>, Problem> {
    execute(&app, &caller, id, CartCommand::RemoveLine { sku }, &command).await
}

/// Takes everything out.
#[utoipa::path(delete, path = "/api/v1/carts/{cart_id}/lines", tag = "carts",
    security(("guest" = []), ("member" = [])),
    params(("cart_id" = String, Path, description = "`crt_…`")),
    responses((status = 200, body = CartView), (status = 404, description = "cart_not_found"),
        (status = 409, description = "cart_checked_out")))]
pub async fn clear(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<CartId>,
    command: Command<Nothing>,
) -> Result<Answer<CartView>, Problem> {
    execute(&app, &caller, id, CartCommand::Clear, &command).await
}

async fn execute<B>(
    app: &App,
    caller: &Caller,
    id: CartId,
    change: CartCommand,
    command: &Command<B>,
) -> Result<Answer<CartView>, Problem> {
    require_owner(app, caller, id).await?;
    let committed = app.executor.execute::<Cart>(id, change, command.envelope(app)).await?;
    Ok(answer(id, &committed))
}

fn answer(id: CartId, committed: &Committed<Cart>) -> Answer<CartView> {
    Answer::to(committed, CartView::of(id, &committed.state, committed.sequence)).version(committed.sequence)
}

/// Whoever may not touch the cart learns nothing about it. A guest's token proves itself, without a
/// read.
pub async fn require_owner(app: &App, caller: &Caller, id: CartId) -> Result<(), Problem> {
    if let Caller::Guest(token) = caller
        && app.tokens.is_for(token, id)
    {
        return Ok(());
    }
    let cart = app.executor.load::<Cart>(id).await?;
    if is_owner(caller, &cart.state) {
        Ok(())
    } else {
        Err(Code::CartNotFound.into())
    }
}

fn is_owner(caller: &Caller, cart: &Cart) -> bool {
    cart.contents().is_some_and(|contents| caller.is(&contents.owner))
}
