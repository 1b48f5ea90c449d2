//! What a user can rely on, tried from outside, on every kind of link.
//!
//! Each test carries the id of the behavior that it shows. Those in `on_every_link!` run on each link.

#[macro_use]
mod support;

mod arbitration;
mod events;
mod names;
mod pressure;
mod shape;
mod smoke;
mod tools;
