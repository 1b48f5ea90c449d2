//! What the compiler says to mistakes in a trait: each file in `tests/ui`, and its words beside it.

#![cfg(feature = "macros")]

use std::process::Command;

/// Words change with compilers, and those of one are enough.
const COMPILER: &str = "rustc 1.95.";

#[test]
fn each_mistake_gives_one_message_that_says_what_to_write() {
    let version = Command::new("rustc").arg("--version").output().expect("a compiler has built this");
    let version = String::from_utf8_lossy(&version.stdout);
    if version.starts_with(COMPILER) {
        trybuild::TestCases::new().compile_fail("tests/ui/*.rs");
    } else {
        eprintln!("not tried: the messages are those of {COMPILER}x, and this is {version}");
    }
}
