//! The answer of a new image of the master that is only checked before an upgrade in place: one
//! line on the descriptor that `PF_UPGRADE_CHECK` names.
//!
//! ```text
//! pf-upgrade 1 ok 0.1.0
//! pf-upgrade 1 failed why it will not do
//! ```

/// The answer: the version of an image that can take over, or why it cannot.
pub type PreflightResult = Result<String, String>;

const PREFIX: &str = "pf-upgrade 1 ";

/// Renders the line, its newline included.
pub fn render_result(result: &PreflightResult) -> String {
    let text = |text: &str| text.replace('\n', " ");
    match result {
        Ok(version) => format!("{PREFIX}ok {}\n", text(version)),
        Err(why) => format!("{PREFIX}failed {}\n", text(why)),
    }
}

/// Parses the line; None: it is not an answer.
pub fn parse_result(line: &[u8]) -> Option<PreflightResult> {
    let line = std::str::from_utf8(line).ok()?;
    let (line, _) = line.split_once('\n')?;
    let (word, rest) = line.strip_prefix(PREFIX)?.split_once(' ')?;
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
    fn answers_round_trip_and_other_lines_are_none() {
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
