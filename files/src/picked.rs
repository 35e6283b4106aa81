//! Which columns of a table are the keys and the tensors: those that are named, else the only ones that can be.

use std::sync::Arc;

use arrow_schema::{DataType, Fields, Schema};

/// The columns of what a get of the layout `opaque` returns.
const OPAQUE: [&str; 4] = ["key", "dtype", "shape", "data"];
/// Columns that a put knows by their names.
const KNOWN: [&str; 2] = ["ttl_ms", METADATA];
const METADATA: &str = "metadata";

/// What is to be found in a file.
#[derive(Clone, Debug, Default)]
pub struct ColumnMap {
    /// The column of keys, where it is not `key` or the only one that can be; within structs `name.name`.
    pub key: Option<String>,
    /// The column of tensors, where it is not `tensor` or the only one that can be.
    pub tensor: Option<String>,
    /// The column of the rows' metadata, where it is not `metadata`.
    pub metadata: Option<String>,
    /// Keys of the rows, instead of a column.
    pub keys: Option<Keys>,
    /// One tensor is wanted, under a key that is known: no column of keys is.
    pub one: bool,
    /// Keys are wanted, and nothing else.
    pub only_keys: bool,
    /// How columns are named, for messages.
    pub asked: Asked,
}

/// How who asks names columns, for messages.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    /// The column of keys.
    pub key: &'static str,
    /// How else there can be keys.
    pub keys: &'static str,
    /// The column of tensors.
    pub tensor: &'static str,
    /// The column of metadata.
    pub metadata: &'static str,
}

/// By flags of the program.
pub const BY_FLAG: Asked = Asked {
    key: "--key-column",
    keys: " (or give them with --keys FILE)",
    tensor: "--tensor-column",
    metadata: "--metadata-column",
};

impl Default for Asked {
    /// By members of a request.
    fn default() -> Asked {
        Asked {
            key: "`columns.key`",
            keys: "",
            tensor: "`columns.tensor`",
            metadata: "`columns.metadata`",
        }
    }
}

/// Keys that stand in a file of their own, in the order of the rows.
#[derive(Clone, Debug)]
pub struct Keys(Arc<[String]>);

impl From<Vec<String>> for Keys {
    fn from(keys: Vec<String>) -> Keys {
        Keys(keys.into())
    }
}

impl Keys {
    /// How many.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.len() as u64
    }

    /// `count` of them from `first` on; fewer where there are no more.
    #[must_use]
    pub fn range(&self, first: u64, count: usize) -> &[String] {
        let first = usize::try_from(first)
            .unwrap_or(usize::MAX)
            .min(self.0.len());
        let end = first.saturating_add(count).min(self.0.len());
        &self.0[first..end]
    }
}

