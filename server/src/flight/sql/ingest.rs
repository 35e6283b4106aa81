//! Rows that a client puts as a table: `CommandStatementIngest`, which ADBC sends. A table of `ns` is a namespace, whose rows
//! go the way of a put of many; what Arrow has to be asked of, the tensors of a column `value` among them, is read first.
//!
//! All of it goes into loads, which are committed at the end: what fails leaves nothing.

use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_flight::PutResult;
use arrow_flight::sql::{CommandStatementIngest, TableExistsOption, TableNotExistOption};
use arrow_ipc::Type;
use arrow_ipc::convert::fb_to_schema;
use arrow_schema::SchemaRef;
use bowstring_cache::ledger::Account;
use bowstring_sql::{ALIKE, CATALOG, Coming, SCHEMA, Sql};
use bowstring_wire::descriptor::PutCommand;
use bowstring_wire::error::{Code, Error, Result, clip};
use bowstring_wire::field::{Logical, logical, type_name};
use bowstring_wire::flight_data::Event;
use bowstring_wire::ipc_check::{self, Tree};
use bowstring_wire::name::Namespace;
use bowstring_wire::put_result::PutReply;
use bytes::Bytes;

use super::{change, no_transaction, sql, values};
use crate::flight::authorize::{Operation, Resource, authorize};
use crate::flight::do_put::{self, Batch, Caller, Incoming, Messages, Received};
use crate::flight::service::Service;

/// The table of all entries, which is always there.
const TABLE: &str = "tensors";
/// The columns of a table beside its tensors, as a put of many takes them.
const BESIDE: [&str; 6] = [
    "key",
    "ttl_ms",
    "metadata",
    "source_version",
    "checksum",
    "version",
];
/// What the tensors' column is called where there are more.
const VALUE: &str = "value";

/// Where the rows go.
struct Target {
    /// The table of `ns`; without it, each row says its namespace.
    namespace: Option<Namespace>,
    if_exists: TableExistsOption,
    if_not_exist: TableNotExistOption,
}

/// Receives the rows of a table, and publishes them.
pub async fn put(
    service: &Service,
    caller: Caller<'_>,
    command: &CommandStatementIngest,
    messages: &mut Messages<'_>,
) -> Result<PutResult> {
    let target = Target::parse(command)?;
    let (sql, tenant) = (sql(service)?, &caller.principal.tenant);
    let may = |namespace: &Namespace| {
        let resource = Resource::Namespace(namespace);
        authorize(caller.principal, Operation::Put, resource)
    };
    if let Some(namespace) = &target.namespace {
        may(namespace)?;
    }
    target.check(sql, caller).await?;
    let mut coming = sql.inserting(tenant);
    let load_id = target.namespace.as_ref().map(|namespace| {
        let replace_all = target.if_exists == TableExistsOption::Replace;
        coming.begin(namespace, replace_all)
    });
    let (load_id, schema) = (load_id.transpose()?, schema(messages).await?);
    match (&target.namespace, tensor_column(&schema)?) {
        (Some(namespace), Tensors::AsPut(tensor_column)) => {
            let command = PutCommand {
                namespace: namespace.clone(),
                load_id,
                tensor_column,
                ..PutCommand::default()
            };
            let reply = do_put::rows(service, caller, command, &schema, messages).await?;
            all_stored(reply)?;
        }
        (namespace, _) => {
            let rows = Rows::new(&schema)?;
            let mut incoming = Incoming::new(service, 0, caller.conn, messages);
            while let Some(received) = incoming.batch(false).await? {
                let Received::Whole(batch) = received else {
                    return Err(Error::internal("a batch was not received whole"));
                };
                rows.put(service, namespace.as_ref(), &batch, (&mut coming, may))
                    .await?;
            }
        }
    }
    // Somebody may have put meanwhile.
    if target.if_exists == TableExistsOption::Fail {
        target.check(sql, caller).await?;
    }
    let (entries, done) = coming.commit().await;
    done?;
    Ok(change::counted(entries))
}

