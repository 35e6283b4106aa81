//! Flags before environment before file before defaults.
//!
//! Each layer is turned into flags for the settings that no layer above it has, and then all is
//! read once, so that a value means the same wherever it stands. A list is taken whole from one
//! layer.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fmt::Write as _;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use bowstring_wire::action::AttachSettings;
use bowstring_wire::error::Result as WireResult;
use bowstring_wire::name::Namespace;
use bowstring_wire::settings::SettingsChange;
use clap::error::{ContextKind, ContextValue};
use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Args as _, Command, FromArgMatches as _};

use super::{Config, ConfigError};

const VARIABLE_PREFIX: &str = "BOWSTRING_";
/// A larger settings file is something else.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// The tables of the file that have a table for each namespace: its settings, and its files.
const NAMESPACES: &str = "namespace";
const ATTACH: &str = "attach";
/// How many of the nearest names an error lists.
const NEAREST_MAX: usize = 3;

/// The variables `BOWSTRING_…`, taken once: tests bring their own.
#[derive(Clone, Debug, Default)]
pub struct Environment(BTreeMap<String, OsString>);

impl Environment {
    /// The variables of this process.
    pub fn of_process() -> Self {
        std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value)))
            .collect()
    }
}

impl<K: Into<String>, V: Into<OsString>> FromIterator<(K, V)> for Environment {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(variables: I) -> Self {
        let variables = variables
            .into_iter()
            .map(|(name, value)| (name.into(), value.into()));
        // An empty variable is how compose files and charts leave a setting out.
        let ours = variables.filter(|(name, value): &(String, OsString)| {
            name.starts_with(VARIABLE_PREFIX) && !value.is_empty()
        });
        Self(ours.collect())
    }
}

/// The settings from `flags` (the parsed arguments of `serve`), the environment and the file that
/// either of them names.
///
/// # Errors
/// A sentence that names the setting and where it stands.
pub fn load(flags: &ArgMatches, environment: &Environment) -> Result<Config, ConfigError> {
    let command = settings();
    let from_environment = environment_layer(&command, environment)?;
    let path = flags.get_one::<PathBuf>("config").cloned();
    let path = path.or_else(|| from_environment.get("config")?.first().map(PathBuf::from));
    let (from_file, Tables { namespaces, attach }) = match &path {
        Some(path) => file_layer(&command, path)?,
        None => (Layer::new(), Tables::default()),
    };

    let mut arguments = Vec::new();
    let mut sources = BTreeMap::new();
    for setting in command.get_arguments() {
        let id = setting.get_id().as_str();
        let (source, values) = if flags.value_source(id) == Some(ValueSource::CommandLine) {
            let values = flags.get_raw(id).into_iter().flatten();
            (Source::Flag, values.map(ToOwned::to_owned).collect())
        } else if let Some(values) = from_environment.get(id) {
            (Source::Variable, values.clone())
        } else if let Some(values) = from_file.get(id) {
            (Source::File, values.clone())
        } else {
            continue;
        };
        let flag = flag(setting);
        sources.insert(flag.clone(), (id, source));
        arguments.extend(values.into_iter().map(|value| {
            let mut argument = OsString::from(format!("{flag}="));
            argument.push(value);
            argument
        }));
    }
    command
        .clone()
        .try_get_matches_from(arguments)
        .and_then(|matches| Config::from_arg_matches(&matches))
        .map(|config| Config {
            namespaces,
            attach,
            ..config
        })
        .map_err(|error| explain(&error, &sources, path.as_deref()))
}

/// The settings when nobody says anything.
pub(super) fn defaults() -> Config {
    let matches = settings().try_get_matches_from(Vec::<OsString>::new());
    match matches.and_then(|matches| Config::from_arg_matches(&matches)) {
        Ok(config) => config,
        // Nothing from outside goes in here, and a test calls it.
        Err(error) => unreachable!("the defaults do not parse: {error}"),
    }
}

type Layer = BTreeMap<String, Vec<OsString>>;

/// What only the file can say.
#[derive(Default)]
struct Tables {
    namespaces: BTreeMap<Namespace, SettingsChange>,
    attach: BTreeMap<Namespace, AttachSettings>,
}

#[derive(Clone, Copy)]
enum Source {
    Flag,
    Variable,
    File,
}

