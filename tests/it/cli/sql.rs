//! `sql`: statements in flags, files and pipes; the prompt is tested in `tests/python`.

use std::io::{BufRead as _, BufReader, Write as _};

use bowstring_tests::{Cli, Server};
use bowstring_wire::dtype::DType;
use serde_json::json;

use super::{cells, filled, many};
use crate::space::Space;
use crate::tensor::Tensor;

/// `bowstring sql`, asking this server.
fn sql(server: &Server, arguments: &[&str]) -> Cli {
    Cli::new(server.uri(), [&["sql"], arguments].concat())
}

/// A namespace with float32 of `[50]` as `king`, and metadata.
async fn king() -> Space {
    let space = Space::new("sql-cli").await;
    let metadata = json!({"key": "king", "metadata": {"m": "a,\"b\"\u{1b}"}});
    let tensor = Tensor::sample(DType::Float32, &[50]);
    space.put_with(&metadata, &tensor).await.unwrap();
    space
}

#[tokio::test]
async fn a_person_sees_a_table_and_a_tensor_by_its_shape() {
    let space = king().await;
    let text = format!(
        "SELECT key, shape, bytes, expires_at, metadata, value FROM tensors WHERE namespace = '{}'; SELECT 1 AS one",
        space.namespace
    );
    let told = sql(&space.server, &["-c", &text, "-c", "SELECT 'é' AS \"é\";"]).told();
    assert_eq!((told.code, &*told.stderr), (Some(0), ""));
    let lines: Vec<Vec<&str>> = told.stdout.lines().map(cells).collect();
    assert_eq!(
        lines,
        [
            &["key", "shape", "bytes", "expires_at", "metadata", "value"][..],
            &[
                "king",
                "[50]",
                "200",
                "NULL",
                "{m: a,\"b\"\\u{1b}}",
                "<50 x float32>"
            ],
            &["one"],
            &["1"],
            &["é"],
            &["é"],
        ]
    );
}

#[tokio::test]
async fn json_and_csv_say_all_there_is() {
    let space = king().await;
    let text = format!(
        "SELECT key, bytes, created_at, metadata, value, NULL AS nothing, '' AS empty FROM tensors WHERE namespace = '{}'",
        space.namespace
    );
    let bytes = Tensor::sample(DType::Float32, &[50]).bytes;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let told = sql(&space.server, &["--json", "-c", &text]).told();
    assert_eq!(told.code, Some(0), "{told:?}");
    let [row] = &told.json()[..] else {
        panic!("one row: {told:?}")
    };
    let metadata = json!({"m": "a,\"b\"\u{1b}"});
    let value = json!({"dtype": "float32", "shape": [50], "data": hex});
    assert_eq!((&row["key"], &row["bytes"]), (&json!("king"), &json!(200)));
    assert_eq!((&row["metadata"], &row["value"]), (&metadata, &value));
    assert_eq!((&row["nothing"], &row["empty"]), (&json!(null), &json!("")));
    let created = row["created_at"].as_str().unwrap();
    assert!(
        created.starts_with("20") && created.ends_with('Z'),
        "{created}"
    );

    let told = sql(&space.server, &["--csv", "-c", &text]).told();
    assert_eq!(told.code, Some(0), "{told:?}");
    let quoted =
        |json: &serde_json::Value| format!("\"{}\"", json.to_string().replace('"', "\"\""));
    let value = format!(
        "\"{{\"\"dtype\"\":\"\"float32\"\",\"\"shape\"\":[50],\"\"data\"\":\"\"{hex}\"\"}}\""
    );
    let line = format!("king,200,{created},{},{value},,\"\"", quoted(&metadata));
    assert_eq!(
        told.stdout.lines().collect::<Vec<_>>(),
        ["key,bytes,created_at,metadata,value,nothing,empty", &line]
    );
}

#[tokio::test]
async fn statements_come_by_a_pipe_or_a_file_and_are_answered_when_they_end() {
    let server = Server::shared();
    let script = "-- one;\nSELECT 'a;b' AS a;\nSELECT 2\n  AS b; SELECT 3 AS c";
    let told = sql(&server, &["--json"]).input(script).told();
    let rows = [json!({"a": "a;b"}), json!({"b": 2}), json!({"c": 3})];
    assert_eq!(
        (told.code, told.json()),
        (Some(0), rows.to_vec()),
        "{told:?}"
    );
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), script).unwrap();
    let told = sql(&server, &["--json", "-f", file.path().to_str().unwrap()]).told();
    assert_eq!(
        (told.code, told.json()),
        (Some(0), rows.to_vec()),
        "{told:?}"
    );

    // Before the pipe is at its end.
    let mut child = sql(&server, &["--csv"]).spawn();
    let mut stdin = child.stdin.take().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    stdin.write_all(b"SELECT 1 AS x;\n").unwrap();
    assert_eq!(lines.next().unwrap().unwrap(), "x");
    stdin
        .write_all(b"SELECT 2 AS y;\n\\q\nSELECT 3;\n")
        .unwrap();
    let rest: Vec<String> = lines.map(Result::unwrap).collect();
    assert_eq!(rest, ["1", "y", "2"], "nothing is run after \\q");
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[tokio::test]
async fn the_first_that_fails_is_the_last() {
    let server = Server::shared();
    for (arguments, code, says) in [
        (
            &["-c", "SELECT 1 AS x; SELECT * FROM nowhere; SELECT 2"][..],
            3,
            "nowhere",
        ),
        (
            &["-c", "SELECT 1 AS x", "-c", "SELEC", "-c", "SELECT 2"],
            3,
            "invalid_argument: ",
        ),
        (
            &["-c", "SELECT 1 AS x; \\d nowhere\nSELECT 2"],
            3,
            "nowhere",
        ),
        (&["-c", "SELECT 1 AS x; \\nothing\nSELECT 2"], 2, "\\?"),
    ] {
        let told = sql(&server, arguments).told();
        assert_eq!(
            (told.code, &*told.stdout),
            (Some(code), "x\n1\n"),
            "{told:?}"
        );
        assert!(told.stderr.starts_with("bowstring: "), "{told:?}");
        assert!(told.stderr.contains(says), "{told:?}");
    }
    let told = sql(&server, &[])
        .input("SELECT 1 AS x;\n\nSELECT 2 +\n;\nSELECT 3;")
        .told();
    assert_eq!((told.code, &*told.stdout), (Some(3), "x\n1\n"), "{told:?}");
    assert!(told.stderr.contains("line=`3`"), "{told:?}");
}

