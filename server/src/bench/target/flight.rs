//! A Bowstring by DoGet and DoPut: what tensors of any size are read and written by.

use bowstring_client::{Address, Connection, DType, Descriptor, Shape};
use bowstring_wire::error::Result;

use super::Target;

/// One connection; one tensor at a time.
pub struct Flight {
    connection: Connection,
    namespace: String,
    buffer: Vec<u8>,
}

impl Flight {
    pub fn connect(address: &Address, namespace: &str) -> Result<Self> {
        Ok(Self {
            connection: Connection::connect(address)?,
            namespace: namespace.to_owned(),
            buffer: Vec::new(),
        })
    }
}

impl Target for Flight {
    fn put(&mut self, key: &str, bytes: &[u8]) -> Result<()> {
        // Neither has a character that JSON would want escaped.
        let namespace = &self.namespace;
        let command = format!(r#"{{"namespace":"{namespace}","key":"{key}","mode":"replace"}}"#);
        let shape = Shape::new(&[bytes.len() as u64])?;
        let descriptor = Descriptor::Command(command.as_bytes());
        let put = self.connection.put(descriptor, DType::UInt8, &shape, bytes);
        put.map(drop)
    }

    fn get(&mut self, keys: &[String], each: &mut dyn FnMut(usize, Result<&[u8]>)) -> Result<()> {
        for (at, key) in keys.iter().enumerate() {
            let ticket = format!(r#"{{"namespace":"{}","key":"{key}"}}"#, self.namespace);
            match self
                .connection
                .get_into(ticket.as_bytes(), &mut self.buffer)
            {
                Ok(_) => each(at, Ok(&self.buffer)),
                Err(error) if self.connection.is_open() => each(at, Err(error)),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn is_open(&self) -> bool {
        self.connection.is_open()
    }
}
