//! Text from elsewhere, made fit for one line of a terminal.

/// `text` with every control character replaced by a space: whatever a worker or a newer master put into a message, it neither
/// breaks the line nor moves the reader's cursor.
pub fn printable(text: &str) -> String {
    text.trim()
        .chars()
        .map(|char| if char.is_control() { ' ' } else { char })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_moves_the_cursor() {
        assert_eq!(printable(" a\x1b[2Jb\r\nc\u{9b}d\n"), "a [2Jb  c d");
    }
}
