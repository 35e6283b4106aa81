//! Puts, of one tensor and of rows, judged by what may be there.

use bowstring_cache::put::Admit;
use bowstring_cache::rows::{Row, RowsSpec};

use super::*;

impl Play {
    /// Whether a put comes, stays, or is refused by what may be there.
    fn judge(
        &self,
        key: &str,
        put: (Mode, Option<Version>, u64),
        answer: &Result<Published>,
    ) -> bool {
        let (mode, wanted, number) = put;
        let is_it = |there: Option<usize>| {
            let there = there.map(|there| &self.known[there]);
            let holds = |wanted| there.is_some_and(|there| there.version == wanted);
            let same = there.is_some_and(|there| content(there.content) == content(number));
            match (answer, there) {
                (Err(refused), _) if refused.code == Code::FailedPrecondition => {
                    wanted.is_some_and(|wanted| !holds(wanted))
                }
                (Err(refused), Some(_)) if refused.code == Code::AlreadyExists => {
                    mode == Mode::Create && wanted.is_none() && !same
                }
                (Err(_), _) => false,
                (Ok(put), Some(there)) if put.existed => {
                    let stays = mode == Mode::Keep || mode == Mode::Create && same;
                    wanted.is_none() && stays && put.version == there.version
                }
                (Ok(put), None) if put.existed => false,
                (Ok(_), there) => match wanted {
                    Some(wanted) => holds(wanted),
                    None => there.is_none() || mode == Mode::Replace,
                },
            }
        };
        self.may_be(key).into_iter().any(is_it)
    }

    fn note(
        &mut self,
        key: &str,
        put: (Mode, Option<Version>, u64),
        expires_at_ms: Option<u64>,
        answer: Result<Published>,
    ) {
        if answer.as_ref().is_err_and(no_room) {
            self.done.push(format!("{key} no room {put:?} {answer:?}"));
            // Nothing of it is there.
            self.sure.remove(key);
            return;
        }
        let may_be = self.may_be(key);
        self.done
            .push(format!("{key} put {put:?} {answer:?} over {may_be:?}"));
        if !self.judge(key, put, &answer) {
            self.tell(key);
        }
        assert!(
            self.judge(key, put, &answer),
            "{key}: {put:?} {answer:?} over {may_be:?}"
        );
        if let Ok(published) = answer.as_ref()
            && !published.existed
        {
            self.touch(key);
            self.known.push(Known {
                version: published.version,
                content: put.2,
                expires_at_ms,
            });
            self.map.insert(key.to_owned(), self.known.len() - 1);
        }
    }

    fn mode(&mut self) -> Mode {
        [Mode::Replace, Mode::Create, Mode::Keep][usize::try_from(self.roll(3)).unwrap()]
    }

    pub(super) async fn put(&mut self) {
        let (key, mode, number) = (self.key(), self.mode(), self.roll(1_000));
        let there = self.map.get(&key).map(|there| self.known[*there].version);
        let wanted = match self.roll(8) {
            0 => there,
            1 => Some(Version { hlc: 1, start: 1 }),
            _ => None,
        };
        let expires_at_ms = self.expiry();
        let of = PutSpec {
            if_version: wanted,
            expires_at_ms,
            pin: self.roll(40) == 0,
            below: self.roll(10) == 0,
            metadata: br#"{"of": "a model"}"#.to_vec(),
            ..spec(mode)
        };
        let answer = self.node().put_as(&key, of, &content(number)).await;
        self.note(&key, (mode, wanted, number), expires_at_ms, answer);
    }

    pub(super) fn expiry(&mut self) -> Option<u64> {
        match self.roll(10) {
            0 => Some(1),
            1 => Some(clock().now_ms() + 3_600_000),
            _ => None,
        }
    }

    pub(super) async fn rows(&mut self) {
        let (mode, number) = (self.mode(), self.roll(1_000));
        let mut keys: Vec<String> = (0..6).map(|_| self.key()).collect();
        keys.sort();
        keys.dedup();
        let answers = self.node().put_rows(0, mode, &keys, &content(number)).await;
        for (key, answer) in keys.iter().zip(answers) {
            self.note(key, (mode, None, number), None, answer);
        }
    }
}

impl Node {
    pub(super) async fn put_rows(
        &self,
        load: u32,
        mode: Mode,
        keys: &[String],
        data: &[u8],
    ) -> Vec<Result<Published>> {
        let of = id("k");
        let shape = Shape::new(&[data.len() as u64]).unwrap();
        let rows: Vec<Row<'_>> = keys
            .iter()
            .map(|key| Row {
                key,
                dtype: DType::UInt8,
                shape: &shape,
                data: [data].into_iter().collect(),
                metadata: &[],
                expires_at_ms: None,
                checksum: None,
                source_version: None,
            })
            .collect();
        let spec = RowsSpec {
            mode,
            load,
            pin: false,
            admit: Admit::Hot,
            below: false,
        };
        self.cache
            .put_rows(&of.tenant, &of.namespace, spec, &rows)
            .await
    }
}
