//! RLIMIT_NOFILE: the master raises its soft limit to the hard one, and its workers get the limits
//! that the master was given.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// How many descriptors this process may have open.
pub fn nofile() -> u64 {
    getrlimit(Resource::RLIMIT_NOFILE).map_or(1024, |(soft, _)| soft)
}

/// Raises the soft limit to the hard one. Returns both as they were before, for the workers; None
/// where the limit cannot be read.
pub fn raise_nofile() -> Option<(u64, u64)> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).ok()?;
    if soft < hard {
        // If the kernel refuses, the old limit stays, which works too.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
    Some((soft, hard))
}

/// The limits that [`raise_nofile`] found, but none above the present hard limit: another process
/// may have lowered that (prlimit(1)), and only a privileged process could raise it again.
pub fn at_most_present((soft, hard): (u64, u64)) -> (u64, u64) {
    let present = getrlimit(Resource::RLIMIT_NOFILE).map_or(hard, |(_, present)| present);
    (soft.min(present), hard.min(present))
}

/// Gives the next program the limits that [`raise_nofile`] found; open descriptors stay open.
pub fn restore_nofile(found: Option<(u64, u64)>) {
    if let Some((soft, hard)) = found.map(at_most_present) {
        // If the kernel refuses, the next program has a higher limit than the one given, which is
        // no reason not to start it.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, soft, hard);
    }
}
