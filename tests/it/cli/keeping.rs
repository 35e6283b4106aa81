//! `expire`, `pin`, `unpin`.

use serde_json::json;

use super::filled;

#[tokio::test]
async fn keys_are_kept_or_not() {
    let space = filled("keep-cli", &["a", "b"]).await;
    let exists = async || {
        let reply = space.act("exists", &json!({"keys": ["a"]})).await;
        reply.unwrap()["keys"][0].clone()
    };
    let told = space.told(&["pin", "a", "b", "x"]);
    assert_eq!((told.code, &*told.stdout), (Some(1), "2 keys pinned\n"));
    assert_eq!(told.stderr, "not there: x\n");
    assert_eq!(exists().await["pinned"], true);
    let told = space.told(&["unpin", "a"]);
    assert_eq!(
        (told.code, &*told.stdout),
        (Some(0), "1 key no longer pinned\n")
    );
    assert_eq!(exists().await, json!({"key": "a", "found": true}));

    let told = space.told(&["expire", "--ttl", "30d", "a", "--json"]);
    assert_eq!(told.json(), [json!({"key": "a", "found": true})]);
    let ttl_ms = exists().await["ttl_ms"].as_u64().unwrap();
    assert!((1..=30 * 86_400_000).contains(&ttl_ms), "{ttl_ms}");
    let told = space.told(&["expire", "--never", "a"]);
    assert_eq!(told.stdout, "1 key set never to expire\n");
    assert_eq!(exists().await, json!({"key": "a", "found": true}));
    for wrong in [
        &["expire", "a"][..],
        &["expire", "a", "--ttl", "0s"],
        &["pin"],
    ] {
        assert_eq!(space.told(wrong).code, Some(2), "{wrong:?}");
    }
}
