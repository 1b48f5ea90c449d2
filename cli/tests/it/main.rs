//! The built command against a program that it looks into.

#![allow(unreachable_pub, reason = "no item of a test is reachable from anywhere")]

/// The program: the example.
#[path = "../../examples/canteen.rs"]
mod canteen;
/// Files that are checked.
mod check;
/// What is printed, and how it ends.
mod commands;
/// A session in a terminal.
mod session;
/// A canteen at an address of its own, and runs of the command.
mod support;
/// A terminal with a shell in it.
mod terminal;
/// What goes wrong: one line, and an exit code of its own.
mod trouble;
