//! Text from outside (labels, file names) made fit for a terminal or a caption.

/// What stands for a character that must not be shown.
const REPLACEMENT: char = '\u{FFFD}';

/// `text` without characters that steer a terminal or turn the reading direction: each becomes U+FFFD.
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if steers(c) { REPLACEMENT } else { c }).collect()
}

/// Control characters, line and paragraph separators, and the invisible marks that reorder what follows.
fn steers(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{061C}' | '\u{200E}' | '\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2066}'..='\u{2069}')
}

/// `text` in at most `limit` characters; what is cut off is shown as `...`.
pub fn shorten(text: &str, limit: usize) -> String {
    if text.chars().count() <= limit {
        return text.to_owned();
    }
    let kept: String = text.chars().take(limit.saturating_sub(3)).collect();
    let dots = "...".get(..limit.min(3)).unwrap_or_default();
    format!("{}{dots}", kept.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_steers_a_terminal_gets_through() {
        assert_eq!(printable("a\x1b[31mb\r\n\u{9b}c\u{202e}d"), "a\u{fffd}[31mb\u{fffd}\u{fffd}\u{fffd}c\u{fffd}d");
        assert_eq!(printable("Übersicht 日本"), "Übersicht 日本");
    }

    #[test]
    fn long_text_is_cut_to_the_limit() {
        assert_eq!(shorten("cassette player", 15), "cassette player");
        assert_eq!(shorten("cassette player", 12), "cassette...", "no space before the dots");
        assert_eq!(shorten("cassette", 2), "..");
        assert_eq!(shorten("äöüß", 4), "äöüß");
    }
}
