//! Where a server listens.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use bowstring_wire::error::Error;

/// A TCP host and port, or the path of a Unix socket.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// `HOST:PORT`, resolved when connecting.
    Tcp(String),
    /// A socket in the file system.
    Unix(PathBuf),
}

impl FromStr for Address {
    type Err = Error;

    /// Reads what `bowstring serve` prints and takes: `grpc://HOST:PORT`, `HOST:PORT`, `unix:PATH`, `grpc+unix:PATH`.
    fn from_str(text: &str) -> Result<Address, Error> {
        for prefix in ["grpc+unix:", "unix:"] {
            if let Some(path) = text.strip_prefix(prefix) {
                // `unix:///run/x` and `unix:/run/x` are the same path.
                let path = path.strip_prefix("//").unwrap_or(path);
                if path.is_empty() {
                    return Err(Error::invalid(format!(
                        "a Unix address needs a path, address=`{text}`"
                    )));
                }
                return Ok(Address::Unix(PathBuf::from(path)));
            }
        }
        let host = ["grpc+tcp://", "grpc://"]
            .iter()
            .find_map(|prefix| text.strip_prefix(prefix))
            .unwrap_or(text);
        let host = host.strip_suffix('/').unwrap_or(host);
        match host.rsplit_once(':') {
            Some((name, port))
                if !name.is_empty() && port.parse::<u16>().is_ok() && !host.contains('/') =>
            {
                Ok(Address::Tcp(host.to_owned()))
            }
            _ => Err(Error::invalid(format!(
                "expected grpc://HOST:PORT, HOST:PORT or unix:PATH, address=`{text}`"
            ))),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp(host) => write!(f, "grpc://{host}"),
            Address::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_every_form() {
        for text in [
            "127.0.0.1:8815",
            "grpc://127.0.0.1:8815",
            "grpc+tcp://127.0.0.1:8815/",
        ] {
            assert_eq!(text.parse(), Ok(Address::Tcp("127.0.0.1:8815".into())));
        }
        assert_eq!(
            "grpc://[::1]:8815".parse(),
            Ok(Address::Tcp("[::1]:8815".into()))
        );
        for text in [
            "unix:/run/b.sock",
            "unix:///run/b.sock",
            "grpc+unix:/run/b.sock",
            "grpc+unix:///run/b.sock",
        ] {
            assert_eq!(text.parse(), Ok(Address::Unix("/run/b.sock".into())));
        }
    }

    #[test]
    fn refuses_the_rest() {
        for text in [
            "",
            "localhost",
            ":8815",
            "grpc+tls://a:1",
            "unix:",
            "a:70000",
            "http://a:1",
        ] {
            assert!(text.parse::<Address>().is_err(), "{text}");
        }
    }

    #[test]
    fn display_parses_back() {
        for text in ["grpc://127.0.0.1:8815", "unix:/run/b.sock"] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
    }
}
