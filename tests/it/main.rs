//! What a user can rely on, tried from outside, on every kind of link.
//!
//! Each test carries the id of the behavior that it shows. Those in `on_every_link!` run on each link.

#![allow(unreachable_pub, reason = "no item of a test is reachable from anywhere")]
#![allow(clippy::unit_arg, reason = "handlers pass on what a send or an assertion gives")]

#[macro_use]
mod support;

mod api_sketch;
mod arbitration;
mod broken_way_out;
mod bulk;
mod calls;
mod chains;
#[cfg(feature = "config-file")]
mod configuration;
mod crossing;
mod deaf_peer;
mod errors;
mod events;
mod farewell;
#[cfg(all(feature = "compression", feature = "encryption"))]
mod filters;
mod goodbye;
mod guide;
mod hangs;
mod history;
mod hostile;
mod inline;
mod inspect;
#[cfg(feature = "json")]
mod json;
mod keys_of_c;
mod layers;
mod life;
mod lifecycle;
mod limits;
mod names;
mod nothing_left;
mod numbers;
mod payloads;
mod pressure;
mod process;
mod promises;
mod raw_end;
mod results;
mod shape;
#[cfg(feature = "macros")]
mod shapes;
mod soak;
mod sockets;
mod streams;
mod tools;
mod topics;
#[cfg(feature = "macros")]
mod typed;
mod typed_by_hand;
mod wakers;
