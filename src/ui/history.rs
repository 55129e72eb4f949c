//! The table of generations.

use comfy_table::Row;

use super::columns::layout;
use super::text::{command, duration, plain};
use crate::wire::status::Generation;

const HEADER: [&str; 9] = [
    "GEN", "WHEN", "TOOK", "KIND", "RESULT", "KEPT", "RELEASE", "COMMAND", "WHY",
];

/// A row for each generation, oldest first: its number, when its rollout began and how long that
/// took, what asked for it, how it ended, whether it can be gone back to, its release, its command,
/// and why it was not done. An unknown value is `-`. Every line ends with a newline.
pub fn table(generations: &[Generation]) -> String {
    let rows = generations.iter().map(|it| {
        let known = |text: Option<&str>| match text {
            None | Some("") => "-".to_owned(),
            Some(text) => plain(text),
        };
        let kept = match (it.serves, it.kept) {
            (true, _) => "serves",
            (false, true) => "kept",
            (false, false) => "-",
        };
        Row::from([
            it.generation.to_string(),
            known(it.at.as_deref()),
            it.took_s.map_or_else(|| "-".to_owned(), duration),
            plain(&it.kind),
            plain(&it.result),
            kept.to_owned(),
            known(it.release.as_deref().or(it.cwd.as_deref())),
            known(Some(&command(&it.command))),
            it.error.as_deref().map_or_else(String::new, plain),
        ])
    });
    layout(&HEADER, &[1, 3, 4, 5, 6, 7, 8], rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_generation_has_a_row() {
        let one = Generation {
            generation: 9,
            kind: "start".into(),
            result: "done".into(),
            at: Some("2026-01-02T03:04:05.678Z".into()),
            took_s: Some(1.25),
            cwd: Some("/srv/releases/1".into()),
            command: vec!["./app".into(), "a b".into()],
            kept: true,
            ..Generation::default()
        };
        let two = Generation {
            generation: 10,
            kind: "reload".into(),
            result: "rolled-back".into(),
            error: Some("it was\nbad".into()),
            release: Some("v2".into()),
            ..Generation::default()
        };
        assert_eq!(
            table(&[one, two]),
            "GEN  WHEN                      TOOK  KIND    RESULT       KEPT  RELEASE          \
             COMMAND      WHY\n  \
             9  2026-01-02T03:04:05.678Z  1.2s  start   done         kept  /srv/releases/1  \
             ./app 'a b'\n \
             10  -                            -  reload  rolled-back  -     v2               \
             -            it was\\nbad\n"
        );
    }
}
