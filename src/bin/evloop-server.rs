//! The event-loop server.
fn main() {}
