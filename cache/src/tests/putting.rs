//! Modes, versions, checksums, refusals.

use bowstring_wire::error::Code;
use twox_hash::XxHash3_128;

use super::*;

#[tokio::test]
async fn tensors_of_every_kind_of_size_come_back() {
    let (cache, _) = cache_of(64 * MIB);
    let page = 64 * 1024;
    let sizes = [
        0,
        1,
        64,
        200,
        56 * 1024,
        56 * 1024 + 1,
        page,
        page + 1,
        page + 57 * 1024,
        3 * page + 1234,
        (1 << 20) - 1,
        (1 << 20) + 1,
        5 << 20,
    ];
    for (seed, len) in sizes.into_iter().enumerate() {
        let data = bytes(seed as u64, len);
        let key = format!("k{len}");
        let done = put(&cache, &key, Mode::Create, &data).await.unwrap();
        assert!(!done.existed);
        let entry = cache.get(&id(&key)).unwrap();
        assert_eq!(entry.version(), done.version);
        assert_eq!(entry.len(), len as u64);
        assert_eq!(entry.shape().dims(), [len as u64]);
        assert_eq!(entry.key(), key);
        assert_eq!(entry.checksum(), XxHash3_128::oneshot(&data));
        assert_eq!(entry.into_vec().unwrap(), data, "{len}");
    }
    let stats = cache.stats();
    assert_eq!(stats.entries, sizes.len() as u64);
    assert_eq!(stats.live_bytes, sizes.iter().sum::<usize>() as u64);
    assert_eq!(stats.reserved_bytes, 0);
    assert_eq!((stats.hits, stats.misses), (sizes.len() as u64, 0));
}

#[tokio::test]
async fn create_is_write_once_and_a_retry_is_safe() {
    let (cache, _) = cache_of(64 * MIB);
    for len in [100, 300_000, 2 << 20] {
        let key = format!("{len}");
        let data = bytes(1, len);
        let mut first = spec(Mode::Create);
        first.metadata = b"first".to_vec();
        let one = put_spec(&cache, &key, first, &data).await.unwrap();
        let again = put(&cache, &key, Mode::Create, &data).await.unwrap();
        assert!(again.existed && again.version == one.version);
        assert_eq!(cache.get(&id(&key)).unwrap().metadata(), b"first");

        let mut other = data.clone();
        other[len - 1] ^= 1;
        let refused = put(&cache, &key, Mode::Create, &other).await.unwrap_err();
        assert_eq!(refused.code, Code::AlreadyExists);
        let refused = put(&cache, &key, Mode::Create, &data[1..]).await;
        assert_eq!(refused.unwrap_err().code, Code::AlreadyExists);
        assert_eq!(get(&cache, &key).unwrap(), data);
    }
}

#[tokio::test]
async fn create_is_refused_before_the_body_where_that_shows() {
    let (cache, _) = cache_of(64 * MIB);
    put(&cache, "k", Mode::Create, &[1, 2, 3]).await.unwrap();
    let other_dtype = PutSpec::new(DType::Int8);
    let other_size = PutSpec {
        size_bytes: Some(4),
        ..spec(Mode::Create)
    };
    for early in [other_dtype, other_size] {
        let refused = cache.put(id("k"), early).err().unwrap();
        assert_eq!(refused.code, Code::AlreadyExists);
    }
}

#[tokio::test]
async fn keep_keeps_and_replace_replaces() {
    let (cache, _) = cache_of(64 * MIB);
    let one = put(&cache, "k", Mode::Keep, &[1; 10]).await.unwrap();
    let kept = put(&cache, "k", Mode::Keep, &[2; 20]).await.unwrap();
    assert!(kept.existed && kept.version == one.version && kept.bytes == 20);
    let replaced = put(&cache, "k", Mode::Replace, &[2; 20]).await.unwrap();
    assert!(!replaced.existed && replaced.version > one.version);
    assert_eq!(get(&cache, "k").unwrap(), [2; 20]);
    assert_eq!(cache.stats().events.replaced, 1);
    assert_eq!(cache.stats().entries, 1);
    assert_eq!(cache.stats().live_bytes, 20);
}

