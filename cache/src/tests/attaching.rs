//! Namespaces whose entries are rows of files: the tier below has them, and nobody changes them.

use std::sync::atomic::Ordering;

use bowstring_wire::error::Code;
use bowstring_wire::name::Tenant;
use bowstring_wire::settings::SettingsChange;

use super::below::{cache_over_shelf, hand_all_down};
use super::*;
use crate::loads::LoadSpec;
use crate::lower::{Found, Reading};
use crate::rows::RowsSpec;

fn here() -> (Tenant, Namespace) {
    (Tenant::public(), Namespace::default())
}

async fn attach(cache: &Cache) -> Result<()> {
    let (tenant, namespace) = here();
    let is_empty_below = async { Ok(true) };
    cache.attach(&tenant, &namespace, 7, is_empty_below).await
}

fn attached_rows(cache: &Cache) -> Option<u64> {
    let (tenant, _) = here();
    cache.namespaces(&tenant, None, 1)[0].attached_rows
}

#[track_caller]
fn refused<T: std::fmt::Debug>(result: Result<T>) {
    let error = result.unwrap_err();
    assert_eq!(error.code, Code::FailedPrecondition, "{error}");
    assert!(error.message.contains("`detach`"), "{error}");
}

#[tokio::test]
async fn nothing_is_put_into_an_attached_namespace_or_changed_in_it() {
    let (cache, shelf, _) = cache_over_shelf();
    put(&cache, "row", Mode::Create, &[7; 100]).await.unwrap();
    hand_all_down(&cache);
    attach(&cache).await.unwrap();
    let (tenant, namespace) = here();
    assert!(cache.is_attached(&tenant, &namespace));
    assert_eq!(attached_rows(&cache), Some(7));
    // As a row of a file, what is below is read and stays.
    let found = cache
        .lower()
        .load(&cache, &id("row"))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(found.into_vec().unwrap(), [7; 100]);
    assert_eq!(cache.stats().entries, 1);

    refused(put(&cache, "row", Mode::Replace, &[1; 10]).await);
    refused(put(&cache, "new", Mode::Create, &[1; 10]).await);
    let shape = Shape::new(&[1]).unwrap();
    let spec = RowsSpec {
        mode: Mode::Create,
        load: 0,
        pin: false,
        admit: Admit::Hot,
        below: false,
    };
    let rows = [row("r", &shape, &[1])];
    let mut rows = cache.put_rows(&tenant, &namespace, spec, &rows).await;
    refused(rows.remove(0));
    refused(cache.begin_load(&tenant, &namespace, LoadSpec::default()));
    refused(cache.delete(&id("row"), None).await);
    refused(cache.delete_prefix(&tenant, &namespace, "").await);
    let version = cache.peek(&id("row")).unwrap().version();
    refused(cache.delete_versions(vec![(id("row"), version)]).await);
    let annotated = cache.set_metadata(&id("row"), version, b"m").await;
    refused(annotated.map(drop));
    refused(cache.expire(&id("row"), Some(NOW_MS + 1)).await);
    refused(cache.pin(&id("row")).await);
    refused(attach(&cache).await);
    assert_eq!(get(&cache, "row").unwrap(), [7; 100]);
    // Others go on.
    let other = Id::public(Namespace::parse("other").unwrap(), Key::parse("a").unwrap());
    drop(cache.put(other, super::spec(Mode::Create)).unwrap());

    let mut was_told = false;
    cache.detach(&tenant, &namespace, || was_told = true).await;
    assert!(was_told && !cache.is_attached(&tenant, &namespace));
    assert_eq!(attached_rows(&cache), None);
    assert_eq!(cache.stats().entries, 0, "copies of rows go with them");
    drop(shelf);
    put(&cache, "new", Mode::Create, &[1; 10]).await.unwrap();
}

#[tokio::test]
async fn only_an_empty_namespace_is_attached() {
    let (cache, _shelf, _) = cache_over_shelf();
    let (tenant, namespace) = here();
    put(&cache, "a", Mode::Create, &[7; 10]).await.unwrap();
    let told = attach(&cache).await.unwrap_err();
    assert_eq!(told.code, Code::FailedPrecondition);
    assert!(told.message.contains("empty"), "{told}");
    assert!(!cache.is_attached(&tenant, &namespace));
    assert_eq!(attached_rows(&cache), None);
    put(&cache, "b", Mode::Create, &[7; 10]).await.unwrap();
    cache.delete_prefix(&tenant, &namespace, "").await.unwrap();
    let not_below = async { Ok(false) };
    let told = cache.attach(&tenant, &namespace, 7, not_below).await;
    assert!(told.unwrap_err().message.contains("empty"));
    let failed = cache.attach(&tenant, &namespace, 7, async {
        Err(bowstring_wire::error::Error::unavailable("not now"))
    });
    assert_eq!(failed.await.unwrap_err().code, Code::Unavailable);
    put(&cache, "c", Mode::Create, &[7; 10]).await.unwrap();
}

#[tokio::test]
async fn what_was_begun_before_does_not_come_after() {
    let (cache, _shelf, _) = cache_over_shelf();
    let (tenant, namespace) = here();
    let mut begun = cache.put(id("late"), spec(Mode::Create)).unwrap();
    begun.reserve(3).await.unwrap();
    begun.write(&[1, 2, 3]).unwrap();
    let load = cache.begin_load(&tenant, &namespace, LoadSpec::default());
    let load = load.unwrap();
    attach(&cache).await.unwrap();
    refused(begun.publish(Shape::new(&[3]).unwrap()).await);
    refused(cache.commit_load(&tenant, &load).await);
    assert_eq!(cache.stats().entries, 0);
    cache.detach(&tenant, &namespace, || ()).await;
    cache.commit_load(&tenant, &load).await.unwrap();
    // Settings are not entries.
    let change = SettingsChange::default();
    cache
        .set_settings(&tenant, &namespace, &change, None)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_successor_gets_no_copies_of_rows() {
    let (cache, _shelf, _) = cache_over_shelf();
    put(&cache, "row", Mode::Create, &[7; 100]).await.unwrap();
    hand_all_down(&cache);
    attach(&cache).await.unwrap();
    let entry = cache.lower().load(&cache, &id("row")).await.unwrap();
    assert!(entry.is_some());
    drop(entry);
    let found = cache.open(&id("row"), Reading::Whole).await.unwrap();
    assert!(matches!(found, Some(Found::Here(_))));
    drop(found);
    cache.set_frozen(true);
    let mut out = Vec::new();
    let exported = cache.export(&mut out).unwrap();
    assert_eq!(exported.entries, 0);
    assert_eq!(cache.engine().attached.load(Ordering::Relaxed), 1);
}
