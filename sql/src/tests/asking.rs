use arrow_array::{ArrayRef, Float64Array, Int32Array, StringArray};
use arrow_schema::DataType;
use bowstring_wire::error::Code;

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn what_is_said_of_an_answer_is_what_it_is() {
    let bed = Bed::new();
    bed.put("a", "k", &[1.0]).await;
    // `batches` compares the schemas.
    for text in [
        "SELECT * FROM tensors",
        "SELECT * FROM namespaces",
        "SELECT 1, NULL, 'a', now() IS NOT NULL",
        "SELECT key FROM tensors UNION ALL SELECT namespace FROM namespaces",
        "SELECT 1 UNION ALL SELECT 2.5",
        "SELECT count(*), sum(bytes), avg(bytes), max(created_at), array_agg(key) FROM tensors",
        "SELECT row_number() OVER (ORDER BY key) FROM tensors",
        "SELECT t.key, n.bytes FROM tensors t LEFT JOIN namespaces n ON n.namespace = t.key",
        "SELECT CASE WHEN bytes > 1 THEN key END, shape[1], upper(key) FROM tensors",
        "EXPLAIN SELECT * FROM tensors",
        "DESCRIBE tensors",
        "SHOW TABLES",
        "SHOW COLUMNS FROM tensors",
        "SELECT * FROM information_schema.columns",
        "SELECT * FROM information_schema.schemata",
        "SELECT 1 WHERE false",
    ] {
        let answer = bed.batches(text).await;
        assert!(answer.is_ok(), "{text}: {answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_catalogue_names_what_there_is() {
    let bed = Bed::new();
    let names = bed.rows("SELECT table_name FROM information_schema.tables WHERE table_schema = 'cache' ORDER BY 1").await;
    assert_eq!(
        names,
        [
            "evictions",
            "loads",
            "memory",
            "namespaces",
            "settings",
            "stats",
            "tensors"
        ]
    );
    let tables = bed.sql.tables(&Tenant::public()).await.unwrap();
    let own: Vec<_> = tables
        .iter()
        .filter(|table| table.schema == "cache")
        .collect();
    assert_eq!(own.len(), 7);
    assert!(
        own.iter()
            .any(|table| table.name == "tensors" && table.kind == "TABLE")
    );
    assert!(
        tables
            .iter()
            .any(|table| table.schema == "information_schema" && table.name == "columns")
    );
    assert_eq!(
        bed.one("SELECT count(*) FROM bowstring.cache.tensors")
            .await,
        "0"
    );
    for text in [
        "SELECT * FROM nothing",
        "SELECT nothing FROM tensors",
        "SELECT * FROM other.cache.tensors",
    ] {
        let error = bed.batches(text).await.unwrap_err();
        assert_eq!(error.code, Code::InvalidArgument, "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn parameters_are_known_bound_and_checked() {
    let bed = Bed::new();
    for n in 0..10 {
        bed.put("a", &n.to_string(), &[1.0]).await;
    }
    let text = "SELECT key FROM tensors WHERE namespace = ? AND key > ? AND bytes < $3 ORDER BY key LIMIT 3";
    let plan = bed.sql.plan(&Tenant::public(), text).await.unwrap();
    let types: Vec<String> = plan
        .parameters()
        .fields()
        .iter()
        .map(|f| f.data_type().to_string())
        .collect();
    assert_eq!(types, ["Utf8", "Utf8", "Int64"]);
    let unbound = bed.sql.run(&plan, Ok).await.map(|_| ()).unwrap_err();
    assert_eq!(unbound.code, Code::InvalidArgument);
    let text = |value: &str| -> ArrayRef { Arc::new(StringArray::from(vec![value])) };
    let number: ArrayRef = Arc::new(Int32Array::from(vec![100]));
    let row = |columns: &[&ArrayRef]| {
        let named = ["1", "2", "3"]
            .into_iter()
            .zip(columns.iter().copied().cloned());
        RecordBatch::try_from_iter(named).unwrap()
    };
    let few = bed.sql.bind(&plan, &row(&[&text("a")])).await.unwrap_err();
    assert_eq!(few.code, Code::InvalidArgument);
    let bound = bed
        .sql
        .bind(&plan, &row(&[&text("a"), &text("6"), &number]))
        .await
        .unwrap();
    assert_eq!(bound.schema(), plan.schema());
    let mut answer = bed.sql.run(&bound, Ok).await.unwrap();
    let batch = answer.next().await.unwrap().unwrap();
    assert_eq!(rows(&[batch]), ["7", "8", "9"]);
    let wrong = row(&[&text("a"), &text("6"), &text("many")]);
    let error = bed.sql.bind(&plan, &wrong).await.unwrap_err();
    assert_eq!(error.code, Code::InvalidArgument, "{error}");
}

/// JDBC's driver fails over a value for a parameter of type null.
#[tokio::test(flavor = "multi_thread")]
async fn parameters_that_nothing_is_compared_with_have_types_too() {
    let bed = Bed::new();
    bed.put("a", "b", &[1.0, 2.0]).await;
    for (text, expected) in [
        (
            "SELECT key FROM tensors LIMIT ? OFFSET ?",
            &["Int64", "Int64"][..],
        ),
        ("SELECT norm(tensor(?, ?))", &["Utf8", "Utf8"]),
        (
            "SELECT element(value, ?) FROM tensors WHERE key = ?",
            &["Int64", "Utf8"],
        ),
        (
            "SELECT 1 FROM tensors WHERE starts_with(key, ?) LIMIT ?",
            &["Utf8", "Int64"],
        ),
        (
            "SELECT key FROM tensors WHERE bytes IN (SELECT bytes FROM tensors LIMIT ?)",
            &["Int64"],
        ),
        (
            "UPDATE tensors SET expires_at = ?, pinned = ? WHERE key = ?",
            &["Timestamp(ms)", "Boolean", "Utf8"],
        ),
        ("SELECT ?", &["Null"]),
    ] {
        let plan = bed.sql.plan(&Tenant::public(), text).await.unwrap();
        let fields = plan.parameters().fields().iter();
        let types: Vec<String> = fields.map(|field| field.data_type().to_string()).collect();
        assert_eq!(types, expected, "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_is_cast_to_nothing_that_was_only_told() {
    let bed = Bed::new();
    let plan = bed.sql.plan(&Tenant::public(), "SELECT abs(?)").await;
    let value: ArrayRef = Arc::new(Float64Array::from(vec![-1.5]));
    let row = RecordBatch::try_from_iter([("1", value)]).unwrap();
    let bound = bed.sql.bind(&plan.unwrap(), &row).await.unwrap();
    let mut answer = bed.sql.run(&bound, Ok).await.unwrap();
    assert_eq!(rows(&[answer.next().await.unwrap().unwrap()]), ["1.5"]);
}

/// By the names of Arrow's format, which Java looks for.
#[tokio::test(flavor = "multi_thread")]
async fn metadata_has_the_names_that_readers_of_maps_look_for() {
    let bed = Bed::new();
    let plan = bed
        .sql
        .plan(&Tenant::public(), "SELECT metadata FROM tensors")
        .await
        .unwrap();
    let DataType::Map(entries, _) = plan.schema().field(0).data_type() else {
        panic!("a map");
    };
    let DataType::Struct(fields) = entries.data_type() else {
        panic!("of entries");
    };
    let names: Vec<&str> = fields.iter().map(|field| field.name().as_str()).collect();
    assert_eq!(names, ["key", "value"]);
}
