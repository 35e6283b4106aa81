//! `bowstring ns`: namespaces, and their settings.

use bowstring_wire::byte_size::ByteSize;
use bowstring_wire::duration;
use bowstring_wire::limits::{DEFAULT_NAMESPACES_LISTED, MAX_JSON_INTEGER};
use bowstring_wire::name::Namespace;
use bowstring_wire::reply::{NamespaceDescribed, NamespaceSetReply, NamespacesReply};
use bowstring_wire::settings::{NamespaceSettings, SettingsChange};
use serde_json::{Map, Value, json};

use crate::Error;
use crate::client::Client;
use crate::human::{self, count, share};
use crate::out::{self, Format, push_json};
use crate::table::{Cell, Column, Table, pairs};
use crate::target::Target;

/// Which namespace, and what is changed.
#[derive(Debug, clap::Args)]
pub struct Ns {
    /// Show this one instead of all
    namespace: Option<Namespace>,
    /// Change a setting: default_ttl_ms=12h, mode=replace, bytes_max=2GiB, entries_max=1000000,
    /// admit=probation, write_policy=memory, compression=zstd
    #[arg(long, value_name = "SETTING=VALUE", value_parser = setting, requires = "namespace")]
    set: Vec<(String, Value)>,
    /// Take a setting back
    #[arg(long, value_name = "SETTING", requires = "namespace")]
    unset: Vec<String>,
    /// Only where the settings have this version, "0" where they were never set
    #[arg(long, value_name = "VERSION", requires = "namespace")]
    if_version: Option<String>,
    #[command(flatten)]
    format: Format,
    #[command(flatten)]
    target: Target,
}

impl Ns {
    pub(crate) async fn run(self) -> Result<u8, Error> {
        let change = self.change()?;
        let mut client = Client::connect(&self.target).await?;
        match (self.namespace, change) {
            (None, _) => list(&mut client, self.format).await,
            (Some(namespace), None) => show(&mut client, &namespace, self.format).await,
            (Some(namespace), Some(settings)) => {
                let mut request = json!({"namespace": namespace, "settings": settings});
                if let Some(version) = self.if_version {
                    request["if_version"] = version.into();
                }
                let request = request.to_string();
                let reply: NamespaceSetReply = client.action("namespace_set", request).await?;
                let mut text = String::new();
                match self.format.json {
                    true => push_json(&mut text, &reply),
                    false => {
                        let settings = settings_of(&reply.settings, self.format);
                        text = format!("{}  {settings}\n", reply.namespace);
                    }
                }
                out::print(&text)?;
                Ok(0)
            }
        }
    }

    /// What is to be set and taken back; `None` where nothing is.
    fn change(&self) -> Result<Option<Value>, Error> {
        let mut change = Map::new();
        let back = self.unset.iter().map(|name| (name.clone(), Value::Null));
        for (name, value) in self.set.iter().cloned().chain(back) {
            if change.insert(name.clone(), value).is_some() {
                return Err(Error::Usage(format!(
                    "a setting is given twice; setting=`{name}`"
                )));
            }
        }
        if change.is_empty() {
            return Ok(None);
        }
        let change = Value::Object(change);
        // The server would say the same; it need not be there for it.
        SettingsChange::parse(&change.to_string())
            .map_err(|error| Error::Usage(error.message.into_owned()))?;
        Ok(Some(change))
    }
}

/// A namespace; `None` where there is none of that name.
pub async fn find(
    client: &mut Client,
    namespace: &Namespace,
) -> Result<Option<NamespaceDescribed>, Error> {
    let mut after = None;
    loop {
        let reply = part(client, after).await?;
        let last = reply.namespaces.last().map(|it| it.namespace.clone());
        if last.is_none() || last.as_ref() >= Some(namespace) || !reply.more {
            let mut all = reply.namespaces.into_iter();
            return Ok(all.find(|it| it.namespace == *namespace));
        }
        after = last;
    }
}

/// Some of the namespaces, behind `after`.
pub async fn part(client: &mut Client, after: Option<Namespace>) -> Result<NamespacesReply, Error> {
    let mut request = json!({"limit": DEFAULT_NAMESPACES_LISTED});
    if let Some(after) = after {
        request["after"] = json!(after);
    }
    client.action("namespaces", request.to_string()).await
}

async fn list(client: &mut Client, format: Format) -> Result<u8, Error> {
    let mut table = Table::new(vec![
        Column::text("NAMESPACE").gives(),
        Column::number("ENTRIES"),
        Column::number("SIZE"),
        Column::number("GETS"),
        Column::number("HIT RATIO"),
        Column::number("EVICTED"),
        Column::number("EXPIRED"),
        Column::text("SETTINGS").gives(),
    ]);
    let mut after = None;
    loop {
        let reply = part(client, after).await?;
        let mut text = String::new();
        if format.json {
            for namespace in &reply.namespaces {
                push_json(&mut text, namespace);
            }
        } else {
            let rows = reply.namespaces.iter().map(|it| row(it, format));
            table.push(&mut text, &rows.collect::<Vec<_>>());
        }
        out::print(&text)?;
        after = reply.namespaces.last().map(|it| it.namespace.clone());
        if !reply.more {
            return Ok(0);
        }
    }
}

