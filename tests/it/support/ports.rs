//! Ports for tests that free one and bind it again, or tell a program which to bind.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU32, Ordering};

/// Below these nothing is taken: well-known services live there.
const FIRST: u32 = 10_240;

/// The first of so many free ports of 127.0.0.1 in a row, none of which the kernel gives to anybody by itself.
///
/// One that the kernel has chosen ("port 0") is anybody's as soon as it is free: the next one who wants any port may get it, a client that connects
/// too. These are below the kernel's range, and each process begins elsewhere, for suites that run side by side.
#[track_caller]
pub fn ports(count: u16) -> u16 {
    static TAKEN: AtomicU32 = AtomicU32::new(0);
    let count = u32::from(count);
    let span = kernels_first().max(2 * FIRST) - FIRST - count;
    let begin = std::process::id().wrapping_mul(2_654_435_761) % span;
    for _ in 0..span {
        let first = FIRST + (begin + TAKEN.fetch_add(count, Ordering::Relaxed)) % span;
        let mut all = first..first + count;
        if let Ok(port) = u16::try_from(first)
            && all.all(is_free)
        {
            return port;
        }
    }
    panic!("no {count} free ports from {FIRST} on");
}

fn is_free(port: u32) -> bool {
    u16::try_from(port).is_ok_and(|port| TcpListener::bind(("127.0.0.1", port)).is_ok())
}

/// The first port that the kernel gives out: 32768 unless an administrator has said otherwise.
fn kernels_first() -> u32 {
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range");
    range
        .ok()
        .and_then(|range| range.split_whitespace().next()?.parse().ok())
        .unwrap_or(32_768)
}
