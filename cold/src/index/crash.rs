//! Kills, full disks and damaged files: what was acknowledged is there, or the index says that it is not to
//! be trusted.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use bowstring_wire::name::{Namespace, Tenant};

use super::model::copy_dir;
use super::testing::{id, stored};
use super::{ColdIndex, IndexError, IndexSettings};
use crate::entry::{Number, Stored};

const THREADS: u64 = 3;
const KEYS: u64 = 12;
const KILLS: u64 = 8;

/// So little memory that tables are written and merged all the time.
fn settings(dir: &Path) -> IndexSettings {
    IndexSettings {
        memory_bytes: 64 << 10,
        ..IndexSettings::new(dir)
    }
}

/// The same numbers for the same seed, in the victim and in the test.
fn random(seed: u64) -> u64 {
    let n = (seed ^ (seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ (n >> 31)
}

/// What a thread does to the namespace that is its own.
enum Deed {
    Insert(Box<Stored>),
    Remove(String),
    Clear,
}

fn deed(thread: u64, at: u64) -> Deed {
    let dice = random(thread << 32 | at);
    let key = format!("k{}", (dice >> 8) % KEYS);
    match dice % 64 {
        0..40 => {
            let id = id(&format!("n{thread}"), &key);
            Deed::Insert(Box::new(stored(id, at + 1, at * 2 + 2, dice)))
        }
        40..63 => Deed::Remove(key),
        _ => Deed::Clear,
    }
}

type Model = BTreeMap<String, Stored>;

fn do_to_model(deed: Deed, model: &mut Model) {
    match deed {
        Deed::Insert(new) => {
            let key = new.description.id.key.as_str().to_owned();
            model.insert(key, *new);
        }
        Deed::Remove(key) => drop(model.remove(&key)),
        Deed::Clear => model.clear(),
    }
}

fn do_to_index(thread: u64, at: u64, index: &ColdIndex) {
    let namespace = format!("n{thread}");
    let log = Number(at * 2 + 3);
    match deed(thread, at) {
        Deed::Insert(new) => assert_eq!(index.insert_all(&[*new]), Ok(vec![true])),
        Deed::Remove(key) => {
            index
                .remove_all(&[(id(&namespace, &key), None)], log)
                .unwrap();
        }
        Deed::Clear => {
            let namespace = Namespace::parse(&namespace).unwrap();
            index.clear(&Tenant::public(), &namespace, log).unwrap();
        }
    }
}

fn state_of(index: &ColdIndex, thread: u64) -> Model {
    let namespace = Namespace::parse(&format!("n{thread}")).unwrap();
    let rows = index.scan(&Tenant::public(), &namespace, "", None).unwrap();
    let rows = rows.map(|row| row.unwrap());
    rows.map(|row| (row.description.id.key.as_str().to_owned(), row))
        .collect()
}

/// What the next test starts, as a process of itself, and kills. A line for each deed that was acknowledged.
fn victim(args: &str) {
    let mut args = args.split(' ');
    let dir = args.next_back().unwrap();
    let from: Vec<u64> = args.map(|at| at.parse().unwrap()).collect();
    let index = ColdIndex::open(settings(Path::new(dir))).unwrap();
    assert!(index.state().is_some());
    std::thread::scope(|scope| {
        for (thread, from) in (0..).zip(from) {
            let index = &index;
            scope.spawn(move || {
                for at in from.. {
                    do_to_index(thread, at, index);
                    println!("done {thread}");
                }
            });
        }
        loop {
            if !index.tidy(3).unwrap() {
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
        }
    });
}

#[test]
fn acknowledged_deeds_outlive_a_kill() {
    if let Ok(args) = std::env::var("BOWSTRING_INDEX_VICTIM") {
        return victim(&args);
    }
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("index");
    let index = ColdIndex::open(settings(&dir)).unwrap();
    index.set_state("memory:", 1).unwrap();
    drop(index);
    let mut next = vec![0; THREADS as usize];
    let mut models = vec![Model::new(); THREADS as usize];
    for kill in 0..KILLS {
        let lines = 1 + random(kill + 1) % 3_000;
        let acknowledged = run_and_kill(&dir, &next, lines);
        let index = ColdIndex::open(settings(&dir)).unwrap();
        assert!(index.state().is_some(), "kill {kill}");
        for (thread, done) in (0..).zip(acknowledged) {
            let (next, model) = (&mut next[thread as usize], &mut models[thread as usize]);
            for _ in 0..done {
                do_to_model(deed(thread, *next), model);
                *next += 1;
            }
            // One more may have been done without a word.
            let found = state_of(&index, thread);
            let before = model.clone();
            do_to_model(deed(thread, *next), model);
            *next += 1;
            if found == before {
                *model = before;
            }
            assert_eq!(found, *model, "kill {kill} thread {thread} deed {next}");
        }
    }
}

/// How many deeds each thread had acknowledged.
fn run_and_kill(dir: &Path, next: &[u64], lines: u64) -> Vec<u64> {
    let from: String = next.iter().map(|at| format!("{at} ")).collect();
    let mut victim = Command::new(std::env::current_exe().unwrap())
        .args([
            "index::crash::acknowledged_deeds_outlive_a_kill",
            "--exact",
            "--nocapture",
        ])
        .env("BOWSTRING_INDEX_VICTIM", format!("{from}{}", dir.display()))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut done = vec![0; next.len()];
    let mut count = 0;
    for line in BufReader::new(victim.stdout.take().unwrap()).lines() {
        if let Some(thread) = line.unwrap().strip_prefix("done ") {
            done[thread.parse::<usize>().unwrap()] += 1;
            count += 1;
            if count == lines {
                victim.kill().unwrap();
            }
        }
    }
    assert!(count >= lines, "the victim ended by itself");
    victim.wait().unwrap();
    done
}

/// Entries and removes of half of them, on the disk, most of it in tables.
fn filled(dir: &Path) -> Vec<Stored> {
    let index = ColdIndex::open(settings(dir)).unwrap();
    let entries: Vec<_> = (0..600)
        .map(|n| stored(id("n", &format!("k{n}")), n + 1, 1, n))
        .collect();
    index.insert_all(&entries).unwrap();
    let newer: Vec<_> = (0..600)
        .map(|n| stored(id("n", &format!("k{n}")), n + 1000, 3, n))
        .collect();
    index.insert_all(&newer).unwrap();
    for entry in newer.iter().step_by(2) {
        let ids = [(entry.description.id.clone(), None)];
        index.remove_all(&ids, Number(4)).unwrap();
    }
    index.set_state("memory:", 1).unwrap();
    newer
}

fn files(dir: &Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
    let mut all: Vec<_> = entries
        .flat_map(|entry| match entry.file_type().unwrap().is_dir() {
            true => files(&entry.path()),
            false => vec![entry.path()],
        })
        .collect();
    all.sort();
    all
}

#[test]
fn no_damage_brings_back_what_was_removed() {
    let root = tempfile::tempdir().unwrap();
    let whole = root.path().join("whole");
    let newer = filled(&whole);
    let (mut refused, mut trusted) = (0, 0);
    for round in 0..200 {
        let dir = root.path().join("damaged");
        copy_dir(&whole, &dir);
        let files = files(&dir);
        let file = &files[random(round) as usize % files.len()];
        let mut bytes = std::fs::read(file).unwrap();
        // The journal ends in a hole.
        let len = bytes.iter().rposition(|b| *b != 0).map_or(0, |at| at + 1);
        if len == 0 {
            continue;
        }
        let at = random(round + 1000) as usize % len;
        match round % 4 {
            0 => bytes[at..].fill(0),
            1 => bytes.truncate(at),
            _ => bytes[at] ^= 1 << (round % 8),
        }
        std::fs::write(file, bytes).unwrap();
        let seen = std::panic::catch_unwind(|| check_damaged(&dir, &newer));
        match seen.unwrap_or_else(|_| panic!("round {round} file {}", file.display())) {
            true => trusted += 1,
            false => refused += 1,
        }
        std::fs::remove_dir_all(&dir).unwrap();
    }
    assert!(refused > 20 && trusted > 20, "{refused} {trusted}");
}

/// Whether the index was trusted, rightly.
fn check_damaged(dir: &Path, newer: &[Stored]) -> bool {
    let index = match ColdIndex::open(settings(dir)) {
        Ok(index) => index,
        Err(IndexError::Unusable(_)) => return false,
        Err(error) => panic!("{error}"),
    };
    if index.state().is_none() {
        return false;
    }
    for (at, entry) in newer.iter().enumerate() {
        match index.get(&entry.description.id) {
            Ok(None) | Err(IndexError::Corrupt(_)) => {}
            Ok(Some(found)) => assert!(at % 2 == 1 && found == *entry, "{found:?}"),
            Err(error) => panic!("{error}"),
        }
    }
    true
}

#[test]
fn a_failed_flush_is_a_loss_that_reopening_ends() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("index");
    let index = ColdIndex::open(settings(&dir)).unwrap();
    index.set_state("memory:", 1).unwrap();
    let entry = |n: u64| stored(id("n", &format!("k{n}")), n + 1, n + 1, n);
    index.insert_all(&[entry(0)]).unwrap();
    // Tables cannot be written any more; nor does a scan begun before end with that.
    let tables = dir.join("rows/keyspaces/1/tables");
    let aside = root.path().join("aside");
    std::fs::rename(&tables, &aside).unwrap();
    std::fs::write(&tables, b"").unwrap();
    let mut acknowledged = 1;
    let error = loop {
        match index.insert_all(&[entry(acknowledged)]) {
            Ok(_) => acknowledged += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, IndexError::Lost(_)), "{error}");
    let first = entry(0).description.id;
    assert!(!index.may_have(&first));
    assert!(matches!(index.get(&first), Err(IndexError::Lost(_))));
    let removed = index.remove_all(&[(first.clone(), None)], Number(1_000_000));
    assert!(matches!(removed, Err(IndexError::Lost(_))));
    // Still full.
    assert!(index.reopen().is_err());
    assert!(matches!(index.get(&first), Err(IndexError::Lost(_))));
    std::fs::remove_file(&tables).unwrap();
    std::fs::rename(&aside, &tables).unwrap();
    index.reopen().unwrap();
    assert!(index.state().is_some());
    for n in 0..acknowledged {
        let entry = entry(n);
        assert_eq!(index.get(&entry.description.id), Ok(Some(entry)));
    }
    index.insert_all(&[entry(acknowledged + 1)]).unwrap();
    assert!(index.len() > acknowledged);
    index.mark_lost().unwrap();
    drop(index);
    assert_eq!(ColdIndex::open(settings(&dir)).unwrap().state(), None);
}

/// What the next test runs, as a process of itself, where files may not grow. A line for each insert that was
/// acknowledged.
fn confined(dir: &str) {
    let index = ColdIndex::open(IndexSettings::new(dir)).unwrap();
    for n in 10.. {
        match index.insert_all(&[stored(id("n", &format!("k{n}")), n, n, n)]) {
            Ok(_) => println!("done {n}"),
            Err(error) => {
                assert!(matches!(error, IndexError::Lost(_)), "{error}");
                break;
            }
        }
    }
    let removed = index.remove_all(&[(id("n", "k10"), None)], Number(1_000_000));
    assert!(matches!(removed, Err(IndexError::Lost(_))));
    assert!(!index.may_have(&id("n", "k10")));
    println!("lost");
}

#[test]
fn a_journal_that_cannot_grow_is_a_loss() {
    if let Ok(dir) = std::env::var("BOWSTRING_INDEX_CONFINED") {
        return confined(&dir);
    }
    let root = tempfile::tempdir().unwrap();
    let settings = IndexSettings::new(root.path());
    // What creates the journal asks for more than the limit; it is not longer than what is in it afterwards.
    let index = ColdIndex::open(settings.clone()).unwrap();
    index.set_state("memory:", 1).unwrap();
    drop(index);
    drop(ColdIndex::open(settings.clone()).unwrap());
    let confined = Command::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -f 200; exec \"$0\" \"$@\""])
        .arg(std::env::current_exe().unwrap())
        .args([
            "index::crash::a_journal_that_cannot_grow_is_a_loss",
            "--exact",
            "--nocapture",
        ])
        .env("BOWSTRING_INDEX_CONFINED", root.path())
        .output()
        .unwrap();
    let said = String::from_utf8(confined.stdout).unwrap();
    assert!(
        said.lines().any(|line| line == "lost"),
        "{said} {:?}",
        confined.stderr
    );
    let done = said
        .lines()
        .filter(|line| line.starts_with("done "))
        .count() as u64;
    assert!(done > 100, "{done}");
    let index = ColdIndex::open(settings).unwrap();
    assert!(index.state().is_some());
    for n in 10..10 + done {
        assert!(index.get(&id("n", &format!("k{n}"))).unwrap().is_some());
    }
    assert!(index.get(&id("n", "k10")).unwrap().is_some());
}

#[test]
fn a_directory_has_one_index_at_a_time() {
    let root = tempfile::tempdir().unwrap();
    let index = ColdIndex::open(settings(root.path())).unwrap();
    let second = ColdIndex::open(settings(root.path())).map(drop);
    assert!(matches!(second, Err(IndexError::Locked(_))), "{second:?}");
    drop(index);
    ColdIndex::open(settings(root.path())).unwrap();
}
