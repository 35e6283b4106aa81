//! What puts and deletes do to the maps.

use bowstring_wire::error::{Code, Error};

use super::map::{Entry, Verdict};
use super::play::Play;
use super::step::{Keys, Put, Wanted, key};
use super::target::{Coming, Stored, Target};

impl<T: Target> Play<T> {
    pub(super) async fn put(&mut self, space: usize, key: &str, put: &Put, wanted: Option<Wanted>) {
        let Some((coming, load)) = self.coming(space, put) else {
            return;
        };
        let there = self.known.there(self.map(space, load), key, self.now());
        let coming = Coming {
            if_version: wanted.map(|wanted| self.version(there, wanted)),
            ..coming
        };
        let began = self.now();
        let answer = self.target.put(space, key, &coming).await;
        self.judge(space, load, key, &coming, began, &answer).await;
        self.short_ttl(coming.ttl_ms).await;
    }

    pub(super) async fn rows(&mut self, space: usize, keys: Keys, put: &Put) {
        let Some((coming, load)) = self.coming(space, put) else {
            return;
        };
        let names = self.names(keys);
        let began = self.now();
        let answers = self.target.put_rows(space, &names, &coming).await;
        assert_eq!(answers.len(), names.len());
        for (key, answer) in names.iter().zip(&answers) {
            self.judge(space, load, key, &coming, began, answer).await;
        }
        self.short_ttl(coming.ttl_ms).await;
    }

    /// A put, and the number of its load; `None` where there is no open one.
    fn coming(&self, space: usize, put: &Put) -> Option<(Coming, Option<usize>)> {
        let load = match put.load {
            None => None,
            Some(load) => {
                let open = self.loads.iter().enumerate();
                let open: Vec<_> = open.filter(|(_, load)| load.space == space).collect();
                Some(open.get(usize::from(load).checked_rem(open.len())?)?.0)
            }
        };
        let coming = Coming {
            mode: put.mode,
            content: put.content,
            if_version: None,
            ttl_ms: put.ttl_ms,
            pin: put.pin,
            load: load.map(|load| self.loads[load].id.clone()),
        };
        Some((coming, load))
    }

    /// Notes what became of a put.
    async fn judge(
        &mut self,
        space: usize,
        load: Option<usize>,
        key: &str,
        coming: &Coming,
        began: u64,
        answer: &Result<Stored, Error>,
    ) {
        let now = self.now();
        if let Some(load) = load {
            self.loads[load].used_ms = now;
        }
        let there = self.known.there(self.map(space, load), key, began);
        // Something may have gone while it was put.
        let vague = now != began || (load.is_none() && self.target.evicted().await != self.evicted);
        let must = self.known.judge(there, coming);
        let may = self.known.judge(None, coming);
        let verdict = Verdict::of(answer).unwrap_or(must);
        match verdict {
            Verdict::NoRoom => return self.may_refuse(space, answer.as_ref().unwrap_err()),
            verdict if verdict == must => {}
            verdict => assert!(
                vague && verdict == may,
                "{key}: {verdict:?}, expected {must:?}"
            ),
        }
        let version = answer.as_ref().ok().and_then(|stored| stored.version);
        match (verdict, there) {
            (Verdict::Stays, Some(there)) => {
                let known = &mut self.known.entries[there];
                known.version = known.version.or(version);
                assert!(version.is_none() || known.version == version);
                known.pinned |= coming.pin;
            }
            (Verdict::Comes, _) => {
                let pinned = there.is_some_and(|there| self.known.entries[there].pinned);
                // By the namespace's setting, time begins when it is published.
                let default = self.known.spaces[space].ttl_ms;
                let ttl_ms = coming.ttl_ms.or(default);
                let entry = self.known.add(Entry {
                    version,
                    content: coming.content,
                    expires_at_ms: ttl_ms.map(|ttl| began + ttl),
                    pinned: pinned || coming.pin,
                    learns: now != began,
                });
                match load {
                    Some(load) => drop(self.loads[load].map.insert(key.to_owned(), entry)),
                    None => {
                        self.touch(space, key, Some(entry));
                        self.known.spaces[space].shown.insert(key.to_owned(), entry);
                    }
                }
            }
            _ => {}
        }
    }

    pub(super) async fn delete(&mut self, space: usize, key: &str, wanted: Option<Wanted>) {
        let there = self.there(space, key);
        let wanted = wanted.map(|wanted| self.version(there, wanted));
        let deleted = self.target.delete(space, key, wanted).await;
        let version = there.and_then(|there| self.known.entries[there].version);
        match (there, wanted) {
            (Some(_), Some(wanted)) if version != Some(wanted) => {
                assert_eq!(deleted.unwrap_err().code, Code::FailedPrecondition);
                return;
            }
            _ => assert_eq!(deleted, Ok(there.is_some()), "delete of {key:?}"),
        }
        if there.is_some() || wanted.is_none() {
            self.touch(space, key, None);
            self.known.spaces[space].shown.remove(key);
        }
    }

    pub(super) async fn delete_prefix(&mut self, space: usize, prefix: &str, clear: bool) {
        let there = self.shown_under(space, prefix).len() as u64;
        let deleted = match clear {
            true => self.target.clear(space).await,
            false => self.target.delete_prefix(space, prefix).await,
        };
        assert_eq!(deleted, there, "delete of {prefix:?}");
        for number in 0..self.world.keys {
            let key = key(number);
            if key.starts_with(prefix) {
                self.touch(space, &key, None);
                self.known.spaces[space].shown.remove(&key);
            }
        }
    }
}
