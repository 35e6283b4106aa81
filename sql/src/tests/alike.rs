use arrow_array::{ArrayRef, StringArray};
use bowstring_wire::error::Code;

use super::*;
use crate::{Answer, Plan};

fn floats(values: &[f32]) -> Vec<u8> {
    values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_is_a_table_whose_values_are_lists_of_its_dtype() {
    let bed = Bed::new();
    let cases = [
        (
            DType::Float32,
            vec![3],
            "FixedSizeList(3 x non-null Float32)",
            r#"{"shape":[3]}"#,
        ),
        (
            DType::Float16,
            vec![2, 2],
            "FixedSizeList(4 x non-null Float16)",
            r#"{"shape":[2,2]}"#,
        ),
        (DType::Int64, vec![], "Int64", ""),
        (
            DType::BFloat16,
            vec![2],
            "FixedSizeList(2 x non-null UInt16)",
            r#"{"shape":[2]}"#,
        ),
        (
            DType::Complex64,
            vec![2],
            "FixedSizeList(4 x non-null Float32)",
            r#"{"shape":[2,2]}"#,
        ),
        (
            DType::Bool,
            vec![1],
            "FixedSizeList(1 x non-null UInt8)",
            r#"{"shape":[1]}"#,
        ),
        (
            DType::Float32,
            vec![2, 0, 3],
            "FixedSizeList(0 x non-null Float32)",
            r#"{"shape":[2,0,3]}"#,
        ),
    ];
    for (dtype, shape, of, extension) in cases {
        let shaped = Shape::new(&shape).unwrap();
        let bytes: Vec<u8> = (0..shaped.bytes(dtype).unwrap())
            .map(|n| (n % 2) as u8)
            .collect();
        for key in ["a", "b", "c"] {
            bed.put_as("t", key, dtype, &shape, &bytes).await;
        }
        let batches = bed.batches("SELECT * FROM ns.t").await.unwrap();
        let schema = batches[0].schema();
        let field = schema.field_with_name("value").unwrap();
        assert_eq!(field.data_type().to_string(), of, "{dtype}");
        let said = |name: &str| field.metadata().get(name).cloned().unwrap_or_default();
        assert_eq!(said("ARROW:extension:metadata"), extension, "{dtype}");
        assert_eq!(
            said("tensor.dtype"),
            if dtype.is_native() { "" } else { dtype.name() }
        );
        assert!(schema.field_with_name("dtype").is_err());
        assert!(schema.field_with_name("namespace").is_err());
        assert!(schema.field_with_name("version").is_ok());
        let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
        assert_eq!(rows, 3, "{dtype}");
        let mut all = Vec::new();
        for batch in &batches {
            let mut data = batch.column_by_name("value").unwrap().to_data();
            if matches!(data.data_type(), DataType::FixedSizeList(..)) {
                data = data.child_data()[0].clone();
            }
            all.extend_from_slice(data.buffers()[0].as_slice());
        }
        assert_eq!(all, bytes.repeat(3), "{dtype}");
        for key in ["a", "b", "c"] {
            bed.delete("t", key).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn large_values_come_as_they_were_put_one_a_batch_or_many() {
    let bed = Bed::new();
    for (namespace, elements) in [("large", 700_000_usize), ("middle", 20_000)] {
        for n in 0..5 {
            bed.put(namespace, &n.to_string(), &vec![n as f32; elements])
                .await;
        }
        let batches = bed
            .batches(&format!("SELECT key, value FROM ns.{namespace}"))
            .await
            .unwrap();
        let rows: Vec<usize> = batches.iter().map(RecordBatch::num_rows).collect();
        assert_eq!(rows.iter().sum::<usize>(), 5);
        assert_eq!(
            rows.len(),
            if namespace == "large" { 5 } else { 1 },
            "{rows:?}"
        );
        let values = batches.iter().flat_map(|batch| {
            let lists = batch.column(1).as_fixed_size_list().clone();
            let numbers = lists
                .values()
                .as_primitive::<arrow_array::types::Float32Type>()
                .clone();
            (0..lists.len()).map(move |row| {
                let of = &numbers.values()[row * elements..(row + 1) * elements];
                of.iter().all(|value| *value == of[0]).then_some(of[0])
            })
        });
        let expected: Vec<_> = (0..5).map(|n| Some(n as f32)).collect();
        assert_eq!(values.collect::<Vec<_>>(), expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn its_keys_are_looked_up_and_walked_as_those_of_tensors() {
    let bed = Bed::new();
    for n in 0..3_000 {
        bed.put("t", &format!("{n:04}"), &[n as f32]).await;
        bed.put("other", &format!("{n:04}"), &[n as f32, 0.0]).await;
    }
    let plan = bed
        .one("EXPLAIN SELECT value FROM ns.t WHERE key LIKE '01%' LIMIT 3")
        .await;
    let said = r#"Scan: table=ns.t, walk, namespaces=in ["t"], keys=prefix "01""#;
    assert!(plan.contains(said), "{plan}");
    let plan = bed
        .one("EXPLAIN SELECT value FROM ns.t WHERE key IN ('0001', '0002')")
        .await;
    assert!(plan.contains("look-up"), "{plan}");
    let done = bed
        .one("EXPLAIN ANALYZE SELECT value FROM ns.t LIMIT 3")
        .await;
    assert!(done.contains("value_bytes=12"), "{done}");
    assert_eq!(
        bed.one("SELECT count(*) FROM ns.t WHERE key LIKE '01%'")
            .await,
        "100"
    );
    assert_eq!(bed.one("SELECT count(*) FROM ns.t").await, "3000");
    let sum = "SELECT sum(element(value, 0)) FROM ns.t WHERE key BETWEEN '0001' AND '0004'";
    assert_eq!(bed.one(sum).await, "10.0");
    // Names that SQL does not take as they are.
    bed.put("My-docs.v2", "a", &[1.0]).await;
    assert_eq!(bed.one(r#"SELECT key FROM ns."My-docs.v2""#).await, "a");
    assert_eq!(
        bed.one(r#"SELECT key FROM bowstring.ns."My-docs.v2""#)
            .await,
        "a"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_nearest_are_those_that_the_plain_formula_gives() {
    let bed = Bed::new();
    let mut seed = 1_u64;
    let mut random = || {
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (seed >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    let mut vector = |_| (0..50).map(|_| random()).collect();
    let vectors: Vec<Vec<f32>> = (0..2_500).map(&mut vector).collect();
    for (n, vector) in vectors.iter().enumerate() {
        bed.put("glove", &format!("w{n:04}"), vector).await;
    }
    let product = |a: &[f32], b: &[f32]| -> f64 {
        a.iter()
            .zip(b)
            .map(|(a, b)| f64::from(*a) * f64::from(*b))
            .sum()
    };
    let king = &vectors[1_234];
    let cosine = |v: &[f32]| product(v, king) / (product(v, v) * product(king, king)).sqrt();
    let mut order: Vec<usize> = (0..vectors.len()).collect();
    order.sort_by(|a, b| cosine(&vectors[*b]).total_cmp(&cosine(&vectors[*a])));
    let expected: Vec<String> = order[..10].iter().map(|n| format!("w{n:04}")).collect();
    for table in ["ns.glove", "tensors WHERE namespace = 'glove'"] {
        let text = format!(
            "SELECT key FROM {table} ORDER BY cosine_similarity(value, tensor('glove', 'w1234')) DESC LIMIT 10"
        );
        assert_eq!(bed.rows(&text).await, expected, "{table}");
        // The sort holds numbers, not vectors.
        let plan = bed.one(&format!("EXPLAIN {text}")).await;
        let (_, physical) = plan.split_once("SortExec").unwrap();
        assert!(physical.contains("fetch=10"), "{plan}");
        assert!(
            plan.contains("cosine_similarity") && !plan.contains("sort=[cosine"),
            "{plan}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_alike_ends_the_query_that_comes_upon_it() {
    let bed = Bed::new();
    bed.put("t", "a", &[1.0, 2.0]).await;
    bed.put("t", "b", &[1.0, 2.0, 3.0]).await;
    let error = bed.error("SELECT key, value FROM ns.t").await;
    assert_eq!(error.code, Code::FailedPrecondition, "{error}");
    let text = error.to_string();
    for part in [
        "namespace=`t`",
        "key=`b`",
        "dtype=`float32` shape=`[3]`",
        "expected dtype=`float32` shape=`[2]`",
    ] {
        assert!(text.contains(part), "{text}");
    }
    // Where no tensor is asked for, they need not agree; nor those that are not asked for.
    assert_eq!(bed.rows("SELECT key FROM ns.t").await, ["a", "b"]);
    assert_eq!(
        bed.one("SELECT norm(value) > 2 FROM ns.t WHERE key = 'a'")
            .await,
        "true"
    );
    assert_eq!(bed.one("SELECT count(*) FROM ns.t").await, "2");
    bed.put_as("t", "b", DType::Float64, &[2], &[0; 16]).await;
    let error = bed.error("SELECT value FROM ns.t").await;
    assert!(error.to_string().contains("dtype=`float64`"), "{error}");
}

impl Bed {
    /// Begins to answer a plan: the rows of its first batch, and what comes behind them.
    async fn begin(&self, plan: &Plan) -> (usize, Answer<usize>) {
        let answer = self.sql.run(plan, |batch| Ok(batch.num_rows())).await;
        let mut answer = answer.unwrap();
        let first = answer.next().await.unwrap();
        (first.expect("a batch"), answer)
    }
}

/// The rows of an answer up to its end, and how it ends.
async fn finish((mut rows, mut answer): (usize, Answer<usize>)) -> (usize, Result<()>) {
    loop {
        match answer.next().await {
            Ok(Some(more)) => rows += more,
            Ok(None) => return (rows, Ok(())),
            Err(error) => return (rows, Err(error)),
        }
    }
}

/// A query holds a few batches ahead of who reads it, and no more: what is changed behind those is changed before it is read.
#[tokio::test(flavor = "multi_thread")]
async fn what_goes_during_a_walk_is_left_out_and_so_is_what_comes_in_its_place() {
    let bed = Bed::new();
    let key = |n: usize| format!("{n:05}");
    for n in 0..20_000 {
        bed.put("t", &key(n), &[n as f32; 8]).await;
    }
    let plan = bed
        .sql
        .plan(&Tenant::public(), "SELECT value FROM ns.t")
        .await
        .unwrap();
    let begun = bed.begin(&plan).await;
    for n in 19_500..20_000 {
        bed.delete("t", &key(n)).await;
    }
    assert_eq!(finish(begun).await, (19_500, Ok(())));
    // It is of another shape, and nobody minds: it was not there when the walk began.
    let begun = bed.begin(&plan).await;
    bed.put("t", &key(19_400), &[1.0]).await;
    assert_eq!(finish(begun).await, (19_499, Ok(())));
    // Of a walk that begins now it is a part.
    let (rows, end) = finish(bed.begin(&plan).await).await;
    let error = end.unwrap_err();
    assert!(rows <= 19_400, "{rows}");
    assert!(error.to_string().contains("key=`19400`"), "{error}");
}

/// Each tensor is a batch, and what `metadata` says is looked up with it, when its turn comes.
#[tokio::test(flavor = "multi_thread")]
async fn what_becomes_another_before_it_is_looked_up_ends_the_query_and_is_named() {
    const KEYS: usize = 32;
    const ELEMENTS: usize = 1 << 18;
    let bed = Bed::new();
    let key = |n: usize| format!("{n:02}");
    for n in 0..KEYS {
        bed.put("t", &key(n), &vec![n as f32; ELEMENTS]).await;
    }
    let whole = [ELEMENTS as u64];
    let text = "SELECT key, metadata, value FROM ns.t";
    let plan = bed.sql.plan(&Tenant::public(), text).await.unwrap();
    let others = [
        (DType::Float32, &[1_u64][..], 4),
        (DType::Int32, &whole[..], 4 * ELEMENTS),
        (DType::Float64, &whole[..], 8 * ELEMENTS),
    ];
    for (dtype, shape, bytes) in others {
        let begun = bed.begin(&plan).await;
        let last = key(KEYS - 1);
        bed.put_as("t", &last, dtype, shape, &vec![0; bytes]).await;
        let (rows, end) = finish(begun).await;
        let error = end.unwrap_err();
        assert_eq!(error.code, Code::FailedPrecondition, "{error}");
        let text = error.to_string();
        for part in [
            "namespace=`t` key=`31`",
            &format!("dtype=`{dtype}` shape=`{shape:?}`"),
            "expected dtype=`float32` shape=`[262144]`",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        // All before it were answered.
        assert_eq!(rows, KEYS - 1, "{dtype}");
        bed.put("t", &last, &vec![0.0; ELEMENTS]).await;
    }
    let begun = bed.begin(&plan).await;
    assert_eq!(finish(begun).await, (KEYS, Ok(())));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_became_another_since_a_statement_was_read_ends_it_and_is_named() {
    let bed = Bed::new();
    for key in ["a", "b"] {
        bed.put("t", key, &[1.0, 2.0]).await;
    }
    let plan = async |text: &str| bed.sql.plan(&Tenant::public(), text).await.unwrap();
    let walks = plan("SELECT value FROM ns.t").await;
    let looks_up = plan("SELECT norm(value) FROM ns.t WHERE key = 'b'").await;
    let prepared = plan("SELECT value FROM ns.t WHERE key = ?").await;
    bed.put("t", "b", &[1.0, 2.0, 3.0]).await;
    let row = |key: &str| {
        let key: ArrayRef = Arc::new(StringArray::from(vec![key]));
        RecordBatch::try_from_iter([("1", key)]).unwrap()
    };
    let bound = bed.sql.bind(&prepared, &row("b")).await.unwrap();
    for plan in [walks, looks_up, bound] {
        let mut answer = bed.sql.run(&plan, Ok).await.unwrap();
        let error = answer.next().await.unwrap_err();
        assert_eq!(error.code, Code::FailedPrecondition, "{error}");
        let text = error.to_string();
        for part in [
            "key=`b`",
            "shape=`[3]`",
            "expected dtype=`float32` shape=`[2]`",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
    // One that does not come upon it has its answer.
    let bound = bed.sql.bind(&prepared, &row("a")).await.unwrap();
    let mut answer = bed.sql.run(&bound, Ok).await.unwrap();
    assert_eq!(answer.next().await.unwrap().unwrap().num_rows(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_catalogue_lists_the_namespaces_that_there_are() {
    let bed = Bed::new();
    bed.put("b", "k", &[1.0]).await;
    bed.put("a", "k", &[1.0, 2.0]).await;
    bed.put("gone", "k", &[1.0]).await;
    bed.delete("gone", "k").await;
    let columns = "SELECT table_name, data_type FROM information_schema.columns \
                   WHERE table_schema = 'ns' AND column_name = 'value' ORDER BY 1";
    assert_eq!(
        bed.rows(columns).await,
        [
            "a FixedSizeList(2 x non-null Float32)",
            "b FixedSizeList(1 x non-null Float32)"
        ]
    );
    let tables = bed.sql.tables(&Tenant::public()).await.unwrap();
    let names: Vec<&str> = tables
        .iter()
        .filter(|it| it.schema == "ns")
        .map(|it| it.name.as_str())
        .collect();
    assert_eq!(names, ["a", "b"]);
    assert_eq!(
        bed.error("SELECT * FROM ns.gone").await.code,
        Code::InvalidArgument
    );
    assert_eq!(
        bed.error("SELECT * FROM ns.never").await.code,
        Code::InvalidArgument
    );
    assert_eq!(
        bed.error(r#"SELECT * FROM ns."no namespace""#).await.code,
        Code::InvalidArgument
    );
    for n in 0..1_100 {
        bed.put(&format!("n{n:04}"), "k", &floats_of(n)).await;
    }
    let count = "SELECT count(*) FROM information_schema.tables WHERE table_schema = 'ns'";
    assert_eq!(bed.one(count).await, "1000");
    assert_eq!(bed.one("SELECT count(*) FROM ns.n1099").await, "1");
}

fn floats_of(n: usize) -> Vec<f32> {
    vec![n as f32; 1 + n % 3]
}

#[tokio::test(flavor = "multi_thread")]
async fn huge_shapes_with_nothing_in_them_are_rows_too() {
    let bed = Bed::new();
    bed.put_as("t", "a", DType::Float32, &[0, 1 << 40], &[])
        .await;
    assert_eq!(bed.one("SELECT key FROM ns.t").await, "a");
    assert_eq!(
        bed.numbers("SELECT norm(value) FROM ns.t").await,
        [[Some(0.0)]]
    );
    let sliced = "SELECT slice(value, 0, 0)['shape'] FROM ns.t";
    assert_eq!(bed.one(sliced).await, "[0, 1099511627776]");
    assert_eq!(
        bed.error("SELECT slice(value, 0, 1) FROM ns.t").await.code,
        Code::InvalidArgument
    );
    bed.put_as("s", "a", DType::Float32, &[], &floats(&[2.5]))
        .await;
    assert_eq!(bed.one("SELECT value * 2 FROM ns.s").await, "5.0");
    assert_eq!(
        bed.numbers("SELECT element(value, 0) FROM tensors WHERE namespace = 'x'")
            .await
            .len(),
        0
    );
}
