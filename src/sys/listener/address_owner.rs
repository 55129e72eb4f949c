//! Which process holds an address, for the error of a failed bind(2); which sockets are still open.

use std::collections::BTreeSet;

use procfs::net::TcpState;
use procfs::process::{FDTarget, all_processes};

use crate::wire::address::Bound;

/// The process that holds a socket bound at `at`, as `pid 4711, nginx`. `None` if this process may
/// not see it. It reads the descriptors of all processes, so call it only after an error.
pub fn of(at: &Bound) -> Option<String> {
    let inodes = inodes(at);
    if inodes.is_empty() {
        return None;
    }
    let holds = |process: &procfs::process::Process| {
        let holds =
            |target: &FDTarget| matches!(target, FDTarget::Socket(inode) if inodes.contains(inode));
        process
            .fd()
            .is_ok_and(|mut fds| fds.any(|fd| fd.is_ok_and(|fd| holds(&fd.target))))
    };
    let process = all_processes().ok()?.flatten().find(holds)?;
    let command = process
        .stat()
        .map(|stat| format!(", {}", stat.comm))
        .unwrap_or_default();
    Some(format!("pid {}{command}", process.pid))
}

/// Those of the sockets with these inodes that are open in any process of this network namespace;
/// no table lists vsock sockets. `None`: the tables cannot be read.
pub fn open_sockets(inodes: &BTreeSet<u64>) -> Option<BTreeSet<u64>> {
    let tcp = procfs::net::tcp().ok()?.into_iter();
    let tcp = tcp.chain(procfs::net::tcp6().into_iter().flatten());
    let udp = procfs::net::udp().ok()?.into_iter();
    let udp = udp.chain(procfs::net::udp6().into_iter().flatten());
    let unix = procfs::net::unix().ok()?.into_iter();
    let all = tcp
        .map(|entry| entry.inode)
        .chain(udp.map(|entry| entry.inode))
        .chain(unix.map(|entry| entry.inode));
    Some(all.filter(|inode| inodes.contains(inode)).collect())
}

/// The inodes of the sockets that may keep `at` from being bound.
fn inodes(at: &Bound) -> BTreeSet<u64> {
    match at {
        Bound::Tcp(at) => {
            let tables = procfs::net::tcp()
                .into_iter()
                .chain(procfs::net::tcp6())
                .flatten();
            let listening = tables.filter(|entry| {
                entry.state == TcpState::Listen && entry.local_address.port() == at.port()
            });
            listening.map(|entry| entry.inode).collect()
        }
        Bound::Udp(at) => {
            let tables = procfs::net::udp()
                .into_iter()
                .chain(procfs::net::udp6())
                .flatten();
            tables
                .filter(|entry| entry.local_address.port() == at.port())
                .map(|entry| entry.inode)
                .collect()
        }
        Bound::Unix(_, path) => unix(|found| found == path.as_os_str()),
        Bound::Abstract(_, name) => {
            unix(|found| found.as_encoded_bytes().strip_prefix(b"@") == Some(name.as_slice()))
        }
        Bound::Vsock { .. } | Bound::Other { .. } => BTreeSet::new(),
    }
}

fn unix(wanted: impl Fn(&std::ffi::OsStr) -> bool) -> BTreeSet<u64> {
    let table = procfs::net::unix().into_iter().flatten();
    table
        .filter(|entry| {
            entry
                .path
                .as_deref()
                .is_some_and(|path| wanted(path.as_os_str()))
        })
        .map(|entry| entry.inode)
        .collect()
}