impl Target {
    fn parse(command: &CommandStatementIngest) -> Result<Self> {
        let CommandStatementIngest {
            table_definition_options,
            table,
            schema,
            catalog,
            temporary,
            transaction_id,
            options,
        } = command;
        no_transaction(transaction_id.as_ref())?;
        if *temporary {
            return Err(Error::unimplemented(
                "there are no temporary tables; put into a namespace, and clear it when it is done with",
            ));
        }
        if let Some(option) = options.keys().min() {
            return Err(Error::invalid(format!(
                "no such option of an ingestion; option=`{}` expected none",
                clip(option, 128)
            )));
        }
        let said = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        if let Some(other) = said(catalog).filter(|catalog| catalog != CATALOG) {
            return Err(Error::not_found(format!(
                "no such catalog; got=`{}` expected=`{CATALOG}`",
                clip(&other, 128)
            )));
        }
        let schema = said(schema);
        let namespace = match (schema.as_deref(), table.as_str()) {
            (None | Some(SCHEMA), TABLE) => None,
            (None | Some(ALIKE), namespace) => Some(Namespace::parse(namespace)?),
            (Some(schema), table) => {
                return Err(Error::invalid(format!(
                    "rows are put into a table of `{ALIKE}`, which is a namespace, or into `{SCHEMA}.{TABLE}`; \
                     got schema=`{}` table=`{}`",
                    clip(schema, 128),
                    clip(table, 128)
                )));
            }
        };
        let unsaid = || {
            Error::invalid(
                "an ingestion says what becomes of a table that is there, or not there; \
                 expected `table_definition_options` with both",
            )
        };
        let options = table_definition_options.ok_or_else(unsaid)?;
        let target = Self {
            namespace,
            if_exists: options.if_exists(),
            if_not_exist: options.if_not_exist(),
        };
        let is_said = target.if_exists != TableExistsOption::Unspecified
            && target.if_not_exist != TableNotExistOption::Unspecified;
        is_said.then_some(target).ok_or_else(unsaid)
    }

    /// Whether the table is there, or not there, as it should be.
    async fn check(&self, sql: &Sql, caller: Caller<'_>) -> Result<()> {
        let Some(namespace) = &self.namespace else {
            return match self.if_exists {
                TableExistsOption::Fail => Err(Error::exists(format!(
                    "the table `{TABLE}` is always there; append to it"
                ))),
                TableExistsOption::Replace => Err(Error::unimplemented(format!(
                    "the table `{TABLE}` is not replaced, which would be of every namespace; append to it, or replace a \
                     table of `{ALIKE}`"
                ))),
                _ => Ok(()),
            };
        };
        let fails = self.if_exists == TableExistsOption::Fail;
        let must_be = self.if_not_exist == TableNotExistOption::Fail;
        if !fails && !must_be {
            return Ok(());
        }
        let tenant = &caller.principal.tenant;
        match sql.has_entries(tenant, namespace).await? {
            true if fails => Err(Error::exists(format!(
                "the namespace has entries; append to it, or replace it; namespace=`{}`",
                namespace.as_str()
            ))),
            false if must_be => Err(Error::not_found(format!(
                "the namespace has no entries, so it is no table; create it; namespace=`{}`",
                namespace.as_str()
            ))),
            _ => Ok(()),
        }
    }
}

/// The schema that follows the command.
async fn schema(messages: &mut Messages<'_>) -> Result<Bytes> {
    while let Some(event) = messages.next().await? {
        match event {
            Event::Header(schema) => return Ok(schema),
            Event::BodyStart { .. } | Event::BodyChunk(_) => break,
            Event::Descriptor(_) | Event::AppMetadata(_) | Event::MessageEnd => {}
        }
    }
    Err(Error::invalid(
        "an ingestion has no schema; expected one behind its command, and batches of rows",
    ))
}

/// What the tensors of a table are.
enum Tensors {
    /// What a put of many takes, in a column of this name; without it, as the `opaque` layout has them.
    AsPut(Option<String>),
    /// Columns that SQL has made.
    AsColumns,
}

