//! What is said of keys and namespaces: how long they stay, and how much of them.

use super::play::Play;
use super::step::{Step, key};
use super::target::Target;

impl<T: Target> Play<T> {
    pub(super) async fn keep_step(&mut self, step: Step) {
        match step {
            Step::Expire(space, number, ttl_ms) => {
                let there = self.there(space, &key(number));
                let found = self.target.expire(space, &key(number), ttl_ms).await;
                assert_eq!(found, there.is_some());
                if let Some(there) = there {
                    self.known.entries[there].expires_at_ms = self.at(ttl_ms);
                    self.short_ttl(ttl_ms).await;
                }
            }
            Step::Pin(space, number) => {
                let there = self.there(space, &key(number));
                match self.target.pin(space, &key(number)).await {
                    Ok(found) => assert_eq!(found, there.is_some()),
                    Err(refused) => return self.may_refuse(space, &refused),
                }
                if let Some(there) = there {
                    self.known.entries[there].pinned = true;
                }
            }
            Step::Unpin(space, number) => {
                let there = self.there(space, &key(number));
                let found = self.target.unpin(space, &key(number)).await;
                assert_eq!(found, there.is_some());
                if let Some(there) = there {
                    self.known.entries[there].pinned = false;
                    self.unpin_hidden(space, &key(number));
                }
            }
            Step::DefaultTtl(space, ttl_ms) => {
                let ttl_ms = ttl_ms.map(|ttl| if T::OWN_CLOCK { ttl } else { 3_600_000 });
                self.target
                    .set(space, "default_ttl_ms", ttl_ms)
                    .await
                    .unwrap();
                self.known.spaces[space].ttl_ms = ttl_ms;
            }
            Step::EntriesMax(space, max) => {
                self.known.spaces[space].limited |= max.is_some();
                self.target.set(space, "entries_max", max).await.unwrap();
            }
            _ => {}
        }
    }
}
