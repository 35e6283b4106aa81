use bowstring_wire::error::Code;
use half::{bf16, f16};

use super::*;

pub const DTYPES: [DType; 5] = [
    DType::Float16,
    DType::BFloat16,
    DType::Float32,
    DType::Float64,
    DType::Int8,
];

/// Values that each of these dtypes has exactly, in no order.
fn values(count: usize, seed: usize) -> Vec<f64> {
    let value = |n: usize| ((n * 37 + seed * 101) % 127) as f64 - 63.0;
    (0..count).map(value).collect()
}

pub fn bytes(dtype: DType, values: &[f64]) -> Vec<u8> {
    let each = |value: &f64| match dtype {
        DType::Float16 => f16::from_f64(*value).to_le_bytes().to_vec(),
        DType::BFloat16 => bf16::from_f64(*value).to_le_bytes().to_vec(),
        DType::Float32 => (*value as f32).to_le_bytes().to_vec(),
        DType::Float64 => value.to_le_bytes().to_vec(),
        _ => vec![(*value as i8) as u8],
    };
    values.iter().flat_map(each).collect()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn close(found: Option<f64>, expected: f64) -> bool {
    found.is_some_and(|found| (found - expected).abs() <= 1e-6 * expected.abs().max(1e-3))
}

#[tokio::test(flavor = "multi_thread")]
async fn measures_are_those_of_the_plain_formulas_for_each_dtype_and_length() {
    let bed = Bed::new();
    for (of, dtype) in DTYPES.into_iter().enumerate() {
        for count in [1, 15, 16, 50, 256, 257, 1_000, 40_000] {
            let (a, b) = (values(count, of), values(count, of + 3));
            let shape = [count as u64];
            for (key, values) in [("a", &a), ("b", &b)] {
                bed.put_as("m", key, dtype, &shape, &bytes(dtype, values))
                    .await;
            }
            let difference: Vec<f64> = a.iter().zip(&b).map(|(a, b)| a - b).collect();
            let (norm_a, norm_b) = (dot(&a, &a).sqrt(), dot(&b, &b).sqrt());
            let least = a.iter().copied().fold(f64::MAX, f64::min);
            let most = a.iter().copied().fold(f64::MIN, f64::max);
            let at = |value: f64| a.iter().position(|v| *v == value).unwrap() as f64;
            let expected = [
                if norm_a * norm_b == 0.0 {
                    0.0
                } else {
                    dot(&a, &b) / norm_a / norm_b
                },
                dot(&difference, &difference).sqrt(),
                dot(&a, &b),
                norm_a,
                a.iter().sum::<f64>() / count as f64,
                least,
                most,
                at(least),
                at(most),
            ];
            let one = "norm(a.value), tensor_mean(a.value), tensor_min(a.value), tensor_max(a.value), argmin(a.value), \
                       argmax(a.value)";
            let two = |b: &str| {
                format!(
                    "cosine_similarity(a.value, {b}), l2_distance(a.value, {b}), dot(a.value, {b})"
                )
            };
            let constant = two("tensor('m', 'b')");
            let texts = [
                format!("SELECT {constant}, {one} FROM tensors a WHERE a.key = 'a'"),
                format!("SELECT {constant}, {one} FROM ns.m a WHERE a.key = 'a'"),
                format!(
                    "SELECT {}, {one} FROM tensors a JOIN tensors b ON b.key = 'b' WHERE a.key = 'a'",
                    two("b.value")
                ),
            ];
            for text in texts {
                let found = bed.numbers(&text).await;
                assert_eq!(found.len(), 1, "{text}");
                for (found, expected) in found[0].iter().zip(expected) {
                    assert!(
                        close(*found, expected),
                        "{dtype} × {count}: {found:?} for {expected} in {text}"
                    );
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn dtypes_may_be_mixed_and_a_vector_be_a_list() {
    let bed = Bed::new();
    let a = [1.0, -2.0, 3.0];
    for dtype in DTYPES {
        bed.put_as("m", dtype.name(), dtype, &[3], &bytes(dtype, &a))
            .await;
    }
    let each = "SELECT dot(a.value, b.value) FROM tensors a CROSS JOIN tensors b";
    assert_eq!(bed.numbers(each).await, vec![vec![Some(14.0)]; 25]);
    for list in [
        "[1, 2, 3]",
        "[1.0, 2, 3]",
        "arrow_cast([1, 2, 3], 'List(Float16)')",
        "arrow_cast([1, 2, 3], 'FixedSizeList(3, Float32)')",
    ] {
        let found = bed
            .numbers(&format!(
                "SELECT dot(value, {list}), dot({list}, value) FROM tensors"
            ))
            .await;
        assert_eq!(found, vec![vec![Some(6.0), Some(6.0)]; 5], "{list}");
    }
    assert_eq!(
        bed.numbers("SELECT dot([1, 2], [3, 4]), norm([3, 4])")
            .await,
        [[Some(11.0), Some(5.0)]]
    );
    // A list of each row.
    let rows = "SELECT norm(column1) FROM (VALUES ([3.0, 4.0]), ([5.0, 12.0]), (NULL))";
    assert_eq!(bed.numbers(rows).await, [[Some(5.0)], [Some(13.0)], [None]]);
    let plan = bed
        .sql
        .plan(
            &Tenant::public(),
            "SELECT dot(value, ?) FROM tensors WHERE key = 'int8'",
        )
        .await
        .unwrap();
    let list =
        arrow_array::ListArray::from_iter_primitive::<arrow_array::types::Float32Type, _, _>([
            Some([1.0, 2.0, 3.0].map(Some)),
        ]);
    let row = RecordBatch::try_from_iter([("1", Arc::new(list) as _)]).unwrap();
    let bound = bed.sql.bind(&plan, &row).await.unwrap();
    let mut answer = bed.sql.run(&bound, Ok).await.unwrap();
    assert_eq!(rows_of(answer.next().await.unwrap().unwrap()), ["6.0"]);
}

fn rows_of(batch: RecordBatch) -> Vec<String> {
    rows(&[batch])
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_null_gives_null() {
    let bed = Bed::new();
    bed.put("m", "a", &[1.0, 2.0]).await;
    for call in [
        "dot(value, NULL)",
        "cosine_similarity(NULL, value)",
        "dot(value, [1.0, NULL])",
        "norm(NULL)",
        "argmax(NULL)",
        "element(value, NULL)",
        "slice(value, NULL, 1)",
        "slice(value, 0, NULL)",
        "to_list(NULL)",
        "to_binary(NULL)",
        "histogram(value, NULL, 0, 1)",
        "histogram(NULL, 1, 0, 1)",
        "norm(slice(value, NULL, 1))",
    ] {
        let text = format!("SELECT {call} IS NULL FROM tensors");
        assert_eq!(bed.one(&text).await, "true", "{call}");
    }
    let joined = "SELECT norm(b.value), dot(a.value, b.value), slice(b.value, 0, 1) IS NULL \
                  FROM tensors a LEFT JOIN tensors b ON b.key = a.key || 'x'";
    assert_eq!(bed.numbers(joined).await, [[None, None, Some(1.0)]]);
}

#[tokio::test(flavor = "multi_thread")]
async fn empty_zero_and_not_a_number_are_what_the_page_says() {
    let bed = Bed::new();
    bed.put("m", "empty", &[]).await;
    bed.put("m", "zero", &[0.0, 0.0]).await;
    bed.put("m", "nan", &[1.0, f32::NAN]).await;
    bed.put("m", "inf", &[f32::INFINITY, 1.0]).await;
    bed.put("m", "huge", &[1e30, 1e30]).await;
    bed.put("m", "tiny", &[1e-30, 1e-30]).await;
    let of = |call: &str, key: &str| format!("SELECT {call} FROM tensors WHERE key = '{key}'");
    let one = async |call: &str, key: &str| bed.numbers(&of(call, key)).await[0][0];
    for call in [
        "norm(value)",
        "cosine_similarity(value, [])",
        "l2_distance(value, [])",
        "dot(value, [])",
    ] {
        assert_eq!(one(call, "empty").await, Some(0.0), "{call}");
    }
    for call in [
        "tensor_mean(value)",
        "tensor_min(value)",
        "tensor_max(value)",
        "argmin(value)",
        "argmax(value)",
    ] {
        assert_eq!(one(call, "empty").await, None, "{call}");
    }
    assert_eq!(
        one("cosine_similarity(value, [1, 2])", "zero").await,
        Some(0.0)
    );
    for call in [
        "norm(value)",
        "tensor_min(value)",
        "tensor_max(value)",
        "tensor_mean(value)",
        "dot(value, [1, 1])",
        "cosine_similarity(value, [1, 1])",
    ] {
        assert!(one(call, "nan").await.unwrap().is_nan(), "{call}");
    }
    assert_eq!(one("argmax(value)", "nan").await, Some(1.0));
    assert_eq!(one("norm(value)", "inf").await, Some(f64::INFINITY));
    assert_eq!(one("tensor_max(value)", "inf").await, Some(f64::INFINITY));
    // Squares that single precision has not.
    for key in ["huge", "tiny"] {
        let cosine = one(
            "cosine_similarity(value, arrow_cast([1, 1], 'List(Float32)'))",
            key,
        )
        .await;
        assert!(close(cosine, 1.0), "{key}: {cosine:?}");
        let one_is = f64::from(if key == "huge" { 1e30_f32 } else { 1e-30_f32 });
        let norm = one("norm(value)", key).await;
        assert!(
            norm.is_some_and(|norm| (norm / (one_is * 2.0_f64.sqrt()) - 1.0).abs() < 1e-6),
            "{key}: {norm:?}"
        );
        let apart = one(
            "l2_distance(value, arrow_cast([0, 0], 'List(Float32)'))",
            key,
        )
        .await;
        assert_eq!(apart, norm, "{key}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_say_which_dtype_and_which_shapes() {
    let bed = Bed::new();
    bed.put("m", "a", &[1.0, 2.0]).await;
    bed.put_as("m", "i", DType::Int64, &[2], &[0; 16]).await;
    bed.put_as("c", "c", DType::Complex64, &[2], &[0; 16]).await;
    bed.put_as("c", "f8", DType::Float8E5M2, &[2], &[0; 2])
        .await;
    for (text, says) in [
        (
            "SELECT norm(value) FROM tensors WHERE key = 'i'",
            "dtype=`int64`",
        ),
        (
            "SELECT norm(value) FROM tensors WHERE key = 'c'",
            "dtype=`complex64`",
        ),
        (
            "SELECT norm(value) FROM ns.c WHERE key = 'c'",
            "dtype=`complex64`",
        ),
        (
            "SELECT to_list(value) FROM tensors WHERE key = 'f8'",
            "dtype=`float8_e5m2`",
        ),
        (
            "SELECT dot(value, [1]) FROM tensors WHERE key = 'a'",
            "shapes=`[2]` and `[1]`",
        ),
        (
            "SELECT dot(value, arrow_cast([1], 'FixedSizeList(1, Float32)')) FROM ns.m WHERE key = 'a'",
            "shapes=`[2]` and `[1]`",
        ),
        ("SELECT norm(bytes) FROM tensors", "expected=`norm(tensor)`"),
        (
            "SELECT norm(value, value) FROM tensors",
            "expected=`norm(tensor)`",
        ),
        (
            "SELECT dot(value) FROM tensors",
            "expected=`dot(tensor, tensor)`",
        ),
        (
            "SELECT element(value) FROM tensors",
            "an index for each axis",
        ),
        (
            "SELECT element(value, 'a') FROM tensors",
            "an index for each axis",
        ),
        (
            "SELECT element(value, 2) FROM tensors WHERE key = 'a'",
            "indices=`[2]` shape=`[2]`",
        ),
        (
            "SELECT element(value, -1) FROM tensors WHERE key = 'a'",
            "indices=`[-1]` shape=`[2]`",
        ),
        (
            "SELECT element(value, 0, 0) FROM tensors WHERE key = 'a'",
            "indices=`[0, 0]` shape=`[2]`",
        ),
        (
            "SELECT slice(value, 1, 3) FROM tensors WHERE key = 'a'",
            "start=`1` end=`3` shape=`[2]`",
        ),
        (
            "SELECT slice(value, 2, 1) FROM tensors WHERE key = 'a'",
            "start=`2` end=`1` shape=`[2]`",
        ),
        (
            "SELECT slice(value, -1, 1) FROM tensors WHERE key = 'a'",
            "start=`-1` end=`1` shape=`[2]`",
        ),
        (
            "SELECT histogram(value, 0, 0, 1) FROM tensors WHERE key = 'a'",
            "buckets=`0`",
        ),
        (
            "SELECT histogram(value, 1000000000, 0, 1) FROM tensors WHERE key = 'a'",
            "buckets=`1000000000`",
        ),
        (
            "SELECT histogram(value, 1, 1, 1) FROM tensors WHERE key = 'a'",
            "low=`1` high=`1`",
        ),
        (
            "SELECT histogram(value, 1, 0, CAST('NaN' AS DOUBLE)) FROM tensors WHERE key = 'a'",
            "high=`NaN`",
        ),
    ] {
        let error = bed.error(text).await;
        assert_eq!(error.code, Code::InvalidArgument, "{text}: {error}");
        assert!(error.to_string().contains(says), "{text}: {error}");
    }
    // A struct that was made by hand is not believed.
    let lies = "SELECT norm(named_struct('dtype', 'float32', 'shape', arrow_cast([1000], 'List(Int64)'), 'data', \
                arrow_cast('abcd', 'BinaryView')))";
    let error = bed.error(lies).await;
    assert_eq!(error.code, Code::InvalidArgument, "{error}");
    let lies = lies
        .replace("1000", "4611686018427387904, 4611686018427387904")
        .replace("float32", "int8");
    assert_eq!(bed.error(&lies).await.code, Code::InvalidArgument);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_aggregates_names_are_still_theirs() {
    let bed = Bed::new();
    bed.put("m", "a", &[1.0]).await;
    bed.put("m", "b", &[1.0, 2.0, 3.0]).await;
    let text = "SELECT min(bytes), max(bytes), mean(bytes), avg(norm(value)) > 1 FROM tensors";
    assert_eq!(bed.one(text).await, "4 12 8.0 true");
}
