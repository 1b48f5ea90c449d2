//! What a user can rely on, tried from outside, on every kind of link.

mod smoke;
