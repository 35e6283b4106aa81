use arrow_array::{ArrayRef, StringArray, TimestampMicrosecondArray};
use bowstring_wire::error::{Code, Error};
use bowstring_wire::version::Version;

use super::*;
use crate::May;

pub fn id(namespace: &str, key: &str) -> Id {
    Id {
        tenant: Tenant::public(),
        namespace: Namespace::parse(namespace).unwrap(),
        key: Key::parse(key).unwrap(),
    }
}

impl Bed {
    pub async fn change(&self, text: &str) -> Result<u64> {
        self.change_where(text, |_| Ok(())).await
    }

    pub async fn change_where(
        &self,
        text: &str,
        mut may: impl FnMut(&Namespace) -> Result<()> + Send,
    ) -> Result<u64> {
        let plan = self.sql.plan(&Tenant::public(), text).await?;
        assert!(plan.changes(), "{text}");
        let may = |of: May<'_>| match of {
            May::Change(namespace) => may(namespace),
            May::Read(reads) => panic!("{reads:?} without a parameter"),
        };
        self.sql.change(&plan, &[], may).await
    }

    /// Namespaces and keys of all that is there.
    async fn all(&self) -> Vec<String> {
        self.rows("SELECT namespace || '/' || key FROM tensors ORDER BY 1")
            .await
    }
}

