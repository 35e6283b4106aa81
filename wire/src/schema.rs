//! The schemas that we send, written straight into the flatbuffer of the message: a small get
//! pays for this each time, so there is no `arrow_schema::Schema` with its maps in between.

use std::fmt::Write;

use arrow_ipc::{
    Field, FieldBuilder, FixedSizeListBuilder, FloatingPointBuilder, IntBuilder, KeyValue,
    KeyValueBuilder, LargeBinaryBuilder, ListBuilder, MapBuilder, MessageHeader, NullBuilder,
    Precision, SchemaBuilder, Struct_Builder, Type, Utf8Builder,
};
use bytes::{BufMut, Bytes, BytesMut};
use flatbuffers::{FlatBufferBuilder, ForwardsUOffset, UnionWIPOffset, Vector, WIPOffset};
use smallvec::SmallVec;

use crate::dtype::DType;
use crate::error::Result;
use crate::extension;
use crate::form::Form;
use crate::ipc_write::{finish, padded};
use crate::metadata::Metadata;
use crate::shape::Shape;
use crate::ticket::With;
use crate::version::Version;

/// Schema and field metadata: the logical shape, as JSON.
pub const SHAPE_KEY: &str = "tensor.shape";
/// Schema and field metadata: the dtype's name.
pub const DTYPE_KEY: &str = "tensor.dtype";
/// Schema metadata of a get of one tensor.
pub const NAMESPACE_KEY: &str = "tensor.namespace";
/// Schema metadata of a get of one tensor.
pub const KEY_KEY: &str = "tensor.key";
/// Schema metadata of a get of one tensor.
pub const VERSION_KEY: &str = "tensor.version";
/// Schema metadata of a get of one tensor: xxh3-128 of the C-order bytes, 32 hex digits.
pub const CHECKSUM_KEY: &str = "tensor.checksum";
/// Before each name of the entry's own metadata.
pub const USER_PREFIX: &str = "user.";

/// A stream that we send, as far as its schema goes.
#[derive(Clone, Debug)]
pub enum StreamSchema<'a> {
    /// One tensor: one column `tensor`.
    Tensor {
        /// Its element type.
        dtype: DType,
        /// Its logical shape; of a range of rows, the range's.
        shape: &'a Shape,
        /// One primitive column of all values, instead of the leading axis as rows.
        flat: bool,
        /// What the schema's metadata says beside dtype and shape.
        tags: Tags<'a>,
    },
    /// Many tensors of one dtype and shape: `key`, `tensor` and the columns of `with`.
    Rows {
        /// Their element type.
        dtype: DType,
        /// The shape of each.
        shape: &'a Shape,
        /// Rows without a tensor are null.
        nullable: bool,
        /// More columns, in this order.
        with: &'a [With],
    },
    /// Tensors of any dtypes and shapes: `key`, `dtype`, `shape`, `data` and those of `with`.
    Opaque {
        /// Rows without a tensor are null.
        nullable: bool,
        /// More columns, in this order.
        with: &'a [With],
    },
    /// Many tensors of which nothing is known: `key: utf8, tensor: null`.
    Unknown,
}

/// What the schema of one tensor says of it.
#[derive(Clone, Copy, Debug)]
pub struct Tags<'a> {
    /// Where it is.
    pub namespace: &'a str,
    /// Its name.
    pub key: &'a str,
    /// Which one it is.
    pub version: Version,
    /// Of all its bytes; `None` where only rows were asked for.
    pub checksum: Option<u128>,
    /// Its own metadata.
    pub metadata: &'a Metadata,
}

impl StreamSchema<'_> {
    /// The schema as an IPC message: `data_header` of the stream's first message.
    ///
    /// # Errors
    /// As [`Form::rows`], for tensors that cannot be sent so.
    pub fn message(&self) -> Result<Bytes> {
        let mut writer = Writer {
            fbb: FlatBufferBuilder::with_capacity(1536),
            text: String::with_capacity(64),
        };
        let (fields, metadata) = match self {
            StreamSchema::Tensor {
                dtype,
                shape,
                flat,
                tags,
            } => {
                let form = if *flat {
                    Form::flat(*dtype, shape)?
                } else {
                    Form::rows(*dtype, shape)?
                };
                let fields = Fields::from_slice(&[writer.tensor(*dtype, &form, false)]);
                (fields, writer.tags(*dtype, shape, tags))
            }
            StreamSchema::Rows {
                dtype,
                shape,
                nullable,
                with,
            } => {
                let form = Form::entries(*dtype, shape, 0)?;
                let mut fields = Fields::new();
                fields.push(writer.utf8("key", false));
                fields.push(writer.tensor(*dtype, &form, *nullable));
                fields.extend(with.iter().map(|with| writer.with(*with, *nullable)));
                (fields, Pairs::new())
            }
            StreamSchema::Opaque { nullable, with } => {
                let mut fields = Fields::new();
                fields.push(writer.utf8("key", false));
                fields.push(writer.utf8("dtype", *nullable));
                fields.push(writer.shape_list(*nullable));
                fields.push(writer.binary("data", *nullable));
                fields.extend(with.iter().map(|with| writer.with(*with, *nullable)));
                (fields, Pairs::new())
            }
            StreamSchema::Unknown => {
                let fields = [writer.utf8("key", false), writer.null("tensor")];
                (Fields::from_slice(&fields), Pairs::new())
            }
        };
        Ok(writer.finish(&fields, &metadata))
    }

    /// [`StreamSchema::message`] behind its length, as FlightInfo and SchemaResult carry it.
    ///
    /// # Errors
    /// As [`StreamSchema::message`].
    pub fn encapsulated(&self) -> Result<Bytes> {
        self.message().map(|message| encapsulate(&message))
    }
}

