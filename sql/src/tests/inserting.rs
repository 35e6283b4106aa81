use std::sync::atomic::{AtomicUsize, Ordering};

use arrow_array::builder::{FixedSizeListBuilder, Float32Builder};
use arrow_array::{ArrayRef, Int64Array, StringArray};
use arrow_schema::{Field, Schema};
use bowstring_wire::error::Code;
use bowstring_wire::settings::SettingsChange;

use super::*;

impl Bed {
    /// Namespaces, keys, dtypes and shapes of all that is there.
    async fn entries(&self) -> Vec<String> {
        self.rows("SELECT namespace || '/' || key, dtype, shape FROM tensors ORDER BY 1")
            .await
    }

    /// That no load is left open, and nothing has been committed.
    async fn left_nothing(&self) {
        assert_eq!(self.entries().await, Vec::<String>::new());
        assert_eq!(self.cache.stats().loads.open, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_query_finds_is_put_bytes_and_all() {
    let bed = Bed::new();
    bed.put("a", "one", &[1.0, 2.0]).await;
    bed.put("a", "two", &[3.0, 4.0, 5.0]).await;
    bed.put_as("a", "half", DType::BFloat16, &[2, 1], &[0, 64, 64, 64])
        .await;
    bed.put_as("a", "none", DType::Int8, &[0, 3], &[]).await;
    let count = bed
        .change("INSERT INTO tensors SELECT 'b', 'new-' || key, value FROM tensors WHERE namespace = 'a'")
        .await
        .unwrap();
    assert_eq!(count, 4);
    assert_eq!(
        bed.rows("SELECT key, dtype, shape FROM tensors WHERE namespace = 'b' ORDER BY key")
            .await,
        [
            "new-half bfloat16 [2, 1]",
            "new-none int8 [0, 3]",
            "new-one float32 [2]",
            "new-two float32 [3]"
        ]
    );
    let alike = "SELECT count(*) FROM tensors x JOIN tensors y ON y.key = 'new-' || x.key AND y.checksum = x.checksum";
    assert_eq!(bed.one(alike).await, "4");
    assert_eq!(bed.cache.stats().loads.open, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tensor_is_whatever_type_of_arrow_it_has() {
    let bed = Bed::new();
    bed.put("a", "one", &[1.0, 2.0]).await;
    bed.put_as("c", "one", DType::Complex64, &[1, 1], &[1; 8])
        .await;
    for (text, entry) in [
        ("VALUES ('b', 'x', [1.5, 2.5, 3.5])", "b/x float64 [3]"),
        ("VALUES ('b', 'x', [1, 2])", "b/x int64 [2]"),
        ("VALUES ('b', 7, tensor('a', 'one'))", "b/7 float32 [2]"),
        (
            "SELECT 'b', 'x', slice(value, 1, 2) FROM ns.a",
            "b/x float32 [1]",
        ),
        ("SELECT 'b', 'x', value FROM ns.a", "b/x float32 [2]"),
        ("SELECT 'b', 'x', value FROM ns.c", "b/x complex64 [1, 1]"),
        ("SELECT 'b', 'x', 3", "b/x int64 []"),
        ("SELECT 'b', 'x', norm(value) FROM ns.a", "b/x float64 []"),
    ] {
        let text = format!("INSERT INTO tensors {text}");
        assert_eq!(bed.change(&text).await.unwrap(), 1, "{text}");
        let all = bed.entries().await;
        assert_eq!(all[1], entry, "{text}");
        bed.change("DELETE FROM tensors WHERE namespace = 'b'")
            .await
            .unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_of_tensors_that_are_alike_stays_one() {
    let bed = Bed::new();
    bed.put("a", "one", &[1.0, 2.0]).await;
    let into = "INSERT INTO ns.a (key, value)";
    // As in any database, a number becomes what the column is of.
    let text = format!("{into} VALUES ('two', [0.5, 3]), ('three', [4, 5])");
    assert_eq!(bed.change(&text).await.unwrap(), 2);
    assert_eq!(
        bed.rows("SELECT key, dtype, to_list(value) FROM tensors ORDER BY key")
            .await,
        [
            "one float32 [1.0, 2.0]",
            "three float32 [4.0, 5.0]",
            "two float32 [0.5, 3.0]"
        ]
    );
    let error = bed
        .change(&format!("{into} VALUES ('four', [1]), ('five', [1, 2, 3])"))
        .await
        .unwrap_err();
    assert_eq!(error.code, Code::FailedPrecondition, "{error}");
    assert!(error.message.contains("key=`four`"), "{error}");
    let error = bed
        .change(&format!("{into} VALUES ('big', [1, 1e300])"))
        .await
        .unwrap_err();
    assert!(error.message.contains("key=`big`"), "{error}");
    assert_eq!(bed.entries().await.len(), 3);
    // A namespace that is new is a table by it.
    bed.change("INSERT INTO ns.\"New-1\" (value, key) SELECT value, key FROM ns.a")
        .await
        .unwrap();
    assert_eq!(
        bed.one("SELECT count(*), sum(dot(value, [1, 1])) FROM ns.\"New-1\"")
            .await,
        "3 15.5"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn expiry_metadata_and_pins_come_with_a_tensor() {
    let bed = Bed::new();
    let hour = NOW_MS + 3_600_000;
    bed.change(&format!(
        "INSERT INTO tensors (key, namespace, expires_at, pinned, metadata, value) VALUES \
         ('all', 'a', {hour}, true, MAP {{'lang': 'en', 'by': 'me'}}, [1.0]), \
         ('no', 'a', NULL, false, NULL, [1.0])"
    ))
    .await
    .unwrap();
    let text = "SELECT key, pins, coalesce(metadata['lang'], '-'), coalesce(CAST(expires_at AS BIGINT), 0) \
                FROM tensors WHERE namespace = 'a' ORDER BY key";
    let expected = [format!("all 1 en {hour}"), "no 0 - 0".to_owned()];
    assert_eq!(bed.rows(text).await, expected);
    // As a query has them.
    bed.change(
        "INSERT INTO tensors (namespace, key, value, metadata, expires_at, pinned) \
         SELECT 'b', key, value, metadata, expires_at, pins FROM tensors",
    )
    .await
    .unwrap();
    let text = text.replace("= 'a'", "= 'b'");
    assert_eq!(bed.rows(&text).await, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_half_way_leaves_nothing() {
    let bed = Bed::new();
    for (rows, code, words) in [
        (
            "VALUES ('a', 'x', [1.0]), ('a', 'y', NULL)",
            Code::InvalidArgument,
            "namespace=`a` key=`y`",
        ),
        (
            "VALUES ('a', 'x', [1.0]), ('a', 'y', [NULL])",
            Code::InvalidArgument,
            "key=`y`",
        ),
        (
            "VALUES ('a', 'x', [1.0]), ('a', NULL, [1.0])",
            Code::InvalidArgument,
            "a key is null",
        ),
        (
            "VALUES ('a', 'x', [1.0]), (NULL, 'y', [1.0])",
            Code::InvalidArgument,
            "a namespace is null",
        ),
        (
            "VALUES ('a', 'x', [1.0]), ('no/name', 'y', [1.0])",
            Code::InvalidArgument,
            "key=`y`",
        ),
        (
            "VALUES ('a', 'x', [1.0]), ('b', '', [1.0])",
            Code::InvalidArgument,
            "key=``",
        ),
        (
            "SELECT 'a', n, [1.0] FROM (VALUES (0.5)) t(n)",
            Code::InvalidArgument,
            "column=`key`",
        ),
        // When a load has been begun, and rows are in it.
        (
            "SELECT 'a', CASE WHEN n = 9999 THEN NULL ELSE n END, [1.0] FROM generate_series(0, 9999) t(n)",
            Code::InvalidArgument,
            "a key is null",
        ),
        (
            "SELECT 'a', 'x', 'text'",
            Code::InvalidArgument,
            "expected tensors",
        ),
        (
            "SELECT 'a', 'x', tensor('a', 'none')",
            Code::NotFound,
            "none",
        ),
        (
            "SELECT 'a', 'x', 1 / (length(table_name) - length(table_name)) FROM information_schema.tables",
            Code::InvalidArgument,
            "",
        ),
    ] {
        let text = format!("INSERT INTO tensors {rows}");
        let error = bed.change(&text).await.unwrap_err();
        assert_eq!(error.code, code, "{text}: {error}");
        assert!(error.message.contains(words), "{text}: {error}");
        bed.left_nothing().await;
    }
    for text in [
        "INSERT INTO tensors SELECT 1, 2",
        "INSERT INTO ns.a (key, value) SELECT 1, 2, 3",
        "INSERT INTO tensors SELECT * FROM tensors",
    ] {
        let error = bed.sql.plan(&Tenant::public(), text).await.map(drop);
        let error = error.unwrap_err();
        assert_eq!(error.code, Code::InvalidArgument, "{text}: {error}");
        assert!(error.message.contains("number of columns"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_put_is_asked_for_each_namespace_and_leaves_nothing() {
    let bed = Bed::new();
    let text = "INSERT INTO tensors VALUES ('a', 'x', [1.0]), ('b', 'x', [1.0]), ('a', 'y', [1.0])";
    let mut asked = Vec::new();
    let may = |namespace: &Namespace| {
        asked.push(namespace.as_str().to_owned());
        match namespace.as_str() {
            "b" => Err(Error::new(Code::PermissionDenied, "not this one")),
            _ => Ok(()),
        }
    };
    let error = bed.change_where(text, may).await.unwrap_err();
    assert_eq!(error.code, Code::PermissionDenied);
    assert_eq!(asked, ["a", "b"]);
    bed.left_nothing().await;
    assert_eq!(bed.change(text).await.unwrap(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_insert_from_the_table_that_it_is_into_ends() {
    let bed = Bed::new();
    for n in 0..20 {
        bed.put("a", &format!("{n:02}"), &[n as f32]).await;
    }
    for round in 1..=5 {
        let text =
            format!("INSERT INTO tensors SELECT namespace, key || '-{round}', value FROM tensors");
        assert_eq!(bed.change(&text).await.unwrap(), 10 << round);
    }
    let text = "INSERT INTO ns.a (key, value) SELECT key || '-again', value FROM ns.a";
    assert_eq!(bed.change(text).await.unwrap(), 640);
    assert_eq!(bed.one("SELECT count(*) FROM tensors").await, "1280");
}

#[tokio::test(flavor = "multi_thread")]
async fn all_of_an_insert_is_seen_at_once() {
    let bed = Bed::new();
    // Several steps of the query, and of the put.
    let values: Vec<f32> = vec![0.25; 1024];
    for n in 0..1_500 {
        bed.put("a", &n.to_string(), &values).await;
    }
    let seen = AtomicUsize::new(0);
    let inserting =
        bed.change("INSERT INTO tensors SELECT 'b', key, value FROM tensors WHERE namespace = 'a'");
    let looking = async {
        loop {
            let namespace = Namespace::parse("b").unwrap();
            let tenant = Tenant::public();
            let snapshot = bed.cache.snapshot(&tenant, &namespace, "");
            let snapshot = snapshot.await.unwrap();
            let mut walk = snapshot.walk_behind(Default::default());
            let mut count = 0;
            while let Some(items) = walk.step().await.unwrap() {
                count += items.len();
            }
            seen.fetch_max(count, Ordering::Relaxed);
            match count {
                0 => tokio::task::yield_now().await,
                all => return all,
            }
        }
    };
    let (count, all) = tokio::join!(inserting, looking);
    assert_eq!((count.unwrap(), all), (1_500, 1_500));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_gives_up_leaves_nothing() {
    let bed = Bed::new();
    for n in 0..100 {
        bed.put("a", &n.to_string(), &[1.0]).await;
    }
    let text = "INSERT INTO tensors SELECT 'b', x.key || y.key || z.key, x.value FROM ns.a x, ns.a y, ns.a z";
    let plan = bed.sql.plan(&Tenant::public(), text).await.unwrap();
    let mut change = Box::pin(bed.sql.change(&plan, &[], |_| Ok(())));
    // Until some of it is there.
    let begun = async {
        while bed.cache.stats().loads.open_bytes == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        done = &mut change => panic!("{done:?}"),
        () = begun => {}
    }
    drop(change);
    assert_eq!(bed.cache.stats().loads.open, 0);
    let text = "SELECT count(*) FROM tensors WHERE namespace = 'b'";
    assert_eq!(bed.one(text).await, "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_says_how_what_stands_twice_is_put() {
    let bed = Bed::new();
    let twice = "INSERT INTO ns.a (key, value) VALUES ('x', [1.0]), ('x', [2.0]), ('y', [3.0])";
    assert_eq!(bed.change(twice).await.unwrap(), 2);
    let value = "SELECT to_list(value) FROM ns.a WHERE key = 'x'";
    assert_eq!(bed.one(value).await, "[1.0]");
    let set = |change| {
        let change = SettingsChange::parse(change).unwrap();
        let (cache, a) = (bed.cache.clone(), Namespace::parse("a").unwrap());
        async move {
            let tenant = Tenant::public();
            let set = cache.set_settings(&tenant, &a, &change, None);
            set.await.unwrap();
        }
    };
    set(r#"{"mode":"replace"}"#).await;
    assert_eq!(bed.change(twice).await.unwrap(), 2);
    assert_eq!(bed.one(value).await, "[2.0]");
    set(r#"{"mode":"create"}"#).await;
    let error = bed.change(twice).await.unwrap_err();
    assert_eq!(error.code, Code::AlreadyExists, "{error}");
    assert!(error.message.contains("key=`x`"), "{error}");
    assert_eq!(bed.one(value).await, "[2.0]");
}

#[tokio::test(flavor = "multi_thread")]
async fn parameters_are_rows_of_one_insert() {
    let bed = Bed::new();
    let text = "INSERT INTO tensors (namespace, key, value, expires_at) VALUES ('a', ?, ?, ?)";
    let plan = bed.sql.plan(&Tenant::public(), text).await.unwrap();
    let mut lists = FixedSizeListBuilder::new(Float32Builder::new(), 2);
    for value in [1.0, 2.0, 3.0] {
        lists.values().append_slice(&[value, value]);
        lists.append(true);
    }
    let lists: ArrayRef = Arc::new(lists.finish());
    let values = |keys: Vec<Option<&str>>| {
        let columns: [(&str, ArrayRef); 3] = [
            ("1", Arc::new(StringArray::from(keys))),
            ("2", lists.clone()),
            (
                "3",
                Arc::new(Int64Array::from(vec![None, None, Some(1_700_003_600_000)])),
            ),
        ];
        let fields = columns
            .iter()
            .map(|(name, column)| Field::new(*name, column.data_type().clone(), true));
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        RecordBatch::try_new(schema, columns.map(|(_, column)| column).to_vec()).unwrap()
    };
    let none = [values(vec![Some("x"), Some("y"), None])];
    let error = bed.sql.change(&plan, &none, |_| Ok(())).await.unwrap_err();
    assert!(error.message.contains("key is null"), "{error}");
    bed.left_nothing().await;
    let all = [values(vec![Some("x"), Some("y"), Some("z")])];
    assert_eq!(bed.sql.change(&plan, &all, |_| Ok(())).await.unwrap(), 3);
    assert_eq!(
        bed.rows("SELECT key, dtype, to_list(value), expires_at IS NULL FROM tensors ORDER BY key")
            .await,
        [
            "x float32 [1.0, 1.0] true",
            "y float32 [2.0, 2.0] true",
            "z float32 [3.0, 3.0] false"
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_that_finds_no_room_leaves_nothing() {
    let bed = Bed::new();
    let values: Vec<f32> = vec![0.5; 1 << 20];
    bed.put("a", "big", &values).await;
    // Three hundred times 4 MiB, of 256 MiB.
    let numbers: Vec<String> = (0..300).map(|n| format!("({n})")).collect();
    let text = format!(
        "INSERT INTO tensors SELECT 'b', n, value FROM tensors, (VALUES {}) t(n) WHERE namespace = 'a'",
        numbers.join(", ")
    );
    let error = bed.change(&text).await.unwrap_err();
    assert_eq!(error.code, Code::ResourceExhausted, "{error}");
    assert_eq!(bed.cache.stats().loads.open, 0);
    let text = "SELECT count(*) FROM tensors WHERE namespace = 'b'";
    assert_eq!(bed.one(text).await, "0");
}
