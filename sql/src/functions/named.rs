//! `tensor('namespace', 'key')`: a tensor of the cache as a constant of a query.
//!
//! It is read once, when the query begins to run: a plan that waits to be run holds no tensor. A call that was read stays the
//! call that it was, and so does what it is named in columns and plans, but knows its value; the optimiser takes it for one
//! that may change, or it would put the bytes themselves into the plan, and with them into each name.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use arrow_array::StructArray;
use arrow_buffer::Buffer;
use arrow_schema::{DataType, Field, FieldRef};
use bowstring_cache::known::{self, Known};
use bowstring_cache::{Cache, Id};
use bowstring_wire::error::{Error, Result};
use bowstring_wire::name::{Key, Namespace, Tenant};
use datafusion::common::ScalarValue;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{
    ColumnarValue, Expr, LogicalPlan, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF,
    ScalarUDFImpl, Signature, Volatility,
};
use tokio::runtime::Handle;
use tokio_util::task::AbortOnDropHandle;

use crate::limits::COPIED_BYTES;
use crate::tables::tensors::value::{self, Hold, Value};
use crate::tensor::{self, Builder};
use crate::{DfResult, error, filter};

const NAME: &str = "tensor";

/// Namespace and key.
type Names = (String, String);

/// The function, as a statement finds it.
pub fn unread() -> Arc<ScalarUDF> {
    Arc::new(ScalarUDF::from(Named::new(None)))
}

/// Reads the tensors that a plan names, by a task on `normal`, into at most `bytes_max` bytes that the ledger gives.
///
/// # Errors
/// `not_found` where one is not there, `invalid_argument` where one is not named by two texts, `resource_exhausted` where
/// they are too large.
pub async fn read(
    cache: &Cache,
    tenant: &Tenant,
    normal: &Handle,
    bytes_max: u64,
    plan: LogicalPlan,
) -> Result<LogicalPlan> {
    let names = names(&plan).map_err(|error| error::of(&error))?;
    if names.is_empty() {
        return Ok(plan);
    }
    let (cache, tenant) = (cache.clone(), tenant.clone());
    let reading = normal.spawn(async move {
        let mut left = bytes_max;
        let mut read = BTreeMap::new();
        for (namespace, key) in names {
            let id = Id {
                tenant: tenant.clone(),
                namespace: Namespace::parse(&namespace)?,
                key: Key::parse(&key)?,
            };
            let value = read_one(&cache, &id, left).await?;
            left = left.saturating_sub(value.bytes.len() as u64);
            let of = Read::new(value).map_err(|error| error::of(&error))?;
            read.insert(
                (namespace, key),
                Arc::new(ScalarUDF::from(Named::new(Some(of)))),
            );
        }
        Ok(read)
    });
    let read: BTreeMap<Names, Arc<ScalarUDF>> = match AbortOnDropHandle::new(reading).await {
        Ok(read) => read?,
        Err(error) => {
            return Err(Error::internal(format!(
                "a named tensor was not read; {error}"
            )));
        }
    };
    put(plan, &read).map_err(|error| error::of(&error))
}

