//! Thrift's compact protocol, walked through: each length that is claimed is held against what there is.

/// Structs within structs.
const DEPTH_MAX: u32 = 32;

/// What is wrong with what is written in Thrift's compact protocol.
#[derive(Debug, thiserror::Error)]
pub enum Wrong {
    /// Perhaps more of it has to be read.
    #[error("it claims more than there is")]
    Short,
    /// That.
    #[error("{0}")]
    Said(&'static str),
}

/// What is met on the way, but for what lies deeper than a struct in a field: integers by the field that they are in (0: none) and their own, and the ends of
/// structs by the field that they are in.
pub enum Event {
    /// In which field, which one, what it is.
    Value(i16, i16, i64),
    /// In which field.
    End(i16),
}

/// Whoever is told.
pub type See<'s> = &'s mut dyn FnMut(Event) -> Result<(), Wrong>;

/// A way through it, on which nothing is kept.
pub struct Walk<'a> {
    rest: &'a [u8],
}

impl<'a> Walk<'a> {
    /// Through these bytes.
    pub fn new(rest: &'a [u8]) -> Self {
        Self { rest }
    }

    /// A struct within the outermost field `of`.
    pub fn structure(&mut self, of: i16, depth: u32, see: See<'_>) -> Result<(), Wrong> {
        if depth > DEPTH_MAX {
            return Err(Wrong::Said("it is nested too deep"));
        }
        let mut id: i16 = 0;
        loop {
            let head = self.byte()?;
            let kind = head & 0x0f;
            if kind == 0 {
                return if depth <= 1 {
                    see(Event::End(of))
                } else {
                    Ok(())
                };
            }
            id = match head >> 4 {
                0 => {
                    i16::try_from(self.int()?).map_err(|_| Wrong::Said("a field has no number"))?
                }
                delta => id.wrapping_add(i16::from(delta)),
            };
            match kind {
                // A boolean's value is its kind.
                1 | 2 => {}
                4..=6 => {
                    let value = self.int()?;
                    if depth <= 1 {
                        see(Event::Value(of, id, value))?;
                    }
                }
                _ => self.value(kind, if of == 0 { id } else { of }, depth, see)?,
            }
        }
    }

    fn value(&mut self, kind: u8, of: i16, depth: u32, see: See<'_>) -> Result<(), Wrong> {
        match kind {
            1..=3 => self.skip(1),
            4..=6 => self.int().map(|_| ()),
            7 => self.skip(8),
            8 => {
                let length = self.count()?;
                self.skip(length)
            }
            9 | 10 => {
                let head = self.byte()?;
                let count = match head >> 4 {
                    15 => self.count()?,
                    few => usize::from(few),
                };
                if count > self.rest.len() {
                    return Err(Wrong::Short);
                }
                (0..count).try_for_each(|_| self.element(head & 0x0f, of, depth, see))
            }
            11 => {
                let count = self.count()?;
                if count == 0 {
                    return Ok(());
                }
                let kinds = self.byte()?;
                (0..count).try_for_each(|_| {
                    self.element(kinds >> 4, of, depth, see)?;
                    self.element(kinds & 0x0f, of, depth, see)
                })
            }
            12 => self.structure(of, depth + 1, see),
            _ => Err(Wrong::Said("a field is of no kind")),
        }
    }

    fn element(&mut self, kind: u8, of: i16, depth: u32, see: See<'_>) -> Result<(), Wrong> {
        if depth >= DEPTH_MAX {
            return Err(Wrong::Said("it is nested too deep"));
        }
        let lists = matches!(kind, 9..=11);
        self.value(kind, of, depth + u32::from(lists), see)
    }

    fn byte(&mut self) -> Result<u8, Wrong> {
        let (first, rest) = self.rest.split_first().ok_or(Wrong::Short)?;
        self.rest = rest;
        Ok(*first)
    }

    fn skip(&mut self, bytes: usize) -> Result<(), Wrong> {
        self.rest = self.rest.get(bytes..).ok_or(Wrong::Short)?;
        Ok(())
    }

    /// How much follows, which is no more than there is.
    fn count(&mut self) -> Result<usize, Wrong> {
        let count = usize::try_from(self.unsigned()?).map_err(|_| Wrong::Short)?;
        match count {
            count if count > self.rest.len() => Err(Wrong::Short),
            count => Ok(count),
        }
    }

    fn int(&mut self) -> Result<i64, Wrong> {
        let value = self.unsigned()?;
        // Zigzag: the sign is the lowest bit.
        Ok((value >> 1).cast_signed() ^ -((value & 1).cast_signed()))
    }

    fn unsigned(&mut self) -> Result<u64, Wrong> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Wrong::Said("a number is too long"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_nests_without_an_end() {
        let deep = [0x1c; 4096];
        let walked = Walk::new(&deep).structure(0, 0, &mut |_| Ok(()));
        assert!(walked.unwrap_err().to_string().contains("too deep"));
        let lists = [0x19; 4096];
        let walked = Walk::new(&lists).structure(0, 0, &mut |_| Ok(()));
        assert!(walked.unwrap_err().to_string().contains("too deep"));
    }
}
