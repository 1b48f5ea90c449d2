//! Parent and child: how a Head starts a program, how that program finds its way back, and how each
//! of the two learns that the other is gone.
//!
//! Makes transports and watches processes. Knows no message, no call and no link: nothing below
//! depends on it.

mod bootstrap;
mod caught;
mod child;
mod invitation;
mod meeting;
mod name;
mod output;
mod spawn;
mod stderr;
mod tied;
mod wire;

pub(crate) use bootstrap::{Bootstrap, from_env};
pub(crate) use child::Process;
pub(crate) use output::Lines;
pub use output::{OutputLine, OutputStream};
pub(crate) use spawn::{Launch, LaunchOptions, Program, Stderr, launch};
pub(crate) use tied::{HeadWatch, Lifeline};
pub use wire::Wire;

#[cfg(test)]
mod tests;
