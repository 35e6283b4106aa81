//! Settings of namespaces outlast the process.

use std::collections::BTreeMap;

use bowstring_wire::settings::{NamespaceSettings, SettingsChange};
use bowstring_wire::version::Version;
use futures::TryStreamExt as _;
use object_store::{ObjectStore as _, ObjectStoreExt as _};

use super::failing::{objects, read, write};
use super::*;

fn space(name: &str) -> Id {
    Id::public(Namespace::parse(name).unwrap(), Key::parse("k").unwrap())
}

impl Node {
    async fn set(&self, name: &str, change: &str) -> Result<(NamespaceSettings, Version)> {
        let (of, change) = (space(name), SettingsChange::parse(change).unwrap());
        let cache = &self.cache;
        cache
            .set_settings(&of.tenant, &of.namespace, &change, None)
            .await
    }

    async fn is_set(&self, name: &str) -> (NamespaceSettings, Version) {
        self.set(name, "{}").await.unwrap()
    }
}

fn entries_max(max: u64) -> NamespaceSettings {
    NamespaceSettings {
        entries_max: Some(max),
        ..NamespaceSettings::default()
    }
}

#[tokio::test]
async fn what_was_set_is_set_at_the_next_start() {
    let disk = Disk::new();
    let node = Node::start(&disk, &settings()).await;
    let all = r#"{"default_ttl_ms":5000,"mode":"replace","bytes_max":"9007199254740993","entries_max":7,"admit":"probation","compression":"zstd"}"#;
    let first = node.set("all", all).await.unwrap();
    node.set("changed", r#"{"entries_max":1}"#).await.unwrap();
    let second = node
        .set("changed", r#"{"entries_max":2,"mode":"keep"}"#)
        .await;
    let second = second.unwrap();
    node.set("taken.back", r#"{"entries_max":1}"#)
        .await
        .unwrap();
    let third = node.set("taken.back", r#"{"entries_max":null}"#).await;
    let third = third.unwrap();
    assert!(third.0.is_empty());
    node.kill().await;
    for _ in 0..2 {
        let node = Node::start(&disk, &settings()).await;
        assert_eq!(node.is_set("all").await, first);
        assert_eq!(node.is_set("changed").await, second);
        assert_eq!(node.is_set("taken.back").await, third);
        let never = node.is_set("never").await;
        assert_eq!(never.1, Version { hlc: 0, start: 0 });
        node.kill().await;
    }
    let node = Node::start(&disk, &settings()).await;
    let later = node.set("changed", r#"{"mode":null}"#).await.unwrap();
    assert_eq!(later.0, entries_max(2));
    assert!(later.1 > second.1, "versions go on above what is kept");
    node.kill().await;
}

/// What the settings file says is its own: it is not kept, and is gone with the file.
#[tokio::test]
async fn what_the_settings_file_says_is_not_kept() {
    let disk = Disk::new();
    let node = Node::start(&disk, &settings()).await;
    let of = space("fixed");
    let fix = |node: &Node| {
        let fixed = SettingsChange::parse(r#"{"bytes_max":1000}"#).unwrap();
        let fixed = node.cache.fix_settings(&of.tenant, &of.namespace, fixed);
        fixed.unwrap();
    };
    fix(&node);
    let set = node.set("fixed", r#"{"entries_max":3}"#).await.unwrap().0;
    assert_eq!((set.bytes_max, set.entries_max), (Some(1000), Some(3)));
    node.kill().await;
    let node = Node::start(&disk, &settings()).await;
    assert_eq!(node.is_set("fixed").await.0, entries_max(3));
    fix(&node);
    assert_eq!(node.is_set("fixed").await.0, set);
    node.kill().await;
}

#[tokio::test]
async fn a_change_that_the_store_does_not_take_changes_nothing() {
    let disk = Disk::new();
    let node = Node::start(&disk, &settings()).await;
    let before = node.set("a", r#"{"entries_max":1}"#).await.unwrap();
    disk.fails.store(true, Ordering::SeqCst);
    let refused = node.set("a", r#"{"entries_max":2}"#).await.unwrap_err();
    assert_eq!(refused.code, Code::Unavailable);
    assert!(refused.message.contains("stay what they were"), "{refused}");
    assert_eq!(node.is_set("a").await, before, "who only asks is answered");
    disk.fails.store(false, Ordering::SeqCst);
    let after = node.set("a", r#"{"entries_max":3}"#).await.unwrap();
    node.kill().await;
    let node = Node::start(&disk, &settings()).await;
    assert_eq!(node.is_set("a").await, after);
    node.kill().await;
}

/// Nobody sees what is not kept yet, and one change waits for the other.
#[tokio::test]
async fn what_is_on_its_way_is_not_set() {
    let disk = Disk::new();
    let node = Arc::new(Node::start(&disk, &settings()).await);
    let before = node.set("a", r#"{"entries_max":1}"#).await.unwrap();
    disk.hold();
    let changes = [r#"{"entries_max":2}"#, r#"{"mode":"keep"}"#].map(|change| {
        let node = Arc::clone(&node);
        tokio::spawn(async move { node.set("a", change).await })
    });
    disk.is_asked().await;
    assert_eq!(node.is_set("a").await, before);
    disk.let_go();
    for change in changes {
        change.await.unwrap().unwrap();
    }
    let both = node.is_set("a").await;
    assert!(both.0.entries_max == Some(2) && both.0.mode.is_some());
    Arc::into_inner(node).unwrap().kill().await;
    let node = Node::start(&disk, &settings()).await;
    assert_eq!(node.is_set("a").await, both);
    node.kill().await;
}

#[tokio::test]
async fn many_records_become_one_and_the_latest_counts() {
    let disk = Disk::new();
    let node = Node::start(&disk, &settings()).await;
    let mut last = BTreeMap::new();
    for at in 0..100_u64 {
        let name = format!("n{}", at % 7);
        let change = format!(r#"{{"entries_max":{}}}"#, at + 1);
        let set = node.set(&name, &change).await.unwrap();
        last.insert(name, set);
    }
    assert_eq!(objects(&disk, ".set").await.len(), 100);
    node.cold.merge_kept(&node.cache).await.unwrap();
    assert_eq!(objects(&disk, ".set").await.len(), 1);
    node.cold.merge_kept(&node.cache).await.unwrap();
    let set = node.set("n0", r#"{"mode":"keep"}"#).await.unwrap();
    last.insert("n0".to_owned(), set);
    node.kill().await;
    let node = Node::start(&disk, &settings()).await;
    assert_eq!(last.len(), 7);
    for (name, set) in last {
        assert_eq!(node.is_set(&name).await, set, "{name}");
    }
    node.kill().await;
}

#[tokio::test]
async fn a_merge_that_breaks_off_loses_nothing() {
    let disk = Disk::new();
    let node = Node::start(&disk, &settings()).await;
    let mut last = None;
    for at in 1..=70_u64 {
        let change = format!(r#"{{"entries_max":{at}}}"#);
        last = Some(node.set("a", &change).await.unwrap());
    }
    // The records as they were stay beside what they were made into.
    let mut before = Vec::new();
    for path in objects(&disk, ".set").await {
        before.push((path.clone(), read(&disk, &path).await));
    }
    node.cold.merge_kept(&node.cache).await.unwrap();
    node.kill().await;
    for (path, bytes) in before {
        write(&disk, &path, bytes).await;
    }
    let node = Node::start(&disk, &settings()).await;
    assert_eq!(Some(node.is_set("a").await), last);
    node.kill().await;
}

#[tokio::test]
async fn a_damaged_record_is_counted_and_the_rest_is_set() {
    let disk = Disk::new();
    let node = Node::start(&disk, &settings()).await;
    node.set("a", r#"{"entries_max":1}"#).await.unwrap();
    let kept = node.set("b", r#"{"entries_max":2}"#).await.unwrap();
    node.kill().await;
    let path = objects(&disk, ".set").await.remove(0);
    let good = read(&disk, &path).await;
    let flipped: Vec<u8> = good.iter().map(|byte| byte ^ 1).collect();
    for bad in [flipped, good[..20].to_vec(), Vec::new()] {
        write(&disk, &path, bad.clone()).await;
        let node = Node::start(&disk, &settings()).await;
        assert_eq!(node.cold.stats().damaged, 1);
        assert!(node.is_set("a").await.0.is_empty());
        assert_eq!(node.is_set("b").await, kept);
        let again = node.set("a", r#"{"entries_max":9}"#).await.unwrap();
        node.kill().await;
        assert_eq!(read(&disk, &path).await, bad, "for who looks into it");
        let node = Node::start(&disk, &settings()).await;
        assert_eq!(node.is_set("a").await, again);
        node.kill().await;
        let own = objects(&disk, ".set").await.pop().unwrap();
        disk.objects.delete(&own).await.unwrap();
    }
}

/// An epoch was begun, and then the store failed: the start is tried again, and nothing is lost.
#[tokio::test]
async fn a_store_that_does_not_answer_is_no_start_without_settings() {
    let disk = Disk::new();
    let node = Node::start(&disk, &settings()).await;
    let kept = node.set("a", r#"{"entries_max":1}"#).await.unwrap();
    node.kill().await;
    disk.fails.store(true, Ordering::SeqCst);
    let failed = Cold::over(disk.store(), settings(), clock()).await;
    assert_eq!(failed.map(drop).unwrap_err().code, Code::Unavailable);
    disk.fails.store(false, Ordering::SeqCst);
    let node = Node::start(&disk, &settings()).await;
    assert_eq!(node.is_set("a").await, kept);
    node.kill().await;
}

/// The later start has read what was there. What the earlier one keeps behind that is refused, and is not found by
/// a start after both.
#[tokio::test]
async fn who_has_lost_its_prefix_keeps_nothing_there() {
    let disk = Disk::new();
    let old = Node::start(&disk, &settings()).await;
    let kept = old.set("a", r#"{"entries_max":1}"#).await.unwrap();
    let new = Node::start(&disk.beside(), &settings()).await;
    // No second has passed since the look of the first change.
    let refused = old.set("a", r#"{"entries_max":2}"#).await.unwrap_err();
    assert_eq!(refused.code, Code::FailedPrecondition);
    assert!(refused.message.contains("later start"), "{refused}");
    assert_eq!(old.is_set("a").await, kept);
    old.kill().await;
    assert_eq!(new.is_set("a").await, kept);
    new.kill().await;
    let all = disk.objects.list(Some(&Path::from("p/settings")));
    assert_eq!(all.try_collect::<Vec<_>>().await.unwrap().len(), 1);
    let node = Node::start(&disk, &settings()).await;
    assert_eq!(node.is_set("a").await, kept);
    node.kill().await;
}
