//! How long the tests that count rounds go on.

/// As many rounds as `NAPE_ROUNDS` says, or as usual.
pub(crate) fn rounds(usual: u64) -> u64 {
    wanted().unwrap_or(usual)
}

/// The same where a round takes a second or more: a tenth of them, and usually one.
pub(crate) fn slow_rounds() -> u64 {
    rounds(1).div_ceil(10)
}

/// How many times longer than usual a watchdog waits: `NAPE_PATIENCE` says it, for builds and machines that are slow,
/// and whoever asks for many rounds has time.
pub(crate) fn patience() -> u32 {
    let rounds = if wanted().is_some() { 1000 } else { 1 };
    number("NAPE_PATIENCE").map_or(1, |told| told as u32) * rounds
}

fn wanted() -> Option<u64> {
    number("NAPE_ROUNDS")
}

fn number(variable: &str) -> Option<u64> {
    let told = std::env::var(variable).ok()?;
    Some(told.parse().unwrap_or_else(|_| panic!("{variable} is a number")))
}
