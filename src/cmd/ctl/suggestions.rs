//! What a word that is no verb may mean. A wrong guess must do no harm, so no verb that ends
//! something is ever proposed.

use clap::error::{ContextKind, ContextValue, ErrorKind};

/// Verbs that take workers away.
const HARMFUL: [&str; 3] = ["stop", "pause", "retire"];

/// Words that other tools have, and what does the same here.
const KNOWN: [(&[&str], &str); 4] = [
    (
        &["status", "show", "info", "ps", "top", "list"],
        "pf-status TARGET shows the state",
    ),
    (
        &["restart", "refresh", "hup", "deploy"],
        "reload replaces all workers, upgrade the master too",
    ),
    (
        &["undo", "revert", "back", "downgrade"],
        "rollback goes back to the generation before",
    ),
    (&["start", "run"], "pf-master starts a service"),
];

/// The tip for a wrong command line; `None`: clap's own.
pub(super) fn tip(answer: &clap::Error) -> Option<String> {
    if answer.kind() != ErrorKind::InvalidSubcommand {
        return None;
    }
    let Some(ContextValue::String(word)) = answer.get(ContextKind::InvalidSubcommand) else {
        return None;
    };
    let known = KNOWN.iter().find(|(words, _)| words.contains(&&**word));
    if let Some((_, tip)) = known {
        return Some((*tip).to_owned());
    }
    let similar = match answer.get(ContextKind::SuggestedSubcommand) {
        Some(ContextValue::String(one)) => vec![one.clone()],
        Some(ContextValue::Strings(some)) => some.clone(),
        _ => Vec::new(),
    };
    let harmless: Vec<String> = similar
        .into_iter()
        .filter(|verb| !HARMFUL.contains(&&**verb))
        .collect();
    Some(match harmless.as_slice() {
        [] => String::new(),
        some => format!("similar: {}", some.join(", ")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cmd::ctl::command;

    fn tip_for(word: &str) -> String {
        let answer = command()
            .try_get_matches_from(["pf-ctl", word, "app.pid"])
            .expect_err(word);
        tip(&answer).expect("a tip of our own")
    }

    #[test]
    fn no_word_leads_to_a_verb_that_ends_something() {
        let harmful = |text: &str| HARMFUL.iter().any(|verb| text.contains(verb));
        let words = "status stat sto stopp stap paus puase retier retir histery quit sop pa st re";
        for word in words.split(' ') {
            assert!(!harmful(&tip_for(word)), "{word}: {}", tip_for(word));
        }
    }

    #[test]
    fn the_words_of_other_tools_are_known() {
        for (word, expected) in [
            ("status", "pf-status"),
            ("restart", "reload"),
            ("undo", "rollback"),
            ("relod", "reload"),
            ("start", "pf-master"),
        ] {
            assert!(
                tip_for(word).contains(expected),
                "{word}: {}",
                tip_for(word)
            );
        }
    }
}
