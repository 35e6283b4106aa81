//! What tells `tests/run` which dtypes a test has had, as the table of docs/clients says that it has.

use std::fmt::Display;
use std::io::Write as _;

/// Test `test` of `file` (`file!()`) is through with tensors of `dtype`.
///
/// # Panics
/// Where it cannot be written down.
pub fn covered(file: &str, test: &str, dtype: impl Display) {
    let Some(path) = std::env::var_os("COVERED") else {
        return;
    };
    let mut options = std::fs::OpenOptions::new();
    let all = options.create(true).append(true).open(path);
    // One write, which no other test's comes between.
    let line = format!("{file}: {test}: {dtype}\n");
    all.and_then(|mut all| all.write_all(line.as_bytes()))
        .expect("a file to write down dtypes in");
}
