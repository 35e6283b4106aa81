//! Which layer wins, and what a wrong setting is told. No test reads the process's environment.

use std::fs;
use std::time::Duration;

use super::*;

/// Settings from these flags, variables and file.
fn load_from(
    flags: &[&str],
    variables: &[(&str, &str)],
    file: Option<&str>,
) -> Result<Config, String> {
    let dir = tempfile::tempdir().unwrap();
    let mut arguments: Vec<String> = flags.iter().map(ToString::to_string).collect();
    if let Some(text) = file {
        let path = dir.path().join("bowstring.toml");
        fs::write(&path, text).unwrap();
        arguments.push(format!("--config={}", path.display()));
    }
    let flags = settings()
        .try_get_matches_from(arguments)
        .map_err(|error| error.to_string())?;
    let environment = variables.iter().copied().collect();
    load(&flags, &environment).map_err(|error| error.to_string())
}

fn error_of(variables: &[(&str, &str)], file: Option<&str>) -> String {
    load_from(&[], variables, file).unwrap_err()
}

#[test]
fn flags_then_environment_then_file_then_defaults() {
    let file = Some("memory = '2GiB'\nput_idle = '2s'\nstreams_max = 2\n");
    let variables = [("BOWSTRING_MEMORY", "3GiB"), ("BOWSTRING_PUT_IDLE", "3s")];
    let config = load_from(&["--memory=4GiB"], &variables, file).unwrap();
    assert_eq!(config.memory.to_string(), "4GiB", "flag");
    assert_eq!(config.put_idle, Duration::from_secs(3), "environment");
    assert_eq!(config.streams_max, 2, "file");
    assert_eq!(
        config.drain_timeout,
        Config::default().drain_timeout,
        "default"
    );
}

#[test]
fn a_list_comes_whole_from_one_layer() {
    let file = Some("listen = ['127.0.0.1:1', 'unix:/run/a.sock']");
    let printed = |config: Config| {
        config
            .listen
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
    };
    let config = load_from(&[], &[], file).unwrap();
    assert_eq!(printed(config), ["127.0.0.1:1", "unix:/run/a.sock"]);
    let variables = [("BOWSTRING_LISTEN", "127.0.0.1:2, unix:/run/b.sock")];
    let config = load_from(&[], &variables, file).unwrap();
    assert_eq!(printed(config), ["127.0.0.1:2", "unix:/run/b.sock"]);
    let config = load_from(&["--listen=127.0.0.1:3"], &variables, file).unwrap();
    assert_eq!(printed(config), ["127.0.0.1:3"]);
    assert_eq!(
        printed(load_from(&[], &[], Some("listen = '[::1]:4'")).unwrap()),
        ["[::1]:4"]
    );
}

#[test]
fn the_environment_names_the_file_too() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("b.toml");
    fs::write(&path, "memory = 33554432").unwrap();
    let path = path.to_str().unwrap();
    let config = load_from(&[], &[("BOWSTRING_CONFIG", path)], None).unwrap();
    assert_eq!(config.memory.to_string(), "32MiB");
    assert_eq!(config.config.unwrap().to_str(), Some(path));
}

#[test]
fn every_setting_stands_in_every_layer() {
    for setting in settings()
        .get_arguments()
        .filter(|setting| !["cold", "config"].contains(&setting.get_id().as_str()))
    {
        let id = setting.get_id().as_str();
        let default = setting.get_default_values().first();
        let none = match id {
            "slow_request" => "7s",
            "warm" => "7%",
            "load_roots" => "/7",
            _ => "7",
        };
        let value = default.map_or(none, |value| value.to_str().unwrap());
        let by_flag = load_from(&[&format!("{}={value}", flag(setting))], &[], None);
        let by_variable = load_from(&[], &[(&variable(id), value)], None);
        let mut by_file = load_from(&[], &[], Some(&format!("{id} = '{value}'")));
        if let Ok(config) = &mut by_file {
            config.config = None;
        }
        assert!(by_flag.is_ok(), "{by_flag:?}");
        assert_eq!(by_flag, by_variable);
        assert_eq!(by_flag, by_file);
    }
}

