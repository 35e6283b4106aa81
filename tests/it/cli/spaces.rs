//! `ns`, `clear`.

use std::sync::Arc;

use bowstring_tests::{Cli, Server, Told};
use serde_json::json;

use super::{cells, filled};
use crate::space::Space;

fn told(space: &Space, arguments: &[&str]) -> Told {
    Cli::new(space.server.uri(), arguments).told()
}

#[tokio::test]
async fn namespaces_are_listed_and_shown() {
    let server = Arc::new(Server::start());
    let space = Space::on(server, "one").await;
    let name = &*space.namespace;
    assert_eq!(told(&space, &["ns", "--json"]).stdout, "");
    space
        .act(
            "namespace_set",
            &json!({"settings": {"bytes_max": 1 << 20, "mode": "keep"}}),
        )
        .await
        .unwrap();
    let listed = told(&space, &["ns"]).stdout;
    let row = cells(listed.lines().nth(1).unwrap());
    assert_eq!(
        row,
        [
            name,
            "0",
            "0 B",
            "0",
            "–",
            "0",
            "0",
            "bytes_max=1.0MiB mode=keep"
        ]
    );
    let namespaces = space.act_raw("namespaces", "").await.unwrap();
    let namespaces: serde_json::Value = serde_json::from_slice(&namespaces[0]).unwrap();
    assert_eq!(
        told(&space, &["ns", "--json"]).json(),
        [namespaces["namespaces"][0].clone()]
    );
    assert_eq!(
        told(&space, &["ns", name, "--json"]).json(),
        [namespaces["namespaces"][0].clone()]
    );
    assert!(
        told(&space, &["ns", name])
            .stdout
            .contains("bytes_max=1.0MiB mode=keep")
    );
    let none = told(&space, &["ns", "nowhere"]);
    assert_eq!((none.code, &*none.stdout), (Some(1), ""));
    assert!(none.stderr.contains("nowhere"), "{none:?}");
}

#[tokio::test]
async fn settings_are_changed_with_their_units() {
    let space = filled("ns-set", &["a"]).await;
    let name = &*space.namespace;
    let set = [
        "--set",
        "bytes_max=2GiB",
        "--set",
        "default_ttl_ms=12h",
        "--if-version",
        "0",
    ];
    let reply = told(&space, &[&["ns", name, "--json"], &set[..]].concat()).json();
    assert_eq!(
        reply[0]["settings"],
        json!({"bytes_max": 2_u64 << 30, "default_ttl_ms": 43_200_000})
    );
    let again = told(&space, &[&["ns", name], &set[..]].concat());
    assert_eq!(again.code, Some(3), "{again:?}");
    assert!(again.stderr.contains("failed_precondition"), "{again:?}");
    let back = told(
        &space,
        &["ns", name, "--unset", "bytes_max", "--set", "mode=keep"],
    );
    assert_eq!(
        back.stdout,
        format!("{name}  default_ttl_ms=12h00m mode=keep\n")
    );
    for wrong in ["mode=overwrite", "bytes_max=much", "colour=red", "mode"] {
        let refused = told(&space, &["ns", name, "--set", wrong]);
        assert_eq!(refused.code, Some(2), "{refused:?}");
    }
    assert_eq!(told(&space, &["ns", "--set", "mode=keep"]).code, Some(2));
}

#[tokio::test]
async fn a_namespace_is_cleared_when_somebody_says_yes() {
    let space = filled("clear", &["a", "b"]).await;
    let name = &*space.namespace;
    let asked = told(&space, &["clear", name]);
    assert_eq!(asked.code, Some(2), "{asked:?}");
    assert!(asked.stderr.contains("all 2 entries"), "{asked:?}");
    assert_eq!(
        told(&space, &["clear", name, "--yes"]).stdout,
        "2 keys deleted\n"
    );
    assert_eq!(
        told(&space, &["clear", name, "-y", "--json"]).json(),
        [json!({"deleted": 0})]
    );
    assert_eq!(told(&space, &["clear", "--yes"]).code, Some(2));
}