#[tokio::test]
async fn a_version_is_compared_before_and_after_the_body() {
    let (cache, _) = cache_of(64 * MIB);
    let one = put(&cache, "k", Mode::Create, &[1]).await.unwrap();
    let over = |version| PutSpec {
        if_version: Some(version),
        ..spec(Mode::Create)
    };
    let mut late = cache.put(id("k"), over(one.version)).unwrap();
    let two = put_spec(&cache, "k", over(one.version), &[2])
        .await
        .unwrap();
    assert!(two.version > one.version);
    late.reserve(1).await.unwrap();
    late.write(&[3]).unwrap();
    let refused = late.publish(Shape::new(&[1]).unwrap()).await.unwrap_err();
    assert_eq!(refused.code, Code::FailedPrecondition);
    let early = cache.put(id("k"), over(one.version)).err().unwrap();
    assert_eq!(early.code, Code::FailedPrecondition);
    let missing = cache.put(id("other"), over(one.version)).err().unwrap();
    assert_eq!(missing.code, Code::FailedPrecondition);
    assert_eq!(get(&cache, "k").unwrap(), [2]);
}

#[tokio::test]
async fn a_wrong_checksum_or_shape_stores_nothing() {
    let (cache, _) = cache_of(64 * MIB);
    let before = cache.stats();
    for len in [10, 100_000] {
        let data = bytes(3, len);
        let wrong = PutSpec {
            checksum: Some(1),
            ..spec(Mode::Replace)
        };
        let refused = put_spec(&cache, "k", wrong, &data).await.unwrap_err();
        assert_eq!(refused.code, Code::DataLoss);
        let right = PutSpec {
            checksum: Some(XxHash3_128::oneshot(&data)),
            ..spec(Mode::Replace)
        };
        let mut put = cache.put(id("k"), right.clone()).unwrap();
        put.reserve(len as u64).await.unwrap();
        put.write(&data).unwrap();
        let refused = put.publish(Shape::scalar()).await.unwrap_err();
        assert_eq!(refused.code, Code::InvalidArgument);
        assert!(cache.peek(&id("k")).is_none());
        assert_eq!(cache.stats().arena_used_bytes, before.arena_used_bytes);
        put_spec(&cache, "k", right, &data).await.unwrap();
        cache.delete(&id("k"), None).await.unwrap().unwrap();
    }
    assert_eq!(cache.stats().reserved_bytes, 0);
}

#[tokio::test]
async fn hostile_sizes_are_refused_at_once() {
    let (cache, _) = cache_of(64 * MIB);
    let before = cache.stats().arena_used_bytes;
    for size in [48 * MIB, 64 * MIB, 1 << 31, 1 << 63, u64::MAX] {
        let huge = PutSpec {
            size_bytes: Some(size),
            ..spec(Mode::Create)
        };
        let refused = cache.put(id("k"), huge).err().unwrap();
        assert_eq!(refused.code, Code::ResourceExhausted);
        assert!(refused.message.contains("tensor_bytes_max"), "{refused}");
        let mut put = cache.put(id("k"), spec(Mode::Create)).unwrap();
        let refused = put.reserve(size).await.unwrap_err();
        assert_eq!(refused.code, Code::ResourceExhausted);
    }
    let long = PutSpec {
        metadata: vec![b'x'; crate::put::METADATA_BYTES_MAX + 1],
        ..spec(Mode::Create)
    };
    let refused = cache.put(id("k"), long).err().unwrap();
    assert_eq!(refused.code, Code::InvalidArgument);
    let mut put = cache.put(id("k"), spec(Mode::Create)).unwrap();
    put.reserve(10).await.unwrap();
    assert_eq!(put.write(&[0; 11]).unwrap_err().code, Code::Internal);
    drop(put);
    assert_eq!(cache.stats().arena_used_bytes, before);
}

#[tokio::test]
async fn heads_that_do_not_fit_their_slot_lie_apart() {
    let (cache, _) = cache_of(64 * MIB);
    let before = cache.stats().arena_used_bytes;
    for len in [0, 56 * 1024, 120 * 1024, 2 << 20] {
        let long = PutSpec {
            metadata: bytes(9, crate::put::METADATA_BYTES_MAX),
            ..spec(Mode::Replace)
        };
        let data = bytes(4, len);
        put_spec(&cache, "k", long.clone(), &data).await.unwrap();
        let entry = cache.peek(&id("k")).unwrap();
        assert_eq!(entry.metadata(), long.metadata);
        assert_eq!(entry.into_vec().unwrap(), data);
    }
    cache.delete(&id("k"), None).await.unwrap().unwrap();
    assert_eq!(cache.stats().arena_used_bytes, before);
}

#[tokio::test]
async fn of_many_creates_of_one_key_one_wins() {
    let (cache, _) = cache_of(64 * MIB);
    let puts: Vec<_> = (0..8_u8)
        .map(|n| {
            let cache = cache.clone();
            tokio::spawn(async move { put(&cache, "k", Mode::Create, &[n; 300]).await })
        })
        .collect();
    let mut won = 0;
    for put in puts {
        won += u32::from(put.await.unwrap().is_ok());
    }
    assert_eq!(won, 1);
    assert_eq!(cache.stats().entries, 1);
}
