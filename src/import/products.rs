//! From a row to a product that is registered, published, and as the file says.

use std::{
    collections::{BTreeMap, HashMap, hash_map::Entry},
    path::Path,
    sync::Arc,
};

use cqrs_es::Aggregate;
use futures_util::future::join_all;
use jangbu_domain::{Decide, Product, ProductCommand, ProductError, ProductStatus};
use jangbu_events::{AggregateId, Money, ProductEvent, ProductId, Sku, Slot, StoreId, TaxClass};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::{
    ImportError, Options, Progress, Report,
    fault::{Fault, Quoted},
    flow::{self, APPEND_DEADLINE, Chunk, Done, End, Envelope, Filler, Shared},
    rejects::{Reject, Rejects},
    report::Kind,
    table::{Columns, Row, Table},
    values,
};
use crate::{
    executor::{CommandEnvelope, ExecuteError, Executor, Loaded},
    log::{NewCommand, Outcome},
};

/// What a file of products must have.
pub const COLUMNS: [&str; 4] = ["sku", "name", "category", "price_krw"];
/// The longest name, in characters.
const NAME_CHARS_MAX: usize = 200;
/// The longest category, in characters.
const CATEGORY_CHARS_MAX: usize = 100;

/// What a row says.
#[derive(Debug)]
struct Draft {
    id: ProductId,
    sku: Sku,
    name: String,
    category: String,
    price: Money,
    attributes: BTreeMap<String, String>,
}

/// A row and what it says.
struct Entered {
    row: Row,
    draft: Result<Draft, Fault>,
    /// An earlier row says the very same.
    repeated: bool,
}

/// What became of one product.
enum Became {
    Imported,
    Unchanged,
    Revised,
}

/// Imports products; see [`super::products()`].
pub async fn import(
    executor: &Executor,
    file: &Path,
    options: &Options,
    progress: &dyn Progress,
) -> Result<Report, ImportError> {
    let source = options.checked_source()?;
    let bytes = flow::size(file).await?;
    let table = Table::open(file)?;
    let columns = table
        .columns(COLUMNS, &options.ignored_columns, false)
        .map_err(|faults| ImportError::Header {
            path: file.to_owned(),
            faults: Box::new(faults),
        })?;
    let rejects = Rejects::new(file, options.rejects_file.as_deref(), table.names())?;
    let shared = Shared::new(executor, &source, ());
    let path = file.to_owned();
    flow::run(
        move |filler| fill(table, &columns, filler).map_err(|source| ImportError::Read { path, source }),
        move |chunk| work(Arc::clone(&shared), chunk),
        rejects,
        Report::new(Kind::Products),
        &options.stop,
        (progress, bytes),
    )
    .await
}

/// Reads rows; the first of several rows of one sku counts.
fn fill(mut table: Table, columns: &Columns<4>, filler: &mut Filler<Entered>) -> std::io::Result<End> {
    let mut seen: HashMap<ProductId, (u64, [u8; 32])> = HashMap::new();
    while let Some(row) = table.next()? {
        let mut draft = draft(&row, columns);
        let mut repeated = false;
        if let Ok(good) = &draft {
            match seen.entry(good.id) {
                Entry::Vacant(place) => {
                    place.insert((row.line, good.fingerprint()));
                }
                Entry::Occupied(first) if first.get().1 == good.fingerprint() => repeated = true,
                Entry::Occupied(first) => draft = Err(Fault::DuplicateSku { line: first.get().0 }),
            }
        }
        let entered = Entered { row, draft, repeated };
        if filler.push(entered, 1, table.offset()).is_err() {
            return Ok(End::Stopped);
        }
    }
    Ok(filler.end(table.offset()))
}

fn draft(row: &Row, columns: &Columns<4>) -> Result<Draft, Fault> {
    let [sku, name, category, price] = columns.required;
    let sku = values::sku(row.text(sku)?)?;
    let mut attributes = BTreeMap::new();
    for (index, name) in &columns.others {
        let value = values::note(name, row.text(*index)?)?;
        if !value.is_empty() {
            attributes.insert(name.clone(), value.to_owned());
        }
    }
    Ok(Draft {
        id: ProductId::of(StoreId::DEFAULT, &sku),
        sku,
        name: values::line("name", row.text(name)?, NAME_CHARS_MAX)?,
        category: values::line("category", row.text(category)?, CATEGORY_CHARS_MAX)?,
        price: values::price(row.text(price)?)?,
        attributes,
    })
}

impl Draft {
    /// SHA-256 of all it says.
    fn fingerprint(&self) -> [u8; 32] {
        let said = (
            self.sku.as_str(),
            &self.name,
            &self.category,
            self.price.amount,
            &self.attributes,
        );
        Sha256::digest(serde_json::to_vec(&said).expect("texts and numbers")).into()
    }

    /// Of the command that makes the product, at this sequence of its stream, what the file says:
    /// a price that goes up, down and up again is three commands.
    fn command_id(&self, sequence: i64) -> Uuid {
        let name = format!("import:{sequence}:{}", hex(&self.fingerprint()));
        Uuid::new_v5(&self.id.uuid(), name.as_bytes())
    }

