//! What a successor image that is only checked answers, on the descriptor that `PF_UPGRADE_CHECK` names: one line.
//!
//! ```text
//! pf-upgrade 1 ok 0.1.0
//! pf-upgrade 1 failed why it will not do
//! ```

/// What a checked image says: that it can take over, by its version, or why not.
pub type PreflightResult = Result<String, String>;

const WORD: &str = "pf-upgrade 1 ";

/// The line of an answer.
pub fn render_result(answer: &PreflightResult) -> String {
    let text = |text: &str| text.replace('\n', " ");
    match answer {
        Ok(version) => format!("{WORD}ok {}\n", text(version)),
        Err(why) => format!("{WORD}failed {}\n", text(why)),
    }
}

/// Reads the line of an answer; None if it is none.
pub fn parse_result(line: &[u8]) -> Option<PreflightResult> {
    let line = std::str::from_utf8(line).ok()?;
    let (line, _) = line.split_once('\n')?;
    let (word, rest) = line.strip_prefix(WORD)?.split_once(' ')?;
    match word {
        "ok" => Some(Ok(rest.to_owned())),
        "failed" => Some(Err(rest.to_owned())),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_come_back_and_anything_else_is_none() {
        for answer in [
            Ok("0.1.0".to_owned()),
            Err("no such file".to_owned()),
            Err(String::new()),
        ] {
            assert_eq!(
                parse_result(render_result(&answer).as_bytes()),
                Some(answer)
            );
        }
        let broken = Err("two\nlines".to_owned());
        assert_eq!(
            parse_result(render_result(&broken).as_bytes()),
            Some(Err("two lines".to_owned()))
        );
        for garbage in [
            "",
            "ok\n",
            "pf-upgrade 1 ok 0.1.0",
            "pf-upgrade 2 ok 0.1.0\n",
            "pf-upgrade 1 yes x\n",
            "pf-upgrade 1 ok\n",
        ] {
            assert_eq!(parse_result(garbage.as_bytes()), None, "{garbage}");
        }
    }
}