/// The columns that are wanted of a table.
#[derive(Clone, Debug)]
pub enum Picked {
    /// These, as they are.
    Opaque(Vec<Path>),
    /// Rows.
    Rows {
        /// Their keys.
        key: KeysFrom,
        /// Their tensors.
        tensor: Path,
        /// What else is put with each, and what it is called there.
        more: Vec<(&'static str, Path)>,
    },
    /// One tensor: its leading axis is the rows.
    One(Path),
    /// Keys, and nothing else.
    Keys(Path),
}

/// Where keys stand.
#[derive(Clone, Debug)]
pub enum KeysFrom {
    /// In the table.
    Column(Path),
    /// In a file of their own.
    File(Keys),
}

/// A column, or one within structs.
pub type Path = Vec<String>;

/// Finds them, or says what is wrong.
pub fn pick(schema: &Schema, map: &ColumnMap) -> Result<Picked, String> {
    let top = |name: &str| vec![name.to_owned()];
    let has = |name: &&str| schema.column_with_name(name).is_some();
    let named = map.key.is_some() || map.tensor.is_some() || map.metadata.is_some();
    let known = KNOWN.iter().copied().filter(|name| has(name));
    if map.only_keys {
        return Ok(Picked::Keys(key_of(schema, map)?));
    }
    if map.one {
        return Ok(Picked::One(tensor_of(schema, map, true)?));
    }
    if !named && map.keys.is_none() && OPAQUE.iter().all(has) {
        let all = OPAQUE.iter().copied().chain(known).map(top);
        return Ok(Picked::Opaque(all.collect()));
    }
    let key = match &map.keys {
        Some(keys) => KeysFrom::File(keys.clone()),
        None => KeysFrom::Column(key_of(schema, map)?),
    };
    let tensor = tensor_of(schema, map, false)?;
    let named = metadata_of(schema, map)?;
    let known = known.map(|name| (name, top(name)));
    let known =
        known.filter(|(name, path)| *path != tensor && (named.is_none() || *name != METADATA));
    let mut more: Vec<_> = known.collect();
    more.extend(named.map(|path| (METADATA, path)));
    Ok(Picked::Rows { key, tensor, more })
}

impl Picked {
    /// The outermost columns that are needed.
    pub fn roots(&self) -> Vec<&str> {
        let paths: Vec<&Path> = match self {
            Picked::Opaque(all) => all.iter().collect(),
            Picked::One(one) | Picked::Keys(one) => vec![one],
            Picked::Rows { key, tensor, more } => {
                let key = match key {
                    KeysFrom::Column(key) => Some(key),
                    KeysFrom::File(_) => None,
                };
                let more = more.iter().map(|(_, path)| path);
                key.into_iter().chain([tensor]).chain(more).collect()
            }
        };
        let roots = paths.into_iter().filter_map(|path| path.first());
        roots.map(String::as_str).collect()
    }
}

/// Whether a column of that type can be keys without being said to be.
pub fn is_text(of: &DataType) -> bool {
    match of {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => true,
        DataType::Dictionary(_, values) => is_text(values),
        _ => false,
    }
}

fn is_tensor(of: &DataType) -> bool {
    match of {
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            is_tensor(item.data_type())
                || item.data_type().is_numeric()
                || *item.data_type() == DataType::Boolean
        }
        _ => false,
    }
}

fn key_of(schema: &Schema, map: &ColumnMap) -> Result<Path, String> {
    if let Some(name) = &map.key {
        let (path, found) =
            path_of(schema.fields(), name).ok_or_else(|| missing(map.asked.key, name, schema))?;
        let fits =
            is_text(&found) || found.is_integer() || matches!(found, DataType::FixedSizeBinary(_));
        return if fits {
            Ok(path)
        } else {
            Err(format!(
                "the column cannot be keys; column=`{name}` type=`{found}` expected strings, integers or fixed-size binary"
            ))
        };
    }
    only(
        "key",
        &format!("{}{}", map.asked.key, map.asked.keys),
        "strings",
        schema,
        is_text,
    )
}

fn tensor_of(schema: &Schema, map: &ColumnMap, one: bool) -> Result<Path, String> {
    if let Some(name) = &map.tensor {
        let (path, _) = path_of(schema.fields(), name)
            .ok_or_else(|| missing(map.asked.tensor, name, schema))?;
        return Ok(path);
    }
    if let (true, [field]) = (one, &schema.fields()[..]) {
        return Ok(vec![field.name().clone()]);
    }
    only(
        "tensor",
        map.asked.tensor,
        "lists of numbers",
        schema,
        is_tensor,
    )
}

fn metadata_of(schema: &Schema, map: &ColumnMap) -> Result<Option<Path>, String> {
    let Some(name) = &map.metadata else {
        return Ok(None);
    };
    match path_of(schema.fields(), name) {
        Some((path, DataType::Map(..))) => Ok(Some(path)),
        Some((_, found)) => Err(format!(
            "the column cannot be metadata; column=`{name}` type=`{found}` expected a map of strings to strings"
        )),
        None => Err(missing(map.asked.metadata, name, schema)),
    }
}

