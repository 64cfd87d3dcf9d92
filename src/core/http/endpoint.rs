//! The paths that speak WebSocket.

/// A path that speaks WebSocket.
#[derive(Clone, Copy)]
pub(super) enum Endpoint {
    Chat,
    Dashboard,
    Echo,
    Inside,
}
