//! Where a person's programs keep what they remember.

use std::path::PathBuf;

/// `$XDG_STATE_HOME/bowstring`; `None` where there is no place for it. It need not be there.
pub fn folder() -> Option<PathBuf> {
    let absolute = |name: &str| {
        std::env::var_os(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    let state =
        absolute("XDG_STATE_HOME").or_else(|| Some(absolute("HOME")?.join(".local/state")))?;
    Some(state.join("bowstring"))
}
