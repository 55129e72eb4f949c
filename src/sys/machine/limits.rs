//! RLIMIT_NOFILE: the master takes all it may, its workers get what the master was given.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// How many descriptors this process may have open.
pub fn nofile() -> u64 {
    getrlimit(Resource::RLIMIT_NOFILE).map_or(1024, |(soft, _)| soft)
}

/// Raises the soft limit to the hard one; what both were before, for the workers. None where the limit cannot be read.
pub fn raise_nofile() -> Option<(u64, u64)> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).ok()?;
    if soft < hard {
        // A refusal leaves the old limit, which is an answer as well.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
    Some((soft, hard))
}

/// Gives the next program the limits that [`raise_nofile`] found; descriptors that are open stay so.
pub fn restore_nofile(found: Option<(u64, u64)>) {
    if let Some((soft, hard)) = found {
        // Refused, the next program has more than it was promised, which is no reason not to start it.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, soft, hard);
    }
}
