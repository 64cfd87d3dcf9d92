//! Figures shown.

pub(crate) mod terminal;
