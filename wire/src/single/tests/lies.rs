//! Schemas and batches that are no tensors, or lie about one.

use super::*;

#[test]
fn nulls_are_refused_with_the_column() {
    let array = Float32Array::from(vec![Some(1.0), None]);
    let batch = one_column(
        Field::new("weights", DataType::Float32, true),
        Arc::new(array),
    );
    let refused = put(&[batch]).err().unwrap().to_string();
    assert!(refused.contains("column=`weights` nulls=`1`"), "{refused}");
    // In a child too; and a bitmap of ones is no null.
    let values = Float32Array::from(vec![Some(1.0), None]);
    let list = cells(Arc::new(values), 2);
    let field = Field::new("t", list.data_type().clone(), true);
    assert!(put(&[one_column(field, Arc::new(list))]).is_err());
    let ones = arrow_buffer::NullBuffer::new_valid(2);
    let array = Float32Array::new(vec![1.0, 2.0].into(), Some(ones));
    let batch = one_column(Field::new("t", DataType::Float32, true), Arc::new(array));
    assert_eq!(dims(&put(&[batch]).unwrap()), [2]);
}

#[test]
fn types_that_are_no_tensors_are_refused_by_name() {
    let int = || Arc::new(Field::new("item", DataType::Int32, true));
    let list = |child: DataType| DataType::new_list(child, true);
    let union = arrow_schema::UnionFields::from_fields(vec![Field::new("a", DataType::Int8, true)]);
    let run_ends = Arc::new(Field::new("run_ends", DataType::Int32, false));
    for (storage, says) in [
        (DataType::Utf8, "type=`Utf8`"),
        (DataType::Null, "type=`Null`"),
        (DataType::Date32, "type=`Date`"),
        (DataType::Utf8View, "type=`Utf8View`"),
        (DataType::Decimal128(5, 2), "type=`Decimal`"),
        (DataType::Struct(vec![int()].into()), "type=`Struct_`"),
        (DataType::ListView(int()), "type=`ListView`"),
        (
            DataType::Union(union, arrow_schema::UnionMode::Sparse),
            "type=`Union`",
        ),
        (
            DataType::RunEndEncoded(run_ends, int()),
            "type=`RunEndEncoded`",
        ),
        (
            DataType::Dictionary(DataType::Int8.into(), DataType::Float32.into()),
            "type=`Dictionary`",
        ),
        (list(list(DataType::Int8)), "type=`List` inside a list"),
        (
            DataType::new_fixed_size_list(list(DataType::Int8), 2, true),
            "inside a list",
        ),
        (list(DataType::Utf8), "type=`Utf8` inside a list"),
    ] {
        let refused = schema_refused(Field::new("t", storage, true), &[]);
        assert!(
            refused.contains(says) && refused.contains("column=`t`"),
            "{refused}"
        );
        assert!(refused.starts_with("invalid_argument: "), "{refused}");
    }
}

#[test]
fn schema_lies_are_refused() {
    let six = || DataType::new_fixed_size_list(DataType::Int8, 6, false);
    let deep = (0..65).fold(DataType::Int8, |child, _| {
        DataType::new_fixed_size_list(child, 1, true)
    });
    let legal = (0..31).fold(DataType::Int8, |child, _| {
        DataType::new_fixed_size_list(child, 1, true)
    });
    let huge = (0..5).fold(DataType::Int8, |child, _| {
        DataType::new_fixed_size_list(child, i32::MAX, true)
    });
    for (field, says) in [
        (
            tensor_field(six(), r#"{"shape":[7]}"#),
            "does not agree with its storage",
        ),
        (tensor_field(six(), r#"{"shape":[-6]}"#), "negative axis"),
        (
            tensor_field(six(), r#"{"shape":[4611686018427387904,4]}"#),
            "too large",
        ),
        (
            tensor_field(six(), "null"),
            "metadata of arrow.fixed_shape_tensor",
        ),
        (
            tensor_field(six(), ""),
            "metadata of arrow.fixed_shape_tensor",
        ),
        (tensor_field(DataType::Int8, r#"{"shape":[]}"#), "no tensor"),
        (
            tensor_field(DataType::new_list(DataType::Int8, true), r#"{"shape":[1]}"#),
            "no tensor",
        ),
        (Field::new("t", deep, true), "nests too deeply"),
        (Field::new("t", huge, true), "too large"),
        (
            Field::new(
                "t",
                DataType::new_fixed_size_list(DataType::Int8, -1, true),
                true,
            ),
            "contradicts itself",
        ),
        (
            tagged(
                Field::new("t", DataType::Int8, true),
                &[("tensor.dtype", "float4")],
            ),
            "unknown dtype",
        ),
        (
            tagged(
                Field::new("t", six(), true),
                &[("tensor.dtype", "complex64")],
            ),
            "does not agree",
        ),
    ] {
        let refused = schema_refused(field, &[]);
        assert!(refused.contains(says), "{refused} / {says}");
        assert!(refused.starts_with("invalid_argument: "), "{refused}");
    }
    let (schema, _) = written_by_arrow(&ArrowSchema::new(vec![Field::new("t", legal, true)]), &[]);
    assert_eq!(
        parse(&schema).unwrap().final_shape(0, None).unwrap().rank(),
        32
    );
    let refused = schema_refused(
        Field::new("t", DataType::Int8, true),
        &[("tensor.dtype", "bool")],
    );
    assert!(refused.contains("does not agree"), "{refused}");
    let triple = DataType::new_fixed_size_list(DataType::Float32, 3, true);
    let field = tagged(
        Field::new("t", triple, true),
        &[("tensor.dtype", "complex64")],
    );
    assert!(schema_refused(field, &[]).contains("last axis of 2"));
}

fn schema_refused(field: Field, metadata: &[(&str, &str)]) -> String {
    let metadata = metadata
        .iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
        .collect();
    let schema = ArrowSchema::new(vec![field]).with_metadata(metadata);
    let (schema, _) = written_by_arrow(&schema, &[]);
    parse(&schema).err().unwrap().to_string()
}
