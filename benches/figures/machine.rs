//! What a report says of the machine: what matters for times, and nothing that names it.

use std::fs;

use prefork::sys::machine::{clock, cpus};

/// A few lines.
pub fn described() -> String {
    let processor = field("/proc/cpuinfo", "model name").unwrap_or_else(|| "unknown".to_owned());
    let memory = field("/proc/meminfo", "MemTotal")
        .and_then(|text| text.split_whitespace().next()?.parse::<u64>().ok())
        .map_or(0, |kib| kib.div_ceil(1024 * 1024));
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let kernel: Vec<&str> = kernel.trim().split(['.', '-']).take(2).collect();
    let system = field("/etc/os-release", "PRETTY_NAME").unwrap_or_default();
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load: Vec<&str> = load.split_whitespace().take(1).collect();
    let date = clock::rfc3339(clock::wall());
    let date = date.get(..10).unwrap_or_default();
    format!(
        "Measured on {date}: {processor}, {} cores, {memory} GiB, Linux {}, {}; load average \
         before: {}.\n\n",
        cpus::usable(),
        kernel.join("."),
        system.trim_matches('"'),
        load.join(" "),
    )
}

/// The value of the first line with this prefix.
fn field(path: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    let (_, value) = line.split_once([':', '='])?;
    Some(value.trim().to_owned())
}
