//! Versions that a source gives: the newest wins, in whatever order they come.

use super::bulk::{KEEP, put_rows};
use super::*;
use crate::put::METADATA_BYTES_MAX;
use crate::rows::RowsSpec;

fn sourced<'a>(shape: &'a Shape, data: &'a [u8], version: Option<i64>) -> Row<'a> {
    Row {
        source_version: version,
        ..row("k", shape, data)
    }
}

fn source_version(cache: &Cache) -> Option<i64> {
    cache.get(&id("k")).unwrap().source_version()
}

#[tokio::test]
async fn the_newest_wins_whatever_the_mode() {
    let shape = Shape::new(&[3]).unwrap();
    for mode in [Mode::Keep, Mode::Create, Mode::Replace] {
        let (cache, _) = cache_of(16 * MIB);
        let spec = RowsSpec { mode, ..KEEP };
        let versions = [5, 3, 5, i64::MIN, 7, 6].map(Some);
        let data: Vec<[u8; 3]> = (0..6).map(|at| [at; 3]).collect();
        // All of one run, of which each is judged by those before.
        let rows = versions.iter().zip(&data);
        let rows: Vec<Row<'_>> = rows.map(|(v, data)| sourced(&shape, data, *v)).collect();
        let answers = put_rows(&cache, spec, &rows).await;
        let existed: Vec<bool> = answers.into_iter().map(|a| a.unwrap().existed).collect();
        assert_eq!(existed, [false, true, true, true, false, true], "{mode:?}");
        assert_eq!(get(&cache, "k").unwrap(), [4; 3]);
        assert_eq!(source_version(&cache), Some(7));
    }
}

#[tokio::test]
async fn what_has_none_is_older_than_all_and_is_put_by_its_mode() {
    let (cache, _) = cache_of(16 * MIB);
    let shape = Shape::new(&[3]).unwrap();
    let put = async |spec, data: [u8; 3], version| {
        let rows = [sourced(&shape, &data, version)];
        put_rows(&cache, spec, &rows).await.remove(0)
    };
    assert!(!put(KEEP, [1; 3], None).await.unwrap().existed);
    assert!(!put(KEEP, [2; 3], Some(i64::MIN)).await.unwrap().existed);
    assert!(put(KEEP, [3; 3], None).await.unwrap().existed);
    assert_eq!(source_version(&cache), Some(i64::MIN));
    let replace = RowsSpec {
        mode: Mode::Replace,
        ..KEEP
    };
    assert!(!put(replace, [4; 3], None).await.unwrap().existed);
    assert_eq!(source_version(&cache), None);
}

#[tokio::test]
async fn it_is_kept_beside_metadata_and_with_tensors_of_every_size() {
    for len in [0, 1, 60_000, 300_000, 2_000_000] {
        let (cache, _) = cache_of(64 * MIB);
        let data = bytes(1, len);
        let shape = Shape::new(&[len as u64]).unwrap();
        // The longest lie in pages of their own.
        for (version, metadata) in [(-1, 0), (0, 100), (i64::MAX, METADATA_BYTES_MAX)] {
            let metadata = vec![b'x'; metadata];
            let rows = [Row {
                metadata: &metadata,
                ..sourced(&shape, &data, Some(version))
            }];
            let answer = put_rows(&cache, KEEP, &rows).await.remove(0);
            assert!(!answer.unwrap().existed, "{len} {version}");
            assert_eq!(source_version(&cache), Some(version), "{len}");
            assert_eq!(cache.get(&id("k")).unwrap().metadata(), metadata);
            let answer = put_rows(&cache, KEEP, &rows).await.remove(0);
            assert!(answer.unwrap().existed, "{len} {version}");
        }
    }
}
