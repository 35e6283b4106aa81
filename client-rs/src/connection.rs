//! One connection to one server.

use std::time::Duration;

use bowstring_wire::dtype::DType;
use bowstring_wire::error::{Code, Error, Result};
use bowstring_wire::put_result::PutReply;
use bowstring_wire::shape::Shape;

use crate::address::Address;
use crate::get::{self, Tensor};
use crate::message::Message;
use crate::put::{self, Descriptor};
use crate::transport::Transport;

/// Settings of a connection.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// How long any single wait for the server may take, connecting included; without it, for ever.
    /// When it passes, the call fails with `deadline_exceeded` and the connection cannot be used any more.
    pub timeout: Option<Duration>,
}

/// One connection, for one call at a time.
pub struct Connection {
    transport: Transport,
    message: Message,
}

impl Connection {
    /// Connects with the default options.
    ///
    /// # Errors
    /// `unavailable` where nobody listens, or what listens does not speak HTTP/2.
    pub fn connect(address: &Address) -> Result<Connection> {
        Connection::connect_with(address, &Options::default())
    }

    /// Connects.
    ///
    /// # Errors
    /// As [`Connection::connect`], and `deadline_exceeded`.
    pub fn connect_with(address: &Address, options: &Options) -> Result<Connection> {
        let transport = Transport::connect(address, options.timeout)?;
        Ok(Connection {
            transport,
            message: Message::default(),
        })
    }

    /// Whether the connection can take another call. After `unavailable` it usually cannot: connect anew.
    pub fn is_open(&self) -> bool {
        self.transport.is_open()
    }

    /// Gets one tensor into `buffer`, which is made as long as the tensor. A buffer that already has that length is filled
    /// in place and nothing is allocated or cleared.
    ///
    /// # Errors
    /// As [`Connection::get_with`]; what `buffer` holds after one is undefined.
    pub fn get_into(&mut self, ticket: &[u8], buffer: &mut Vec<u8>) -> Result<Tensor> {
        self.get_with(ticket, move |tensor| {
            buffer.resize(tensor.bytes, 0);
            Ok(buffer.as_mut_slice())
        })
    }

