//! The secret that clients must present (P2): the content of a file.
//!
//! Both sides read the same file, so that the secret stands on no command line and in no
//! environment, where other users could see it.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use subtle::ConstantTimeEq;

/// The longest token, in bytes.
const LONGEST: usize = 1024;

/// The content of a token file, without the newline at its end.
pub struct Token {
    /// Padded with zeros, so that a comparison takes the same time for all lengths.
    padded: [u8; LONGEST],
    length: usize,
}

impl Token {
    /// Reads a token file.
    ///
    /// # Errors
    /// The file cannot be read; it is empty, longer than 1,024 bytes, or not UTF-8 (`InvalidData`).
    pub fn read(path: &Path) -> io::Result<Token> {
        let mut text = Vec::new();
        // Two more than the longest: a newline, and the byte that shows that it is too long.
        let most = LONGEST as u64 + 2;
        File::open(path)?.take(most).read_to_end(&mut text)?;
        let text = text.strip_suffix(b"\n").unwrap_or(&text);
        let wrong = |why| Err(io::Error::new(io::ErrorKind::InvalidData, why));
        if text.is_empty() {
            return wrong("it is empty");
        }
        if std::str::from_utf8(text).is_err() {
            return wrong("it is not UTF-8");
        }
        Token::of(text).map_or_else(|| wrong("it is longer than 1024 bytes"), Ok)
    }

    fn of(text: &[u8]) -> Option<Token> {
        let mut padded = [0; LONGEST];
        padded.get_mut(..text.len())?.copy_from_slice(text);
        let length = text.len();
        Some(Token { padded, length })
    }

    /// Whether a client has presented this token. The time that this takes tells neither how much
    /// of it is right nor how long the right one is.
    pub fn is(&self, presented: &str) -> bool {
        let Some(other) = Token::of(presented.as_bytes()) else {
            return false;
        };
        let same = self.padded.ct_eq(&other.padded) & self.length.ct_eq(&other.length);
        same.into()
    }

    /// The token, to be presented.
    pub fn text(&self) -> &str {
        let text = self.padded.get(..self.length).unwrap_or_default();
        std::str::from_utf8(text).unwrap_or_default()
    }
}

/// A token file, and what was read from it last.
pub struct TokenFile {
    path: PathBuf,
    token: Token,
}

impl TokenFile {
    /// Reads a token file.
    ///
    /// # Errors
    /// As [`Token::read`].
    pub fn read(path: PathBuf) -> io::Result<TokenFile> {
        let token = Token::read(&path)?;
        Ok(TokenFile { path, token })
    }

    /// What was read from this file before, by another image of this process. `None`: it is too
    /// long.
    pub fn known(path: PathBuf, text: &str) -> Option<TokenFile> {
        let token = Token::of(text.as_bytes())?;
        Some(TokenFile { path, token })
    }

    /// Reads it again; on an error the token stays as it was.
    ///
    /// # Errors
    /// As [`Token::read`].
    pub fn read_again(&mut self) -> io::Result<()> {
        self.token = Token::read(&self.path)?;
        Ok(())
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The token as it was read last.
    pub fn token(&self) -> &Token {
        &self.token
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(content: &[u8]) -> io::Result<Token> {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), content).expect("written");
        Token::read(file.path())
    }

    #[test]
    fn p2_a_token_is_the_content_of_its_file_without_the_last_newline() {
        let token = read(b"open sesame\n").expect("a token");
        assert_eq!(token.text(), "open sesame");
        assert!(token.is("open sesame"));
        for wrong in [
            "",
            "open",
            "open sesame\n",
            "open sesame ",
            "open sesamE",
            "open sesame\0",
        ] {
            assert!(!token.is(wrong), "{wrong:?}");
        }
        assert!(!token.is(&"o".repeat(LONGEST + 1)));
        let longest = "o".repeat(LONGEST);
        assert!(read(longest.as_bytes()).expect("a token").is(&longest));
    }

    #[test]
    fn p2_a_file_that_holds_no_token_is_refused() {
        for (content, why) in [
            (&b""[..], "it is empty"),
            (b"\n", "it is empty"),
            (b"\xff\xfe", "it is not UTF-8"),
            (&[b'o'; LONGEST + 1], "it is longer than 1024 bytes"),
            (&[b'o'; LONGEST * 3], "it is longer than 1024 bytes"),
        ] {
            let error = read(content).map(|_| ()).expect_err(why);
            assert_eq!(error.to_string(), why);
        }
    }
}
