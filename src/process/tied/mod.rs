//! What ties a child to its Head: how each learns of the end of the other's process, and what the child inherits.
//!
//! On a Unix the child inherits descriptors: the *lifeline*, and its end of a wire. On Windows it inherits nothing: it
//! connects to its Head, and the lifeline is a channel that it brings along.

#[cfg(any(windows, test))]
mod channel;
#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(unix)]
pub(super) use unix::{Brought, launch_to_inherit, reach};
#[cfg(unix)]
pub(crate) use unix::{HeadWatch, Lifeline};
#[cfg(windows)]
pub(super) use windows::{Brought, launch_to_inherit, reach};
#[cfg(windows)]
pub(crate) use windows::{HeadWatch, Lifeline};
