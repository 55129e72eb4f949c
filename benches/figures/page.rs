//! The page with the tables: `benches/README.md`.

use std::fs;

use super::Outcome;

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/README.md");

/// The tables are between these lines and are generated.
const BEGIN: &str = "<!-- printed by the benchmark: begin -->\n";
const END: &str = "<!-- printed by the benchmark: end -->\n";

/// Replaces the report in the page.
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