/// The tensors that a plan names.
///
/// # Errors
/// Where one is not named by two texts: a parameter has no value yet.
pub fn names(plan: &LogicalPlan) -> DfResult<Vec<Names>> {
    let mut found = Vec::new();
    plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expr| {
            expr.apply(|expr| {
                if let Expr::ScalarFunction(call) = expr
                    && call.func.name() == NAME
                {
                    found.push(names_of(call)?);
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    })?;
    found.sort_unstable();
    found.dedup();
    Ok(found)
}

fn names_of(call: &ScalarFunction) -> DfResult<Names> {
    match call.args.as_slice() {
        [namespace, key] => match (filter::text(namespace), filter::text(key)) {
            (Some(namespace), Some(key)) => Ok((namespace.to_owned(), key.to_owned())),
            _ => Err(wrong()),
        },
        _ => Err(wrong()),
    }
}

fn wrong() -> DataFusionError {
    DataFusionError::Plan(format!(
        "{NAME}('namespace', 'key') takes two texts, or parameters, that are the same for all rows; for a tensor of each row \
         join `tensors`"
    ))
}

fn put(plan: LogicalPlan, read: &BTreeMap<Names, Arc<ScalarUDF>>) -> DfResult<LogicalPlan> {
    let with_value = |expr: Expr| {
        expr.transform(|expr| match expr {
            Expr::ScalarFunction(call) if call.func.name() == NAME => {
                let func = read.get(&names_of(&call)?).cloned().ok_or_else(wrong)?;
                let args = call.args;
                Ok(Transformed::yes(Expr::ScalarFunction(ScalarFunction {
                    func,
                    args,
                })))
            }
            expr => Ok(Transformed::no(expr)),
        })
    };
    let plan = plan.transform_up_with_subqueries(|node| node.map_expressions(with_value))?;
    Ok(plan.data)
}

async fn read_one(cache: &Cache, id: &Id, bytes_max: u64) -> Result<Value> {
    let missing = || {
        Error::not_found(format!(
            "a tensor that the query names is not there; namespace=`{}` key=`{}`",
            id.namespace.as_str(),
            id.key.as_str().escape_debug()
        ))
    };
    let place = (&id.namespace, std::slice::from_ref(&id.key));
    let bytes = |known: Option<Known>| Ok(known.map(|known| known.bytes()));
    let found = known::each(cache, &id.tenant, place, None, bytes).await?;
    let bytes = found.into_iter().next().flatten().ok_or_else(missing)?;
    if bytes > bytes_max {
        return Err(Error::exhausted(format!(
            "the tensors that the query names are too large for it; limit=`sql_memory` left_bytes=`{bytes_max}` \
             wanted_bytes=`{bytes}` key=`{}`",
            id.key.as_str().escape_debug()
        )));
    }
    let generation = cache.generation(&id.tenant, &id.namespace);
    let value = value::read(cache, (&generation, id), &Hold::nothing()).await?;
    let value = value.ok_or_else(missing)?;
    match (value.bytes.len() as u64) < COPIED_BYTES {
        true => value.copied(cache),
        false => Ok(value),
    }
}

/// A tensor that was read. Two are the same where nothing can tell them apart: of one version, and read at one time.
#[derive(Clone)]
struct Read(Arc<StructArray>);

impl Read {
    fn new(value: Value) -> DfResult<Self> {
        let buffer = Buffer::from(value.bytes.clone());
        let mut made = Builder::new(vec![buffer], 1);
        made.append(value.dtype, &value.shape, &value.bytes, Some((0, 0)))?;
        Ok(Self(Arc::new(made.finish()?)))
    }
}

impl PartialEq for Read {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Read {}

impl std::hash::Hash for Read {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.0).hash(state);
    }
}

impl fmt::Debug for Read {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Read")
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Named {
    signature: Signature,
    read: Option<Read>,
}

impl Named {
    fn new(read: Option<Read>) -> Self {
        let signature = Signature::user_defined(Volatility::Volatile);
        Self { signature, read }
    }
}

impl ScalarUDFImpl for Named {
    fn name(&self) -> &str {
        NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> DfResult<Vec<DataType>> {
        let is_text = |given: &DataType| given.is_string() || given.is_null();
        match given.len() == 2 && given.iter().all(is_text) {
            true => Ok(vec![DataType::Utf8; 2]),
            false => Err(wrong()),
        }
    }

    fn return_type(&self, _: &[DataType]) -> DfResult<DataType> {
        Ok(DataType::Struct(tensor::fields()))
    }

    fn return_field_from_args(&self, _: ReturnFieldArgs<'_>) -> DfResult<FieldRef> {
        let field: Field = tensor::field(NAME).with_nullable(true);
        Ok(Arc::new(field))
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        match &self.read {
            Some(read) => Ok(ColumnarValue::Scalar(ScalarValue::Struct(read.0.clone()))),
            None => Err(wrong()),
        }
    }
}
