//! What a drill has found, as a table.

use super::columns::Fitted;
use super::lines::{Line, cut};
use super::text::{duration, plain};
use crate::wire::drill::{Drill, Finding, Step};

const HEADER: [&str; 12] = [
    "STEP", "TOOK", "ANSWERS", "LOST", "REFUSED", "RESET", "EMPTY", "WRONG", "SLOW", "P50", "P99",
    "MAX",
];

/// The lines of the table: a row for each step that was taken; kinds of which nothing was lost have
/// no column. Then whose doing losses were, what was left out, and the verdict.
pub fn lines(drill: &Drill, width: Option<usize>) -> Vec<Line> {
    let taken = drill.steps.iter().filter(was_taken);
    let rows: Vec<Vec<String>> = taken.clone().map(row).collect();
    let table = Fitted {
        header: &HEADER,
        left: &[0],
        path: None,
        width,
    };
    let marks = taken.map(|step| step.lost.all() == 0 && step.result == "done");
    let marks = [true].into_iter().chain(marks);
    let mut lines: Vec<Line> = table
        .lines(rows)
        .into_iter()
        .zip(marks)
        .map(|(text, mark)| Line::new(text, mark))
        .collect();
    lines = cut(lines, width);
    lines.push(Line::well(""));
    // These are sentences, and are not cut.
    for step in &drill.steps {
        let label = plain(&step.label);
        let told = |what: &str, text: &str| format!("{label}: {what}{}", plain(text));
        let why = step.why.as_deref().unwrap_or_default();
        match step.result.as_str() {
            "failed" => lines.push(Line::new(told("failed: ", why), false)),
            "left-out" => lines.push(Line::well(told("left out: ", why))),
            "not-tried" => lines.push(Line::well(told("not tried", ""))),
            _ => {}
        }
        for warning in &step.warnings {
            lines.push(Line::new(told("warning: ", warning), false));
        }
        if step.repeated > 0 {
            let count = step.repeated;
            let what = "sent again, as their kept connections had just been closed";
            lines.push(Line::well(told("", &format!("{count} {what}"))));
        }
        if step.excused > 0 {
            let count = step.excused;
            let what = "lost with the killed worker, which had accepted them";
            lines.push(Line::well(told("", &format!("{count} {what}"))));
        }
    }
    lines.extend(findings(drill));
    for listener in drill.listeners.iter().filter(|listener| !listener.tried) {
        let why = listener.why.as_deref().unwrap_or_default();
        let text = format!("{}: not tried: {}", plain(&listener.address), plain(why));
        lines.push(Line::well(text));
    }
    for difference in &drill.differs {
        let text = format!("not as before: {}", plain(difference));
        lines.push(Line::new(text, false));
    }
    lines.push(Line::new(plain(&drill.verdict), drill.ok));
    lines
}

/// A line for each thing that was found, with the steps in which it was.
fn findings(drill: &Drill) -> Vec<Line> {
    let mut distinct: Vec<(&Finding, Vec<&str>)> = Vec::new();
    for step in &drill.steps {
        for finding in &step.findings {
            let same = |(known, _): &&mut (&Finding, Vec<&str>)| {
                (&known.kind, &known.why) == (&finding.kind, &finding.why)
            };
            match distinct.iter_mut().find(same) {
                Some((_, steps)) => steps.push(&step.label),
                None => distinct.push((finding, vec![&step.label])),
            }
        }
    }
    let line = |(finding, steps): &(&Finding, Vec<&str>)| {
        let whose = match finding.whose.as_str() {
            "program" => "the program",
            "kernel" => "the kernel",
            "outside" => "something from outside",
            _ => "whose doing is not known",
        };
        let (kind, why, example) = (&finding.kind, &finding.why, &finding.example);
        let text = format!(
            "{kind}, in {}: {whose}: {why} (such as {example})",
            steps.join(", ")
        );
        Line::new(plain(&text), false)
    };
    distinct.iter().map(line).collect()
}

fn was_taken(step: &&Step) -> bool {
    !matches!(step.result.as_str(), "left-out" | "not-tried")
}

