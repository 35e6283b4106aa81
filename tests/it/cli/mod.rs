//! The command line, run as people and scripts run it, against a real server.
//!
//! - what is there: `listing` (`ls`, `exists`, `stat`), `info`, `spaces` (`ns`, `clear`), `top`, `sql`
//! - what becomes of it: `removing` (`rm`), `keeping` (`expire`, `pin`, `unpin`)
//! - what is served as it is: `attaching` (`attach`, `detach`)
//! - what moves: `moving` (loads that are broken off); files of all formats are in `tests/python`
//! - `ending`: exit codes, no server, closed pipes, interrupts; `texts`: help, completions, man pages

mod attaching;
mod ending;
mod info;
mod keeping;
mod listing;
mod moving;
mod removing;
mod spaces;
mod sql;
mod texts;
mod top;

use bowstring_tests::{Cli, Told};
use bowstring_wire::dtype::DType;

use crate::space::Space;
use crate::tensor::{Tensor, bulk};

impl Space {
    /// Runs `bowstring VERB … --namespace` this one, with `arguments`.
    pub fn cli(&self, arguments: &[&str]) -> Cli {
        let namespace = ["--namespace", &self.namespace];
        Cli::new(self.server.uri(), arguments.iter().chain(&namespace))
    }

    /// What it told.
    #[track_caller]
    pub fn told(&self, arguments: &[&str]) -> Told {
        self.cli(arguments).told()
    }
}

/// A namespace with these keys, float32 of `[2, 3]`.
async fn filled(name: &str, keys: &[&str]) -> Space {
    let space = Space::new(name).await;
    let tensors = Tensor::sample(DType::Float32, &[keys.len(), 2, 3]);
    space.bulk(bulk(keys, &tensors)).await.unwrap();
    space
}

/// A namespace with so many keys, `00000000` and so on.
async fn many(name: &str, count: usize) -> Space {
    let space = Space::new(name).await;
    let keys: Vec<String> = (0..count).map(|n| format!("{n:08}")).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    let tensors = Tensor::sample(DType::UInt8, &[count, 1]);
    space.bulk(bulk(&keys, &tensors)).await.unwrap();
    space
}

/// The cells of a line of a table.
fn cells(line: &str) -> Vec<&str> {
    line.split("  ")
        .map(str::trim)
        .filter(|cell| !cell.is_empty())
        .collect()
}