/// A message behind the continuation marker and its length, padded to 8 bytes.
pub fn encapsulate(message: &[u8]) -> Bytes {
    let len = padded(message.len() as u64);
    let mut out = BytesMut::with_capacity(message.len() + 16);
    out.put_slice(&[0xff; 4]);
    // A message of ours is some kilobytes.
    out.put_u32_le(u32::try_from(len).unwrap_or(u32::MAX));
    out.put_slice(message);
    out.put_bytes(
        0,
        usize::try_from(len)
            .unwrap_or(0)
            .saturating_sub(message.len()),
    );
    out.freeze()
}

type Fields<'b> = SmallVec<[WIPOffset<Field<'b>>; 4]>;
type Pairs<'b> = SmallVec<[WIPOffset<KeyValue<'b>>; 8]>;
type Children<'b> = WIPOffset<Vector<'b, ForwardsUOffset<Field<'b>>>>;
type Kind = (Type, WIPOffset<UnionWIPOffset>);

struct Writer<'b> {
    fbb: FlatBufferBuilder<'b>,
    /// For values that are not text yet.
    text: String,
}

impl<'b> Writer<'b> {
    fn tags(&mut self, dtype: DType, shape: &Shape, tags: &Tags<'_>) -> Pairs<'b> {
        let mut pairs = Pairs::new();
        pairs.push(self.pair_of(SHAPE_KEY, format_args!("{shape}")));
        pairs.push(self.pair(DTYPE_KEY, dtype.name()));
        pairs.push(self.pair(NAMESPACE_KEY, tags.namespace));
        pairs.push(self.pair(KEY_KEY, tags.key));
        pairs.push(self.pair_of(VERSION_KEY, format_args!("{}", tags.version)));
        if let Some(checksum) = tags.checksum {
            pairs.push(self.pair_of(CHECKSUM_KEY, format_args!("{checksum:032x}")));
        }
        for (name, value) in tags.metadata.iter() {
            self.text.clear();
            self.text.push_str(USER_PREFIX);
            self.text.push_str(name);
            let name = self.fbb.create_string(&self.text);
            let value = self.fbb.create_string(value);
            pairs.push(self.finish_pair(name, value));
        }
        pairs
    }

    fn tensor(&mut self, dtype: DType, form: &Form, nullable: bool) -> WIPOffset<Field<'b>> {
        let mut metadata = Pairs::new();
        if !dtype.is_native() {
            metadata.push(self.pair(DTYPE_KEY, dtype.name()));
        }
        let Some(cell) = &form.cell else {
            let kind = self.storage(dtype);
            return self.leaf("tensor", nullable, kind, &metadata);
        };
        metadata.push(self.pair(extension::NAME_KEY, extension::FIXED_SHAPE_TENSOR));
        metadata.push(self.pair(extension::METADATA_KEY, &extension::encode(cell)));
        let kind = self.storage(dtype);
        let item = self.leaf("item", false, kind, &[]);
        let mut list = FixedSizeListBuilder::new(&mut self.fbb);
        // `Form` keeps a row under 1 GiB.
        list.add_listSize(i32::try_from(form.row_values).unwrap_or(i32::MAX));
        let list = list.finish().as_union_value();
        self.parent(
            "tensor",
            nullable,
            (Type::FixedSizeList, list),
            &[item],
            &metadata,
        )
    }

