//! Which columns of a table are the keys and the tensors: those that are named, else the only ones that can be.

use arrow_schema::{DataType, Fields, Schema};

use crate::format::{Keys, Options};

/// The columns of what a get of the layout `opaque` returns.
const OPAQUE: [&str; 4] = ["key", "dtype", "shape", "data"];
/// Columns that a put knows by their names.
const KNOWN: [&str; 2] = ["ttl_ms", "metadata"];

/// The columns that are wanted of a table.
pub enum Picked {
    /// These, as they are.
    Opaque(Vec<Path>),
    /// Rows.
    Rows {
        /// Their keys.
        key: KeysFrom,
        /// Their tensors.
        tensor: Path,
        /// What else is put with each.
        more: Vec<Path>,
    },
    /// One tensor: its leading axis is the rows.
    One(Path),
    /// Keys, and nothing else.
    Keys(Path),
}

/// Where keys stand.
pub enum KeysFrom {
    /// In the table.
    Column(Path),
    /// In a file of their own.
    File(Keys),
}

/// A column, or one within structs.
pub type Path = Vec<String>;

/// Finds them, or says what is wrong.
pub fn pick(schema: &Schema, options: &Options) -> Result<Picked, String> {
    let top = |name: &str| vec![name.to_owned()];
    let has = |name: &&str| schema.column_with_name(name).is_some();
    let named = options.key_column.is_some() || options.tensor_column.is_some();
    let known = KNOWN.iter().filter(|name| has(name)).map(|name| top(name));
    if options.only_keys {
        return Ok(Picked::Keys(key_of(schema, options)?));
    }
    if options.one {
        return Ok(Picked::One(tensor_of(schema, options, true)?));
    }
    if !named && options.keys.is_none() && OPAQUE.iter().all(has) {
        let all = OPAQUE.iter().map(|name| top(name)).chain(known);
        return Ok(Picked::Opaque(all.collect()));
    }
    let key = match &options.keys {
        Some(keys) => KeysFrom::File(keys.clone()),
        None => KeysFrom::Column(key_of(schema, options)?),
    };
    let tensor = tensor_of(schema, options, false)?;
    let more = known.filter(|path| *path != tensor).collect();
    Ok(Picked::Rows { key, tensor, more })
}

impl Picked {
    /// The outermost columns that are needed.
    pub fn roots(&self) -> Vec<&str> {
        let (some, more): (Vec<&Path>, &[Path]) = match self {
            Picked::Opaque(all) => (Vec::new(), all),
            Picked::One(one) | Picked::Keys(one) => (vec![one], &[]),
            Picked::Rows {
                key: KeysFrom::Column(key),
                tensor,
                more,
            } => (vec![key, tensor], more),
            Picked::Rows { tensor, more, .. } => (vec![tensor], more),
        };
        some.into_iter()
            .chain(more)
            .filter_map(|path| path.first().map(String::as_str))
            .collect()
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

fn key_of(schema: &Schema, options: &Options) -> Result<Path, String> {
    if let Some(name) = &options.key_column {
        let (path, found) =
            path_of(schema.fields(), name).ok_or_else(|| missing("--key-column", name, schema))?;
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
        "--key-column (or give them with --keys FILE)",
        "strings",
        schema,
        is_text,
    )
}

fn tensor_of(schema: &Schema, options: &Options, one: bool) -> Result<Path, String> {
    if let Some(name) = &options.tensor_column {
        let (path, _) = path_of(schema.fields(), name)
            .ok_or_else(|| missing("--tensor-column", name, schema))?;
        return Ok(path);
    }
    if let (true, [field]) = (one, &schema.fields()[..]) {
        return Ok(vec![field.name().clone()]);
    }
    only(
        "tensor",
        "--tensor-column",
        "lists of numbers",
        schema,
        is_tensor,
    )
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
        let find =
            |columns: &[(&str, DataType)], options: &Options| match pick(&schema(columns), options)
            {
                Ok(picked) => picked.roots().join(","),
                Err(told) => told,
            };
        let plain = Options::default();
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
        let by_name = Options {
            key_column: Some("title".to_owned()),
            ..Options::default()
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
        let within = Options {
            tensor_column: Some("s.e.1".to_owned()),
            ..Options::default()
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
