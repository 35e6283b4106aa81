//! Redis: as much of RESP2 as GET and SET take.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;

use bowstring_wire::error::{Code, Error, Result};

use super::Target;

/// The longest string that Redis stores.
const BULK_MAX: usize = 512 << 20;
/// Pieces below this are joined, so that a command is one write.
const JOIN_MAX: usize = 64 << 10;
/// What is read ahead: a reply of a few KiB, and others behind it, in one call.
const READ_BYTES: usize = 64 << 10;

/// One connection.
pub struct Redis {
    stream: BufReader<TcpStream>,
    namespace: String,
    request: Vec<u8>,
    value: Vec<u8>,
    /// The next gets have been sent.
    begun: bool,
    open: bool,
}

impl Redis {
    pub fn connect(host: &str, namespace: &str) -> Result<Self> {
        let stream = TcpStream::connect(host).map_err(|error| broken("connect", &error))?;
        stream
            .set_nodelay(true)
            .map_err(|error| broken("connect", &error))?;
        Ok(Self {
            stream: BufReader::with_capacity(READ_BYTES, stream),
            namespace: namespace.to_owned(),
            request: Vec::new(),
            value: Vec::new(),
            begun: false,
            open: true,
        })
    }

    fn put_it(&mut self, key: &str, bytes: &[u8]) -> Result<()> {
        self.request.clear();
        self.command(3, "SET", key);
        self.request.extend(format!("${}\r\n", bytes.len()).bytes());
        if bytes.len() <= JOIN_MAX {
            self.request.extend_from_slice(bytes);
            self.request.extend_from_slice(b"\r\n");
            self.send()?;
        } else {
            self.send()?;
            let out = self.stream.get_mut();
            out.write_all(bytes)
                .and_then(|()| out.write_all(b"\r\n"))
                .map_err(|error| broken("write", &error))?;
        }
        match self.line()?.as_str() {
            "+OK" => Ok(()),
            other => Err(said(other)),
        }
    }

    fn get_them(
        &mut self,
        keys: &[String],
        each: &mut dyn FnMut(usize, Result<&[u8]>),
    ) -> Result<()> {
        if !std::mem::take(&mut self.begun) {
            self.ask_for(keys)?;
        }
        for at in 0..keys.len() {
            let line = self.line()?;
            match line.strip_prefix('$') {
                Some("-1") => each(at, Err(Error::not_found("no such key"))),
                Some(length) => {
                    self.bulk(length)?;
                    each(at, Ok(&self.value));
                }
                None if line.starts_with('-') => each(at, Err(said(&line))),
                None => return Err(said(&line)),
            }
        }
        Ok(())
    }

    fn ask_for(&mut self, keys: &[String]) -> Result<()> {
        self.request.clear();
        for key in keys {
            self.command(2, "GET", key);
        }
        self.send()
    }

    /// A command of so many parts, up to its key.
    fn command(&mut self, parts: u8, command: &str, key: &str) {
        let length = self.namespace.len() + 1 + key.len();
        let namespace = &self.namespace;
        // Writing to memory does not fail.
        let _ = write!(
            self.request,
            "*{parts}\r\n${}\r\n{command}\r\n${length}\r\n{namespace}:{key}\r\n",
            command.len()
        );
    }

    fn send(&mut self) -> Result<()> {
        let sent = self.stream.get_mut().write_all(&self.request);
        sent.map_err(|error| broken("write", &error))
    }

    /// The next line, without its end.
    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        let read = (&mut self.stream).take(4096).read_line(&mut line);
        match read {
            Ok(0) => Err(Error::new(Code::Unavailable, "redis closed the connection")),
            Ok(_) => Ok(line.trim_end().to_owned()),
            Err(error) => Err(broken("read", &error)),
        }
    }

    /// What was announced, and the end of its line.
    fn bulk(&mut self, length: &str) -> Result<()> {
        let length = length.parse().ok().filter(|length| *length <= BULK_MAX);
        let length = length.ok_or_else(|| said("a bulk string of no length"))?;
        self.value.resize(length, 0);
        let mut end = [0; 2];
        self.stream
            .read_exact(&mut self.value)
            .and_then(|()| self.stream.read_exact(&mut end))
            .map_err(|error| broken("read", &error))
    }

    /// After an error of the connection itself it has no use any more; Redis' own words leave it as it was.
    fn settle<T>(&mut self, result: Result<T>) -> Result<T> {
        if let Err(error) = &result
            && error.code == Code::Unavailable
        {
            self.open = false;
        }
        result
    }
}

impl Target for Redis {
    fn put(&mut self, key: &str, bytes: &[u8]) -> Result<()> {
        let result = self.put_it(key, bytes);
        self.settle(result)
    }

    fn begin(&mut self, keys: &[String]) -> Result<()> {
        self.begun = true;
        let result = self.ask_for(keys);
        self.settle(result)
    }

    fn get(&mut self, keys: &[String], each: &mut dyn FnMut(usize, Result<&[u8]>)) -> Result<()> {
        let result = self.get_them(keys, each);
        self.settle(result)
    }

    fn is_open(&self) -> bool {
        self.open
    }
}

fn broken(what: &str, error: &std::io::Error) -> Error {
    Error::new(Code::Unavailable, format!("{what} failed: {error}"))
}

fn said(what: &str) -> Error {
    Error::internal(format!("redis said `{what}`"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    /// A Redis that has said all this before it is asked, and what it was asked.
    fn peer(says: &'static [u8]) -> (Redis, std::thread::JoinHandle<Vec<u8>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let peer = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.write_all(says).unwrap();
            let mut asked = Vec::new();
            stream.read_to_end(&mut asked).unwrap();
            asked
        });
        (Redis::connect(&host, "n").unwrap(), peer)
    }

    #[test]
    fn asks_and_reads() {
        let (mut redis, peer) = peer(b"+OK\r\n$3\r\na\r\n\r\n$-1\r\n-ERR no\r\n-OOM full\r\n");
        redis.put("k", b"xy").unwrap();
        let mut got = Vec::new();
        let keys = ["k", "l", "m"].map(str::to_owned);
        redis
            .get(&keys, &mut |at, bytes| {
                got.push((at, bytes.map(<[u8]>::to_vec)))
            })
            .unwrap();
        assert_eq!(got[0], (0, Ok(b"a\r\n".to_vec())));
        assert_eq!(got[1].1.as_ref().unwrap_err().code, Code::NotFound);
        assert!(got[2].1.as_ref().unwrap_err().message.contains("-ERR no"));
        assert!(
            redis
                .put("k", b"")
                .unwrap_err()
                .message
                .contains("-OOM full")
        );
        assert!(redis.is_open());
        drop(redis);
        let asked = String::from_utf8(peer.join().unwrap()).unwrap();
        assert!(asked.starts_with(
            "*3\r\n$3\r\nSET\r\n$3\r\nn:k\r\n$2\r\nxy\r\n*2\r\n$3\r\nGET\r\n$3\r\nn:k\r\n*2\r\n"
        ));
    }

    #[test]
    fn an_end_in_the_middle_closes_it() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let mut redis = Redis::connect(&host, "n").unwrap();
        drop(listener);
        let error = redis.get(&["k".to_owned()], &mut |_, _| {}).unwrap_err();
        assert_eq!(error.code, Code::Unavailable);
        assert!(!redis.is_open());
    }

    #[test]
    fn a_length_is_not_believed() {
        let (mut redis, _peer) = peer(b"$99999999999\r\n");
        let error = redis.get(&["k".to_owned()], &mut |_, _| {}).unwrap_err();
        assert!(error.message.contains("no length"), "{error}");
    }
}
