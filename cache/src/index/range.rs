//! A walk over an order's entries.

use super::order::Run;
use super::record::Handle;

/// A place in an order: run, leaf, entry.
pub(super) type Place = (usize, usize, usize);

/// A walk over entries in key order; a clone of it goes its own way.
#[derive(Clone)]
pub struct Range<'a> {
    runs: &'a [Run],
    next: Place,
    end: Place,
}

impl<'a> Range<'a> {
    /// From one place to before another.
    pub(super) fn new(runs: &'a [Run], next: Place, end: Place) -> Range<'a> {
        Range { runs, next, end }
    }
}

impl Iterator for Range<'_> {
    type Item = Handle;

    fn next(&mut self) -> Option<Handle> {
        while self.next < self.end {
            let (run, leaf, at) = self.next;
            let leaves = self.runs.get(run)?;
            match leaves.get(leaf).map(|leaf| leaf.handle(at)) {
                Some(Some(handle)) => {
                    self.next.2 += 1;
                    return Some(handle);
                }
                Some(None) => self.next = (run, leaf + 1, 0),
                None => self.next = (run + 1, 0, 0),
            }
        }
        None
    }
}

/// The smallest byte string above all that begin with `prefix`; `None` where there is none.
pub(super) fn prefix_end(prefix: &[u8]) -> Option<Vec<u8>> {
    let kept = prefix.iter().rposition(|&byte| byte != u8::MAX)?;
    let mut end = prefix[..=kept].to_vec();
    end[kept] += 1;
    Some(end)
}

#[cfg(test)]
#[cfg(not(feature = "loom"))]
mod tests {
    use super::*;

    #[test]
    fn prefix_ends() {
        assert_eq!(prefix_end(b"ab"), Some(b"ac".to_vec()));
        assert_eq!(prefix_end(b"a\xff\xff"), Some(b"b".to_vec()));
        assert_eq!(prefix_end(b"\xff"), None);
        assert_eq!(prefix_end(b""), None);
    }
}