/// A bare command of the settings: no help flag, no program name.
fn settings() -> Command {
    Config::augment_args(
        Command::new("settings")
            .no_binary_name(true)
            .disable_help_flag(true),
    )
}

fn flag(setting: &Arg) -> String {
    format!("--{}", setting.get_long().unwrap_or_default())
}

fn variable(id: &str) -> String {
    format!("{VARIABLE_PREFIX}{}", id.to_ascii_uppercase())
}

fn environment_layer(command: &Command, environment: &Environment) -> Result<Layer, ConfigError> {
    let names: BTreeMap<_, _> = command
        .get_arguments()
        .map(|setting| (variable(setting.get_id().as_str()), setting))
        .collect();
    let mut layer = Layer::new();
    for (name, value) in &environment.0 {
        let Some(setting) = names.get(name) else {
            if name == bowstring_cli::ENDPOINT_VARIABLE || is_service_link(name) {
                continue;
            }
            let nearest = nearest(name, names.keys());
            return Err(ConfigError::new(format!(
                "unknown variable `{name}` in the environment; nearest: {nearest}"
            )));
        };
        let values = match value.to_str() {
            Some(list) if is_list(setting) => list
                .split(',')
                .map(|item| OsString::from(item.trim()))
                .collect(),
            _ => vec![value.clone()],
        };
        layer.insert(setting.get_id().as_str().to_owned(), values);
    }
    Ok(layer)
}

/// Kubernetes gives every pod variables for each service of its namespace; one named `bowstring`
/// or `bowstring-…` must not keep the server from starting.
fn is_service_link(name: &str) -> bool {
    if name.ends_with("_SERVICE_HOST") || name.contains("_SERVICE_PORT") || name.ends_with("_PORT")
    {
        return true;
    }
    let Some((_, rest)) = name.rsplit_once("_PORT_") else {
        return false;
    };
    let protocol = rest.trim_start_matches(|c: char| c.is_ascii_digit());
    ["_TCP", "_UDP", "_SCTP"]
        .iter()
        .any(|tail| protocol.starts_with(tail))
}

fn file_layer(command: &Command, path: &Path) -> Result<(Layer, Tables), ConfigError> {
    let at = format!("file=`{}`", path.display());
    let text = read(path).map_err(|source| {
        ConfigError::new(format!("cannot read the settings; {at} source=`{source}`"))
    })?;
    let table: toml::Table = text
        .parse()
        .map_err(|source: toml::de::Error| ConfigError::new(not_toml(&source, &text, &at)))?;
    let settings: BTreeMap<_, _> = command
        .get_arguments()
        .map(|setting| (setting.get_id().as_str(), setting))
        .collect();
    let names: BTreeSet<_> = settings.keys().filter(|name| **name != "config").collect();
    let mut layer = Layer::new();
    let mut tables = Tables::default();
    for (name, value) in table {
        // The same words and values as in the actions `namespace_set` and `attach`.
        if name == NAMESPACES {
            let what = (NAMESPACES, "settings");
            tables.namespaces = by_namespace(what, value, SettingsChange::parse, &at)?;
            continue;
        }
        if name == ATTACH {
            let what = (ATTACH, "files");
            tables.attach = by_namespace(what, value, AttachSettings::parse, &at)?;
            continue;
        }
        if name == "config" {
            return Err(ConfigError::new(format!(
                "`config` cannot stand in the file itself; {at}"
            )));
        }
        let Some(setting) = settings.get(name.as_str()) else {
            let nearest = nearest(&name, &names);
            return Err(ConfigError::new(format!(
                "unknown setting `{name}`; {at} nearest: {nearest}"
            )));
        };
        let values = values(setting, value)
            .map_err(|why| ConfigError::new(format!("setting `{name}` {why}; {at}")))?;
        layer.insert(name, values);
    }
    Ok((layer, tables))
}

