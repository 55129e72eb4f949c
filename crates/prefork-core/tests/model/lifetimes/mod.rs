//! Random lifetimes of one supervisor: a seeded generator drives the model in a fake world, and
//! after every step the invariants are checked. At last every worker behaves, and the service must
//! come to rest; then it is stopped.
//!
//! `PF_LIFETIMES=N` sets how many are run; the default in CI, where no test is skipped, is four
//! times that of a run by hand, and there each run has seeds of its own. `PF_SEED=S` runs one
//! lifetime again and prints its transcript.
//!
//! - [`world`]: what can happen, and what the driver would do about it;
//! - [`checks`]: the invariants;
//! - [`listeners`]: which listeners the service has;
//! - [`rest`]: every worker behaves, and the end.

mod checks;
mod listeners;
mod rest;
mod world;

use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::Write as _;

use world::{Check, World};

/// Random events in a lifetime.
const EVENTS: u64 = 60;

#[test]
fn random_lifetimes_keep_every_invariant() {
    if let Ok(seed) = std::env::var("PF_SEED") {
        let seed = seed.parse().expect("PF_SEED is a number");
        let (world, outcome) = lifetime(seed, true);
        let _ = std::io::stderr().write_all(world.transcript.as_bytes());
        assert_eq!(outcome, Ok(()), "seed {seed}");
        return;
    }
    let thorough = std::env::var_os("PF_SKIPPED_FILE").is_some();
    let (usual, first) = if thorough {
        (100_000, any_seed())
    } else {
        (25_000, 0)
    };
    let wanted = std::env::var("PF_LIFETIMES")
        .map_or(usual, |n| n.parse().expect("PF_LIFETIMES is a number"));
    let _ = writeln!(std::io::stderr(), "lifetimes from seed {first} on");
    let mut long_ones = 0;
    let mut seed = first;
    // Lifetimes that stop early are run too, but do not count.
    while long_ones < wanted {
        let (world, outcome) = lifetime(seed, false);
        if let Err(broken) = outcome {
            let transcript = lifetime(seed, true).0.transcript;
            panic!("seed {seed} (PF_SEED={seed} runs it again): {broken}\n{transcript}");
        }
        long_ones += u64::from(world.steps >= 50);
        seed = seed.wrapping_add(1);
    }
}

/// Another one each time, without a clock.
fn any_seed() -> u64 {
    RandomState::new().build_hasher().finish() >> 16
}

fn lifetime(seed: u64, record: bool) -> (World, Check) {
    let mut world = World::new(seed, record);
    let outcome = world.live();
    (world, outcome)
}
