//! Deletes, expiry and pins.

use super::*;

impl Play {
    pub(super) async fn delete(&mut self) {
        let key = self.key();
        let may_be = self.may_be(&key);
        let there = self.map.get(&key).map(|there| self.known[*there].version);
        let wanted = match self.roll(3) {
            0 => Some(there.unwrap_or(Version { hlc: 1, start: 1 })),
            1 => Some(Version { hlc: 1, start: 1 }),
            _ => None,
        };
        let deleted = self.node().cache.delete(&id(&key), wanted).await;
        self.done
            .push(format!("{key} delete {wanted:?} {deleted:?}"));
        let is_wrong = |there: &Option<usize>| {
            there.is_some_and(|there| Some(self.known[there].version) != wanted)
        };
        // One that found no version to delete leaves what a rollback would bring back.
        let touched = wanted.is_none() || matches!(deleted, Ok(Some(_)));
        match deleted {
            Err(refused) if refused.code == Code::FailedPrecondition => {
                assert!(wanted.is_some() && may_be.iter().any(is_wrong));
                return;
            }
            Err(refused) if no_room(&refused) => return,
            Err(refused) => panic!("{refused}"),
            Ok(Some(version)) => assert!(Some(version) == there, "{key} {version} {there:?}"),
            Ok(None) => assert!(
                may_be.contains(&None) || self.may_be(&key) == [None],
                "{key}"
            ),
        }
        if touched {
            self.touch(&key);
        }
        self.map.remove(&key);
    }

    pub(super) async fn expire(&mut self) {
        let (key, at) = (self.key(), self.expiry());
        let may_be = self.may_be(&key);
        let expired = self.node().cache.expire(&id(&key), at).await;
        self.done.push(format!("{key} expire {at:?} {expired:?}"));
        match expired {
            Ok(true) => {
                let there = may_be[0].unwrap();
                self.known[there].expires_at_ms = at;
                // It is another one now, which only memory has.
                self.sure.remove(&key);
            }
            Ok(false) => assert!(may_be.contains(&None), "{key}"),
            Err(refused) => assert!(no_room(&refused), "{refused}"),
        }
    }

    pub(super) async fn pin(&mut self) {
        let key = self.key();
        let may_be = self.may_be(&key);
        if self.roll(2) == 0 {
            self.node().cache.unpin(&id(&key));
            return;
        }
        match self.node().cache.pin(&id(&key)).await {
            Ok(found) => assert!(
                may_be
                    .iter()
                    .any(|there| there.is_some() == found.is_some())
            ),
            Err(refused) => assert!(no_room(&refused), "{refused}"),
        }
        // Not so many that nothing else has room.
        if self.roll(3) > 0 {
            self.node().cache.unpin(&id(&key));
        }
    }

    pub(super) async fn delete_prefix(&mut self) {
        let prefix = ["a", "b/1", "c/2", ""][usize::try_from(self.roll(4)).unwrap()];
        self.node().delete_prefix(prefix).await;
        self.done.push(format!("all delete under {prefix:?}"));
        for n in 0..KEYS {
            let key = format!("{}/{n}", ["a", "b", "c"][usize::try_from(n % 3).unwrap()]);
            if key.starts_with(prefix) {
                self.touch(&key);
                self.map.remove(&key);
            }
        }
    }
}
