//! Rows, and what an entry costs.

use bowstring_wire::error::Code;
use bowstring_wire::name::Tenant;
use bowstring_wire::settings::SettingsChange;
use smallvec::smallvec;

use super::*;
use crate::ledger::Account;
use crate::rows::{Row, RowsSpec};

pub(super) const KEEP: RowsSpec = RowsSpec {
    mode: Mode::Keep,
    load: 0,
    pin: false,
    admit: Admit::Hot,
    below: false,
};

/// In two pieces, as rows come that lie on both sides of a border.
fn row<'a>(key: &'a str, shape: &'a Shape, data: &'a [u8]) -> Row<'a> {
    let (one, two) = data.split_at(data.len() / 3);
    Row {
        data: smallvec![one, two],
        ..super::row(key, shape, data)
    }
}

pub(super) async fn put_rows(
    cache: &Cache,
    spec: RowsSpec,
    rows: &[Row<'_>],
) -> Vec<Result<Published>> {
    cache
        .put_rows(&Tenant::public(), &Namespace::default(), spec, rows)
        .await
}

#[tokio::test]
async fn every_row_has_its_own_answer() {
    let (cache, _) = cache_of(64 * MIB);
    let (small, large) = (bytes(1, 300), bytes(2, 200_000));
    let shape = |n: usize| Shape::new(&[n as u64]).unwrap();
    let (s, l, wrong) = (shape(300), shape(200_000), shape(7));
    let rows = [
        row("a", &s, &small),
        row("b", &l, &large),
        row("c", &wrong, &small),
        row("", &s, &small),
        row("a", &l, &large),
        row("d", &s, &small),
    ];
    let answers = put_rows(&cache, KEEP, &rows).await;
    let codes: Vec<Option<Code>> = answers
        .iter()
        .map(|answer| answer.as_ref().err().map(|error| error.code))
        .collect();
    let invalid = Some(Code::InvalidArgument);
    assert_eq!(codes, [None, None, invalid, invalid, None, None]);
    assert!(answers[4].as_ref().unwrap().existed);
    assert_eq!(get(&cache, "a").unwrap(), small);
    assert_eq!(get(&cache, "b").unwrap(), large);
    assert_eq!(get(&cache, "d").unwrap(), small);
    assert_eq!(cache.stats().entries, 3);

    let create = RowsSpec {
        mode: Mode::Create,
        load: 0,
        pin: false,
        admit: Admit::Hot,
        below: false,
    };
    let rows = [row("a", &s, &small), row("d", &l, &large)];
    let answers = put_rows(&cache, create, &rows).await;
    assert!(answers[0].as_ref().unwrap().existed);
    assert_eq!(answers[1].as_ref().unwrap_err().code, Code::AlreadyExists);
    let replace = RowsSpec {
        mode: Mode::Replace,
        load: 0,
        pin: false,
        admit: Admit::Hot,
        below: false,
    };
    let answers = put_rows(&cache, replace, &rows[1..]).await;
    assert!(!answers[0].as_ref().unwrap().existed);
    assert_eq!(get(&cache, "d").unwrap(), large);
}

#[tokio::test]
async fn of_a_key_that_comes_twice_the_mode_says_which_stays() {
    let shape = Shape::new(&[9]).unwrap();
    let data: Vec<Vec<u8>> = (0..5).map(|n| bytes(n, 9)).collect();
    // Neither in key order nor one beside the other.
    let keys = ["b", "a", "c", "a", "b"];
    for (mode, a, b) in [(Mode::Keep, 1, 0), (Mode::Replace, 3, 4)] {
        let (cache, _) = cache_of(64 * MIB);
        let rows: Vec<Row<'_>> = keys
            .iter()
            .zip(&data)
            .map(|(key, data)| row(key, &shape, data))
            .collect();
        let spec = RowsSpec { mode, ..KEEP };
        for round in 0..2 {
            let answers = put_rows(&cache, spec, &rows).await;
            let existed: Vec<bool> = answers
                .iter()
                .map(|a| a.as_ref().unwrap().existed)
                .collect();
            let stayed = mode == Mode::Keep;
            let first = stayed && round > 0;
            assert_eq!(existed, [first, first, first, stayed, stayed]);
            assert_eq!(get(&cache, "a").as_ref(), Some(&data[a]));
            assert_eq!(get(&cache, "b").as_ref(), Some(&data[b]));
            assert_eq!(cache.stats().entries, 3);
        }
        for key in keys {
            cache.delete(&id(key), None).await.unwrap();
        }
        assert_eq!(
            cache.stats().arena_used_bytes,
            0,
            "nothing is left of those replaced"
        );
    }
}

#[tokio::test]
async fn a_run_that_replaces_frees_what_nobody_reads() {
    let (cache, _) = cache_of(64 * MIB);
    let shape = Shape::new(&[300]).unwrap();
    let keys: Vec<String> = (0..600).map(|n| format!("{n:03}")).collect();
    let replace = RowsSpec {
        mode: Mode::Replace,
        ..KEEP
    };
    let mut used = Vec::new();
    let mut read = None;
    for round in 0..4 {
        let data = bytes(round, 300);
        let rows: Vec<Row<'_>> = keys.iter().map(|key| row(key, &shape, &data)).collect();
        let answers = put_rows(&cache, replace, &rows).await;
        assert!(
            answers
                .iter()
                .all(|answer| answer.as_ref().is_ok_and(|put| !put.existed))
        );
        if let Some(entry) = std::mem::replace(&mut read, cache.get(&id("007"))) {
            assert_eq!(entry.into_vec().unwrap(), bytes(round - 1, 300));
        }
        let stats = cache.stats();
        assert_eq!((stats.entries, stats.live_bytes), (600, 600 * 300));
        assert_eq!(stats.events.replaced, round * 600);
        used.push(stats.arena_used_bytes);
    }
    assert_eq!(used[1], used[3], "what was replaced is used again");
}

#[test]
fn a_key_is_dealt_to_the_same_one_and_all_get_some() {
    let (cache, _) = cache_of(64 * MIB);
    let deal = cache.deal(&Tenant::public(), &Namespace::default(), 3);
    let mut counts = [0; 3];
    for key in (0..3_000).map(|n| format!("{n}")) {
        let one = deal.of(&key);
        assert_eq!(deal.clone().of(&key), one);
        counts[one] += 1;
    }
    assert!(counts.iter().all(|count| *count > 800), "{counts:?}");
}

#[tokio::test]
async fn rows_beyond_a_limit_of_their_namespace_push_out_its_own() {
    let (cache, _) = cache_of(64 * MIB);
    let change = SettingsChange::parse(r#"{"entries_max":100}"#).unwrap();
    let (tenant, namespace) = (Tenant::public(), Namespace::default());
    let set = cache.set_settings(&tenant, &namespace, &change, None).await;
    set.unwrap();
    let shape = Shape::new(&[50]).unwrap();
    let data = bytes(3, 50);
    let keys: Vec<String> = (0..1_000).map(|n| format!("{n:04}")).collect();
    let rows: Vec<Row<'_>> = keys.iter().map(|key| row(key, &shape, &data)).collect();
    for rows in rows.chunks(90) {
        let answers = put_rows(&cache, KEEP, rows).await;
        assert!(
            answers
                .iter()
                .all(|answer| !answer.as_ref().unwrap().existed)
        );
        assert!(cache.stats().entries <= 100);
    }
    assert_eq!(cache.stats().entries, 100);
}

#[tokio::test]
async fn more_rows_than_fit_evict_the_oldest() {
    let (cache, _) = cache_of(8 * MIB);
    let shape = Shape::new(&[4_096]).unwrap();
    let data = bytes(5, 4_096);
    let keys: Vec<String> = (0..4_000).map(|n| format!("{n:06}")).collect();
    let rows: Vec<Row<'_>> = keys.iter().map(|key| row(key, &shape, &data)).collect();
    let answers = put_rows(&cache, KEEP, &rows).await;
    assert!(answers.iter().all(Result::is_ok));
    assert!(cache.ledger().used() <= cache.ledger().total());
    let stats = cache.stats();
    assert!(stats.events.evicted > 1_000, "{stats:?}");
    assert_eq!(get(&cache, "003999").unwrap(), data);
    assert!(get(&cache, "000000").is_none());
}

/// Beyond tensor, key and metadata an entry may cost 112 bytes, alignment and order included.
#[tokio::test]
async fn a_million_small_entries_cost_what_they_may() {
    const ENTRIES: usize = 1_000_000;
    let (cache, _) = cache_of(512 * MIB);
    let before = cache.ledger().used();
    let shape = Shape::new(&[64]).unwrap();
    let data = bytes(6, 64);
    // In an order that is none: what a bulk put of hashed keys looks like.
    let key_of = |n: usize| format!("{:08x}", n * 0x9e37_79b1 % (1 << 32));
    for chunk in 0..ENTRIES / 10_000 {
        let keys: Vec<String> = (0..10_000).map(|n| key_of(chunk * 10_000 + n)).collect();
        let rows: Vec<Row<'_>> = keys.iter().map(|key| row(key, &shape, &data)).collect();
        let answers = put_rows(&cache, KEEP, &rows).await;
        assert!(answers.iter().all(Result::is_ok));
    }
    let stats = cache.stats();
    assert_eq!(stats.entries, ENTRIES as u64);
    assert_eq!(stats.events.evicted, 0);
    let each = (cache.ledger().used() - before) as f64 / ENTRIES as f64;
    let arena = cache.ledger().used_by(Account::Arena) as f64 / ENTRIES as f64;
    assert!(
        each <= 64.0 + 8.0 + 112.0,
        "{each} bytes an entry, {arena} of it arena"
    );
    let items = cache.scan(
        &Tenant::public(),
        &Namespace::default(),
        "00",
        None,
        100_000,
    );
    assert!(items.len() > ENTRIES / 300 && items.is_sorted_by_key(|item| item.key.clone()));
}
