//! What a directory has of its own.

use std::fs::{self, File};
use std::io;
use std::path::Path as FilePath;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bowstring_cache::clock::SystemClock;
use bowstring_cold::entry::Number;
use bowstring_cold::store::local::{Local, SyncFile};
use bowstring_cold::store::{Folder, ObjectName, Store, StoreError};
use object_store::path::Path;

use crate::{bytes, open, patient, run};

const SEGMENT: ObjectName = ObjectName::Segment(Number(7));

fn store(dir: &FilePath, sync: SyncFile) -> Store {
    let local = Local::with_sync(dir, Some(sync)).unwrap();
    let clock = Arc::new(SystemClock::new());
    Store::new(Arc::new(local), Path::default(), patient(), clock)
}

#[test]
fn a_failed_fsync_is_not_taken_for_done_the_second_time() {
    let dir = tempfile::tempdir().unwrap();
    let failing = Arc::new(AtomicBool::new(false));
    let (fails, syncs) = (Arc::clone(&failing), Arc::new(AtomicUsize::new(0)));
    let counted = Arc::clone(&syncs);
    let store = store(
        dir.path(),
        Arc::new(move |file: &File| {
            counted.fetch_add(1, Ordering::Relaxed);
            match fails.load(Ordering::Relaxed) {
                true => Err(io::Error::from(io::ErrorKind::StorageFull)),
                false => file.sync_all(),
            }
        }),
    );
    run(async {
        failing.store(true, Ordering::Relaxed);
        let refused = store
            .create(&SEGMENT, vec![bytes(1, 100)])
            .await
            .unwrap_err();
        assert!(matches!(refused, StoreError::Full(_)), "{refused}");
        let mut upload = store.upload(&SEGMENT, 100).await.unwrap();
        upload.write(bytes(1, 100)).await.unwrap();
        let refused = upload.finish().await.unwrap_err();
        assert!(matches!(refused, StoreError::Full(_)), "{refused}");
        // Nothing is there that a later try could take for its own.
        assert_eq!(store.list(Folder::Segments).await.unwrap(), []);

        failing.store(false, Ordering::Relaxed);
        let before = syncs.load(Ordering::Relaxed);
        store.create(&SEGMENT, vec![bytes(1, 100)]).await.unwrap();
        // The file, and the folder that its name is in.
        assert_eq!(syncs.load(Ordering::Relaxed), before + 2);
        assert_eq!(store.read(&SEGMENT, 0..100).await.unwrap(), bytes(1, 100));
    });
}

#[test]
fn what_a_killed_process_left_is_cleared_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&format!("file://{}", dir.path().display()));
    let file = |name: &str| dir.path().join("segments").join(name);
    let left = [
        "00000000000000000007.arrow#1",
        "00000000000000000007.idx#12",
    ];
    let foreign = [
        "notes#1",
        "00000000000000000007.arrow#x",
        "7.arrow#1",
        "README",
    ];
    for name in left.iter().chain(&foreign) {
        fs::write(file(name), "x").unwrap();
    }
    run(async {
        store.create(&SEGMENT, vec![bytes(1, 100)]).await.unwrap();
        assert_eq!(store.clear_leftovers().await, Ok(2));
        assert_eq!(store.clear_leftovers().await, Ok(0));
        let listed = store.list(Folder::Segments).await.unwrap();
        assert_eq!(
            listed.iter().map(|one| one.name).collect::<Vec<_>>(),
            [SEGMENT]
        );
    });
    assert!(left.iter().all(|name| !file(name).exists()));
    assert!(foreign.iter().all(|name| file(name).exists()));
}

#[test]
fn a_file_that_was_cut_off_is_short() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&format!("file://{}", dir.path().display()));
    run(async {
        store.create(&SEGMENT, vec![bytes(1, 5000)]).await.unwrap();
        let path = dir.path().join(SEGMENT.to_string());
        fs::OpenOptions::new()
            .write(true)
            .open(&path)
            .unwrap()
            .set_len(4000)
            .unwrap();
        let short = Err(StoreError::Short {
            expected: 5000,
            bytes: 4000,
        });
        assert_eq!(store.read(&SEGMENT, 3000..5000).await, short);
        assert_eq!(store.read(&SEGMENT, 4500..5000).await, short);
        assert_eq!(
            store.read(&SEGMENT, 0..4000).await.unwrap(),
            bytes(1, 5000).slice(..4000)
        );
    });
}

#[test]
fn a_file_that_cannot_be_read_is_tried_again_and_keeps_no_other_from_being_read() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&format!("file://{}", dir.path().display()));
    run(async {
        let broken = ObjectName::Segment(Number(8));
        store.create(&SEGMENT, vec![bytes(1, 5000)]).await.unwrap();
        fs::create_dir(dir.path().join(broken.to_string())).unwrap();
        let ranges = vec![0..10, 20..30];
        let read = store
            .read_each(&[(broken, ranges.clone()), (SEGMENT, ranges)])
            .await;
        assert!(matches!(read[0], Err(StoreError::Failed(_))), "{read:?}");
        let whole = bytes(1, 5000);
        assert_eq!(read[1], Ok(vec![whole.slice(0..10), whole.slice(20..30)]));
        let counters = store.counters();
        assert!(counters.retries > 0, "{counters:?}");
        assert_eq!(counters.read_bytes, 20);
    });
}

/// A folder that nobody may write to, or a file where a folder should be, is an error and not a panic.
#[test]
fn a_folder_that_is_gone_is_made_again_and_a_file_in_its_place_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&format!("file://{}", dir.path().display()));
    let segments = dir.path().join("segments");
    run(async {
        fs::remove_dir(&segments).unwrap();
        assert_eq!(store.list(Folder::Segments).await.unwrap(), []);
        store.create(&SEGMENT, vec![bytes(1, 100)]).await.unwrap();
        fs::remove_dir_all(&segments).unwrap();
        fs::write(&segments, "x").unwrap();
        let refused = store
            .create(&SEGMENT, vec![bytes(1, 100)])
            .await
            .unwrap_err();
        assert!(matches!(refused, StoreError::Failed(_)), "{refused}");
        assert!(store.read(&SEGMENT, 0..1).await.is_err());
        assert!(store.counters().errors > 0);
    });
}
