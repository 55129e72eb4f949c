//! What is printed: a table a figure, and one line a goal.

use std::fmt::{self, Write};

use super::{Bench, machine};

/// All tables of a run.
pub struct Report {
    head: String,
    tables: String,
    goals: Vec<[String; 4]>,
}

impl Report {
    /// Says what was measured with what.
    pub fn new(bench: &Bench) -> Self {
        let peers: Vec<&str> = bench
            .managers
            .iter()
            .map(|manager| manager.name())
            .collect();
        let head = format!(
            "{}Worker: {}. Managers found: {}.\n",
            machine::described(),
            bench.stage.worker_is(),
            peers.join(", ")
        );
        Report {
            head,
            tables: String::new(),
            goals: Vec::new(),
        }
    }

    /// A table with a title.
    pub fn table(&mut self, title: &str, columns: &[String], rows: &[Vec<String>]) {
        let _ = write!(self.tables, "\n### {title}\n\n");
        let _ = writeln!(self.tables, "| {} |", columns.join(" | "));
        let _ = writeln!(self.tables, "|{}", "---|".repeat(columns.len()));
        for row in rows {
            let _ = writeln!(self.tables, "| {} |", row.join(" | "));
        }
    }

    /// A sentence below a table.
    pub fn note(&mut self, text: &str) {
        let _ = write!(self.tables, "\n{text}\n");
    }

    /// A goal: what, what was measured, what was to be reached, and whether it was.
    pub fn goal(&mut self, what: &str, ours: String, goal: &str, reached: bool) {
        let reached = if reached { "yes" } else { "**no**" };
        self.goals
            .push([what.to_owned(), ours, goal.to_owned(), reached.to_owned()]);
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.head)?;
        f.write_str("\n### Goals\n\n| what | here | goal | reached |\n|---|---|---|---|\n")?;
        for goal in &self.goals {
            writeln!(f, "| {} |", goal.join(" | "))?;
        }
        f.write_str(&self.tables)
    }
}

/// A number with as many digits as mean something; a dash where there is none.
pub fn number(value: f64) -> String {
    match value {
        value if value.is_nan() => "–".to_owned(),
        value if value.abs() >= 100.0 => format!("{value:.0}"),
        value if value.abs() >= 10.0 => format!("{value:.1}"),
        value => format!("{value:.2}"),
    }
}

/// Words as cells.
pub fn cells<const N: usize>(words: [&str; N]) -> Vec<String> {
    words.map(str::to_owned).to_vec()
}
