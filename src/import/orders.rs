//! From a basket to one `order.imported`.

mod draft;

use std::{
    collections::BTreeSet,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use futures_util::future::join_all;
use jangbu_domain::{
    Cart, Decide, Order, OrderCommand, PricingError, line_total,
    order::{ImportOrder, OrderError},
    totals,
};
use jangbu_events::{AggregateId, CartId, LineId, Money, OrderEvent, OrderLine, Slot};
use uuid::Uuid;

use self::draft::Draft;
use super::{
    ImportError, Options, Progress, Report,
    baskets::{Basket, Baskets, GatherError, HELD_BYTES_MAX, Scattered},
    catalog::Catalog,
    fault::Fault,
    flow::{self, APPEND_DEADLINE, Chunk, Done, End, Envelope, Filler, Shared},
    rejects::{Reject, Rejects},
    report::Kind,
    table::{Columns, Table},
};
use crate::{
    executor::Executor,
    log::{CommandRow, NewCommand, Outcome},
};

/// What a file of past orders must have.
pub const COLUMNS: [&str; 5] = ["basket_id", "household_id", "ordered_at", "sku", "quantity"];
/// The largest order, in bytes of JSON.
const ORDER_BYTES_MAX: usize = 1 << 20;

/// What work on baskets shares.
struct Plan {
    columns: Columns<5>,
    source: String,
    catalog: Catalog,
    /// Whether to ask the log first: worth it while it has what the file says.
    look_first: AtomicBool,
}

/// Imports past orders; see [`super::orders()`].
pub async fn import(
    executor: &Executor,
    file: &Path,
    options: &Options,
    progress: &dyn Progress,
) -> Result<Report, ImportError> {
    let source = options.checked_source()?;
    let bytes = flow::size(file).await?;
    let mut ahead = Table::open(file)?;
    let columns = ahead
        .columns(COLUMNS, &options.ignored_columns, true)
        .map_err(|faults| ImportError::Header {
            path: file.to_owned(),
            faults: Box::new(faults),
        })?;
    let rejects = Rejects::new(file, options.rejects_file.as_deref(), ahead.names())?;
    let basket_column = columns.required[0];
    let read = |path: &Path| {
        let path = path.to_owned();
        move |source| ImportError::Read { path, source }
    };
    let unreadable = read(file);
    let scattered = flow::scan(
        move |go_on| Scattered::count(&mut ahead, basket_column, go_on).map_err(unreadable),
        &options.stop,
        (progress, bytes),
    )
    .await?;
    let baskets = Baskets::new(Table::open(file)?, basket_column, scattered, HELD_BYTES_MAX);
    let shared = Shared::new(
        executor,
        &source,
        Plan {
            columns,
            source: source.clone(),
            catalog: Catalog::default(),
            look_first: AtomicBool::new(true),
        },
    );
    let path = file.to_owned();
    flow::run(
        move |filler| fill(baskets, filler, &path),
        move |chunk| work(Arc::clone(&shared), chunk),
        rejects,
        Report::new(Kind::Orders),
        &options.stop,
        (progress, bytes),
    )
    .await
}

fn fill(mut baskets: Baskets, filler: &mut Filler<Basket>, path: &Path) -> Result<End, ImportError> {
    loop {
        let basket = baskets.next().map_err(|error| match error {
            GatherError::Read(source) => ImportError::Read {
                path: path.to_owned(),
                source,
            },
            GatherError::TooScattered => ImportError::TooScattered { path: path.to_owned() },
        })?;
        let through = baskets.offset();
        let pushed = match basket {
            Some(basket) => {
                let rows = basket.len();
                filler.push(basket, rows, through)
            }
            None => return Ok(filler.end(through)),
        };
        if pushed.is_err() {
            return Ok(End::Stopped);
        }
    }
}

async fn work(shared: Arc<Shared<Plan>>, chunk: Chunk<Basket>) -> Result<Done, ImportError> {
    let plan = &shared.also;
    let mut done = Done::default();
    let mut drafts: Vec<(Basket, Draft)> = Vec::with_capacity(chunk.items.len());
    for basket in chunk.items {
        match draft::draft(&basket, &plan.columns, &plan.source, shared.now) {
            Ok(draft) => drafts.push((basket, draft)),
            Err(faults) => done.reject_basket(basket, faults),
        }
    }
    if plan.look_first.load(Ordering::Relaxed) {
        let ids: Vec<Uuid> = drafts.iter().map(|(_, draft)| draft.command_id()).collect();
        let known = shared.executor.log().commands(&ids).await?;
        plan.look_first.store(!known.is_empty(), Ordering::Relaxed);
        let (there, new): (Vec<_>, Vec<_>) = drafts
            .into_iter()
            .partition(|(_, draft)| known.contains_key(&draft.command_id()));
        for (basket, draft) in there {
            let row = &known[&draft.command_id()];
            done.already(basket, &draft, row);
        }
        drafts = new;
    }
    let skus: BTreeSet<_> = drafts
        .iter()
        .flat_map(|(_, draft)| draft.lines.iter().map(|line| &line.sku))
        .collect();
    plan.catalog.look_up(&shared.executor, skus).await?;
    let mut appends = Vec::with_capacity(drafts.len());
    for (basket, draft) in drafts {
        match command(&draft, &shared) {
            Ok((command, total)) => {
                let log = shared.executor.log();
                appends.push(async move { (basket, draft, total, log.append(command, APPEND_DEADLINE).await) });
            }
            Err(faults) => done.reject_basket(basket, faults),
        }
    }
    for (basket, draft, total, outcome) in join_all(appends).await {
        match outcome? {
            Outcome::Appended(_) => {
                done.imported += 1;
                done.total_krw += i128::from(total.amount);
            }
            Outcome::Duplicate(row) => {
                plan.look_first.store(true, Ordering::Relaxed);
                done.already(basket, &draft, &row);
            }
            Outcome::Conflict { .. } | Outcome::Unfounded | Outcome::KeyTaken { .. } => {
                done.reject_basket(basket, vec![(0, Fault::IdTaken)]);
            }
            Outcome::Rejected { reason } => done.reject_basket(basket, vec![(0, Fault::Refused(reason))]),
        }
    }
    // In file order, whichever way they were found.
    done.rejects.sort_by_key(|reject| reject.row.line);
    Ok(done)
}

impl Done {
    /// Rejects a whole basket: rows at fault with their own reasons, the others with the first.
    fn reject_basket(&mut self, basket: Basket, faults: Vec<(usize, Fault)>) {
        let (first, fault) = faults.first().expect("a rejected basket has a fault");
        let (line, code) = (basket[*first].line, fault.code());
        let mut faults = faults.into_iter().peekable();
        self.rejected += 1;
        for (index, row) in basket.into_iter().enumerate() {
            let fault = faults
                .next_if(|(at, _)| *at == index)
                .map_or(Fault::Neighbour { line, code }, |(_, fault)| fault);
            self.rejects.push(Reject { row, fault });
        }
    }

    /// The log has this basket: fine if it is the same one. Prices are not compared: the order keeps
    /// those it was booked with.
    fn already(&mut self, basket: Basket, draft: &Draft, row: &CommandRow) {
        if row.body_hash.as_deref() == Some(draft.fingerprint.as_slice()) {
            self.unchanged += 1;
        } else {
            self.reject_basket(basket, vec![(0, Fault::ImportedDifferently)]);
        }
    }
}

/// The command that imports it and what it comes to, or which rows are at fault.
fn command(draft: &Draft, shared: &Shared<Plan>) -> Result<(NewCommand, Money), Vec<(usize, Fault)>> {
    let lines = lines(draft, &shared.also.catalog)?;
    let whole = |fault: Fault| vec![(0, fault)];
    let totals = totals(&lines).map_err(|error| whole(error.into()))?;
    let import = ImportOrder {
        source: shared.also.source.clone(),
        source_id: draft.basket_id.clone(),
        external_customer: draft.customer.clone(),
        external_reference: draft.reference.clone(),
        lines,
        totals,
    };
    let command = OrderCommand::Import(Box::new(import));
    let events: Vec<OrderEvent> = Order::default()
        .decide(&command)
        .map_err(|error: OrderError| whole(Fault::Refused(error.to_string())))?;
    let envelope = Envelope {
        command_id: draft.command_id(),
        correlation_id: Some(draft.order_id.uuid()),
        occurred_at: draft.ordered_at,
        body_hash: Some(draft.fingerprint),
        metadata: &shared.metadata,
    };
    let slot = Slot::of(Order::partition_key(draft.order_id, &command));
    let command = flow::beginning("order", draft.order_id.to_string(), slot, &events, &envelope);
    let bytes = command.weight();
    if bytes > ORDER_BYTES_MAX {
        return Err(whole(Fault::TooLarge {
            bytes,
            max: ORDER_BYTES_MAX,
        }));
    }
    Ok((command, totals.total))
}

/// The lines at the catalog's prices.
fn lines(draft: &Draft, catalog: &Catalog) -> Result<Vec<OrderLine>, Vec<(usize, Fault)>> {
    // Imported orders have no cart; their own id takes its place.
    let cart = CartId::from_uuid(draft.order_id.uuid());
    let mut faults = Vec::new();
    let mut lines = Vec::with_capacity(draft.lines.len());
    for wanted in &draft.lines {
        let Some(listed) = catalog.get(&wanted.sku) else {
            faults.push((wanted.row, Fault::UnknownSku(wanted.sku.clone())));
            continue;
        };
        if wanted.quantity > Cart::QUANTITY_MAX {
            let (sku, quantity) = (wanted.sku.clone(), wanted.quantity);
            faults.push((wanted.row, Fault::QuantitySum { sku, quantity }));
            continue;
        }
        let total = match line_total(listed.price, wanted.quantity, Money::ZERO) {
            Ok(total) => total,
            Err(error @ (PricingError::TooMuch | PricingError::Discount { .. } | PricingError::LineTotal { .. })) => {
                faults.push((wanted.row, error.into()));
                continue;
            }
        };
        lines.push(OrderLine {
            line_id: LineId::of(cart, &wanted.sku),
            product_id: listed.product_id,
            sku: wanted.sku.clone(),
            name: listed.name.clone(),
            category: listed.category.clone(),
            unit_price: listed.price,
            quantity: wanted.quantity,
            discount: Money::ZERO,
            tax_class: listed.tax_class,
            total,
        });
    }
    if faults.is_empty() { Ok(lines) } else { Err(faults) }
}
