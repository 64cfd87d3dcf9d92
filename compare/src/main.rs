//! The stress test: the same load on each server, and what came of it.
//!
//! In reading order: [`cli`] is what can be asked; [`scenario`] makes it a [`plan`], which is data; [`schedule`]
//! says when each message is due; [`loadgen`] carries the plan out; [`watch`] looks at the server's process
//! meanwhile, through [`procstat`]; [`figures`] is what came of it; [`report`] shows it. [`pin`] gives server
//! and generator a core each; [`fake`] is a server with known faults, for the tests.

mod cli;
mod fake;
mod figures;
mod loadgen;
mod pin;
mod plan;
mod procstat;
mod report;
mod scenario;
mod schedule;
mod watch;

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::{Context as _, Result};
use clap::Parser as _;

use cli::{Args, Command};
use figures::Figures;
use watch::Watch;

fn main() -> ExitCode {
    let args = Args::parse();
    let done = match args.command {
        Some(Command::FakeServer(faults)) => fake::run(faults),
        None => measure(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("compare: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn measure(args: &Args) -> Result<()> {
    let target = args.checked_target()?;
    let stop = stop_on_signal()?;
    raise_descriptor_limit(args.clients as usize)?;

    let pinned = if args.no_pin { None } else { args.pid.map(|pid| pin::PinnedProcess::pin(pid, pin::SERVER_CORE)) };
    if let Some(Err(error)) = &pinned {
        eprintln!("compare: cannot pin the server: {error}");
    }
    if !args.no_pin
        && let Err(error) = pin::pin_this_thread(pin::GENERATOR_CORE)
    {
        eprintln!("compare: cannot pin the load generator: {error}");
    }

    let mut watch = args.pid.map(Watch::new);
    let outcome = loadgen::run(&args.scenario.plan(&args.size()), target, &stop, &mut |moment| {
        if let Some(watch) = &mut watch {
            watch.look(moment);
        }
    })?;
    let figures = Figures::new(args.clients as usize, &outcome, watch.and_then(Watch::into_used));
    if args.json {
        println!("{}", serde_json::to_string(&figures)?);
    } else {
        print!("{}", report::terminal::render(&figures));
    }
    Ok(())
}

/// Set by Ctrl+C or SIGTERM; a second one ends the program at once.
fn stop_on_signal() -> Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register_conditional_shutdown(signal, 130, Arc::clone(&stop))
            .and_then(|_| signal_hook::flag::register(signal, Arc::clone(&stop)))
            .context("cannot listen for signals")?;
    }
    Ok(stop)
}

/// Descriptors the program needs besides one a client.
const DESCRIPTORS_BESIDES: u64 = 64;

fn raise_descriptor_limit(clients: usize) -> Result<()> {
    #[cfg(unix)]
    {
        let wanted = clients as u64 + DESCRIPTORS_BESIDES;
        let limit = rlimit::increase_nofile_limit(wanted).context("cannot read the descriptor limit")?;
        anyhow::ensure!(
            limit >= wanted,
            "{clients} clients need {wanted} descriptors, the limit is {limit}: ulimit -n {wanted}"
        );
    }
    Ok(())
}
