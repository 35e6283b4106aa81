//! Memory behind faults, in simulated time: whatever fails, no byte is wrong and nobody waits for ever.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bowstring_cache::clock::Clock;
use bowstring_cold::entry::Number;
use bowstring_cold::store::faults::{Fault, Faulty, Site};
use bowstring_cold::store::{Folder, ObjectName, Store, StoreError, StoreSettings};
use object_store::memory::InMemory;
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use object_store::{Error, MultipartId, ObjectStoreExt, PutPayload, PutResult};

use crate::{TokioClock, bytes};

type Planned = fn(Site, u64) -> Option<Fault>;

fn segment(n: u64) -> ObjectName {
    ObjectName::Segment(Number(n))
}

fn store(
    clock: &Arc<TokioClock>,
    plan: impl Fn(Site, u64) -> Option<Fault> + Send + Sync + 'static,
) -> Store {
    let memory = Arc::new(InMemory::new());
    let parts = Arc::new(Parts {
        memory: memory.clone(),
        uploads: Mutex::default(),
    });
    let plan = Arc::new(plan);
    let same = plan.clone();
    let inner = Faulty::new(memory, clock.clone(), move |site, _, nth| plan(site, nth));
    let parts = Faulty::new(parts, clock.clone(), move |site, _, nth| same(site, nth));
    Store::with_parts(
        Arc::new(inner),
        Arc::new(parts),
        Path::from("p"),
        StoreSettings::default(),
        clock.clone(),
    )
}

/// Uploads by parts, which come in any order and more than once.
struct Parts {
    memory: Arc<InMemory>,
    uploads: Mutex<Vec<BTreeMap<usize, PutPayload>>>,
}

impl Parts {
    fn upload<T>(&self, id: &str, f: impl FnOnce(&mut BTreeMap<usize, PutPayload>) -> T) -> T {
        let mut uploads = self.uploads.lock().unwrap();
        f(&mut uploads[id.parse::<usize>().unwrap()])
    }
}

#[async_trait]
impl MultipartStore for Parts {
    async fn create_multipart(&self, _: &Path) -> Result<MultipartId, Error> {
        let mut uploads = self.uploads.lock().unwrap();
        uploads.push(BTreeMap::new());
        Ok((uploads.len() - 1).to_string())
    }

    async fn put_part(
        &self,
        _: &Path,
        id: &MultipartId,
        index: usize,
        data: PutPayload,
    ) -> Result<PartId, Error> {
        self.upload(id, |upload| upload.insert(index, data));
        let content_id = index.to_string();
        Ok(PartId { content_id })
    }

    async fn complete_multipart(
        &self,
        at: &Path,
        id: &MultipartId,
        parts: Vec<PartId>,
    ) -> Result<PutResult, Error> {
        let upload = self.upload(id, std::mem::take);
        if upload.is_empty() {
            let source = "no such upload".into();
            return Err(Error::NotFound {
                path: at.to_string(),
                source,
            });
        }
        let indices = parts
            .iter()
            .map(|part| part.content_id.parse::<usize>().unwrap());
        assert!(indices.eq(0..upload.len()));
        let whole: PutPayload = upload.into_values().flatten().collect();
        self.memory.put(at, whole).await
    }

    async fn abort_multipart(&self, _: &Path, id: &MultipartId) -> Result<(), Error> {
        self.upload(id, std::mem::take);
        Ok(())
    }
}