#[test]
fn flags_files_and_servers_that_are_wrong() {
    let server = Server::shared();
    for (arguments, code) in [
        (&["--json", "--csv", "-c", "SELECT 1"][..], 2),
        (&["-c", "SELECT 1", "-f", "x"], 2),
        (&["nowhere", "-c", "SELECT 1"], 2),
        (&["-f", "/nowhere/x.sql"], 5),
        (&["grpc://127.0.0.1:1", "-c", "SELECT 1"], 4),
    ] {
        let told = sql(&server, arguments).told();
        assert_eq!((told.code, &*told.stdout), (Some(code), ""), "{told:?}");
    }
    let told = sql(&server, &[]).input(b"SELECT '\xff';").told();
    assert_eq!(told.code, Some(5), "{told:?}");
    assert_eq!(sql(&server, &[]).told().code, Some(0), "nothing is asked");
    // The server that is named, not the one of the variable.
    let told = Cli::new(
        "grpc://127.0.0.1:1",
        ["sql", server.uri(), "--csv", "-c", "SELECT 1 AS x"],
    );
    assert_eq!(told.told().stdout, "x\n1\n");
}

#[tokio::test]
async fn tables_and_columns_are_told() {
    let server = Server::shared();
    let told = sql(&server, &["-c", "\\d"]).told();
    let tables: Vec<Vec<&str>> = told.stdout.lines().map(cells).collect();
    assert_eq!(tables[0], ["schema", "table", "type"]);
    for table in ["memory", "namespaces", "settings", "stats", "tensors"] {
        assert!(
            tables.iter().any(|row| row[..2] == ["cache", table]),
            "{table}: {told:?}"
        );
    }
    for table in ["tensors", "cache.tensors"] {
        let told = sql(&server, &["--json", "-c", &format!("\\d {table}")]).told();
        let columns = told.json();
        assert_eq!(columns[0]["column_name"], "namespace", "{told:?}");
        let names = columns
            .iter()
            .map(|column| column["column_name"].as_str().unwrap());
        assert!(
            names.clone().any(|name| name == "value"),
            "{:?}",
            names.collect::<Vec<_>>()
        );
    }
    let told = sql(
        &server,
        &[
            "-c",
            "\\x on\nSELECT 1 AS one, NULL AS two; \\timing\nSELECT 2 AS b;",
        ],
    )
    .told();
    let lines: Vec<&str> = told.stdout.lines().collect();
    assert_eq!(lines[..3], ["-- row 1", "one  1", "two  NULL"], "{told:?}");
    assert!(
        lines[5].starts_with("1 row in ") && lines[5].ends_with(" ms"),
        "{told:?}"
    );
}

#[tokio::test]
async fn a_plan_is_of_lines() {
    let server = Server::shared();
    let told = sql(
        &server,
        &[
            "-c",
            "EXPLAIN SELECT key FROM tensors WHERE namespace = 'x' AND key = 'y'",
        ],
    )
    .told();
    let lines: Vec<&str> = told.stdout.lines().collect();
    assert!(lines[0].starts_with("plan_type"), "{told:?}");
    assert!(lines.len() > 3 && !told.stdout.contains("\\n"), "{told:?}");
}

#[tokio::test]
async fn rows_are_printed_as_they_come_and_a_reader_may_leave() {
    let space = many("sql-many", 20_000).await;
    let text = format!(
        "SELECT key, version FROM tensors WHERE namespace = '{}'",
        space.namespace
    );
    let told = sql(&space.server, &["--csv", "-c", &text]).told();
    let mut keys: Vec<&str> = told.stdout.lines().skip(1).map(|line| &line[..8]).collect();
    // No order was asked for.
    keys.sort_unstable();
    let all: Vec<String> = (0..20_000).map(|n| format!("{n:08}")).collect();
    assert_eq!(keys, all);
    for layout in [&["--json"][..], &["--csv"], &[]] {
        let mut child = sql(&space.server, &[layout, &["-c", &text]].concat()).spawn();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        lines.next().unwrap().unwrap();
        drop(lines);
        let output = child.wait_with_output().unwrap();
        assert_eq!(
            (output.status.code(), &*output.stderr),
            (Some(0), &b""[..]),
            "{layout:?}"
        );
    }
}

#[tokio::test]
async fn an_interrupt_ends_a_script() {
    let space = filled("sql-interrupt", &["a"]).await;
    let mut child = Cli::new(space.server.uri(), ["sql"]).spawn();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(b"SELECT 1 AS x;\n").unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    // Once it has answered, it waits for the next one.
    assert_eq!(lines.next().unwrap().unwrap(), "x");
    super::ending::interrupt(&child);
    assert_eq!(child.wait().unwrap().code(), Some(130));
    drop(stdin);
}