    /// Gets one tensor into the place that `place` chooses once dtype and shape are known; it must have exactly
    /// [`Tensor::bytes`] bytes. An error of `place` gives the get up and leaves the connection usable.
    ///
    /// # Errors
    /// What the server says, by its code; `invalid_argument` where the ticket is not one of a single tensor, or the
    /// place has another size; `unavailable` where the connection broke.
    pub fn get_with<'a>(
        &mut self,
        ticket: &[u8],
        place: impl FnOnce(&Tensor) -> Result<&'a mut [u8]>,
    ) -> Result<Tensor> {
        self.transport.begin(get::PATH)?;
        let result = get::request(&mut self.transport, ticket)
            .and_then(|()| get::receive(&mut self.transport, &mut self.message, place));
        match self.settle(result)? {
            Some((tensor, true)) => Ok(tensor),
            Some((tensor, false)) => Err(Error::new(
                Code::DataLoss,
                format!(
                    "the stream ended before the tensor did, shape=`{}`",
                    tensor.shape
                ),
            )),
            None => Err(Error::internal("the stream ended without a schema")),
        }
    }

    /// Puts one tensor, `bytes` in C order, straight from the slice.
    ///
    /// # Errors
    /// What the server says, by its code; `invalid_argument` where `bytes` does not fit dtype and shape.
    pub fn put(
        &mut self,
        descriptor: Descriptor<'_>,
        dtype: DType,
        shape: &Shape,
        bytes: &[u8],
    ) -> Result<PutReply> {
        put::check(dtype, shape, bytes)?;
        self.transport.begin(put::PATH)?;
        let result = put::send(&mut self.transport, descriptor, dtype, shape, bytes)
            .and_then(|()| put::receive(&mut self.transport));
        self.settle(result)?
            .ok_or_else(|| Error::internal("the stream ended without a result"))
    }

    /// Ends the call. What the server says about it comes before what we made of its stream.
    fn settle<T>(&mut self, result: Result<T>) -> Result<T> {
        match result {
            Ok(value) => self.transport.finish().map(|()| value),
            Err(error) if self.transport.has_ended() => self.transport.finish().and(Err(error)),
            Err(error) if self.transport.is_open() => self.transport.cancel().and(Err(error)),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peer::{Behaviour, serve};
    use bowstring_wire::flight_data::{Event, Parser};
    use bowstring_wire::version::Version;

    const TICKET: &[u8] = br#"{"key": "a"}"#;

    fn get(behaviour: &Behaviour) -> (Tensor, Vec<u8>) {
        let (address, _) = serve(behaviour.clone());
        let mut connection = Connection::connect(&address).unwrap();
        let mut buffer = vec![9; 3];
        let tensor = connection.get_into(TICKET, &mut buffer).unwrap();
        (tensor, buffer)
    }

    #[test]
    fn gets_the_same_bytes_however_they_are_cut() {
        for (dtype, dims) in [
            (DType::Float32, vec![1000, 768]),
            (DType::UInt8, vec![12_345_679]),
            (DType::Complex64, vec![3, 5]),
            (DType::Bool, vec![]),
            (DType::Float64, vec![4, 0]),
        ] {
            for (piece, message) in [
                (1 << 20, 16 << 20),
                (16_384, 1 << 20),
                (70_001, 1_000_000),
                (999_999, 80_008),
            ] {
                let mut behaviour = Behaviour::of(dtype, &dims);
                (behaviour.piece_bytes, behaviour.message_bytes) = (piece, message);
                let (tensor, buffer) = get(&behaviour);
                assert_eq!((tensor.dtype, &tensor.shape), (dtype, &behaviour.shape));
                assert_eq!(tensor.bytes, buffer.len());
                assert!(
                    buffer == behaviour.tensor,
                    "{dtype} {dims:?} {piece} {message}"
                );
            }
        }
    }

    #[test]
    fn says_what_the_schema_says() {
        let (tensor, _) = get(&Behaviour::of(DType::Float32, &[2]));
        assert_eq!(tensor.checksum, Some(7));
        assert_eq!(tensor.version, Some(Version::from_parts(1, 2, 3)));
        assert_eq!(tensor.metadata, [("unit".to_owned(), "mm".to_owned())]);
    }

    #[test]
    fn an_error_leaves_the_connection_usable() {
        let behaviour = Behaviour::of(DType::Int8, &[3 << 20]);
        let (address, _) = serve(behaviour.clone());
        let mut connection = Connection::connect(&address).unwrap();
        let mut buffer = Vec::new();
        for _ in 0..3 {
            let error = connection
                .get_into(br#"{"key": "missing"}"#, &mut buffer)
                .unwrap_err();
            assert_eq!(error, Error::not_found("no such key, key=`missing`"));
            // Given up by us, in the middle of the body.
            let refused = connection.get_with(TICKET, |_| Err(Error::invalid("not here")));
            assert_eq!(refused, Err(Error::invalid("not here")));
            let small = connection.get_with(TICKET, |_| Ok(&mut []));
            assert_eq!(small.unwrap_err().code, Code::InvalidArgument);
            connection.get_into(TICKET, &mut buffer).unwrap();
            assert!(buffer == behaviour.tensor);
        }
        assert!(connection.is_open());
    }

    #[test]
    fn the_trailers_say_why_a_stream_broke_off() {
        for after in [0, 3, 100, 2_000_000] {
            let mut behaviour = Behaviour::of(DType::Int8, &[3 << 20]);
            behaviour.fail_after = Some(after);
            let (address, _) = serve(behaviour);
            let mut connection = Connection::connect(&address).unwrap();
            // The second time after a body that was not read to its end.
            for _ in 0..2 {
                let error = connection.get_into(TICKET, &mut Vec::new()).unwrap_err();
                assert_eq!(
                    error,
                    Error::data_loss("the checksum does not agree"),
                    "after {after}"
                );
                assert!(connection.is_open());
            }
        }
    }

    #[test]
    fn puts_within_the_servers_windows_and_frames() {
        for (window, frame_max) in [
            (65_535, 16_384),
            (100_000, 20_000),
            (8 << 20, 1 << 20),
            (1 << 30, 16_777_215),
        ] {
            let mut behaviour = Behaviour::of(DType::Float32, &[1_000_001]);
            (behaviour.window, behaviour.frame_max) = (window, frame_max);
            let (address, received) = serve(behaviour.clone());
            let mut connection = Connection::connect(&address).unwrap();
            for _ in 0..2 {
                let descriptor = Descriptor::Path(&["space", "a"]);
                let result = connection
                    .put(
                        descriptor,
                        behaviour.dtype,
                        &behaviour.shape,
                        &behaviour.tensor,
                    )
                    .unwrap();
                assert_eq!((result.stored, result.existed), (1, 0));
            }
            for request in received.lock().unwrap().drain(..) {
                let (descriptor, bodies) = parse(request);
                assert_eq!(descriptor, b"\x08\x01\x1a\x05space\x1a\x01a");
                assert!(bodies[..behaviour.tensor.len()] == behaviour.tensor);
                assert_eq!(bodies.len(), behaviour.tensor.len().next_multiple_of(8));
            }
        }
    }

    #[test]
    fn small_puts_of_every_rank() {
        for dims in [&[][..], &[0], &[7], &[2, 3, 4]] {
            let behaviour = Behaviour::of(DType::BFloat16, dims);
            let (address, received) = serve(behaviour.clone());
            let mut connection = Connection::connect(&address).unwrap();
            let descriptor = Descriptor::Command(br#"{"key": "a"}"#);
            connection
                .put(
                    descriptor,
                    behaviour.dtype,
                    &behaviour.shape,
                    &behaviour.tensor,
                )
                .unwrap();
            let (descriptor, bodies) = parse(received.lock().unwrap().remove(0));
            assert_eq!(descriptor, b"\x08\x02\x12\x0c{\"key\": \"a\"}");
            assert!(bodies.starts_with(&behaviour.tensor));
        }
    }

    #[test]
    fn a_refused_put_says_why_and_leaves_the_connection_usable() {
        for after in [1, 1_000_000] {
            let mut behaviour = Behaviour::of(DType::Float32, &[4_000_000]);
            behaviour.refuse_after = Some(after);
            behaviour.window = 100_000;
            let (address, _) = serve(behaviour.clone());
            let mut connection = Connection::connect(&address).unwrap();
            for _ in 0..3 {
                let descriptor = Descriptor::Path(&["a"]);
                let error = connection.put(
                    descriptor,
                    behaviour.dtype,
                    &behaviour.shape,
                    &behaviour.tensor,
                );
                assert_eq!(error, Err(Error::exhausted("no room, bytes=`9`")));
                connection.get_into(TICKET, &mut Vec::new()).unwrap();
            }
        }
    }

    #[test]
    fn a_buffer_of_another_size_is_refused_before_anything_is_sent() {
        let (address, received) = serve(Behaviour::of(DType::Float32, &[1]));
        let mut connection = Connection::connect(&address).unwrap();
        let shape = Shape::new(&[2, 3]).unwrap();
        let error = connection
            .put(Descriptor::Path(&["a"]), DType::Float32, &shape, &[0; 23])
            .unwrap_err();
        assert_eq!(error.code, Code::InvalidArgument);
        assert!(received.lock().unwrap().is_empty());
    }

    #[test]
    fn a_connection_can_go_to_another_thread() {
        fn goes<T: Send + 'static>() {}
        goes::<Connection>();
    }

    #[test]
    fn nobody_there() {
        let error = Connection::connect(&"127.0.0.1:1".parse().unwrap())
            .err()
            .unwrap();
        assert_eq!(error.code, Code::Unavailable);
        let error = Connection::connect(&"unix:/nowhere/at/all".parse().unwrap())
            .err()
            .unwrap();
        assert_eq!(error.code, Code::Unavailable);
    }

    /// The descriptor and all bodies of a put.
    fn parse(request: Vec<u8>) -> (Vec<u8>, Vec<u8>) {
        let mut parser = Parser::new();
        parser.push(request.into());
        let (mut descriptor, mut bodies) = (Vec::new(), Vec::new());
        while let Some(event) = parser.next_event().unwrap() {
            match event {
                Event::Descriptor(bytes) => descriptor = bytes.to_vec(),
                Event::BodyChunk(bytes) => bodies.extend_from_slice(&bytes),
                _ => {}
            }
        }
        parser.finish().unwrap();
        (descriptor, bodies)
    }
}
