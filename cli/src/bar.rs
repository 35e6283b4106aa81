//! Bars of a terminal's own characters.

/// `part` of `whole` as a bar of at most `width` characters, in eighths of one; what is there at
/// all is seen.
pub fn bar(part: u64, whole: u64, width: usize) -> String {
    if whole == 0 || part == 0 {
        return String::new();
    }
    let eighths = u128::from(part) * width as u128 * 8 / u128::from(whole);
    let eighths = usize::try_from(eighths).unwrap_or(0).clamp(1, width * 8);
    let mut bar = "█".repeat(eighths / 8);
    bar.push_str(["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"][eighths % 8]);
    bar
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_show_what_is_there() {
        assert_eq!(bar(0, 10, 4), "");
        assert_eq!(bar(1, 1_000_000, 4), "▏");
        assert_eq!(bar(5, 10, 3), "█▌");
        assert_eq!(bar(10, 10, 4), "████");
        assert_eq!(bar(u64::MAX, u64::MAX, 4), "████");
    }
}
