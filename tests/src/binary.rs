//! Which server is tested.

use std::path::PathBuf;

/// The program: `BOWSTRING_BIN`, or `bowstring` in the folder of the profile that the tests
/// themselves were built in.
///
/// # Panics
/// Where there is none: cargo builds no other package's programs for a test.
pub fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("BOWSTRING_BIN") {
        return path.into();
    }
    let tests = std::env::current_exe().expect("a process knows its program");
    // target/PROFILE/deps/it-…, and target/PROFILE/bowstring.
    let path = tests
        .ancestors()
        .skip(1)
        .map(|folder| folder.join("bowstring"))
        .find(|path| path.is_file());
    path.unwrap_or_else(|| {
        panic!(
            "no server to test: run `cargo build -p bowstring-server`, or name one in BOWSTRING_BIN"
        )
    })
}
