//! Reads and listings.

use super::*;

impl Play {
    fn check(&mut self, key: &str, may_be: &[Option<usize>], seen: Option<(Version, Vec<u8>)>) {
        let Some((version, bytes)) = seen else {
            self.misses += 1;
            // It may have expired meanwhile.
            if !may_be.contains(&None) {
                self.tell(key);
            }
            assert!(
                may_be.contains(&None) || self.may_be(key).contains(&None),
                "{key} is missing"
            );
            return;
        };
        let right = may_be.iter().flatten().any(|there| {
            let there = &self.known[*there];
            there.version == version && content(there.content) == bytes
        });
        if !right {
            self.tell(key);
        }
        assert!(right, "{key}: {version} is none of {may_be:?}");
        self.hits += 1;
    }

    pub(super) async fn read(&mut self) {
        let key = self.key();
        let may_be = self.may_be(&key);
        let read = self.node().read(&key).await;
        let seen = read.map(|(there, bytes)| (there.version, bytes));
        self.check(&key, &may_be, seen);
        let described = self.node().cache.describe_below(&id(&key)).await.unwrap();
        let is_it = |version| {
            let mut known = may_be.iter().flatten();
            known.any(|there| self.known[*there].version == version)
        };
        assert!(
            described
                .as_ref()
                .is_none_or(|there| is_it(there.version) || self.is_hidden(&there.version)),
            "{key}: {described:?} {may_be:?}"
        );
    }

    /// What is known of a key below while memory has another one of it, which is expired.
    fn is_hidden(&self, version: &Version) -> bool {
        let all = self.map.values();
        all.into_iter()
            .any(|there| self.known[*there].version == *version && self.is_over(*there))
    }

    pub(super) async fn read_many(&mut self) {
        let mut keys: Vec<String> = (0..8).map(|_| self.key()).collect();
        keys.dedup();
        let may_be: Vec<_> = keys.iter().map(|key| self.may_be(key)).collect();
        let ids: Vec<Id> = keys.iter().map(|key| id(key)).collect();
        let node = self.node();
        let mut seen = Vec::new();
        while seen.len() < ids.len() {
            let found = node
                .cold
                .open_all(&node.cache, &ids[seen.len()..], MIB, Reading::Whole);
            for found in found.await.unwrap() {
                seen.push(match found {
                    None => None,
                    Some(Found::Here(entry)) => Some((entry.version(), entry.into_vec().unwrap())),
                    // It is large: by itself.
                    Some(Found::Below(below)) => {
                        let read = node.read(below.description().id.key.as_str()).await;
                        read.map(|(there, bytes)| (there.version, bytes))
                    }
                });
            }
        }
        for ((key, may_be), seen) in keys.iter().zip(may_be).zip(seen) {
            self.check(key, &may_be, seen);
        }
    }

    pub(super) async fn list(&mut self) {
        let of = id("k");
        let listed = self
            .node()
            .cold
            .list(&of.tenant, &of.namespace, "", None, 1_000);
        let listed = listed.await.unwrap();
        for below in listed {
            let key = below.id.key.as_str();
            let hidden = self.node().cache.peek(&below.id).is_some();
            let there = self.map.get(key).map(|there| &self.known[*there]);
            let right = hidden || there.is_some_and(|there| there.version == below.version);
            if !right {
                self.tell(key);
            }
            assert!(right, "{key} {} {there:?}", below.version);
        }
    }
}