/// The tables `[table."NAME"]`, of `what` of namespaces.
fn by_namespace<T>(
    (table, what): (&str, &str),
    value: toml::Value,
    parse: fn(&str) -> WireResult<T>,
    at: &str,
) -> Result<BTreeMap<Namespace, T>, ConfigError> {
    let wrong = |name: &str, why: String| {
        ConfigError::new(format!(
            "{what} of namespace `{name}` will not do: {why}; {at}"
        ))
    };
    let toml::Value::Table(tables) = value else {
        return Err(ConfigError::new(format!(
            "`{table}` must be tables, [{table}.\"NAME\"]; {at}"
        )));
    };
    let one = |(name, members): (String, toml::Value)| {
        let namespace = Namespace::parse(&name).map_err(|e| wrong(&name, e.to_string()))?;
        let json = serde_json::to_string(&members).map_err(|e| wrong(&name, e.to_string()))?;
        let one = parse(&json).map_err(|e| wrong(&name, e.to_string()))?;
        Ok((namespace, one))
    };
    tables.into_iter().map(one).collect()
}

fn read(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    std::fs::File::open(path)?
        .take(FILE_BYTES_MAX + 1)
        .read_to_string(&mut text)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        let why = format!("larger than bytes_max=`{FILE_BYTES_MAX}`");
        return Err(std::io::Error::new(std::io::ErrorKind::FileTooLarge, why));
    }
    Ok(text)
}

fn not_toml(error: &toml::de::Error, text: &str, at: &str) -> String {
    let before = error.span().and_then(|span| text.get(..span.start));
    let line = before.map_or(0, |before| before.matches('\n').count() + 1);
    let why = error.message().lines().collect::<Vec<_>>().join(", ");
    format!("not TOML: {why}; {at} line=`{line}`")
}

/// A value of the file as a flag would give it.
fn values(setting: &Arg, value: toml::Value) -> Result<Vec<OsString>, &'static str> {
    let one = |value| match value {
        toml::Value::String(text) => Ok(OsString::from(text)),
        toml::Value::Integer(number) => Ok(OsString::from(number.to_string())),
        toml::Value::Float(number) => Ok(OsString::from(number.to_string())),
        toml::Value::Boolean(yes) => Ok(OsString::from(yes.to_string())),
        _ => Err("must be a string or a number"),
    };
    match value {
        toml::Value::Array(items) if !is_list(setting) || items.is_empty() => {
            Err(if items.is_empty() {
                "must have at least one value"
            } else {
                "takes one value, not a list"
            })
        }
        toml::Value::Array(items) => items.into_iter().map(one).collect(),
        value => Ok(vec![one(value)?]),
    }
}

fn is_list(setting: &Arg) -> bool {
    matches!(setting.get_action(), clap::ArgAction::Append)
}

/// The names that are most like `wanted`, at least one, best first.
fn nearest(wanted: &str, names: impl IntoIterator<Item = impl AsRef<str>>) -> String {
    let mut scored: Vec<_> = names
        .into_iter()
        .map(|name| {
            let name = name.as_ref().to_owned();
            (strsim::normalized_damerau_levenshtein(wanted, &name), name)
        })
        .collect();
    scored.sort_by(|a, b| b.0.total_cmp(&a.0));
    let best = scored.first().map_or(0.0, |(score, _)| *score);
    let mut out = String::new();
    // Further ones only where they are about as near.
    for (_, name) in scored
        .iter()
        .take(NEAREST_MAX)
        .filter(|(score, _)| *score >= best * 0.7)
    {
        let comma = if out.is_empty() { "" } else { ", " };
        let _ = write!(out, "{comma}`{name}`");
    }
    out
}

/// clap's error about a flag that we made, as one about where the value stands.
fn explain(
    error: &clap::Error,
    sources: &BTreeMap<String, (&str, Source)>,
    path: Option<&Path>,
) -> ConfigError {
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => text.as_str(),
        _ => "",
    };
    // `--memory <SIZE>`
    let flag = text(ContextKind::InvalidArg)
        .split(' ')
        .next()
        .unwrap_or_default();
    let value = text(ContextKind::InvalidValue);
    let why = std::error::Error::source(error).map_or_else(String::new, |why| format!(": {why}"));
    let place = match (sources.get(flag), path) {
        (Some((id, Source::Variable)), _) => variable(id),
        (Some((id, Source::File)), Some(path)) => format!("{id} in file=`{}`", path.display()),
        (Some(_), _) => flag.to_owned(),
        // No value of ours can cause another kind of error; say what clap says.
        (None, _) => return ConfigError::new(error.to_string().trim_end().to_owned()),
    };
    ConfigError::new(format!("`{value}` will not do for {place}{why}"))
}

#[cfg(test)]
#[path = "layers_tests.rs"]
mod tests;
