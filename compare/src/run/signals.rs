//! The ways out of the program: the signals that ask for its end, and what a panic must not leave behind.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::{Context as _, Result};

use super::server;

/// The exit status of shells for a program ended by Ctrl+C.
pub(crate) const INTERRUPTED: u8 = 130;

/// Set by Ctrl+C or SIGTERM; a second one ends the program, and every server, at once.
pub(crate) fn stop_on_signal() -> Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    let stop_set = Arc::clone(&stop);
    #[cfg(unix)]
    {
        use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ};
        use std::sync::atomic::Ordering;

        // Under `ulimit -f` it would end the program; with a handler, writing says what is wrong.
        signal_hook::flag::register(SIGXFSZ, Arc::default())
            .context("cannot listen for signals")?;

        let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM, SIGHUP])
            .context("cannot listen for signals")?;
        std::thread::spawn(move || {
            for _ in signals.forever() {
                if stop_set.swap(true, Ordering::Relaxed) {
                    server::kill_all();
                    std::process::exit(i32::from(INTERRUPTED));
                }
            }
        });
    }
    #[cfg(not(unix))]
    signal_hook::flag::register(signal_hook::consts::SIGINT, stop_set)
        .context("cannot listen for signals")?;
    Ok(stop)
}

/// A panic ends the program without dropping anything.
pub(crate) fn leave_no_server_behind() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        server::kill_all();
        usual(info);
    }));
}
