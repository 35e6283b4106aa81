//! Loads, committed, aborted and rolled back.

use bowstring_cache::loads::LoadSpec;

use super::*;

impl Play {
    pub(super) async fn load_step(&mut self) {
        let of = id("k");
        let (tenant, namespace) = (&of.tenant, &of.namespace);
        let cache = self.node().cache.clone();
        match (self.roll(10), self.load.take()) {
            (0..3, None) => {
                let replace_all = self.roll(4) == 0;
                let spec = LoadSpec {
                    replace_all,
                    ..LoadSpec::default()
                };
                if let Ok(id) = cache.begin_load(tenant, namespace, spec) {
                    let map = Map::new();
                    self.load = Some(OpenLoad {
                        id,
                        replace_all,
                        map,
                    });
                }
            }
            (3..5, None) => self.roll_back(&cache).await,
            (5.., None) => {}
            (0..7, Some(mut load)) => {
                let number = self.roll(1_000);
                let mut keys: Vec<String> = (0..4).map(|_| self.key()).collect();
                keys.sort();
                keys.dedup();
                let inner = cache.load(tenant, namespace, &load.id).unwrap();
                let answers = self
                    .node()
                    .put_rows(inner, Mode::Replace, &keys, &content(number))
                    .await;
                for (key, answer) in keys.into_iter().zip(answers) {
                    let Ok(published) = answer else { continue };
                    self.known.push(Known {
                        version: published.version,
                        content: number,
                        expires_at_ms: None,
                    });
                    load.map.insert(key, self.known.len() - 1);
                }
                self.load = Some(load);
            }
            (7, Some(load)) => drop(cache.abort_load(tenant, &load.id).unwrap()),
            (_, Some(load)) => {
                cache.commit_load(tenant, &load.id).await.unwrap();
                self.done
                    .push(format!("all commit {} {:?}", load.replace_all, load.map));
                let before = self.map.clone();
                if load.replace_all {
                    self.map.clear();
                    self.sure.clear();
                }
                for (key, entry) in load.map {
                    self.sure.remove(&key);
                    self.map.insert(key, entry);
                }
                self.last = Some(Last {
                    id: load.id,
                    before,
                    touched: BTreeSet::new(),
                });
            }
        }
    }

    async fn roll_back(&mut self, cache: &Cache) {
        let Some(last) = self.last.take() else { return };
        let rolled_back = cache.rollback_load(&id("k").tenant, &last.id).await;
        self.done.push(format!("all rollback {rolled_back:?}"));
        if rolled_back.is_err() {
            // What was before is not held any more.
            return;
        }
        self.sure.clear();
        let now = std::mem::replace(&mut self.map, last.before);
        for key in last.touched {
            match now.get(&key) {
                Some(entry) => drop(self.map.insert(key, *entry)),
                None => drop(self.map.remove(&key)),
            }
        }
    }
}