fn tensor_column(schema: &[u8]) -> Result<Tensors> {
    let schema = ipc_check::schema(schema)?;
    let fields = schema.fields().into_iter().flatten();
    let others = fields.filter(|field| !field.name().is_some_and(|name| BESIDE.contains(&name)));
    let others: Vec<_> = others.collect();
    let names = |name: &str| others.iter().any(|field| field.name() == Some(name));
    if ["dtype", "shape", "data"].into_iter().all(names) {
        return Ok(Tensors::AsPut(None));
    }
    let value = others.iter().find(|field| field.name() == Some(VALUE));
    let field = match (value, &others[..]) {
        (Some(value), _) => value,
        (None, [one]) => one,
        _ => {
            return Err(Error::invalid(format!(
                "a table of tensors has a column `key` and one more, or one that is called `{VALUE}`; got others=`{}`",
                others.len()
            )));
        }
    };
    let children = field.children().into_iter().flatten();
    let is_ours = children.map(|child| child.name().unwrap_or_default().to_owned());
    if field.type_type() == Type::Struct_ && is_ours.eq(["dtype", "shape", "data"]) {
        return Ok(Tensors::AsColumns);
    }
    Ok(Tensors::AsPut(field.name().map(str::to_owned)))
}

/// All rows are stored, or none is.
fn all_stored(reply: PutReply) -> Result<()> {
    let Some(first) = reply.errors.into_iter().next() else {
        return Ok(());
    };
    let code = Code::from_str(&first.code).unwrap_or(Code::Internal);
    Err(Error::new(
        code,
        format!(
            "{}; row=`{}` key=`{}` bad_rows=`{}`; nothing was stored",
            first.message,
            first.row,
            first.key.unwrap_or_default().escape_debug(),
            reply.errors_total
        ),
    ))
}

/// Rows that are read as columns.
struct Rows {
    schema: SchemaRef,
    tree: Tree,
}

impl Rows {
    fn new(header: &[u8]) -> Result<Self> {
        let schema = ipc_check::schema(header)?;
        let mut tree = Tree::default();
        for field in schema.fields().into_iter().flatten() {
            check_type(&field)?;
            tree.push(field)?;
        }
        tree.check()?;
        let schema = Arc::new(fb_to_schema(schema));
        Ok(Self { schema, tree })
    }

    async fn put(
        &self,
        service: &Service,
        namespace: Option<&Namespace>,
        batch: &Batch,
        (coming, mut may): (&mut Coming, impl FnMut(&Namespace) -> Result<()> + Send),
    ) -> Result<()> {
        let Batch { header, body, .. } = batch;
        let bytes = body.len();
        // Once as it came, and once in one piece.
        let charge = service.cache.charge(Account::Wire, bytes);
        let _room = charge.ok_or_else(|| {
            Error::exhausted(format!(
                "a record batch finds no room to be read, send smaller ones; limit=`memory` wanted_bytes=`{bytes}`"
            ))
        })?;
        // Nothing is read by its numbers that was not compared with what came.
        ipc_check::batch(header, bytes, &self.tree)?;
        let batch: RecordBatch = values::batch(header, values::whole(body)?, &self.schema)?;
        coming.put_batch(namespace, &batch, &mut may).await
    }
}

fn check_type(field: &arrow_ipc::Field<'_>) -> Result<()> {
    let known = match logical(field)? {
        Logical::Null
        | Logical::Bool
        | Logical::Int { .. }
        | Logical::Float { .. }
        | Logical::Text { .. }
        | Logical::Bytes { .. }
        | Logical::TextView
        | Logical::BytesView
        | Logical::List { .. }
        | Logical::FixedList(_)
        | Logical::Map
        | Logical::Struct => true,
        Logical::Other { .. } => field.type_type() == Type::Timestamp,
        _ => false,
    };
    if !known {
        return Err(Error::unimplemented(format!(
            "a column of `{TABLE}` has a type that is not taken; column=`{}` got=`{}` expected texts, numbers, lists of \
             them, or what a query of `value` gives",
            clip(field.name().unwrap_or_default(), 128),
            type_name(field)
        )));
    }
    for child in field.children().into_iter().flatten() {
        check_type(&child)?;
    }
    Ok(())
}
