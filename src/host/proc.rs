//! Figures of the host and of this process, where the system gives them: Linux's `/proc`. Elsewhere there are none,
//! and the dashboard simulates the CPU and leaves memory and threads out.

/// CPU time of the whole host since boot, in ticks.
#[derive(Debug, Clone, Copy)]
pub struct CpuTime {
    /// Spent on anything but idling and waiting for disks.
    pub busy: u64,
    /// All of it.
    pub total: u64,
}

/// What this process takes.
#[derive(Debug, Clone, Copy)]
pub struct Vitals {
    /// Resident memory, in bytes.
    pub resident_bytes: u64,
    /// Its threads.
    pub threads: u64,
}

#[cfg(target_os = "linux")]
pub use linux::{cpu_time, vitals};

#[cfg(target_os = "linux")]
mod linux {
    use procfs::process::Process;
    use procfs::{CurrentSI, KernelStats};

    use super::{CpuTime, Vitals};

    /// The host's CPU time, or `None` where `/proc` does not tell.
    pub fn cpu_time() -> Option<CpuTime> {
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

    /// What this process takes, or `None` where `/proc` does not tell.
    pub fn vitals() -> Option<Vitals> {
        let stat = Process::myself().ok()?.stat().ok()?;
        Some(Vitals {
            resident_bytes: stat.rss * procfs::page_size(),
            threads: u64::try_from(stat.num_threads).ok()?,
        })
    }
}

/// This system does not tell.
#[cfg(not(target_os = "linux"))]
pub fn cpu_time() -> Option<CpuTime> {
    None
}

/// This system does not tell.
#[cfg(not(target_os = "linux"))]
pub fn vitals() -> Option<Vitals> {
    None
}
