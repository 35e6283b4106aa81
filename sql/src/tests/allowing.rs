//! What a statement says that it reads, for who decides whether it may.

use arrow_array::StringArray;
use bowstring_wire::error::Code;

use super::*;
use crate::{May, Reads};

impl Bed {
    async fn reads(&self, text: &str) -> Vec<String> {
        let plan = self.sql.plan(&Tenant::public(), text).await;
        let plan = plan.unwrap_or_else(|error| panic!("{text}: {error}"));
        plan.reads().iter().map(said).collect()
    }
}

fn said(reads: &Reads) -> String {
    match reads {
        Reads::Table { schema, name } => format!("{schema}.{name}"),
        Reads::Namespace(namespace) => format!("all of {}", namespace.as_str()),
        Reads::Tensor(namespace, key) => format!("{}/{}", namespace.as_str(), key.as_str()),
    }
}

async fn filled() -> Bed {
    let bed = Bed::new();
    for namespace in ["a", "b", "My-docs.v2"] {
        bed.put(namespace, "x", &[1.0, 2.0]).await;
    }
    bed
}

#[tokio::test(flavor = "multi_thread")]
async fn every_table_and_tensor_is_seen_wherever_it_stands() {
    let bed = filled().await;
    let cases: [(&str, &[&str]); 26] = [
        ("SELECT 1", &[]),
        ("SELECT key FROM tensors", &["cache.tensors"]),
        (
            "SELECT key FROM Bowstring.CACHE.Tensors AS n",
            &["cache.tensors"],
        ),
        ("SELECT key FROM ns.a", &["all of a"]),
        ("SELECT key FROM ns.\"My-docs.v2\"", &["all of My-docs.v2"]),
        (
            "SELECT x.key FROM ns.a x JOIN ns.b y ON x.key = y.key",
            &["all of a", "all of b"],
        ),
        (
            "SELECT x.key FROM ns.a x, memory",
            &["cache.memory", "all of a"],
        ),
        (
            "SELECT key FROM ns.a UNION ALL SELECT key FROM ns.b",
            &["all of a", "all of b"],
        ),
        (
            "SELECT key FROM ns.a EXCEPT SELECT key FROM ns.a",
            &["all of a"],
        ),
        ("SELECT 1 WHERE EXISTS (SELECT 1 FROM ns.a)", &["all of a"]),
        (
            "SELECT (SELECT max(bytes) FROM ns.b) FROM ns.a",
            &["all of a", "all of b"],
        ),
        (
            "SELECT key FROM ns.a WHERE key IN (SELECT key FROM ns.b)",
            &["all of a", "all of b"],
        ),
        (
            "SELECT key FROM (SELECT * FROM (SELECT * FROM ns.a))",
            &["all of a"],
        ),
        (
            "WITH w AS (SELECT * FROM ns.a) SELECT key FROM w",
            &["all of a"],
        ),
        // A name of a WITH clause hides a table, not what it is made of.
        (
            "WITH tensors AS (SELECT * FROM ns.a) SELECT key FROM tensors",
            &["all of a"],
        ),
        (
            "SELECT key FROM ns.a ORDER BY (SELECT max(bytes) FROM ns.b)",
            &["all of a", "all of b"],
        ),
        ("EXPLAIN SELECT key FROM ns.a", &["all of a"]),
        ("EXPLAIN ANALYZE SELECT key FROM ns.a", &["all of a"]),
        ("DESCRIBE ns.a", &["all of a"]),
        ("SELECT norm(tensor('a', 'x'))", &["a/x"]),
        (
            "SELECT key FROM ns.b WHERE dot(value, tensor('a', 'x')) > 0",
            &["all of b", "a/x"],
        ),
        (
            "SELECT key FROM ns.b ORDER BY dot(value, tensor('a', 'x'))",
            &["all of b", "a/x"],
        ),
        (
            "SELECT sum(dot(value, tensor('a', 'x'))) FROM ns.b GROUP BY norm(tensor('a', 'y'))",
            &["all of b", "a/x", "a/y"],
        ),
        (
            "SELECT 1 WHERE EXISTS (SELECT 1 FROM ns.b WHERE norm(tensor('a', 'x')) > 0)",
            &["all of b", "a/x"],
        ),
        ("EXPLAIN SELECT norm(tensor('a', 'x'))", &["a/x"]),
        (
            "DELETE FROM tensors WHERE norm(tensor('a', 'x')) > 9",
            &["cache.tensors", "a/x"],
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(bed.reads(text).await, expected, "{text}");
    }
    let shown = bed.reads("SHOW TABLES").await;
    assert!(
        shown.iter().all(|of| of.starts_with("information_schema.")),
        "{shown:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tensor_that_a_parameter_names_is_seen_before_it_is_read() {
    let bed = filled().await;
    let text = "SELECT key FROM ns.b WHERE dot(value, tensor(?, ?)) > 0";
    let plan = bed.sql.plan(&Tenant::public(), text).await.unwrap();
    let row = |key: &str| {
        let text = |value: &str| Arc::new(StringArray::from(vec![value])) as _;
        RecordBatch::try_from_iter([("1", text("a")), ("2", text(key))]).unwrap()
    };
    let bound = bed.sql.bind(&plan, &row("x")).await.unwrap();
    let seen: Vec<String> = bound.reads().iter().map(said).collect();
    assert_eq!(seen, ["all of b", "a/x"]);
    // Of a change, of each row of values.
    let text = "DELETE FROM tensors WHERE namespace = 'b' AND norm(tensor(?, ?)) > 0";
    let plan = bed.sql.plan(&Tenant::public(), text).await.unwrap();
    let mut asked = Vec::new();
    let may = |of: May<'_>| match of {
        May::Read(reads) if said(reads) == "a/secret" => {
            Err(Error::new(Code::PermissionDenied, "no"))
        }
        May::Read(reads) => {
            asked.push(said(reads));
            Ok(())
        }
        May::Change(namespace) => {
            asked.push(format!("change {}", namespace.as_str()));
            Ok(())
        }
    };
    let refused = bed.sql.change(&plan, &[row("x"), row("secret")], may).await;
    assert_eq!(refused.unwrap_err().code, Code::PermissionDenied);
    assert_eq!(asked, ["cache.tensors", "a/x", "change b", "cache.tensors"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn explain_of_a_change_shows_how_it_is_found_and_changes_nothing() {
    let bed = filled().await;
    for text in [
        "EXPLAIN DELETE FROM tensors WHERE namespace = 'a' AND key = 'x'",
        "EXPLAIN UPDATE tensors SET pinned = true WHERE namespace = 'a' AND key = 'x'",
    ] {
        let shown = bed.one(text).await;
        assert!(shown.contains("Scan: "), "{shown}");
        let plan = bed.sql.plan(&Tenant::public(), text).await.unwrap();
        assert!(!plan.changes(), "{text}");
    }
    for text in [
        "EXPLAIN ANALYZE DELETE FROM tensors WHERE true",
        "EXPLAIN ANALYZE UPDATE tensors SET pinned = true WHERE true",
    ] {
        let refused = bed.error(text).await;
        assert_eq!(refused.code, Code::Unimplemented, "{refused}");
        assert!(
            refused.message.contains("SELECT that finds the same"),
            "{refused}"
        );
    }
    // What a DELETE itself would refuse.
    let refused = bed.error("EXPLAIN DELETE FROM tensors").await;
    assert_eq!(refused.code, Code::InvalidArgument, "{refused}");
    let left = "SELECT count(*), sum(pins) FROM tensors";
    assert_eq!(bed.one(left).await, "3 0");
}