#[test]
fn an_unknown_name_is_named_with_the_nearest() {
    let error = error_of(&[], Some("memry = '1GiB'"));
    assert!(
        error.starts_with("unknown setting `memry`; file=`/"),
        "{error}"
    );
    assert!(error.contains("nearest: `memory`"), "{error}");
    let error = error_of(&[], Some("connections-max = 5"));
    assert!(error.contains("nearest: `connections_max`"), "{error}");
    let error = error_of(&[("BOWSTRING_LOGLEVEL", "info")], None);
    assert_eq!(
        error.split(',').next().unwrap(),
        "unknown variable `BOWSTRING_LOGLEVEL` in the environment; nearest: `BOWSTRING_LOG_LEVEL`"
    );
    let error = load_from(&["--memmory=1GiB"], &[], None).unwrap_err();
    assert!(
        error.contains("--memmory") && error.contains("'--memory'"),
        "{error}"
    );
}

#[test]
fn a_wrong_value_is_told_where_it_stands() {
    let error = error_of(&[("BOWSTRING_MEMORY", "12 parsecs")], None);
    assert!(
        error.starts_with("`12 parsecs` will not do for BOWSTRING_MEMORY: unit `parsecs`"),
        "{error}"
    );
    let error = error_of(&[], Some("put_idle = 60"));
    assert!(
        error.starts_with("`60` will not do for put_idle in file=`"),
        "{error}"
    );
    assert!(error.contains("needs a unit"), "{error}");
    let error = error_of(&[("BOWSTRING_STREAMS_MAX", "0")], None);
    assert!(error.contains("BOWSTRING_STREAMS_MAX"), "{error}");
    let error = error_of(&[("BOWSTRING_EVICTION", "belady")], None);
    assert!(
        error.starts_with("`belady` will not do for BOWSTRING_EVICTION: "),
        "{error}"
    );
    let error = error_of(&[], Some("write_policy = 'always'"));
    assert!(error.contains("on_evict, on_put, off"), "{error}");
    let error = error_of(&[("BOWSTRING_LOG_LEVEL", "loud=very")], None);
    assert!(error.contains("BOWSTRING_LOG_LEVEL"), "{error}");
}

#[test]
fn a_file_that_is_no_settings_file() {
    let error = error_of(&[], Some("memory = '1GiB'\nmemory = '2GiB'\n"));
    assert!(
        error.starts_with("not TOML: ") && error.ends_with("line=`2`"),
        "{error}"
    );
    assert!(error_of(&[], Some("listen = []")).contains("at least one"));
    assert!(error_of(&[], Some("memory = ['1GiB']")).contains("takes one value"));
    assert!(error_of(&[], Some("memory = {}")).contains("a string or a number"));
    assert!(error_of(&[], Some("config = 'other.toml'")).contains("`config`"));
    let wrong = error_of(&[], Some("[namespace.'a b']\nmode = 'keep'"));
    assert!(wrong.contains("namespace `a b` will not do"), "{wrong}");
    let wrong = error_of(&[], Some("[namespace.x]\nbytes = 5"));
    assert!(
        wrong.contains("member=`bytes`") && wrong.contains("bytes_max"),
        "{wrong}"
    );
    let wrong = error_of(&[], Some("[namespace.x]\ncompression = 'lz4'"));
    assert!(wrong.contains("unimplemented"), "{wrong}");
    assert!(error_of(&[], Some("namespace = 'x'")).contains("must be tables"));
    let wrong = error_of(&[], Some("[attach.'a b']\nfiles = ['/a']"));
    assert!(
        wrong.contains("files of namespace `a b` will not do"),
        "{wrong}"
    );
    let wrong = error_of(&[], Some("[attach.x]\nfiles = ['/a']\nfolder = '/b'"));
    assert!(
        wrong.contains("member=`folder`") && wrong.contains("columns"),
        "{wrong}"
    );
    let wrong = error_of(
        &[],
        Some("[attach.x]\nfiles = ['/a']\ncolumns = {keys = 'k'}"),
    );
    assert!(wrong.contains("keys"), "{wrong}");
    let wrong = error_of(&[], Some("[attach.x]\nfiles = []"));
    assert!(wrong.contains("no files"), "{wrong}");
    assert!(error_of(&[], Some("[attach.x]")).contains("files"));
    assert!(error_of(&[], Some("attach = ['/a']")).contains("must be tables"));
    assert!(
        error_of(&[("BOWSTRING_CONFIG", "/nowhere/b.toml")], None)
            .contains("file=`/nowhere/b.toml`")
    );
    let large = format!("# {}", "x".repeat(1 << 20));
    assert!(error_of(&[], Some(&large)).contains("bytes_max"));
}