fn row(step: &Step) -> Vec<String> {
    let count = |count: u64| match count {
        0 => "-".to_owned(),
        count => count.to_string(),
    };
    let mut cells = vec![
        plain(&step.label),
        step.took_s.map_or_else(|| "-".to_owned(), duration),
        step.answers.to_string(),
        step.lost.all().to_string(),
    ];
    cells.extend(step.lost.kinds().map(|(_, lost)| count(lost)));
    cells.extend([step.p50_s, step.p99_s, step.max_s].map(latency));
    cells
}

/// A short time, finer than [`duration`] has it: `0.4ms`, `12ms`, `1.2s`.
fn latency(seconds: Option<f64>) -> String {
    match seconds {
        None => "-".to_owned(),
        Some(seconds) if seconds < 0.010 => format!("{:.1}ms", seconds * 1000.0),
        Some(seconds) => duration(seconds),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::drill::{Listener, Lost};

    fn drill() -> Drill {
        let step = |label: &str, result: &str| Step {
            step: label.split(' ').next().unwrap_or_default().into(),
            label: label.into(),
            result: result.into(),
            ..Step::default()
        };
        Drill {
            verdict: "2 of 102 lost: 2 reset".into(),
            listeners: vec![Listener {
                address: "udp:127.0.0.1:53".into(),
                why: Some("datagrams are not tried".into()),
                ..Listener::default()
            }],
            steps: vec![
                Step {
                    answers: 40,
                    p50_s: Some(0.0004),
                    p99_s: Some(0.012),
                    max_s: Some(1.25),
                    ..step("undisturbed", "done")
                },
                Step {
                    took_s: Some(1.5),
                    answers: 60,
                    lost: Lost {
                        reset: 2,
                        ..Lost::default()
                    },
                    repeated: 1,
                    excused: 3,
                    findings: vec![Finding {
                        kind: "reset".into(),
                        whose: "program".into(),
                        why: "it closed\nconnections".into(),
                        example: "http: reset".into(),
                    }],
                    warnings: vec!["a worker still holds it".into()],
                    ..step("reload", "done")
                },
                Step {
                    why: Some("pid 1".into()),
                    ..step("upgrade --fork", "left-out")
                },
                step("kill", "not-tried"),
            ],
            ..Drill::default()
        }
    }

    #[test]
    fn a_row_for_each_step_and_a_sentence_for_each_finding() {
        let lines = lines(&drill(), Some(80));
        let texts: Vec<&str> = lines.iter().map(|line| line.text.as_str()).collect();
        assert_eq!(
            texts,
            [
                "STEP         TOOK  ANSWERS  LOST  RESET    P50   P99   MAX",
                "undisturbed     -       40     0      -  0.4ms  12ms  1.2s",
                "reload       1.5s       60     2      2      -     -     -",
                "",
                "reload: warning: a worker still holds it",
                "reload: 1 sent again, as their kept connections had just been closed",
                "reload: 3 lost with the killed worker, which had accepted them",
                "upgrade --fork: left out: pid 1",
                "kill: not tried",
                r"reset, in reload: the program: it closed\nconnections (such as http: reset)",
                "udp:127.0.0.1:53: not tried: datagrams are not tried",
                "2 of 102 lost: 2 reset",
            ]
        );
        let marks: Vec<bool> = lines.iter().map(|line| line.is_well).collect();
        assert_eq!((marks[1], marks[2], marks[11]), (true, false, false));
        assert!(!marks[9]);
    }

    #[test]
    fn the_table_fits_into_80_columns_whatever_was_lost() {
        let mut drill = drill();
        drill.steps[1].label = "restart-worker 0 to 3".into();
        drill.steps[1].lost = Lost {
            refused: 1000,
            reset: 1000,
            empty: 1000,
            wrong: 1000,
            slow: 1000,
        };
        for line in &lines(&drill, Some(80))[..3] {
            assert!(line.text.chars().count() <= 80, "{}", line.text);
        }
    }
}
