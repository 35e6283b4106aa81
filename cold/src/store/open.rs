//! Stores by their URLs.

use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;

use bowstring_cache::clock::Clock;
use bowstring_wire::error::{Error, Result};
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::memory::InMemory;
use object_store::multipart::MultipartStore;
use object_store::path::Path;
use object_store::{ClientConfigKey, ObjectStore, ObjectStoreScheme, RetryConfig};
use url::Url;

use super::local::Local;
use super::{Backend, Store, StoreSettings};

/// Longer than any time-out of ours: `object_store`'s own would cut off a large part.
const CLIENT_TIMEOUT: &str = "1h";

impl Store {
    /// The store of a URL: `file:///dir` (made where it is not there), `s3://bucket/prefix`, `gs://bucket/prefix` and
    /// `az://container/prefix` with the usual variables of the environment (`AWS_`, `GOOGLE_`, `AZURE_`), `memory:`.
    ///
    /// # Errors
    /// `invalid_argument` for a URL that is none of these, or settings that cannot be;
    /// `failed_precondition` for a directory that cannot be made.
    pub fn open(url: &str, settings: StoreSettings, clock: Arc<dyn Clock>) -> Result<Store> {
        let parsed = Url::parse(url).map_err(|error| unknown(url, &error.to_string()))?;
        // A password in a URL would come out again in logs; the name in some of Azure's is the container.
        let has_container = parsed.scheme().starts_with("abfs");
        if parsed.password().is_some() || !has_container && !parsed.username().is_empty() {
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
                    resumes: true,
                };
                Ok(Store::of(backend, prefix, identity, settings, clock))
            }
            ObjectStoreScheme::AmazonS3 => {
                let builder = AmazonS3Builder::from_env().with_url(parsed.as_str());
                Store::s3(builder, url, settings, clock)
            }
            ObjectStoreScheme::GoogleCloudStorage => {
                let builder = GoogleCloudStorageBuilder::from_env().with_url(parsed.as_str());
                Store::gcs(builder, url, settings, clock)
            }
            ObjectStoreScheme::MicrosoftAzure => {
                let builder = MicrosoftAzureBuilder::from_env().with_url(parsed.as_str());
                Store::azure(builder, url, settings, clock)
            }
            _ => Err(unknown(
                url,
                "it is none of a store that writes an object once",
            )),
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
        let timeout = AmazonS3ConfigKey::Client(ClientConfigKey::Timeout);
        let builder = builder.with_retry(no_retries());
        let built = builder.with_config(timeout, CLIENT_TIMEOUT).build();
        bucket(built, url, settings, clock)
    }

    /// The same of Google Cloud Storage.
    ///
    /// # Errors
    /// `invalid_argument` for settings that cannot be.
    pub fn gcs(
        builder: GoogleCloudStorageBuilder,
        url: &str,
        settings: StoreSettings,
        clock: Arc<dyn Clock>,
    ) -> Result<Store> {
        let timeout = GoogleConfigKey::Client(ClientConfigKey::Timeout);
        let builder = builder.with_retry(no_retries());
        let built = builder.with_config(timeout, CLIENT_TIMEOUT).build();
        bucket(built, url, settings, clock)
    }

    /// The same of Azure's blob storage.
    ///
    /// # Errors
    /// `invalid_argument` for settings that cannot be.
    pub fn azure(
        builder: MicrosoftAzureBuilder,
        url: &str,
        settings: StoreSettings,
        clock: Arc<dyn Clock>,
    ) -> Result<Store> {
        let (parsed, prefix) = parts_of(url)?;
        // One name for one place: a URL may or may not have the account, and the environment has it then.
        let host = parsed.host_str().unwrap_or_default();
        let (account, container) = match (parsed.scheme(), parsed.username()) {
            ("https", _) => {
                let first = parsed.path_segments().and_then(|mut all| all.next());
                (Some(host), first.unwrap_or_default())
            }
            (_, "") => (None, host),
            (_, container) => (Some(host), container),
        };
        let account = match account.and_then(|host| host.split('.').next()) {
            Some(account) => account.to_owned(),
            None => builder
                .get_config_value(&AzureConfigKey::AccountName)
                .unwrap_or_default(),
        };
        let identity = format!("az://{account}/{container}/{prefix}");
        let timeout = AzureConfigKey::Client(ClientConfigKey::Timeout);
        let inner = builder
            .with_retry(no_retries())
            .with_config(timeout, CLIENT_TIMEOUT)
            .build();
        let inner = inner.map_err(|error| {
            let hint = "the account is that of AZURE_STORAGE_ACCOUNT_NAME where the URL has none";
            unknown(url, &format!("{error}; {hint}"))
        })?;
        let backend = Backend {
            // Where a listing is to go on after a name, some of its servers begin anew, and some have nothing.
            resumes: false,
            ..in_parts(inner)
        };
        Ok(Store::of(backend, prefix, identity, settings, clock))
    }
}

/// A bucket that its URL names.
fn bucket(
    built: object_store::Result<impl ObjectStore + MultipartStore>,
    url: &str,
    settings: StoreSettings,
    clock: Arc<dyn Clock>,
) -> Result<Store> {
    let (parsed, prefix) = parts_of(url)?;
    let inner = built.map_err(|error| unknown(url, &error.to_string()))?;
    let identity = parsed.to_string();
    Ok(Store::of(
        in_parts(inner),
        prefix,
        identity,
        settings,
        clock,
    ))
}

fn parts_of(url: &str) -> Result<(Url, Path)> {
    let parsed = Url::parse(url).map_err(|error| unknown(url, &error.to_string()))?;
    let (_, prefix) =
        ObjectStoreScheme::parse(&parsed).map_err(|error| unknown(url, &error.to_string()))?;
    Ok((parsed, prefix))
}

/// Tries are ours: each has its time, and is counted.
fn no_retries() -> RetryConfig {
    RetryConfig {
        max_retries: 0,
        ..RetryConfig::default()
    }
}

fn in_parts(inner: impl ObjectStore + MultipartStore) -> Backend {
    let inner = Arc::new(inner);
    Backend {
        inner: Arc::clone(&inner) as _,
        parts: Some(inner),
        local: None,
        resumes: true,
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
        resumes: true,
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
        "not a place for a cold tier: {why}; url=`{url}` expected file:///dir, s3://bucket/prefix, gs://bucket/prefix, \
         az://container/prefix or memory:"
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
        assert_eq!(
            open("abfss://container@account.dfs.core.windows.net/a/b")
                .unwrap()
                .identity(),
            "az://account/container/a/b"
        );
        assert_eq!(
            open("https://account.blob.core.windows.net/container/a/b")
                .unwrap()
                .identity(),
            "az://account/container/a/b"
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
            "http://host/dir",
            "https://host/dir",
            "s3:///prefix",
            "gs:///prefix",
            "az://container.of/prefix",
            "abfss://container@host/prefix",
            "s3://bucket/prefix?x=1",
        ];
        for url in bad {
            let refused = open(url).unwrap_err().to_string();
            assert!(
                refused.starts_with("invalid_argument: not a place for a cold tier: "),
                "{url}: {refused}"
            );
            assert!(
                refused.ends_with("az://container/prefix or memory:"),
                "{url}: {refused}"
            );
        }
        for scheme in ["s3", "gs", "abfss"] {
            let secret = open(&format!("{scheme}://key:hunter2@bucket/prefix"));
            let secret = secret.unwrap_err().to_string();
            assert!(!secret.contains("hunter2"), "{secret}");
        }
    }
}
