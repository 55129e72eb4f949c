//! Ports for tests that free one and bind it again, or tell a program which to bind.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU32, Ordering};

/// Below these nothing is taken: well-known services live there.
const FIRST: u16 = 10_240;

/// The first of `count` consecutive free ports of 127.0.0.1, outside the kernel's ephemeral range.
///
/// A port that the kernel chose ("port 0") may be given to any other process, also to a client that
/// connects, once it is free. These ports are below the ephemeral range, and each process begins at
/// another one, so that test suites can run side by side.
#[track_caller]
pub fn ports(count: u16) -> u16 {
    static TAKEN: AtomicU32 = AtomicU32::new(0);
    let span = u32::from(kernels_first().max(2 * FIRST) - FIRST);
    let begin = std::process::id().wrapping_mul(2_654_435_761) % span;
    for _ in 0..span {
        // One counter for all callers, so that no two tests of this process get the same port.
        let place = (begin + TAKEN.fetch_add(count.into(), Ordering::Relaxed)) % span;
        let first = FIRST + u16::try_from(place).expect("less than all ports");
        let mut all = first..first.saturating_add(count);
        if place + u32::from(count) <= span && all.all(is_free) {
            return first;
        }
    }
    panic!("no {count} free ports from {FIRST} on");
}

fn is_free(port: u16) -> bool {
    TcpListener::bind(("127.0.0.1", port)).is_ok()
}

/// The first ephemeral port: 32768 by default. If an administrator has lowered it, the kernel may
/// give away some of our ports.
fn kernels_first() -> u16 {
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range");
    range
        .ok()
        .and_then(|range| range.split_whitespace().next()?.parse().ok())
        .unwrap_or(32_768)
}