    /// Registers and publishes it.
    fn beginning(&self, shared: &Shared<()>) -> Result<NewCommand, Fault> {
        let refused = |error: ProductError| Fault::Refused(error.to_string());
        let register = ProductCommand::Register {
            sku: self.sku.clone(),
            name: self.name.clone(),
            category: self.category.clone(),
            price: self.price,
            tax_class: TaxClass::Taxable,
            attributes: self.attributes.clone(),
        };
        let mut product = Product::default();
        let mut events: Vec<ProductEvent> = product.decide(&register).map_err(refused)?;
        for event in events.clone() {
            product.apply(event);
        }
        let publish = ProductCommand::Revise {
            name: None,
            price: None,
            status: Some(ProductStatus::Published),
        };
        events.extend(product.decide(&publish).map_err(refused)?);
        let envelope = Envelope {
            command_id: self.command_id(0),
            correlation_id: None,
            occurred_at: shared.now,
            body_hash: Some(self.fingerprint()),
            metadata: &shared.metadata,
        };
        let slot = Slot::of(Product::partition_key(self.id, &register));
        Ok(flow::beginning(
            "product",
            self.id.to_string(),
            slot,
            &events,
            &envelope,
        ))
    }
}

async fn work(shared: Arc<Shared<()>>, chunk: Chunk<Entered>) -> Result<Done, ImportError> {
    let mut done = Done::default();
    let mut rows = Vec::with_capacity(chunk.items.len());
    for Entered { row, draft, repeated } in chunk.items {
        match draft {
            Ok(_) if repeated => done.unchanged += 1,
            Ok(draft) => rows.push((row, draft)),
            Err(fault) => done.reject_row(row, fault),
        }
    }
    let ids: Vec<ProductId> = rows.iter().map(|(_, draft)| draft.id).collect();
    let loaded = shared.executor.load_many::<Product>(&ids).await?;
    let works = rows.into_iter().zip(loaded).map(|((row, draft), loaded)| {
        let shared = &shared;
        async move {
            let became = bring_in(shared, &draft, loaded).await;
            (row, became)
        }
    });
    for (row, became) in join_all(works).await {
        match became? {
            Ok((became, attributes_kept)) => {
                done.attributes_kept += u64::from(attributes_kept);
                match became {
                    Became::Imported => done.imported += 1,
                    Became::Unchanged => done.unchanged += 1,
                    Became::Revised => done.revised += 1,
                }
            }
            Err(fault) => done.reject_row(row, fault),
        }
    }
    done.rejects.sort_by_key(|reject| reject.row.line);
    Ok(done)
}

impl Done {
    fn reject_row(&mut self, row: Row, fault: Fault) {
        self.rejected += 1;
        self.rejects.push(Reject { row, fault });
    }
}

/// Registers a new product or revises a known one; also says whether its attributes differ.
async fn bring_in(
    shared: &Shared<()>,
    draft: &Draft,
    mut loaded: Loaded<Product>,
) -> Result<Result<(Became, bool), Fault>, ImportError> {
    if loaded.sequence == 0 {
        let command = match draft.beginning(shared) {
            Ok(command) => command,
            Err(fault) => return Ok(Err(fault)),
        };
        match shared.executor.log().append(command, APPEND_DEADLINE).await? {
            Outcome::Appended(_) => return Ok(Ok((Became::Imported, false))),
            Outcome::Rejected { reason } => return Ok(Err(Fault::Refused(reason))),
            // Somebody registered it meanwhile.
            Outcome::Duplicate(_) | Outcome::Conflict { .. } | Outcome::Unfounded | Outcome::KeyTaken { .. } => {
                loaded = shared.executor.load::<Product>(draft.id).await?;
            }
        }
    }
    let Product::Registered {
        category,
        attributes,
        status,
        ..
    } = &*loaded.state
    else {
        return Ok(Err(Fault::IdTaken));
    };
    if *category != draft.category {
        let was = Quoted::new(category);
        return Ok(Err(Fault::CategoryFixed { was }));
    }
    let attributes_kept = *attributes != draft.attributes;
    let revise = ProductCommand::Revise {
        name: Some(draft.name.clone()),
        price: Some(draft.price),
        // What an operator has hidden stays hidden.
        status: (*status == ProductStatus::Draft).then_some(ProductStatus::Published),
    };
    match loaded.state.decide(&revise) {
        Ok(events) if events.is_empty() => return Ok(Ok((Became::Unchanged, attributes_kept))),
        Ok(_) => {}
        Err(ProductError::Archived) => return Ok(Err(Fault::Archived)),
        Err(error) => return Ok(Err(Fault::Refused(error.to_string()))),
    }
    let metadata = serde_json::from_str(&shared.metadata).expect("metadata was JSON");
    let mut envelope = CommandEnvelope::new(draft.command_id(loaded.sequence), metadata, shared.now);
    envelope.deadline = APPEND_DEADLINE;
    match shared.executor.execute::<Product>(draft.id, revise, envelope).await {
        Ok(committed) if committed.events.is_empty() => Ok(Ok((Became::Unchanged, attributes_kept))),
        Ok(_) => Ok(Ok((Became::Revised, attributes_kept))),
        Err(ExecuteError::Refused(ProductError::Archived)) => Ok(Err(Fault::Archived)),
        Err(ExecuteError::Refused(error)) => Ok(Err(Fault::Refused(error.to_string()))),
        Err(ExecuteError::Rejected(reason)) => Ok(Err(Fault::Refused(reason))),
        Err(error) => Err(ImportError::Revise(Box::new(error))),
    }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut hex, byte| {
            write!(hex, "{byte:02x}").expect("a string takes text");
            hex
        })
}
