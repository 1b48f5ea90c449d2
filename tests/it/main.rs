//! What a user can rely on, tried from outside, on every kind of link.
//!
//! Each test carries the id of the behavior that it shows. Those in `on_every_link!` run on each link.

#![allow(unreachable_pub, reason = "no item of a test is reachable from anywhere")]

#[macro_use]
mod support;

mod arbitration;
mod deaf_peer;
mod events;
mod farewell;
mod life;
mod names;
mod pressure;
mod raw_end;
mod shape;
mod smoke;
mod tools;
