//! `ls`, `exists`, `stat`.

use bowstring_wire::dtype::DType;
use serde_json::json;

use super::{cells, filled, many};
use crate::space::Space;
use crate::tensor::Tensor;

/// A key that would colour a terminal, ring its bell, break its line and turn its text around.
const HOSTILE: &str = "a\u{1b}[31m\u{7}\n\u{202e}\u{9b}2J`";

#[tokio::test]
async fn a_table_for_people() {
    let space = filled("ls", &["a", "ab", "b"]).await;
    let told = space.told(&["ls"]);
    let lines: Vec<_> = told.stdout.lines().map(cells).collect();
    let row = |key| vec![key, "float32", "[2, 3]", "24 B"];
    let names = vec!["KEY", "DTYPE", "SHAPE", "SIZE"];
    assert_eq!(lines, [names, row("a"), row("ab"), row("b")]);
    assert_eq!((told.code, &*told.stderr), (Some(0), ""));
    assert_eq!(space.told(&["ls", "a", "-1"]).stdout, "a\nab\n");
    assert_eq!(space.told(&["ls", "-1", "--limit", "1"]).stdout, "a\n");
    assert_eq!(space.told(&["ls", "-0", "--after", "a"]).stdout, "ab\0b\0");
    assert!(space.told(&["ls", "--bytes"]).stdout.contains(" 24\n"));

    let none = space.told(&["ls", "x"]);
    assert_eq!((none.code, &*none.stdout), (Some(0), ""));
    assert!(none.stderr.contains("prefix=`x`"), "{none:?}");

    let long = space.told(&["ls", "--long"]).stdout;
    let describe = json!({"keys": ["a"]});
    let described = space.act("describe", &describe).await.unwrap();
    let version = described["keys"][0]["version"].as_str().unwrap();
    assert!(long.contains(version), "{long}");
}

#[tokio::test]
async fn objects_for_programs() {
    let space = Space::new("ls-json").await;
    let tensor = Tensor::sample(DType::Int16, &[5]);
    let members = json!({"key": "a", "metadata": {"m": "1"}, "ttl_ms": 60_000});
    let put = space.put_with(&members, &tensor).await.unwrap();
    let expected = json!({
        "key": "a", "bytes": 10, "dtype": "int16", "shape": [5], "version": put["version"], "tier": "hot",
        "metadata": {"m": "1"},
    });
    assert_eq!(space.told(&["ls", "--json"]).json(), [expected]);

    let stat = space.told(&["stat", "a", "x", "--json"]);
    let described = space.act("describe", &json!({"keys": ["a", "x"]})).await;
    let [mut one, other] = stat.json().try_into().unwrap();
    // Time goes on.
    let mut described = described.unwrap()["keys"][0].clone();
    for entry in [&mut one, &mut described] {
        entry.as_object_mut().unwrap().remove("ttl_ms").unwrap();
    }
    assert_eq!((one, stat.code), (described, Some(1)));
    assert_eq!(other, json!({"key": "x", "found": false}));

    let exists = space.told(&["exists", "x", "a", "--json"]);
    assert_eq!(exists.json()[0], json!({"key": "x", "found": false}));
    assert_eq!(exists.json()[1]["found"], true);
}

#[tokio::test]
async fn more_keys_than_one_part_has() {
    let space = many("ls-many", 2_500).await;
    let told = space.told(&["ls", "--keys"]).stdout;
    let keys: Vec<_> = told.lines().collect();
    assert_eq!(
        (keys.len(), keys[1_000], keys[2_499]),
        (2_500, "00001000", "00002499")
    );
    let some = space.told(&["ls", "--json", "--limit", "1200", "--after", "00000099"]);
    let some = some.json();
    assert_eq!(some.len(), 1_200);
    assert_eq!(some[1_199]["key"], "00001299");
}

#[tokio::test]
async fn a_hostile_key_steers_no_terminal() {
    let space = filled("hostile", &[HOSTILE]).await;
    for arguments in [
        &["ls"][..],
        &["ls", "--json"],
        &["stat", HOSTILE],
        &["exists", HOSTILE],
        &["exists", "--json", HOSTILE],
    ] {
        let told = space.told(arguments);
        assert_eq!(told.code, Some(0), "{told:?}");
        let steers = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
        assert!(!told.stdout.contains(steers), "{told:?}");
        assert_eq!(
            told.stdout.lines().count(),
            told.stdout.matches('\n').count()
        );
    }
    assert_eq!(space.told(&["ls", "--json"]).json()[0]["key"], HOSTILE);
    // As they are, they come back.
    let keys = space.told(&["ls", "--null"]).stdout;
    assert_eq!(keys, format!("{HOSTILE}\0"));
    let found = space.cli(&["exists", "-", "--null"]).input(keys).told();
    assert_eq!(found.code, Some(0), "{found:?}");
}

#[tokio::test]
async fn exists_is_for_scripts() {
    let space = filled("exists-cli", &["a", "b"]).await;
    let told = space.told(&["exists", "a", "x", "b"]);
    assert_eq!(told.stdout, "there    a\nmissing  x\nthere    b\n");
    assert_eq!(told.code, Some(1));
    assert_eq!(space.told(&["exists", "a", "b"]).code, Some(0));
    let read = space.cli(&["exists", "-"]).input("b\nnot there\n").told();
    assert_eq!(read.stdout, "there    b\nmissing  not there\n");
}

#[tokio::test]
async fn stat_tells_of_keys_and_of_the_server() {
    let space = filled("stat", &["a"]).await;
    space.act("pin", &json!({"keys": ["a"]})).await.unwrap();
    space
        .act("expire", &json!({"keys": ["a"], "ttl_ms": 7_200_000}))
        .await
        .unwrap();
    let told = space.told(&["stat", "a", "x"]);
    let lines: Vec<_> = told.stdout.lines().map(cells).collect();
    assert_eq!(lines[1][..4], ["a", "float32", "[2, 3]", "24 B"]);
    assert!(
        lines[1][5].starts_with("1h 59m") || lines[1][5] == "2h 00m",
        "{lines:?}"
    );
    assert_eq!(*lines[1].last().unwrap(), "pinned");
    assert_eq!(lines[2], ["x", "not there"]);

    let server = space.told(&["stat"]);
    assert!(server.stdout.contains("bowstring 0."), "{server:?}");
    assert!(
        server
            .stdout
            .lines()
            .any(|line| line.starts_with("arena  ")),
        "{server:?}"
    );
    let [stats] = space.told(&["stat", "--json"]).json().try_into().unwrap();
    assert_eq!(stats["memory"]["limit_bytes"], 512 << 20);
    assert!(stats["counters"]["hits"].is_u64(), "{stats}");
}

#[tokio::test]
async fn colours_are_for_those_who_want_them() {
    let space = filled("colours", &["a"]).await;
    let forced = |name| {
        space
            .cli(&["exists", "a"])
            .variable(name, "1")
            .told()
            .stdout
    };
    assert_eq!(forced("CLICOLOR_FORCE"), "\u{1b}[32mthere  \u{1b}[0m  a\n");
    assert_eq!(forced("NO_COLOR"), "there    a\n");
}
