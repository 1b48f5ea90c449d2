//! What the environment says of how much is tried, and of which seed.

use std::env;

/// The seed of `NAPE_SEED`, or another one each time.
pub fn seed() -> u64 {
    let told = env::var("NAPE_SEED").ok();
    told.map_or_else(|| fastrand::u64(..1 << 32), |told| told.parse().expect("NAPE_SEED is a number"))
}

/// How many rounds `NAPE_ROUNDS` asks for, if it does.
pub fn rounds() -> Option<u64> {
    env::var("NAPE_ROUNDS").ok().map(|told| told.parse().expect("NAPE_ROUNDS is a number"))
}

/// How many where a round takes a second or more: a tenth of them, and usually one.
pub fn slow_rounds() -> u64 {
    rounds().unwrap_or(1).div_ceil(10)
}

/// Whether whoever sends frame by frame is fast enough to be a flood: not where a sanitizer watches.
pub fn floods() -> bool {
    !cfg!(nape_sanitized)
}

/// Whether what a process has in memory is what it asked for: a sanitizer keeps what was freed, and needs an address space
/// without a limit.
pub fn memory_is_its_own() -> bool {
    !cfg!(nape_sanitized)
}

/// Whether nothing else happens on this machine, so that times are what they are: `NAPE_ALONE` is set.
pub fn alone() -> bool {
    env::var_os("NAPE_ALONE").is_some()
}