/// A number that follows from another.
pub fn mixed(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Refusals 15 in a hundred, lost answers 15, three seconds on 35, cut bodies 5.
fn bad_day(nth: u64) -> Option<Fault> {
    match mixed(nth) % 100 {
        0..15 => Some(Fault::Fail),
        15..30 => Some(Fault::Lost),
        30..65 => Some(Fault::Delay(Duration::from_secs(3))),
        65..70 => Some(Fault::Cut(mixed(nth + 1) % 5000)),
        _ => None,
    }
}

#[tokio::test(start_paused = true)]
async fn on_a_bad_day_no_byte_is_wrong_and_reads_give_up_in_time() {
    let clock = TokioClock::new();
    let store = store(&clock, |_, nth| bad_day(nth));
    let (mut written, mut read, mut given_up) = (0, 0, 0);
    for n in 0..500u64 {
        let data = bytes(n, 5000);
        match store.create(&segment(n), vec![data.clone()]).await {
            Ok(()) => written += 1,
            Err(error) => assert!(
                matches!(error, StoreError::Timeout | StoreError::Failed(_)),
                "{error}"
            ),
        }
        for _ in 0..4 {
            let begun = clock.monotonic();
            match store.read(&segment(n), 1000..4000).await {
                Ok(got) => {
                    assert_eq!(got, data.slice(1000..4000));
                    read += 1;
                }
                Err(StoreError::Timeout | StoreError::Failed(_)) => given_up += 1,
                Err(error) => assert_eq!(error, StoreError::NotFound, "{n}"),
            }
            let took = clock.monotonic() - begun;
            assert!(took <= Duration::from_secs(4), "{took:?}");
        }
    }
    // A request works at once in 45 of a hundred cases at least.
    assert!(
        written > 480 && read > 1200 && given_up > 0,
        "{written} {read} {given_up}"
    );
    let counters = store.counters();
    assert!(
        counters.retries > 500 && counters.timeouts > 200,
        "{counters:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn on_a_bad_day_an_upload_is_whole_or_not_there() {
    let clock = TokioClock::new();
    let store = store(&clock, |_, nth| bad_day(nth));
    let mut finished = 0;
    for n in 0..20u64 {
        let data = bytes(n, (20 << 20) + 3);
        let done = async {
            let mut upload = store.upload(&segment(n), data.len() as u64).await?;
            for at in (0..data.len()).step_by(3 << 20) {
                upload
                    .write(data.slice(at..data.len().min(at + (3 << 20))))
                    .await?;
            }
            upload.finish().await
        };
        let done = done.await;
        finished += u64::from(done.is_ok());
        let there = loop {
            match store.read_all(&segment(n), 1 << 30).await {
                Err(StoreError::Timeout | StoreError::Failed(_)) => {}
                there => break there,
            }
        };
        match there {
            Ok(there) => assert!(there == data, "{n}"),
            Err(error) => assert_eq!((error, done.is_ok()), (StoreError::NotFound, false)),
        }
    }
    assert!(finished >= 15, "{finished}");
}

#[tokio::test(start_paused = true)]
async fn a_listing_goes_on_where_it_failed() {
    let clock = TokioClock::new();
    let store = store(&clock, |site, nth| match site {
        Site::List if nth % 300 == 299 => Some(Fault::Fail),
        _ => None,
    });
    for n in 0..1000 {
        store.create(&segment(n), vec![]).await.unwrap();
    }
    let listed = store.list(Folder::Segments).await.unwrap();
    assert_eq!(
        listed.iter().map(|one| one.name).collect::<Vec<_>>(),
        (0..1000).map(segment).collect::<Vec<_>>()
    );
    assert!(store.counters().retries > 0);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_hangs_is_given_up() {
    let clock = TokioClock::new();
    let store = store(&clock, |_, _| Some(Fault::Delay(Duration::from_secs(3600))));
    let waited = clock.monotonic();
    assert_eq!(
        store.read(&segment(1), 0..10).await,
        Err(StoreError::Timeout)
    );
    assert_eq!(clock.monotonic() - waited, Duration::from_secs(2));
    // Many more than there are permits do not wait for each other's time-outs.
    let waited = clock.monotonic();
    let all = (0..200).map(|n| {
        let store = store.clone();
        async move { store.read(&segment(n), 0..10).await }
    });
    let all = futures::future::join_all(all).await;
    assert!(all.iter().all(|one| *one == Err(StoreError::Timeout)));
    assert!(clock.monotonic() - waited <= Duration::from_secs(3));
    let waited = clock.monotonic();
    assert_eq!(
        store.create(&segment(1), vec![bytes(1, 10)]).await,
        Err(StoreError::Timeout)
    );
    assert!(clock.monotonic() - waited <= Duration::from_secs(23));
}

#[tokio::test(start_paused = true)]
async fn what_cannot_work_is_not_tried_again() {
    let clock = TokioClock::new();
    let full: Planned = |site, _| (site == Site::Put).then_some(Fault::Full);
    let store = store(&clock, full);
    let refused = store
        .create(&segment(1), vec![bytes(1, 10)])
        .await
        .unwrap_err();
    assert!(matches!(refused, StoreError::Full(_)), "{refused}");
    let counters = store.counters();
    assert_eq!(
        (counters.requests, counters.errors, counters.retries),
        (1, 1, 0)
    );
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_to_a_write_is_no_failure() {
    let clock = TokioClock::new();
    let store = store(&clock, |site, nth| {
        let lost =
            matches!(site, Site::Put | Site::CompleteParts | Site::Delete) && nth.is_multiple_of(2);
        lost.then_some(Fault::Lost)
    });
    for n in 0..10 {
        assert_eq!(store.create(&segment(n), vec![bytes(n, 100)]).await, Ok(()));
    }
    let mut upload = store.upload(&segment(11), 100).await.unwrap();
    upload.write(bytes(11, 100)).await.unwrap();
    assert_eq!(upload.finish().await, Ok(()));
    assert_eq!(
        store.read_all(&segment(11), 100).await.unwrap(),
        bytes(11, 100)
    );
    assert_eq!(store.delete(&segment(11)).await, Ok(()));
}
