//! Log lines on standard error; standard output belongs to the two ready lines.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::config::{ConfigError, LogFormat};

/// Libraries that say too much at `debug`: one line and more for each HTTP/2 frame.
const LOUD: [&str; 4] = ["h2", "hyper", "tonic", "tower"];

/// Logs what `level` lets through, from here on and for the whole process; panics too.
///
/// # Errors
/// Where `level` is no level, or somebody has installed another subscriber.
pub fn init(level: &str, format: LogFormat) -> Result<(), ConfigError> {
    let filter = filter(level).map_err(ConfigError::new)?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    let installed = match format {
        LogFormat::Text => builder
            .with_ansi(std::io::stderr().is_terminal())
            .finish()
            .try_init(),
        LogFormat::Json => builder.json().flatten_event(true).finish().try_init(),
    };
    installed.map_err(|why| ConfigError::new(format!("cannot log; source=`{why}`")))?;
    // One form of line for all: a collector that reads JSON must not meet a bare backtrace.
    std::panic::set_hook(Box::new(
        |panic| tracing::error!(%panic, "panicked; this is a bug"),
    ));
    Ok(())
}

/// Checks a level as it stands in the settings.
pub(crate) fn check_level(level: &str) -> Result<String, String> {
    filter(level).map(|_| level.to_owned())
}

fn filter(level: &str) -> Result<EnvFilter, String> {
    let wrong = |why: &dyn std::fmt::Display| {
        format!(
            "`{level}` is neither error, warn, info, debug, trace nor a list of filters ({why})"
        )
    };
    let mut directives = level.to_owned();
    match level.parse::<tracing::Level>() {
        // A person who wants to see more of us does not want every frame.
        Ok(bare) if bare > tracing::Level::INFO => {
            for library in LOUD {
                directives.push_str(&format!(",{library}=info"));
            }
        }
        Ok(_) => {}
        // A bare word that is no level would be taken for the name of a target.
        Err(why) if !level.contains(['=', ',']) => return Err(wrong(&why)),
        Err(_) => {}
    }
    EnvFilter::builder()
        .parse(&directives)
        .map_err(|why| wrong(&why))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_and_filters() {
        for level in [
            "error",
            "info",
            "info,bowstring_cache=debug",
            "off,h2=trace",
        ] {
            assert_eq!(check_level(level), Ok(level.to_owned()));
        }
        assert!(filter("debug").unwrap().to_string().contains("h2=info"));
        assert!(!filter("info").unwrap().to_string().contains("h2"));
    }

    #[test]
    fn what_is_no_level_is_refused() {
        for level in ["loud", "", "bowstring=loud", "a=b=c"] {
            assert!(
                check_level(level).unwrap_err().contains("neither"),
                "{level}"
            );
        }
    }
}