/// `a/1`, `a/2`, `a/3` and `b/1`, `b/2`, `b/3`, of as many elements.
async fn six() -> Bed {
    let bed = Bed::new();
    for namespace in ["a", "b"] {
        for n in 1..=3 {
            bed.put(namespace, &n.to_string(), &vec![0.5; n]).await;
        }
    }
    bed
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_condition_finds_goes_and_nothing_else() {
    let cases: [(&str, &[&str]); 17] = [
        ("false", &[]),
        ("NULL", &[]),
        ("1 = 2", &[]),
        ("key = NULL", &[]),
        ("expires_at < now()", &[]),
        ("NOT (expires_at > now())", &[]),
        ("key = 'none'", &[]),
        ("key = '1' AND key = '2'", &[]),
        ("namespace = 'a'", &["a/1", "a/2", "a/3"]),
        ("namespace = 'a' AND key = '2'", &["a/2"]),
        (
            "NAMESPACE = 'a' AND Key IN ('2', '3', 'x')",
            &["a/2", "a/3"],
        ),
        ("namespace = 'A'", &[]),
        ("upper(namespace) = 'A' AND key <> '1'", &["a/2", "a/3"]),
        (
            "key = '1' OR namespace = 'b'",
            &["a/1", "b/1", "b/2", "b/3"],
        ),
        (
            "(key = '1' OR elements = 3) AND namespace LIKE 'b%'",
            &["b/1", "b/3"],
        ),
        (
            "shape[1] = 2 AND coalesce(pins, 7) = 0 AND expires_at IS NULL",
            &["a/2", "b/2"],
        ),
        (
            "length(key) + rank > 1 AND NOT key BETWEEN '2' AND '3'",
            &["a/1", "b/1"],
        ),
    ];
    for (condition, gone) in cases {
        let bed = six().await;
        let mut left = bed.all().await;
        assert_eq!(left.len(), 6);
        left.retain(|name| !gone.contains(&name.as_str()));
        let text = format!("DELETE FROM tensors WHERE {condition}");
        assert_eq!(
            bed.change(&text).await.unwrap(),
            gone.len() as u64,
            "{text}"
        );
        assert_eq!(bed.all().await, left, "{text}");
    }
    let bed = six().await;
    assert_eq!(
        bed.change("DELETE FROM cache.tensors AS t WHERE t.key = '1' AND true")
            .await,
        Ok(2)
    );
    assert_eq!(bed.change("DELETE FROM tensors WHERE true").await, Ok(4));
    assert_eq!(bed.change("DELETE FROM tensors WHERE true").await, Ok(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_honoured_is_refused_and_changes_nothing() {
    let bed = six().await;
    for (text, code) in [
        ("DELETE FROM tensors", Code::InvalidArgument),
        (
            "DELETE FROM tensors WHERE nothing = 1",
            Code::InvalidArgument,
        ),
        (
            "DELETE FROM tensors WHERE key = 'a' + INTERVAL '1 hour'",
            Code::InvalidArgument,
        ),
        (
            "DELETE FROM tensors WHERE true LIMIT 1",
            Code::Unimplemented,
        ),
        (
            "DELETE FROM tensors WHERE key IN (SELECT key FROM tensors)",
            Code::Unimplemented,
        ),
        (
            "DELETE FROM tensors WHERE key IN (SELECT 'x' WHERE false)",
            Code::Unimplemented,
        ),
        (
            "DELETE FROM tensors WHERE true RETURNING key",
            Code::Unimplemented,
        ),
        (
            "DELETE FROM tensors USING namespaces WHERE true",
            Code::Unimplemented,
        ),
        ("DELETE FROM namespaces WHERE true", Code::Unimplemented),
        (
            "WITH t AS (SELECT 1) DELETE FROM tensors WHERE true",
            Code::Unimplemented,
        ),
        (
            "EXPLAIN ANALYZE DELETE FROM tensors WHERE true",
            Code::Unimplemented,
        ),
        ("UPDATE tensors SET pinned = true", Code::InvalidArgument),
        (
            "UPDATE tensors SET nothing = true WHERE true",
            Code::InvalidArgument,
        ),
        (
            "UPDATE tensors SET checksum = NULL WHERE true",
            Code::Unimplemented,
        ),
        (
            "UPDATE tensors SET key = 'a' WHERE true",
            Code::Unimplemented,
        ),
        (
            "UPDATE tensors SET pinned = true FROM namespaces WHERE true",
            Code::Unimplemented,
        ),
        ("INSERT INTO stats SELECT * FROM stats", Code::Unimplemented),
        ("TRUNCATE TABLE tensors", Code::Unimplemented),
    ] {
        let error = bed.sql.plan(&Tenant::public(), text).await.map(drop);
        assert_eq!(error.unwrap_err().code, code, "{text}");
    }
    // Found only when it is run.
    for text in [
        "UPDATE tensors SET pinned = NULL WHERE true",
        "UPDATE tensors SET pinned = 'perhaps' WHERE true",
        "UPDATE tensors SET expires_at = 'never' WHERE true",
        "DELETE FROM tensors WHERE 1 / (elements - elements) = 1",
    ] {
        let error = bed.change(text).await.unwrap_err();
        assert_eq!(error.code, Code::InvalidArgument, "{text}: {error}");
    }
    assert_eq!(
        bed.one("SELECT count(*), sum(pins), count(expires_at) FROM tensors")
            .await,
        "6 0 0"
    );
    // Nor is a change run as if it asked.
    let plan = bed
        .sql
        .plan(&Tenant::public(), "DELETE FROM tensors WHERE true")
        .await
        .unwrap();
    assert!(bed.sql.run(&plan, Ok).await.is_err());
    let plan = bed.sql.plan(&Tenant::public(), "SELECT 1").await.unwrap();
    assert!(bed.sql.change(&plan, &[], |_| Ok(())).await.is_err());
    assert_eq!(bed.all().await.len(), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn pins_and_expiries_are_set_by_any_expression() {
    let bed = six().await;
    let pinned = "SELECT namespace || '/' || key FROM tensors WHERE pins = 1 ORDER BY 1";
    assert_eq!(
        bed.change("UPDATE tensors SET pinned = elements > 1 WHERE namespace = 'a'")
            .await,
        Ok(3)
    );
    assert_eq!(bed.rows(pinned).await, ["a/2", "a/3"]);
    // What is so already is set all the same.
    assert_eq!(
        bed.change("UPDATE tensors SET pins = 1 WHERE key = '2'")
            .await,
        Ok(2)
    );
    assert_eq!(
        bed.change("UPDATE tensors SET pins = 0 WHERE namespace = 'a'")
            .await,
        Ok(3)
    );
    assert_eq!(bed.rows(pinned).await, ["b/2"]);

    let expires = |key: &str| {
        let entry = bed.cache.peek(&id("a", key)).unwrap();
        entry.expires_at_ms()
    };
    let soon = NOW_MS + 60_000;
    let cases = [
        (format!("{soon}"), Some(soon)),
        ("created_at + INTERVAL '1 minute'".to_owned(), Some(soon)),
        ("'2033-05-18T03:33:20Z'".to_owned(), Some(2_000_000_000_000)),
        (
            "TIMESTAMP '2033-05-18 03:33:20'".to_owned(),
            Some(2_000_000_000_000),
        ),
        (
            "'2033-05-18T05:33:20+02:00'".to_owned(),
            Some(2_000_000_000_000),
        ),
        ("NULL".to_owned(), None),
        (
            "CASE WHEN elements = 1 THEN to_timestamp_millis(2000000000123) END".to_owned(),
            Some(2_000_000_000_123),
        ),
    ];
    for (value, expected) in cases {
        let text =
            format!("UPDATE tensors SET expires_at = {value} WHERE namespace = 'a' AND key = '1'");
        assert_eq!(bed.change(&text).await, Ok(1), "{text}");
        assert_eq!(expires("1"), expected, "{text}");
        assert_eq!(expires("2"), None);
    }
    let both = "UPDATE tensors SET expires_at = '1970-01-01', pinned = true WHERE namespace = 'b'";
    assert_eq!(bed.change(both).await, Ok(3));
    assert_eq!(bed.all().await, ["a/1", "a/2", "a/3"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_is_run_once_for_each_row_of_values() {
    let bed = six().await;
    let tenant = Tenant::public();
    let keys = |keys: &[Option<&str>]| {
        let keys: ArrayRef = Arc::new(StringArray::from(keys.to_vec()));
        RecordBatch::try_from_iter([("1", keys)]).unwrap()
    };
    let plan = bed
        .sql
        .plan(&tenant, "DELETE FROM tensors WHERE key = ?")
        .await
        .unwrap();
    assert_eq!(plan.schema().field(0).name(), "count");
    assert_eq!(plan.parameters().field(0).data_type().to_string(), "Utf8");
    let unbound = bed.sql.change(&plan, &[], |_| Ok(())).await.unwrap_err();
    assert_eq!(unbound.code, Code::InvalidArgument);
    let rows = [
        keys(&[Some("1"), Some("none")]),
        keys(&[None, Some("3"), Some("1")]),
    ];
    assert_eq!(bed.sql.change(&plan, &rows, |_| Ok(())).await, Ok(4));
    assert_eq!(bed.all().await, ["a/2", "b/2"]);

    let text = "UPDATE tensors SET expires_at = ? WHERE key = ? AND namespace = 'a'";
    let plan = bed.sql.plan(&tenant, text).await.unwrap();
    let times: [ArrayRef; 2] = [
        Arc::new(TimestampMicrosecondArray::from(vec![2_000_000_000_000_000])),
        Arc::new(StringArray::from(vec!["2033-05-18T03:33:20Z"])),
    ];
    for time in times {
        let key: ArrayRef = Arc::new(StringArray::from(vec!["2"]));
        let row = RecordBatch::try_from_iter([("1", time), ("2", key)]).unwrap();
        assert_eq!(bed.sql.change(&plan, &[row], |_| Ok(())).await, Ok(1));
        let entry = bed.cache.peek(&id("a", "2")).unwrap();
        assert_eq!(entry.expires_at_ms(), Some(2_000_000_000_000));
        bed.cache.expire(&id("a", "2"), None).await.unwrap();
    }
    // A row that does not fit ends it, and what was done is said.
    let plan = bed
        .sql
        .plan(
            &tenant,
            "DELETE FROM tensors WHERE namespace = ? AND 10 / elements = ?",
        )
        .await
        .unwrap();
    let namespaces: ArrayRef = Arc::new(StringArray::from(vec!["a", "b"]));
    let numbers: ArrayRef = Arc::new(StringArray::from(vec!["5", "five"]));
    let row = RecordBatch::try_from_iter([("1", namespaces), ("2", numbers)]).unwrap();
    let error = bed.sql.change(&plan, &[row], |_| Ok(())).await.unwrap_err();
    assert_eq!(error.code, Code::InvalidArgument);
    assert!(error.message.contains("changed=`1`"), "{error}");
    assert_eq!(bed.all().await, ["b/2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_is_told_how_far_it_came() {
    let bed = Bed::new();
    for n in 0..300 {
        bed.put("a", &format!("{n:03}"), &[1.0]).await;
    }
    bed.put("b", "1", &[1.0]).await;
    let may = |namespace: &Namespace| match namespace.as_str() {
        "a" => Ok(()),
        _ => Err(Error::new(Code::PermissionDenied, "not yours")),
    };
    let error = bed
        .change_where("DELETE FROM tensors WHERE true", may)
        .await
        .unwrap_err();
    assert_eq!(error.code, Code::PermissionDenied);
    let left = bed.all().await;
    assert!(left.contains(&"b/1".to_owned()));
    let said = format!("changed=`{}`", 301 - left.len());
    assert!(error.message.contains(&said), "{said}: {error}");
    assert!(left.len() < 301);
    let error = bed
        .change_where("DELETE FROM tensors WHERE namespace = 'b'", may)
        .await
        .unwrap_err();
    assert!(!error.message.contains("changed"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_tenants_own_entries_are_changed() {
    let bed = six().await;
    let other = Tenant::parse("other").unwrap();
    bed.put_for(&other, "a", "1", &[1.0]).await;
    let version: Version = {
        let mut id = id("a", "1");
        id.tenant = other.clone();
        bed.cache.peek(&id).unwrap().version()
    };
    assert_eq!(bed.change("DELETE FROM tensors WHERE true").await, Ok(6));
    let left = rows(
        &bed.batches_for(&other, "SELECT version FROM tensors")
            .await
            .unwrap(),
    );
    assert_eq!(left, [version.to_string()]);
}
