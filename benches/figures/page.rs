//! The page that the tables stand on: `benches/README.md`.

use std::fs;

use super::Outcome;

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/README.md");

/// The tables stand between these lines, and nobody writes there by hand.
const BEGIN: &str = "<!-- printed by the benchmark: begin -->\n";
const END: &str = "<!-- printed by the benchmark: end -->\n";

/// Puts a report in the place of the one that is there.
pub fn replace(report: &str) -> Outcome {
    let page = fs::read_to_string(PAGE)?;
    let parts = page
        .split_once(BEGIN)
        .and_then(|(before, rest)| Some((before, rest.split_once(END)?.1)));
    let (before, after) = parts.ok_or("benches/README.md has no place for the tables")?;
    Ok(fs::write(
        PAGE,
        format!("{before}{BEGIN}\n{report}\n{END}{after}"),
    )?)
}
