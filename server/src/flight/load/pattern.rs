//! Patterns of paths: `*` is any part of a name, `?` one character; neither is a `/`, nor a `.` that begins a name.

use std::ffi::OsString;
use std::fs;
use std::path::{Component, Path, PathBuf};

use bowstring_wire::error::{Error, Result};

use super::roots::unreadable;

/// Whether a path is a pattern.
pub fn is_one(path: &Path) -> bool {
    path.to_str().is_some_and(|path| path.contains(['*', '?']))
}

/// The names in a folder, in order.
///
/// # Errors
/// It cannot be read, or has too many.
pub fn names(folder: &Path, max: usize) -> Result<Vec<OsString>> {
    let failed = |error| unreadable(folder, &error);
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        if names.len() == max {
            return Err(Error::exhausted(format!(
                "a folder has too many files; file=`{}` expected at most {max}",
                folder.display()
            )));
        }
        names.push(entry.map_err(failed)?.file_name());
    }
    names.sort();
    Ok(names)
}

/// The paths that a pattern means, which begins with the path `root`, behind whose links is `behind`; in order, at most `max`.
///
/// # Errors
/// As [`names`].
pub fn matching(
    (root, behind): (&Path, &Path),
    pattern: &Path,
    max: usize,
) -> Result<Vec<PathBuf>> {
    let mut found = vec![root.to_owned()];
    let rest = pattern.strip_prefix(root).unwrap_or(pattern);
    for part in rest.components() {
        let Component::Normal(part) = part else {
            continue;
        };
        let Some(part) = part.to_str() else {
            return Ok(Vec::new());
        };
        let mut next = Vec::new();
        for folder in found {
            if !part.contains(['*', '?']) {
                next.push(folder.join(part));
                continue;
            }
            let within = fs::canonicalize(&folder).is_ok_and(|at| at.starts_with(behind));
            if !within || !folder.is_dir() {
                continue;
            }
            let names = names(&folder, max)?;
            let fits = names
                .iter()
                .filter(|name| name.to_str().is_some_and(|name| matches(part, name)));
            next.extend(fits.map(|name| folder.join(name)));
            if next.len() > max {
                return Err(Error::exhausted(format!(
                    "a pattern means too many files; expected at most {max}"
                )));
            }
        }
        found = next;
    }
    found.retain(|path| fs::symlink_metadata(path).is_ok());
    Ok(found)
}

/// Whether a name is what the pattern means.
fn matches(pattern: &str, name: &str) -> bool {
    if name.starts_with('.') && !pattern.starts_with('.') {
        return false;
    }
    let (pattern, name): (Vec<char>, Vec<char>) =
        (pattern.chars().collect(), name.chars().collect());
    let (mut at, mut of) = (0, 0);
    // Where the last star stands, and what it has taken so far.
    let mut star = None;
    while of < name.len() {
        match pattern.get(at) {
            Some('*') => {
                star = Some((at, of));
                at += 1;
            }
            Some(one) if *one == '?' || *one == name[of] => {
                at += 1;
                of += 1;
            }
            _ => {
                let Some((star_at, taken)) = star else {
                    return false;
                };
                star = Some((star_at, taken + 1));
                at = star_at + 1;
                of = taken + 1;
            }
        }
    }
    pattern[at..].iter().all(|one| *one == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_and_question_marks() {
        for (pattern, name, expected) in [
            ("*", "a", true),
            ("*.parquet", "a.parquet", true),
            ("*.parquet", ".parquet", false),
            (".*", ".parquet", true),
            ("a*", "a", true),
            ("*.parquet", "a.parquet.tmp", false),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "acb", false),
            ("??", "é1", true),
            ("?", "", false),
            ("**", "", true),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
        // It does not try every way.
        assert!(!matches(&"*a".repeat(50), &"a".repeat(49)));
    }
}
