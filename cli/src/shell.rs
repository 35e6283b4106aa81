//! `bowstring completions`, `bowstring man`: for shells and manuals, from the flags themselves.

use std::fs;
use std::path::{Path, PathBuf};

use clap_complete::Shell;
use clap_mangen::Man as Page;

use crate::Error;
use crate::out;

/// Which shell.
#[derive(Debug, clap::Args)]
pub struct Completions {
    /// Which shell
    shell: Shell,
}

/// Which pages.
#[derive(Debug, clap::Args)]
pub struct Man {
    /// Write a page for each command into this folder
    #[arg(long, value_name = "FOLDER")]
    dir: Option<PathBuf>,
}

impl Completions {
    pub(crate) fn run(self, mut whole: clap::Command) -> Result<u8, Error> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut whole, "bowstring", &mut script);
        out::print(&String::from_utf8_lossy(&script))?;
        Ok(0)
    }
}

impl Man {
    pub(crate) fn run(self, mut whole: clap::Command) -> Result<u8, Error> {
        let Some(folder) = self.dir else {
            let mut page = Vec::new();
            let rendered = Page::new(whole).render(&mut page);
            rendered.map_err(Error::System)?;
            out::print(&String::from_utf8_lossy(&page))?;
            return Ok(0);
        };
        fs::create_dir_all(&folder).map_err(|source| cannot(&folder, source))?;
        whole.build();
        write(&whole, "bowstring".to_owned(), &folder)?;
        Ok(0)
    }
}

/// A command's page, and those of the commands within it.
fn write(command: &clap::Command, name: String, folder: &Path) -> Result<(), Error> {
    let path = folder.join(format!("{name}.1"));
    let mut page = Vec::new();
    Page::new(command.clone())
        .title(name.to_uppercase())
        .render(&mut page)
        .and_then(|()| fs::write(&path, page))
        .map_err(|source| cannot(&path, source))?;
    for within in command
        .get_subcommands()
        .filter(|it| it.get_name() != "help")
    {
        write(within, format!("{name}-{}", within.get_name()), folder)?;
    }
    Ok(())
}

fn cannot(path: &Path, source: std::io::Error) -> Error {
    Error::File {
        what: "cannot write a man page",
        path: path.display().to_string(),
        source: source.into(),
    }
}
