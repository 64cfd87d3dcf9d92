//! A conversation's access to the engine, which is where the two servers differ.

use crate::core::context::Context;
use crate::core::engine::Engine;
use crate::core::engine::output::Output;
use crate::core::inside::follow::Place;

/// Access to the engine: direct in the event loop, through a lock in the thread server.
pub(crate) trait EngineAccess {
    /// Where the server reads what its clients say.
    const READS_IN: Place;

    /// Runs one change of the engine. When it returns, the server has taken note of what is to be sent, in the order in
    /// which the engine was changed.
    fn with<R>(&mut self, change: impl FnOnce(&mut Engine, &mut Output) -> R) -> R;

    /// What this client is to be sent.
    fn output(&mut self) -> &mut Output;

    /// What never changes, and the counters.
    fn context(&self) -> &Context;
}