/// The column of that name, or the only one of its kind.
fn only(
    name: &str,
    flag: &str,
    kind: &str,
    schema: &Schema,
    is: fn(&DataType) -> bool,
) -> Result<Path, String> {
    if schema.column_with_name(name).is_some() {
        return Ok(vec![name.to_owned()]);
    }
    let candidates: Vec<&str> = schema
        .fields()
        .iter()
        .filter(|field| is(field.data_type()))
        .map(|field| field.name().as_str())
        .collect();
    match candidates[..] {
        [one] => Ok(vec![one.to_owned()]),
        [] => Err(format!(
            "no column is the {name}s: none has {kind}; say which with {flag}; columns=`{}`",
            names(schema)
        )),
        _ => Err(format!(
            "several columns could be the {name}s; say which with {flag}; candidates=`{}`",
            candidates.join(", ")
        )),
    }
}

fn path_of(fields: &Fields, name: &str) -> Option<(Path, DataType)> {
    if let Some((_, field)) = fields.find(name) {
        return Some((vec![name.to_owned()], field.data_type().clone()));
    }
    // A name may have dots in it, so each could be the one that ends it.
    name.match_indices('.').find_map(|(dot, _)| {
        let (_, field) = fields.find(&name[..dot])?;
        let DataType::Struct(inner) = field.data_type() else {
            return None;
        };
        let (mut path, found) = path_of(inner, &name[dot + 1..])?;
        path.insert(0, name[..dot].to_owned());
        Some((path, found))
    })
}

fn missing(flag: &str, name: &str, schema: &Schema) -> String {
    format!(
        "{flag} names no column; column=`{name}` columns=`{}`",
        names(schema)
    )
}

fn names(schema: &Schema) -> String {
    let all: Vec<&str> = schema
        .fields()
        .iter()
        .map(|field| field.name().as_str())
        .collect();
    all.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_schema::Field;

    fn schema(columns: &[(&str, DataType)]) -> Schema {
        let fields: Vec<Field> = columns
            .iter()
            .map(|(name, of)| Field::new(*name, of.clone(), true))
            .collect();
        Schema::new(fields)
    }

    fn list(of: DataType) -> DataType {
        DataType::new_list(of, true)
    }

    #[test]
    fn the_only_ones_are_found_and_others_are_asked_for() {
        let find = |columns: &[(&str, DataType)], map: &ColumnMap| match pick(&schema(columns), map)
        {
            Ok(picked) => picked.roots().join(","),
            Err(told) => told,
        };
        let plain = ColumnMap::default();
        let word = ("word", DataType::Utf8View);
        let vector = ("v", list(DataType::Float32));
        assert_eq!(
            find(
                &[word.clone(), ("n", DataType::Int64), vector.clone()],
                &plain
            ),
            "word,v"
        );
        let more = [word.clone(), ("title", DataType::Utf8), vector.clone()];
        let told = find(&more, &plain);
        assert!(told.contains("candidates=`word, title`"), "{told}");
        let by_name = ColumnMap {
            key: Some("title".to_owned()),
            ..ColumnMap::default()
        };
        assert_eq!(find(&more, &by_name), "title,v");
        let told = find(std::slice::from_ref(&word), &plain);
        assert!(
            told.contains("no column is the tensors") && told.contains("columns=`word`"),
            "{told}"
        );
        let inner = DataType::Struct(Fields::from(vec![Field::new(
            "e.1",
            list(DataType::Float64),
            true,
        )]));
        let within = ColumnMap {
            tensor: Some("s.e.1".to_owned()),
            ..ColumnMap::default()
        };
        assert_eq!(find(&[word, ("s", inner)], &within), "word,s");
        let opaque = [
            ("key", DataType::Utf8),
            ("dtype", DataType::Utf8),
            ("shape", list(DataType::Int64)),
            ("data", DataType::LargeBinary),
            ("ttl_ms", DataType::Int64),
        ];
        assert_eq!(find(&opaque, &plain), "key,dtype,shape,data,ttl_ms");
    }
}
