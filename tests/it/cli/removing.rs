//! `rm`.

use serde_json::json;

use super::{filled, many};

#[tokio::test]
async fn keys_go() {
    let space = filled("rm", &["a", "b", "c"]).await;
    let told = space.told(&["rm", "a", "x"]);
    assert_eq!((told.code, &*told.stdout), (Some(1), "1 key deleted\n"));
    assert_eq!(told.stderr, "not there: x\n");
    let told = space.told(&["rm", "--json", "b", "x"]);
    let lines = [("b", true), ("x", false)].map(|(key, found)| json!({"key": key, "found": found}));
    assert_eq!(told.json(), lines);
    assert_eq!(space.told(&["ls", "-1"]).stdout, "c\n");
}

#[tokio::test]
async fn a_prefix_goes_when_somebody_says_yes() {
    let space = filled("rm-prefix", &["a", "ab", "b"]).await;
    let asked = space.told(&["rm", "--prefix", "a"]);
    assert_eq!(asked.code, Some(2), "{asked:?}");
    assert!(asked.stderr.contains("--yes"), "{asked:?}");
    assert_eq!(space.told(&["ls", "-1"]).stdout, "a\nab\nb\n");
    let told = space.told(&["rm", "--prefix", "a", "--yes"]);
    assert_eq!((told.code, &*told.stdout), (Some(0), "2 keys deleted\n"));
    let told = space.told(&["rm", "--prefix", "", "--yes", "--json"]);
    assert_eq!(told.json(), [json!({"deleted": 1})]);
    assert_eq!(space.told(&["rm", "a", "--prefix", "a"]).code, Some(2));
    assert_eq!(space.told(&["rm"]).code, Some(2));
}

#[tokio::test]
async fn more_keys_than_one_action_takes_come_from_a_pipe() {
    let space = many("rm-many", 25_000).await;
    let listed = space.told(&["ls", "-0"]).stdout;
    let told = space.cli(&["rm", "-0", "-"]).input(listed).told();
    assert_eq!(
        (told.code, &*told.stdout),
        (Some(0), "25,000 keys deleted\n")
    );
    assert_eq!(space.told(&["ls", "-1"]).stdout, "");
}

#[tokio::test]
async fn a_line_that_is_no_key_is_named() {
    let space = filled("rm-lines", &["a"]).await;
    let told = space.cli(&["rm", "-"]).input(b"b\n\xff\n".to_vec()).told();
    assert_eq!((told.code, &*told.stdout), (Some(5), ""));
    assert!(told.stderr.contains("path=`-:2`"), "{told:?}");
}
