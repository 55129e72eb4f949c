//! Files of the system, and the environment.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use prefork_core::wire::environment::{Environment, VariablePool};
use prefork_core::wire::names::{ack_path, control_path, is_ack_path, old_control, old_pid_file};
use prefork_core::wire::ucspi::{Ends, UnixClient, variables};
use prefork_core::wire::{maps, services};

/// `/proc/PID/maps`.
pub fn maps(content: &[u8]) {
    let lines = content.split(|byte| *byte == b'\n').count();
    let found: Vec<_> = maps::executable(content).collect();
    assert!(found.len() <= lines);
    assert!(found.iter().all(|range| range.start < range.end));
    let written = found.iter().map(|range| {
        let (start, end) = (range.start, range.end);
        format!("{start:x}-{end:x} r-xp 00000000 fe:00 77 /bin/x\n")
    });
    let written = written.collect::<String>().into_bytes();
    assert_eq!(maps::executable(&written).collect::<Vec<_>>(), found);
}

/// `/etc/services`, with a name that is looked for in the first line.
pub fn services(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let (name, table) = text.split_once('\n').unwrap_or((&text, ""));
    for protocol in ["tcp", "udp"] {
        if let Some(port) = services::port(table, name, protocol) {
            let line = format!("{name} {port}/{protocol}");
            assert_eq!(services::port(&line, name, protocol), Some(port));
            assert!(table.contains(&format!("/{protocol}")));
        }
    }
}

/// `/proc/PID/environ`; the same bytes as a path, and as the name of a Unix socket.
pub fn environment(input: &[u8]) {
    let read = Environment::parse(input);
    let written: Vec<u8> = read
        .iter()
        .flat_map(|variable| variable.text().to_bytes_with_nul())
        .copied()
        .collect();
    assert_eq!(Environment::parse(&written), read);
    for variable in read.iter() {
        assert!(!variable.name().is_empty());
        assert!(read.value(variable.name()).is_some());
    }

    // In a document each name stands once, and its last value counts.
    let document = serde_json::to_string(&read).expect("JSON");
    let again: Environment = serde_json::from_str(&document).expect("what was written is read");
    let last = |name: &OsStr| read.iter().filter(|it| it.name() == name).last();
    for variable in again.iter() {
        assert_eq!(last(variable.name()), Some(variable));
    }
    assert!(read.iter().all(|it| again.value(it.name()).is_some()));
    let shared = VariablePool::new(&read).share(&again);
    let sorted = |environment: &Environment| {
        let mut all: Vec<_> = environment.iter().map(|it| it.text().to_owned()).collect();
        all.sort();
        all
    };
    assert_eq!(sorted(&shared), sorted(&again));
    assert_eq!(
        sorted(&Environment::default().overruled_by(&read)),
        sorted(&again)
    );
    paths(input);
}

fn paths(input: &[u8]) {
    let local = input.to_vec();
    let client = Some(UnixClient {
        pid: 1,
        uid: 2,
        gid: 3,
    });
    let ends = Ends::Unix {
        local,
        own_ids: (4, 5),
        client,
    };
    for variable in variables(&ends) {
        assert!(!variable.contains(&0) && variable.contains(&b'='));
    }

    let path = Path::new(OsStr::from_bytes(input));
    if path.file_name().is_some() && !input.ends_with(b"/") && !input.ends_with(b"/.") {
        let control = control_path(path);
        assert_ne!(control, path);
        assert!(is_ack_path(&control, &ack_path(&control, 7)));
        // Who knows the old pid file finds the old master.
        let old = old_control(&control, Some(path));
        assert_eq!(old, control_path(&old_pid_file(path)));
    }
}
