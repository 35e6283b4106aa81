//! A server whose disk is full, or fails, at every call that writes to its store or its index: memory goes on, an operator
//! sees it, and it ends by itself; and one that is killed in each of these calls.

use std::thread;
use std::time::Duration;

use bowstring_tests::{Builder, Call, FaultyDisk, Folder, How, PATIENCE};
use serde_json::json;

use super::cold::{Node, Place, TICK};
use super::scaled;

const KEYS: u64 = 100;
/// Rounds after which a disk that fails has been met, where it is met at all.
const ROUNDS: usize = 4;
/// Changes in one.
const ROUND: usize = 8;

struct OnDisk {
    node: Node,
    place: Place,
    disk: FaultyDisk,
    builder: Builder,
}

impl OnDisk {
    fn start() -> Self {
        let place = Place::new(0..KEYS);
        let disk = FaultyDisk::new(place.store.path(), place.state.path());
        let builder = disk.under(place.builder(true));
        let builder = builder
            .variable("BOWSTRING_COLD_FSYNC", "true")
            .variable("BOWSTRING_COLD_RETRY", "200ms")
            .variable("BOWSTRING_COLD_SEGMENT_BYTES", "1MiB");
        let node = Node::start(&builder);
        Self {
            place,
            disk,
            builder,
            node,
        }
    }

    /// How many of some changes were acknowledged.
    fn change(&mut self, count: usize) -> usize {
        let done = (0..count).filter(|_| self.place.change(&mut self.node.client));
        done.count()
    }

    fn is_degraded(&self) -> bool {
        self.node.server.metrics().count("bowstring_cold_degraded") == 1
    }

    fn flush(&mut self) -> bool {
        self.node.client.act("flush", &json!({}))
    }

    fn restart(&mut self) {
        self.node.kill();
        self.node = Node::start(&self.builder);
    }

    /// Waits until everything works, and looks whether it does.
    fn recovers(&mut self) {
        let mut waited = Duration::ZERO;
        while self.is_degraded() || !self.flush() {
            thread::sleep(TICK);
            waited += TICK;
            assert!(waited < PATIENCE, "it does not recover");
        }
        let key = u64::MAX;
        self.place.puts += 1;
        assert!(self.node.client.put(key, self.place.puts));
        self.place.said.insert(key, vec![Some(self.place.puts)]);
        let hits = |node: &Node| node.server.metrics().count("bowstring_cold_hits_total");
        let before = hits(&self.node);
        assert!(
            self.node
                .client
                .act("evict", &json!({"keys": [key.to_string()]}))
        );
        assert!(self.place.check(&mut self.node.client) > 0);
        assert!(hits(&self.node) > before, "what is below is read");
    }
}

#[test]
fn a_disk_that_is_full_or_fails_is_done_without_until_it_works() {
    let mut on = OnDisk::start();
    let mut met = Vec::new();
    let (mut refused, mut hits) = (0, 0);
    on.change(200);
    for folder in Folder::ALL {
        for (call, how) in Call::ALL
            .map(|call| [(call, How::Full), (call, How::Broken)])
            .as_flattened()
        {
            on.disk.fail(&[(folder, *call)], *how, 0, u64::MAX);
            let mut rounds = 0;
            while rounds < ROUNDS && !on.is_degraded() {
                refused += ROUND - on.change(ROUND);
                on.flush();
                rounds += 1;
            }
            // The index makes no files but now and then.
            let is_met = on.disk.failed() > 0;
            assert!(is_met || folder == Folder::State, "{call:?} {how:?}");
            assert!(!is_met || on.is_degraded(), "{folder:?} {call:?} {how:?}");
            // Memory goes on: of what it has, and of what is new.
            on.place.puts += 1;
            let (key, put) = (on.place.puts << 32, on.place.puts);
            assert!(on.node.client.put(key, put), "{folder:?} {call:?} {how:?}");
            on.place.said.insert(key, vec![Some(put)]);
            hits += on.place.check(&mut on.node.client);
            if is_met {
                met.push((folder, *call, *how));
            }
            on.disk.heal();
            on.recovers();
            on.place.said.remove(&key);
            assert!(on.node.client.delete(key));
        }
    }
    assert!(met.len() >= 10, "{met:?}");
    eprintln!(
        "{} kinds of failures met: {met:?}; {} changes, {refused} refused, {hits} reads right meanwhile",
        met.len(),
        on.place.puts
    );
    on.restart();
    assert!(on.place.check(&mut on.node.client) > 0);
}

/// Calls that a round of changes makes, one after the other, in as many rounds.
fn every_call(how: impl Fn(u64) -> How) {
    let mut on = OnDisk::start();
    on.change(200);
    if how(0) == How::Killed {
        // What a round does depends on what memory has.
        on.restart();
    }
    let all: Vec<(Folder, Call)> = Folder::ALL
        .into_iter()
        .flat_map(|folder| Call::ALL.map(|call| (folder, call)))
        .collect();
    assert!(on.flush());
    on.disk.fail(&all, How::Broken, 0, 0);
    on.change(ROUND);
    assert!(on.flush());
    let calls = on.disk.seen();
    assert!(calls > 10, "{calls}");
    let (mut met, mut kills, mut hits) = (0, 0, 0);
    let rounds = scaled(20) as u64;
    for round in 0..rounds {
        let how = how(round);
        on.disk.fail(&all, how, round * calls / rounds, 1);
        on.change(ROUND);
        on.flush();
        let failed = on.disk.failed();
        met += failed;
        on.disk.heal();
        if how != How::Killed {
            assert!(on.node.server.is_running());
            on.recovers();
            continue;
        }
        if failed > 0 {
            kills += 1;
            on.restart();
            hits += on.place.check(&mut on.node.client);
        }
    }
    hits += on.place.check(&mut on.node.client);
    eprintln!(
        "{met} of {rounds} calls failed, of about {calls} in {ROUND} changes; {kills} kills, {hits} reads right"
    );
    assert!(met > rounds / 2);
    on.restart();
    assert!(on.place.check(&mut on.node.client) > 0);
}

#[test]
fn each_call_that_writes_may_fail_once() {
    every_call(|round| {
        if round % 2 == 0 {
            How::Full
        } else {
            How::Broken
        }
    });
}

#[test]
fn a_server_may_be_killed_in_each_call_that_writes() {
    every_call(|_| How::Killed);
}
