//! `attach`, `detach`.

use std::sync::Arc;

use bowstring_tests::Cli;
use serde_json::json;

use crate::attach::{Files, ROWS, is_as_written, number};
use crate::space::{Space, refused};

#[tokio::test]
async fn files_are_attached_and_detached() {
    let files = Files::new();
    let server = Arc::new(files.server("64MiB").start());
    let space = Space::on(server, "of-files").await;
    let attach = ["attach", &*files.text("*.parquet"), &*files.text("b.arrow")];
    let told = space.told(&attach);
    assert_eq!((told.code, &*told.stderr), (Some(0), ""), "{told:?}");
    let rows = "2,500 rows of 2 files attached, 468.8 KiB; their keys take ";
    assert!(told.stdout.starts_with(rows), "{told:?}");
    is_as_written(&space, 1_400).await;

    let name = &*space.namespace;
    let ns = |arguments: &[&str]| {
        let arguments = [&["ns"], arguments].concat();
        Cli::new(space.server.uri(), arguments).told().stdout
    };
    assert!(ns(&[]).contains("attached_rows=2,500"), "{}", ns(&[]));
    assert!(ns(&[name]).contains("2,500 rows of 2 files  468.8 KiB"));
    ns(&[name, "--set", "bytes_max=1MiB"]);
    let both = ns(&[]);
    assert!(
        both.contains("attached_rows=2,500 bytes_max=1.0MiB"),
        "{both}"
    );

    let again = space.told(&attach);
    assert_eq!(again.code, Some(3), "{again:?}");
    assert!(again.stderr.contains("failed_precondition"), "{again:?}");
    assert_eq!(space.told(&["detach"]).stdout, "2,500 rows detached\n");
    refused(space.tensor("user:00000").await, "not_found", &[]);
    assert!(!ns(&[name]).contains("attached"), "{}", ns(&[name]));
    assert_eq!(space.told(&["detach"]).code, Some(3));
}

#[tokio::test]
async fn json_and_columns_of_ones_own() {
    let files = Files::new();
    let server = Arc::new(files.server("64MiB").start());
    let space = Space::on(server, "columns").await;
    let all = files.text("");
    let wrong = space.told(&["attach", &all, "--tensor-column", "vector"]);
    assert_eq!(wrong.code, Some(3), "{wrong:?}");
    assert!(wrong.stderr.contains("vector"), "{wrong:?}");
    let columns = ["--key-column", "key", "--tensor-column", "tensor"];
    let told = space.told(&[&["attach", &all, "--json"], &columns[..]].concat());
    let reply = &told.json()[0];
    assert_eq!(
        (number(&reply["files"]), number(&reply["rows"])),
        (3, ROWS as u64),
        "{told:?}"
    );
    assert_eq!(reply["namespace"], json!(space.namespace));
    assert!(number(&reply["index_bytes"]) > 0, "{told:?}");
    is_as_written(&space, 0).await;
    let told = space.told(&["detach", "--json"]).json();
    assert_eq!(
        told,
        [json!({"namespace": space.namespace, "rows": ROWS as u64})]
    );

    // Nobody attaches or detaches by forgetting a name.
    for arguments in [&["attach", &*all][..], &["detach"]] {
        let told = Cli::new(space.server.uri(), arguments).told();
        assert_eq!(told.code, Some(2), "{told:?}");
        assert!(told.stderr.contains("--namespace"), "{told:?}");
    }
    assert_eq!(space.told(&["attach"]).code, Some(2));
}
