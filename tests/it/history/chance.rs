//! Chance that comes out the same again from the same seed.

use std::{env, time::SystemTime};

/// One of the numbers that a seed stands for.
pub fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A row of them.
#[derive(Clone, Debug)]
pub struct Chance(u64);

impl Chance {
    pub fn of(seed: u64) -> Chance {
        Chance(mix(seed))
    }

    /// Something below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0) % end
    }

    pub fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len() as u64) as usize]
    }
}

/// The seed of `NAPE_SEED`, or another one each time.
pub fn seed() -> u64 {
    let told = env::var("NAPE_SEED").ok();
    told.map_or_else(fresh, |told| told.parse().expect("NAPE_SEED is a number"))
}

fn fresh() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    mix(now.as_nanos() as u64 ^ u64::from(std::process::id())) >> 32
}

/// How many rounds `NAPE_ROUNDS` asks for, if it does.
pub fn rounds() -> Option<u64> {
    env::var("NAPE_ROUNDS").ok().map(|told| told.parse().expect("NAPE_ROUNDS is a number"))
}

/// How many where a round takes a second or more: a tenth of them, and usually one.
pub fn slow_rounds() -> u64 {
    rounds().unwrap_or(1).div_ceil(10)
}

/// Whether nothing else happens on this machine, so that times are what they are: `NAPE_ALONE` is set.
pub fn alone() -> bool {
    env::var_os("NAPE_ALONE").is_some()
}
