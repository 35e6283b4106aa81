//! Settings files, as `bowstring serve --config` reads them.
#![no_main]

use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;

use bowstring_server::cli;
use bowstring_server::config::Environment;

/// Rewritten for each input; in memory where there is such a place.
static FILE: LazyLock<PathBuf> = LazyLock::new(|| {
    let folder = PathBuf::from("/dev/shm");
    let folder = if folder.is_dir() {
        folder
    } else {
        std::env::temp_dir()
    };
    folder.join(format!("bowstring-fuzz-{}.toml", std::process::id()))
});

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    fs::write(&*FILE, bytes).expect("a file");
    let flag = format!("--config={}", FILE.display());
    let _ = cli::parse(["bowstring", "serve", flag.as_str()], &Environment::default());
});
