//! The bounds of a request head.

/// The longest request head that is read, its empty line included.
pub const MAX_HEAD_BYTES: usize = 8 * 1024;

/// The most headers that a request may have.
pub const MAX_HEADERS: usize = 64;