    fn with(&mut self, with: With, nullable: bool) -> WIPOffset<Field<'b>> {
        match with {
            With::Version | With::Checksum => self.utf8(with.as_str(), nullable),
            With::Metadata => {
                let children = [self.utf8("key", false), self.utf8("value", false)];
                let entries = Struct_Builder::new(&mut self.fbb).finish().as_union_value();
                let entries =
                    self.parent("entries", false, (Type::Struct_, entries), &children, &[]);
                let map = MapBuilder::new(&mut self.fbb).finish().as_union_value();
                self.parent(with.as_str(), nullable, (Type::Map, map), &[entries], &[])
            }
            With::TtlMs | With::SourceVersion => {
                let kind = self.int(64, true);
                // Null means that the entry does not expire, or that its source gave none.
                self.leaf(with.as_str(), true, kind, &[])
            }
        }
    }

    fn utf8(&mut self, name: &str, nullable: bool) -> WIPOffset<Field<'b>> {
        let kind = Utf8Builder::new(&mut self.fbb).finish().as_union_value();
        self.leaf(name, nullable, (Type::Utf8, kind), &[])
    }

    fn binary(&mut self, name: &str, nullable: bool) -> WIPOffset<Field<'b>> {
        let kind = LargeBinaryBuilder::new(&mut self.fbb)
            .finish()
            .as_union_value();
        self.leaf(name, nullable, (Type::LargeBinary, kind), &[])
    }

    fn null(&mut self, name: &str) -> WIPOffset<Field<'b>> {
        let kind = NullBuilder::new(&mut self.fbb).finish().as_union_value();
        self.leaf(name, true, (Type::Null, kind), &[])
    }

    fn shape_list(&mut self, nullable: bool) -> WIPOffset<Field<'b>> {
        let kind = self.int(64, true);
        let item = self.leaf("item", false, kind, &[]);
        let list = ListBuilder::new(&mut self.fbb).finish().as_union_value();
        self.parent("shape", nullable, (Type::List, list), &[item], &[])
    }

    /// The Arrow type of one storage value.
    fn storage(&mut self, dtype: DType) -> Kind {
        match dtype {
            DType::Int8 => self.int(8, true),
            DType::Int16 => self.int(16, true),
            DType::Int32 => self.int(32, true),
            DType::Int64 => self.int(64, true),
            DType::UInt8 | DType::Bool | DType::Float8E4M3Fn | DType::Float8E5M2 => {
                self.int(8, false)
            }
            DType::UInt16 | DType::BFloat16 => self.int(16, false),
            DType::UInt32 => self.int(32, false),
            DType::UInt64 => self.int(64, false),
            DType::Float16 => self.float(Precision::HALF),
            DType::Float32 | DType::Complex64 => self.float(Precision::SINGLE),
            DType::Float64 | DType::Complex128 => self.float(Precision::DOUBLE),
        }
    }

    fn int(&mut self, bits: i32, signed: bool) -> Kind {
        let mut int = IntBuilder::new(&mut self.fbb);
        int.add_bitWidth(bits);
        int.add_is_signed(signed);
        (Type::Int, int.finish().as_union_value())
    }

    fn float(&mut self, precision: Precision) -> Kind {
        let mut float = FloatingPointBuilder::new(&mut self.fbb);
        float.add_precision(precision);
        (Type::FloatingPoint, float.finish().as_union_value())
    }

    /// A field without children; some readers want an empty list of them, not none.
    fn leaf(
        &mut self,
        name: &str,
        nullable: bool,
        kind: Kind,
        metadata: &[WIPOffset<KeyValue<'b>>],
    ) -> WIPOffset<Field<'b>> {
        self.parent(name, nullable, kind, &[], metadata)
    }

    fn parent(
        &mut self,
        name: &str,
        nullable: bool,
        (type_type, type_): Kind,
        children: &[WIPOffset<Field<'b>>],
        metadata: &[WIPOffset<KeyValue<'b>>],
    ) -> WIPOffset<Field<'b>> {
        let name = self.fbb.create_string(name);
        let children: Children<'b> = self.fbb.create_vector(children);
        let metadata = (!metadata.is_empty()).then(|| self.fbb.create_vector(metadata));
        let mut field = FieldBuilder::new(&mut self.fbb);
        if let Some(metadata) = metadata {
            field.add_custom_metadata(metadata);
        }
        field.add_children(children);
        field.add_type_(type_);
        field.add_name(name);
        field.add_type_type(type_type);
        field.add_nullable(nullable);
        field.finish()
    }

    fn pair(&mut self, name: &str, value: &str) -> WIPOffset<KeyValue<'b>> {
        let name = self.fbb.create_string(name);
        let value = self.fbb.create_string(value);
        self.finish_pair(name, value)
    }

    fn pair_of(&mut self, name: &str, value: std::fmt::Arguments<'_>) -> WIPOffset<KeyValue<'b>> {
        self.text.clear();
        // Writing into a string cannot fail.
        let _ = self.text.write_fmt(value);
        let name = self.fbb.create_string(name);
        let value = self.fbb.create_string(&self.text);
        self.finish_pair(name, value)
    }

    fn finish_pair(
        &mut self,
        name: WIPOffset<&'b str>,
        value: WIPOffset<&'b str>,
    ) -> WIPOffset<KeyValue<'b>> {
        let mut pair = KeyValueBuilder::new(&mut self.fbb);
        pair.add_value(value);
        pair.add_key(name);
        pair.finish()
    }

    fn finish(
        mut self,
        fields: &[WIPOffset<Field<'b>>],
        metadata: &[WIPOffset<KeyValue<'b>>],
    ) -> Bytes {
        let fields = self.fbb.create_vector(fields);
        let metadata = (!metadata.is_empty()).then(|| self.fbb.create_vector(metadata));
        let mut schema = SchemaBuilder::new(&mut self.fbb);
        if let Some(metadata) = metadata {
            schema.add_custom_metadata(metadata);
        }
        schema.add_fields(fields);
        let schema = schema.finish().as_union_value();
        finish(self.fbb, MessageHeader::Schema, schema, 0)
    }
}
