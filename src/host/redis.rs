//! Where the flags say that Redis is, and what a node is called there.

use crate::config::Config;
use crate::core::cluster::Settings;
use crate::core::context::Context;
use crate::net::redis::{Target, random_name};

/// What the flags ask for, under a new name for this node.
pub(super) fn new_node(config: &Config) -> Option<Target> {
    let url = config.redis.clone()?;
    let settings = Settings {
        prefix: url.prefix.clone(),
        node: random_name(),
        replicas: config.redis_replicas,
        history: config.history,
    };
    Some(Target { url, settings })
}

/// The same for a server that runs: its node has its name already.
pub(crate) fn target(config: &Config, context: &Context) -> Option<Target> {
    Some(Target {
        url: config.redis.clone()?,
        settings: context.cluster.clone()?,
    })
}
