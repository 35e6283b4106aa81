//! Help, completions and man pages: for every command and every flag.

use std::fs;

use bowstring_tests::Cli;

fn told(arguments: &[&str]) -> String {
    let told = Cli::new("", arguments).told();
    assert_eq!((told.code, &*told.stderr), (Some(0), ""), "{arguments:?}");
    told.stdout
}

/// The commands that the help lists.
fn commands() -> Vec<String> {
    let help = told(&["--help"]);
    let list = help.split("Commands:\n").nth(1).unwrap();
    let list = list.split("\n\n").next().unwrap();
    let names = list
        .lines()
        .filter_map(|line| line.strip_prefix("  ")?.split(' ').next());
    names
        .filter(|name| !name.is_empty() && *name != "help")
        .map(str::to_owned)
        .collect()
}

#[test]
fn completions_know_every_command() {
    let commands = commands();
    assert!(commands.len() > 10, "{commands:?}");
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = told(&["completions", shell]);
        for command in &commands {
            assert!(script.contains(&**command), "{shell} {command}");
        }
    }
    assert_eq!(Cli::new("", ["completions", "tcsh"]).told().code, Some(2));
}

#[test]
fn man_pages_are_of_every_command_and_explain_every_flag() {
    assert!(told(&["man"]).contains(".TH bowstring 1"));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("man");
    told(&["man", "--dir", path.to_str().unwrap()]);
    for command in commands() {
        let page = fs::read_to_string(path.join(format!("bowstring-{command}.1"))).unwrap();
        let options = page.split(".SH OPTIONS").nth(1).unwrap();
        let options = options.split(".SH EXTRA").next().unwrap();
        // Each is a paragraph: its name, its text, perhaps its default and its variable.
        let options: Vec<_> = options.split(".TP\n").skip(1).collect();
        assert!(!options.is_empty(), "{command}");
        for option in options {
            let (name, text) = option.split_once('\n').unwrap();
            assert!(text.trim().len() > 9, "{command} {name}: {text:?}");
        }
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    let refused = Cli::new("", ["man", "--dir", file.path().to_str().unwrap()]).told();
    assert_eq!(refused.code, Some(5), "{refused:?}");
}
