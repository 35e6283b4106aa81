//! Readers beside changes, with everything going down and coming up all the time.

use super::*;

const KEYS: usize = 8;
const ROUNDS: u64 = 300;

fn content(key: usize, round: u64) -> Vec<u8> {
    let len = [64, 3_000, 70_000, 100][key % 4];
    let mut content = bytes(round, len);
    content[..8].copy_from_slice(&round.to_le_bytes());
    content
}

fn round_of(content: &[u8]) -> u64 {
    u64::from_le_bytes(content[..8].try_into().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_read_is_never_older_than_what_was_acknowledged_before_it() {
    let dir = tempfile::tempdir().unwrap();
    let settings = ColdSettings {
        state_dir: Some(dir.path().to_owned()),
        ..settings()
    };
    let node = Arc::new(Node::start(&Disk::new(), &settings).await);
    let acknowledged: Arc<[AtomicU64; KEYS]> = Arc::new(std::array::from_fn(|_| AtomicU64::new(0)));
    let over = Arc::new(AtomicBool::new(false));
    let mut others = Vec::new();
    for reader in 0..6 {
        let (node, acknowledged, over) = (node.clone(), acknowledged.clone(), over.clone());
        others.push(tokio::spawn(async move {
            let mut key = reader;
            while !over.load(Ordering::SeqCst) {
                key = (key + 1) % KEYS;
                let least = acknowledged[key].load(Ordering::SeqCst);
                if let Some(seen) = node.get(&format!("k{key}")).await {
                    let round = round_of(&seen);
                    assert!(round >= least, "k{key}: {round} after {least}");
                    assert!(seen == content(key, round), "k{key}: not whole");
                }
                tokio::task::yield_now().await;
            }
        }));
    }
    {
        let (node, over) = (node.clone(), over.clone());
        others.push(tokio::spawn(async move {
            while !over.load(Ordering::SeqCst) {
                node.cache.hand_down(u64::MAX, || 0);
                tick().await;
            }
        }));
    }
    let mut writers = Vec::new();
    for writer in 0..2 {
        let (node, acknowledged) = (node.clone(), acknowledged.clone());
        writers.push(tokio::spawn(async move {
            for round in 1..=ROUNDS {
                for key in (writer..KEYS).step_by(2) {
                    let name = format!("k{key}");
                    match round % 5 {
                        0 => node.delete(&name).await,
                        1 if key % 4 == 0 => {
                            node.delete_prefix(&name).await;
                        }
                        2 => {
                            let put = node.put_below(&name, &content(key, round)).await;
                            put.unwrap();
                        }
                        _ => {
                            node.put(&name, &content(key, round)).await;
                        }
                    }
                    acknowledged[key].store(round, Ordering::SeqCst);
                }
            }
        }));
    }
    for writer in writers {
        writer.await.unwrap();
    }
    over.store(true, Ordering::SeqCst);
    for other in others {
        other.await.unwrap();
    }
    assert_eq!(node.cold.stats().damaged, 0);
    node.delete_prefix("").await;
    node.hand_all_down().await;
    // A segment of what has been let go may still be on its way.
    for _ in 0..5_000 {
        if node.cache.stats().arena_used_bytes == 0 {
            break;
        }
        tick().await;
    }
    let stats = node.cache.stats();
    assert_eq!((stats.entries, stats.arena_used_bytes), (0, 0));
    for key in 0..KEYS {
        assert_eq!(node.get(&format!("k{key}")).await, None);
    }
}
