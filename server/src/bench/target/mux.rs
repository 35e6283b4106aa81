//! A Bowstring by the mux exchange: what many small tensors are read and written by.

use bowstring_client::mux::{GetOptions, PutOptions};
use bowstring_client::{Address, DType, Mux, Shape};
use bowstring_wire::descriptor::Mode;
use bowstring_wire::error::Result;

use super::Target;

/// One exchange on a connection of its own.
pub struct MuxStream {
    mux: Mux,
    buffer: Vec<u8>,
    begun: bool,
}

impl MuxStream {
    pub fn connect(address: &Address, namespace: &str) -> Result<Self> {
        Ok(Self {
            mux: Mux::connect(address, namespace)?,
            buffer: Vec::new(),
            begun: false,
        })
    }
}

impl Target for MuxStream {
    fn put(&mut self, key: &str, bytes: &[u8]) -> Result<()> {
        let options = PutOptions {
            mode: Some(Mode::Replace),
            ..PutOptions::default()
        };
        let shape = Shape::new(&[bytes.len() as u64])?;
        let put = self.mux.put(key, DType::UInt8, &shape, bytes, options);
        put.map(drop)
    }

    fn begin(&mut self, keys: &[String]) -> Result<()> {
        self.begun = true;
        self.mux.begin_many(keys)
    }

    fn get(&mut self, keys: &[String], each: &mut dyn FnMut(usize, Result<&[u8]>)) -> Result<()> {
        let begun = std::mem::take(&mut self.begun);
        let key = match keys {
            [key] if !begun => key,
            _ => {
                return self.mux.get_many(keys, |at, got| {
                    each(at, got.map(|(_, bytes)| bytes));
                });
            }
        };
        let got = self
            .mux
            .get_into(key, GetOptions::default(), &mut self.buffer);
        match got {
            Ok(_) => each(0, Ok(&self.buffer)),
            Err(error) if self.mux.is_open() => each(0, Err(error)),
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn is_open(&self) -> bool {
        self.mux.is_open()
    }
}
