//! The command line: `bowstring serve …`, `bowstring bench …`, and what people ask of a server, which is the room `cli`'s.

use std::ffi::OsString;

use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use crate::bench;
use crate::config::{self, Config, ConfigError, Environment};

/// An Arrow Flight tensor cache
#[derive(Debug, Parser)]
#[command(
    name = "bowstring",
    version,
    subcommand_required = true,
    arg_required_else_help = true
)]
struct Cli {
    #[command(subcommand)]
    command: Flags,
}

#[derive(Debug, Subcommand)]
enum Flags {
    #[command(after_help = AFTER_HELP)]
    Serve(Box<Config>),
    #[command(after_help = AFTER_BENCH_HELP)]
    Bench(bench::Settings),
    #[command(flatten)]
    Ask(bowstring_cli::Command),
}

const AFTER_HELP: &str = "\
Every flag is also a variable (--put-idle is BOWSTRING_PUT_IDLE; a list has commas) and a key of
the TOML file (put_idle). A flag wins over a variable, a variable over the file. When it is ready,
the server prints `flight grpc://HOST:PORT` for each address and `http http://HOST:PORT` on
standard output. SIGTERM and SIGINT drain.";

const AFTER_BENCH_HELP: &str = "\
It puts the keys first, each with bytes of its own, and counts a get that returns others as wrong.
With --rate an operation's latency counts from when it was to start, so that a server that stands
still for a second is seen by all that would have been asked in it.";

/// What to do.
#[derive(Debug)]
pub enum Command {
    /// Run a server.
    Serve(Box<Config>),
    /// Put load on one.
    Bench(bench::Settings),
    /// Ask one.
    Ask(bowstring_cli::Command),
}

/// All of the command line, for completions and man pages.
pub fn whole() -> clap::Command {
    Cli::command()
}

/// What the command line and the environment ask for.
///
/// # Errors
/// Where they are wrong, and where they ask for help: [`CliError::Usage`] knows which.
pub fn parse(
    arguments: impl IntoIterator<Item = impl Into<OsString> + Clone>,
    environment: &Environment,
) -> Result<Command, CliError> {
    let matches = Cli::command().try_get_matches_from(arguments)?;
    // Reads the flags alone, so that a wrong one is told as such before anything else is opened.
    match Cli::from_arg_matches(&matches)?.command {
        Flags::Serve(flags) => match matches.subcommand_matches("serve") {
            Some(matches) => Ok(Command::Serve(Box::new(config::load(
                matches,
                environment,
            )?))),
            None => Ok(Command::Serve(flags)),
        },
        Flags::Bench(settings) => Ok(Command::Bench(settings)),
        Flags::Ask(command) => Ok(Command::Ask(command)),
    }
}

/// Why there is nothing to do.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// Wrong flags, or a question for help or the version.
    #[error(transparent)]
    Usage(#[from] clap::Error),
    /// A setting cannot be.
    #[error(transparent)]
    Config(#[from] ConfigError),
}

impl CliError {
    /// Tells the person, and gives the exit code: 0 after help, else 2.
    pub fn report(&self) -> u8 {
        match self {
            Self::Usage(usage) => {
                // Nobody is left to tell where this fails.
                let _ = usage.print();
                u8::try_from(usage.exit_code()).unwrap_or(2)
            }
            Self::Config(error) => {
                eprintln!("bowstring: {error}");
                2
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Result<Command, CliError> {
        super::parse(
            ["bowstring"].iter().chain(arguments),
            &Environment::default(),
        )
    }

    #[test]
    fn clap_finds_no_fault_in_the_flags() {
        Cli::command().debug_assert();
    }

    #[test]
    fn serve_takes_flags_and_environment() {
        let arguments = [
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--listen",
            "unix:/run/b.sock",
        ];
        let Command::Serve(config) = parse(&arguments).unwrap() else {
            panic!("not bench");
        };
        assert_eq!(config.listen.len(), 2);
        let environment = [("BOWSTRING_MEMORY", "2GiB")].into_iter().collect();
        let Command::Serve(config) = super::parse(["bowstring", "serve"], &environment).unwrap()
        else {
            panic!("not bench");
        };
        assert_eq!(config.memory.to_string(), "2GiB");
    }

    #[test]
    fn help_is_no_error_and_wrong_use_is_2() {
        let exit_code = |arguments: &[&str]| match parse(arguments).unwrap_err() {
            CliError::Usage(usage) => usage.exit_code(),
            CliError::Config(_) => 2,
        };
        assert_eq!(exit_code(&["--help"]), 0);
        assert_eq!(exit_code(&["--version"]), 0);
        assert_eq!(exit_code(&["serve", "--help"]), 0);
        assert_eq!(exit_code(&["bench", "--help"]), 0);
        assert_eq!(exit_code(&["bench", "--size", "much"]), 2);
        assert_eq!(exit_code(&[]), 2);
        assert_eq!(exit_code(&["swerve"]), 2);
        assert_eq!(exit_code(&["serve", "--memory", "much"]), 2);
        assert_eq!(exit_code(&["serve", "--write-policy", "always"]), 2);
        assert_eq!(exit_code(&["serve", "--config", "/nowhere/b.toml"]), 2);
    }

    #[test]
    fn the_help_says_what_each_flag_is_for() {
        let help = parse(&["serve", "--help"]).unwrap_err().to_string();
        for part in [
            "--put-idle <TIME>",
            "[default: 60s]",
            "BOWSTRING_PUT_IDLE",
            "unix:PATH",
        ] {
            assert!(help.contains(part), "{part}: {help}");
        }
    }
}
