//! Stores by their URLs.

use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;

use bowstring_cache::clock::Clock;
use bowstring_wire::error::{Error, Result};
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ClientConfigKey, ObjectStoreScheme, RetryConfig, parse_url_opts};
use url::Url;

use super::local::Local;
use super::{Backend, Store, StoreSettings};

/// Longer than any time-out of ours: `object_store`'s own would cut off a large part.
const CLIENT_TIMEOUT: &str = "1h";

impl Store {
    /// The store of a URL: `file:///dir` (made where it is not there), `s3://bucket/prefix` with the usual
    /// `AWS_` variables of the environment, `memory:`.
    ///
    /// # Errors
    /// `invalid_argument` for a URL that is none of these, or settings that cannot be;
    /// `failed_precondition` for a directory that cannot be made.
    pub fn open(url: &str, settings: StoreSettings, clock: Arc<dyn Clock>) -> Result<Store> {
        let parsed = Url::parse(url).map_err(|error| unknown(url, &error.to_string()))?;
        // A password in a URL would come out again in logs.
        if !parsed.username().is_empty() || parsed.password().is_some() {
            return Err(unknown(
                parsed.scheme(),
                "it has a name or a password in it",
            ));
        }
        if parsed.query().is_some() || parsed.fragment().is_some() {
            return Err(unknown(url, "nothing may stand behind the path"));
        }
        let (scheme, prefix) =
            ObjectStoreScheme::parse(&parsed).map_err(|error| unknown(url, &error.to_string()))?;
        let identity = parsed.to_string();
        match scheme {
            ObjectStoreScheme::Local => {
                let fsync = settings.fsync;
                local(&parsed, settings, clock, |dir| Local::open(dir, fsync))
            }
            ObjectStoreScheme::Memory => {
                let backend = Backend {
                    inner: Arc::new(InMemory::new()),
                    // Its parts have to come in order (object_store 0.13.2 panics where they do not).
                    parts: None,
                    local: None,
                };
                Ok(Store::of(backend, prefix, identity, settings, clock))
            }
            ObjectStoreScheme::AmazonS3 => {
                let builder = AmazonS3Builder::from_env().with_url(parsed.as_str());
                Store::s3(builder, url, settings, clock)
            }
            _ => {
                let none: [(&str, &str); 0] = [];
                let opened = parse_url_opts(&parsed, none);
                let (inner, prefix) = opened.map_err(|error| unknown(url, &error.to_string()))?;
                let backend = Backend {
                    inner: inner.into(),
                    parts: None,
                    local: None,
                };
                Ok(Store::of(backend, prefix, identity, settings, clock))
            }
        }
    }

    /// As [`Store::open`], of what is another's: never written to, and a directory is not made.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn open_to_read(
        url: &str,
        settings: StoreSettings,
        clock: Arc<dyn Clock>,
    ) -> Result<Store> {
        let opened = match Url::parse(url) {
            Ok(parsed) if parsed.scheme() == "file" => {
                local(&parsed, settings, clock, Local::open_to_read)
            }
            _ => Store::open(url, settings, clock),
        };
        opened.map(Store::to_read)
    }

    /// The S3 store of a URL, with credentials and endpoint from elsewhere than the environment.
    ///
    /// # Errors
    /// `invalid_argument` for settings that cannot be.
    pub fn s3(
        builder: AmazonS3Builder,
        url: &str,
        settings: StoreSettings,
        clock: Arc<dyn Clock>,
    ) -> Result<Store> {
        let refused = |why: &dyn std::fmt::Display| unknown(url, &why.to_string());
        let parsed = Url::parse(url).map_err(|error| refused(&error))?;
        let (_, prefix) = ObjectStoreScheme::parse(&parsed).map_err(|error| refused(&error))?;
        let retry = RetryConfig {
            max_retries: 0,
            ..RetryConfig::default()
        };
        let timeout = AmazonS3ConfigKey::Client(ClientConfigKey::Timeout);
        let inner = builder
            .with_retry(retry)
            .with_config(timeout, CLIENT_TIMEOUT)
            .build();
        let inner = Arc::new(inner.map_err(|error| refused(&error))?);
        let backend = Backend {
            inner: inner.clone(),
            parts: Some(inner),
            local: None,
        };
        Ok(Store::of(
            backend,
            prefix,
            parsed.to_string(),
            settings,
            clock,
        ))
    }
}

fn local(
    url: &Url,
    settings: StoreSettings,
    clock: Arc<dyn Clock>,
    open: impl FnOnce(&FilePath) -> std::io::Result<Local>,
) -> Result<Store> {
    let dir: PathBuf = url
        .to_file_path()
        .map_err(|()| unknown(url.as_str(), "it is no absolute path"))?;
    let opened = open(&dir).map_err(|error| {
        Error::precondition(format!(
            "the cold tier's directory cannot be used; dir=`{}` error=`{error}`",
            dir.display()
        ))
    })?;
    let identity = format!("file://{}", opened.root().display());
    let local = Arc::new(opened);
    let backend = Backend {
        inner: Arc::clone(&local) as _,
        parts: None,
        local: Some(local),
    };
    Ok(Store::of(
        backend,
        Path::default(),
        identity,
        settings,
        clock,
    ))
}

fn unknown(url: &str, why: &str) -> Error {
    Error::invalid(format!(
        "not a place for a cold tier: {why}; url=`{url}` expected file:///dir, s3://bucket/prefix or memory:"
    ))
}

#[cfg(test)]
mod tests {
    use bowstring_cache::clock::ManualClock;

    use super::*;

    fn open(url: &str) -> Result<Store> {
        Store::open(url, StoreSettings::default(), Arc::new(ManualClock::new(0)))
    }

    #[test]
    fn a_directory_is_made_and_has_one_name() {
        let dir = tempfile::tempdir().unwrap();
        let url = format!("file://{}/a/b", dir.path().display());
        let one = open(&url).unwrap();
        let other = open(&format!("{url}/../b")).unwrap();
        assert_eq!(one.identity(), other.identity());
        assert!(dir.path().join("a/b").is_dir());
        let file = dir.path().join("file");
        std::fs::write(&file, "").unwrap();
        let refused = open(&format!("file://{}", file.display())).unwrap_err();
        assert!(
            refused
                .to_string()
                .starts_with("failed_precondition: the cold tier's directory"),
            "{refused}"
        );
    }

    #[test]
    fn buckets_and_memory_are_opened_without_a_word_to_anybody() {
        assert_eq!(
            open("s3://bucket/a/b").unwrap().identity(),
            "s3://bucket/a/b"
        );
        assert_eq!(open("memory:").unwrap().identity(), "memory:");
        assert!(open("memory:///").is_ok());
    }

    #[test]
    fn what_is_no_store_is_refused_in_a_sentence() {
        let bad = [
            "",
            "/var/cold",
            "file://host/dir",
            "ftp://host/dir",
            "gs://bucket/prefix",
            "http://host/dir",
            "s3:///prefix",
            "s3://bucket/prefix?x=1",
        ];
        for url in bad {
            let refused = open(url).unwrap_err().to_string();
            assert!(
                refused.starts_with("invalid_argument: not a place for a cold tier: "),
                "{url}: {refused}"
            );
            assert!(
                refused.ends_with("expected file:///dir, s3://bucket/prefix or memory:"),
                "{url}: {refused}"
            );
        }
        let secret = open("s3://key:hunter2@bucket/prefix")
            .unwrap_err()
            .to_string();
        assert!(!secret.contains("hunter2"), "{secret}");
    }
}
