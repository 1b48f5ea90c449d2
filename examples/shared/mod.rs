//! What both examples share: the API that is served, and the tour through every way of calling it.

pub(crate) mod desk;
pub(crate) mod options;
pub(crate) mod survey;
pub(crate) mod tour;
