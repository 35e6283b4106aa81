//! Where to listen: `HOST:PORT`, or `unix:PATH`.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// A host name or IP address, and a port; port 0 picks a free one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort {
    /// A name or an address; an IPv6 address without its brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

/// One address to serve Flight on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenAddress {
    /// A TCP socket.
    Tcp(HostPort),
    /// A Unix socket, by its path.
    Unix(PathBuf),
}

/// Longest path of a Unix socket on Linux: `sockaddr_un` has 108 bytes, one of them a NUL.
const UNIX_PATH_BYTES_MAX: usize = 107;

impl FromStr for HostPort {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |why: &str| {
            Err(format!(
                "`{text}` {why}, as `127.0.0.1:8815` or `[::1]:8815`"
            ))
        };
        let Some((host, port)) = text.rsplit_once(':') else {
            return wrong("must be HOST:PORT");
        };
        let Ok(port) = port.parse::<u16>() else {
            return wrong("must end with a port of 0 to 65535");
        };
        let host = match host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'))
        {
            Some(inner) => inner,
            None if host.contains(':') => return wrong("must have its IPv6 address in brackets"),
            None => host,
        };
        if host.is_empty() || host.contains(['[', ']', '/', ' ']) {
            return wrong("must be HOST:PORT");
        }
        Ok(Self {
            host: host.to_owned(),
            port,
        })
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl FromStr for ListenAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some(path) = text.strip_prefix("unix:") else {
            return text.parse().map(Self::Tcp);
        };
        // `unix:///run/x.sock`, the way gRPC writes it, is the same path.
        let path = path.strip_prefix("//").unwrap_or(path);
        if path.is_empty() || path.contains('\0') {
            return Err(format!(
                "`{text}` must be unix:PATH, as `unix:/run/bowstring.sock`"
            ));
        }
        if path.len() > UNIX_PATH_BYTES_MAX {
            return Err(format!(
                "path is too long for a Unix socket; bytes=`{}` max=`{UNIX_PATH_BYTES_MAX}`",
                path.len()
            ));
        }
        Ok(Self::Unix(PathBuf::from(path)))
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_prints_each_form() {
        for text in [
            "127.0.0.1:0",
            "localhost:8815",
            "[::1]:8815",
            "unix:/run/b.sock",
            "unix:b.sock",
        ] {
            assert_eq!(text.parse::<ListenAddress>().unwrap().to_string(), text);
        }
        assert_eq!(
            "unix:///run/b.sock".parse(),
            Ok(ListenAddress::Unix("/run/b.sock".into()))
        );
        assert_eq!("[::1]:1".parse::<HostPort>().unwrap().host, "::1");
    }

    #[test]
    fn says_what_is_wrong() {
        for (text, why) in [
            ("8815", "HOST:PORT"),
            (":8815", "HOST:PORT"),
            ("http://x:1", "brackets"),
            ("localhost:", "port"),
            ("localhost:99999", "port"),
            ("::1:8815", "brackets"),
            ("unix:", "unix:PATH"),
        ] {
            let error = text.parse::<ListenAddress>().unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
        let long = format!("unix:/{}", "x".repeat(UNIX_PATH_BYTES_MAX));
        assert!(
            long.parse::<ListenAddress>()
                .unwrap_err()
                .contains("max=`107`")
        );
    }
}