#[test]
fn files_are_attached_by_name() {
    let file = "[attach.\"glove\"]\nfiles = ['/data/glove.parquet', '/data/more']\n\
                columns = { key = 'word', tensor = 'vector' }\n[attach.plain]\nfiles = ['/a']\n";
    let config = load_from(&[], &[], Some(file)).unwrap();
    let names: Vec<_> = config.attach.keys().map(Namespace::as_str).collect();
    assert_eq!(names, ["glove", "plain"]);
    let glove = &config.attach[&Namespace::parse("glove").unwrap()];
    assert_eq!(glove.files, ["/data/glove.parquet", "/data/more"]);
    let columns = (
        glove.columns.key.as_deref(),
        glove.columns.tensor.as_deref(),
    );
    assert_eq!(columns, (Some("word"), Some("vector")));
}

#[test]
fn variables_that_are_not_settings_do_no_harm() {
    let variables = [
        ("PATH", "/bin"),
        ("BOWSTRING_MEMORY", ""),
        ("BOWSTRING_ENDPOINT", "grpc://127.0.0.1:1"),
        ("BOWSTRING_SERVICE_HOST", "10.0.0.1"),
        ("BOWSTRING_SERVICE_PORT_FLIGHT", "8815"),
        ("BOWSTRING_PORT", "tcp://10.0.0.1:8815"),
        ("BOWSTRING_PORT_8815_TCP_ADDR", "10.0.0.1"),
        ("BOWSTRING_HTTP_PORT_8816_TCP", "tcp://10.0.0.1:8816"),
    ];
    assert_eq!(load_from(&[], &variables, None), Ok(Config::default()));
    assert!(load_from(&[], &[("BOWSTRING_PORT_X_TCP", "1")], None).is_err());
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]

    /// Whatever stands in the file or the environment: settings or a sentence, never a panic.
    #[test]
    fn anything_is_read_or_refused(
        key in "[a-z_]{0,8}|memory|listen|put_idle|streams_max|connections_max|http|eviction",
        value in "\\PC{0,16}|-?[0-9]{0,24}|'[0-9a-zA-Z%.: ]{0,12}'|\\[.{0,8}\\]|\\{.{0,8}\\}",
    ) {
        for result in [
            load_from(&[], &[], Some(&format!("{key} = {value}"))),
            load_from(&[], &[(&variable(&key), &value)], None),
        ] {
            if let Err(sentence) = result {
                proptest::prop_assert!(!sentence.is_empty() && !sentence.contains('\n'), "{sentence}");
            }
        }
    }
}

#[test]
fn the_sample_file_is_the_defaults_and_lacks_nothing() {
    let text = include_str!(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../docs/bowstring.toml"
    ));
    let mut config = load_from(&[], &[], Some(text)).unwrap();
    config.config = None;
    assert_eq!(config, Config::default());
    for setting in settings()
        .get_arguments()
        .filter(|setting| setting.get_id() != "config")
    {
        let id = setting.get_id().as_str();
        let stands = text.lines().any(|line| {
            line.trim_start_matches("# ")
                .starts_with(&format!("{id} = "))
        });
        assert!(stands, "docs/bowstring.toml lacks `{id}`");
    }
}

#[test]
fn the_operations_page_lists_every_setting_with_its_default() {
    let page = include_str!(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../docs/operations.md"
    ));
    for setting in settings().get_arguments() {
        let row = page
            .lines()
            .find(|line| line.starts_with(&format!("| `{}` |", flag(setting))))
            .unwrap_or_else(|| panic!("docs/operations.md has no row for {}", flag(setting)));
        let default = setting.get_default_values().first();
        let default = default.map_or("", |value| value.to_str().unwrap());
        assert!(row.contains(default), "{row}: default is {default}");
    }
}
