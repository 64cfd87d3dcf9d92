//! Figures of the host and of this process, where the system gives them. On Linux that is `/proc`. Elsewhere there is the
//! memory alone: the dashboard simulates the CPU and does not offer the threads.

/// CPU time of the whole host since boot, in ticks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CpuTime {
    /// Spent on anything but idling and waiting for disks.
    pub busy: u64,
    /// All of it.
    pub total: u64,
}

/// What this process takes, as far as the system tells.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Vitals {
    /// Resident memory, in bytes.
    pub resident_bytes: Option<u64>,
    /// Its threads.
    pub threads: Option<u64>,
}

/// Context switches of this process's threads so far: voluntary ones, and those that the kernel imposed.
#[cfg(unix)]
pub(crate) fn context_switches() -> Option<(u64, u64)> {
    use nix::sys::resource::{UsageWho, getrusage};
    let usage = getrusage(UsageWho::RUSAGE_SELF).ok()?;
    let count = |switches| u64::try_from(switches).ok();
    Some((
        count(usage.voluntary_context_switches())?,
        count(usage.involuntary_context_switches())?,
    ))
}

/// This system does not tell.
#[cfg(not(unix))]
pub fn context_switches() -> Option<(u64, u64)> {
    None
}

#[cfg(target_os = "linux")]
pub(crate) use linux::{cpu_time, vitals};

#[cfg(target_os = "linux")]
mod linux {
    use procfs::process::Process;
    use procfs::{CurrentSI, KernelStats};

    use super::{CpuTime, Vitals};

    /// The host's CPU time, or `None` where `/proc` does not tell.
    pub(crate) fn cpu_time() -> Option<CpuTime> {
        let time = KernelStats::current().ok()?.total;
        let idle = time.idle + time.iowait.unwrap_or(0);
        let busy = time.user
            + time.nice
            + time.system
            + time.irq.unwrap_or(0)
            + time.softirq.unwrap_or(0)
            + time.steal.unwrap_or(0);
        Some(CpuTime {
            busy,
            total: busy + idle,
        })
    }

    /// What this process takes; nothing is known where `/proc` does not tell.
    pub(crate) fn vitals() -> Vitals {
        let stat = Process::myself().and_then(|myself| myself.stat());
        stat.map_or_else(
            |_| Vitals::default(),
            |stat| Vitals {
                resident_bytes: Some(stat.rss * procfs::page_size()),
                threads: u64::try_from(stat.num_threads).ok(),
            },
        )
    }
}

/// This system does not tell.
#[cfg(not(target_os = "linux"))]
pub fn cpu_time() -> Option<CpuTime> {
    None
}

/// What this process takes. How many threads it has is not asked: no well-kept library tells it here.
#[cfg(not(target_os = "linux"))]
pub fn vitals() -> Vitals {
    use sysinfo::{ProcessRefreshKind, ProcessesToUpdate, System};
    let (Ok(myself), Ok(mut system)) = (sysinfo::get_current_pid(), System::new()) else {
        return Vitals::default();
    };
    system.refresh_processes_specifics(
        ProcessesToUpdate::Some(&[myself]),
        false,
        ProcessRefreshKind::nothing().with_memory(),
    );
    Vitals {
        resident_bytes: system.process(myself).map(sysinfo::Process::memory),
        threads: None,
    }
}