fn row(it: &NamespaceDescribed, format: Format) -> Vec<Cell> {
    let gets = it.hits + it.misses;
    vec![
        it.namespace.to_string().into(),
        count(it.entries).into(),
        human::bytes(it.bytes, format).into(),
        count(gets).into(),
        share(it.hits, gets).into(),
        count(it.evicted).into(),
        count(it.expired).into(),
        state_of(it, format).into(),
    ]
}

/// What is set, behind how many rows of files it is attached to.
fn state_of(it: &NamespaceDescribed, format: Format) -> String {
    let settings = settings_of(&it.settings, format);
    let Some(attached) = &it.attached else {
        return settings;
    };
    let attached = format!("attached_rows={}", count(attached.rows));
    match it.settings == NamespaceSettings::default() {
        true => attached,
        false => format!("{attached} {settings}"),
    }
}

async fn show(client: &mut Client, namespace: &Namespace, format: Format) -> Result<u8, Error> {
    let Some(it) = find(client, namespace).await? else {
        eprintln!("no such namespace: `bowstring ns` lists them; namespace=`{namespace}`");
        return Ok(1);
    };
    let mut text = String::new();
    if format.json {
        push_json(&mut text, &it);
    } else {
        let gets = it.hits + it.misses;
        let mut lines = vec![
            ("namespace", it.namespace.to_string()),
            (
                "entries",
                format!("{}  {}", count(it.entries), human::bytes(it.bytes, format)),
            ),
            (
                "gets",
                format!("{}  {} hits", count(gets), share(it.hits, gets)),
            ),
            (
                "gone",
                format!(
                    "{} expired, {} evicted",
                    count(it.expired),
                    count(it.evicted)
                ),
            ),
            ("settings", settings_of(&it.settings, format)),
        ];
        if let Some(attached) = &it.attached {
            let told = format!(
                "{} of {}  {}",
                human::of(attached.rows, "row", "rows"),
                human::of(attached.files, "file", "files"),
                human::bytes(attached.bytes, format)
            );
            lines.push(("attached", told));
        }
        pairs(&mut text, &lines);
    }
    out::print(&text)?;
    Ok(0)
}

/// `bytes_max=2.0 GiB mode=keep`; a dash where nothing is set.
fn settings_of(settings: &NamespaceSettings, format: Format) -> String {
    let mut set = Vec::new();
    if let Ok(Value::Object(members)) = serde_json::to_value(settings) {
        for (name, value) in members {
            let number = match &value {
                Value::String(text) => text.parse().ok(),
                value => value.as_u64(),
            };
            let told = match (&*name, number) {
                ("default_ttl_ms", Some(ms)) => human::time(ms, format),
                ("bytes_max", Some(bytes)) => human::bytes(bytes, format),
                (_, Some(number)) => count(number),
                (_, None) => value.as_str().unwrap_or_default().to_owned(),
            };
            set.push(format!("{name}={}", told.replace(' ', "")));
        }
    }
    match set.is_empty() {
        true => "–".to_owned(),
        false => set.join(" "),
    }
}

/// Reads `SETTING=VALUE`, the value with the units that people write.
fn setting(text: &str) -> Result<(String, Value), String> {
    let (name, value) = text
        .split_once('=')
        .ok_or_else(|| format!("`{text}` is not SETTING=VALUE"))?;
    let number = |number: u64| match number > MAX_JSON_INTEGER {
        true => Value::from(number.to_string()),
        false => Value::from(number),
    };
    let value = match name {
        // A bare number is what the name says.
        "default_ttl_ms" => match value.parse() {
            Ok(ms) => number(ms),
            Err(_) => number(duration::parse_ttl_ms(value)?),
        },
        "bytes_max" => number(value.parse::<ByteSize>()?.bytes()),
        "entries_max" => value
            .parse()
            .map(number)
            .map_err(|_| format!("`{value}` is not a number of entries"))?,
        _ => Value::from(value),
    };
    Ok((name.to_owned(), value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_read_with_their_units() {
        for (text, value) in [
            ("default_ttl_ms=12h", json!(43_200_000)),
            ("default_ttl_ms=5", json!(5)),
            ("bytes_max=2GiB", json!(2_u64 << 30)),
            ("bytes_max=9007199254740993", json!("9007199254740993")),
            ("entries_max=7", json!(7)),
            ("mode=keep", json!("keep")),
        ] {
            let (name, _) = text.split_once('=').unwrap();
            assert_eq!(setting(text), Ok((name.to_owned(), value)));
        }
        for wrong in [
            "mode",
            "bytes_max=much",
            "entries_max=-1",
            "default_ttl_ms=1y",
        ] {
            assert!(setting(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn settings_are_told_with_their_units() {
        let format = Format {
            json: false,
            bytes: false,
        };
        let settings = NamespaceSettings {
            default_ttl_ms: Some(43_200_000),
            bytes_max: Some(2 << 30),
            entries_max: Some(1_000),
            ..NamespaceSettings::default()
        };
        assert_eq!(
            settings_of(&settings, format),
            "bytes_max=2.0GiB default_ttl_ms=12h00m entries_max=1,000"
        );
        assert_eq!(settings_of(&NamespaceSettings::default(), format), "–");
    }
}
