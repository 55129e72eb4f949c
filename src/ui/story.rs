//! The story of a slot, as lines.

use super::text::{duration, plain};
use crate::wire::status::Slot;
use crate::wire::story::Story;

/// How far the further lines of an entry are indented.
const INDENT: usize = 4;

/// A line for each entry, oldest first, then how the slot is now. A line that is wider than `width`
/// goes on in the next one: the end of an entry is often the reason. Every line ends with a
/// newline.
pub fn text(story: &Story, width: Option<usize>) -> String {
    let entries = story.entries.iter();
    let mut lines: Vec<String> = entries
        .map(|entry| format!("{} {}", plain(&entry.at), plain(&entry.text)))
        .collect();
    if lines.is_empty() {
        lines.push("nothing has happened in this slot so far".to_owned());
    }
    lines.push(format!("now: {}", now(story)));
    let others = [("starting", &story.starting), ("retiring", &story.retiring)];
    for (what, workers) in others {
        lines.extend(
            workers
                .iter()
                .map(|worker| format!("{what}: {}", of_slot(worker))),
        );
    }
    let mut text = String::new();
    for line in lines {
        wrap(&line, width, &mut text);
    }
    text
}

fn now(story: &Story) -> String {
    let Some(now) = &story.now else {
        let there_are = story.slots;
        return format!(
            "slot {} was scaled away: the service has {there_are}",
            story.slot
        );
    };
    of_slot(now)
}

fn of_slot(slot: &Slot) -> String {
    let mut line = plain(&slot.state);
    match (slot.pid, slot.generation) {
        (Some(pid), Some(generation)) => {
            line.push_str(&format!(", worker {pid} of generation {generation}"));
        }
        _ => line.push_str(", no worker"),
    }
    if let Some(uptime) = slot.uptime_s {
        line.push_str(&format!(", up {}", duration(uptime)));
    }
    if let Some(exit) = &slot.last_exit {
        line.push_str(&format!("; the process before: {}", plain(&exit.cause)));
        if let Some(at) = &exit.at {
            line.push_str(&format!(" at {}", plain(at)));
        }
    }
    line
}

/// Adds a line, in pieces of at most `width` columns that end at a blank where there is one.
fn wrap(line: &str, width: Option<usize>, text: &mut String) {
    let width = width.unwrap_or(usize::MAX).max(4 * INDENT);
    let mut column = 0;
    for word in line.split(' ') {
        let long = word.chars().count();
        if column > 0 && column + 1 + long > width {
            text.push('\n');
            text.extend(std::iter::repeat_n(' ', INDENT));
            column = INDENT;
        } else if column > 0 {
            text.push(' ');
            column += 1;
        }
        for letter in word.chars() {
            if column >= width {
                text.push('\n');
                text.extend(std::iter::repeat_n(' ', INDENT));
                column = INDENT;
            }
            text.push(letter);
            column += 1;
        }
    }
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::status::LastExit;
    use crate::wire::story::Entry;

    #[test]
    fn r70_a_story_ends_with_how_the_slot_is() {
        let entry = |at: &str, text: &str| Entry {
            at: at.into(),
            text: text.into(),
            ..Entry::default()
        };
        let slot = Slot {
            state: "backoff".into(),
            last_exit: Some(LastExit {
                cause: "oom".into(),
                at: Some("12:02".into()),
                ..LastExit::default()
            }),
            ..Slot::default()
        };
        let retiring = Slot {
            state: "stopping".into(),
            pid: Some(7),
            generation: Some(2),
            uptime_s: Some(90.0),
            ..Slot::default()
        };
        let story = Story {
            slot: 3,
            slots: 4,
            now: Some(slot),
            retiring: vec![retiring],
            entries: vec![
                entry("12:01", "worker 7 started"),
                entry("12:02", "it\u{1b} died"),
            ],
            ..Story::default()
        };
        let shown = text(&story, None);
        let lines: Vec<&str> = shown.lines().collect();
        assert_eq!(lines[0], "12:01 worker 7 started");
        assert!(
            lines[1].starts_with("12:02 it") && !shown.contains('\u{1b}'),
            "{shown:?}"
        );
        assert_eq!(
            lines[2],
            "now: backoff, no worker; the process before: oom at 12:02"
        );
        assert!(lines[3].starts_with("retiring: stopping, worker 7 of generation 2, up 1"));
        let gone = Story {
            now: None,
            entries: Vec::new(),
            retiring: Vec::new(),
            ..story
        };
        assert_eq!(
            text(&gone, None),
            "nothing has happened in this slot so far\n\
             now: slot 3 was scaled away: the service has 4\n"
        );
    }

    #[test]
    fn no_line_is_wider_than_the_terminal() {
        let text_of = |line: &str, width| {
            let mut text = String::new();
            wrap(line, Some(width), &mut text);
            text
        };
        assert_eq!(
            text_of("one two three four five", 18),
            "one two three four\n    five\n"
        );
        let long = text_of(&"x".repeat(50), 20);
        assert!(
            long.lines().all(|line| line.chars().count() <= 20),
            "{long}"
        );
        assert_eq!(long.matches('x').count(), 50);
    }
}
