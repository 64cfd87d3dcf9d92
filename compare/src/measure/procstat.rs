//! Readings of `/proc`: what a process and the machine have used. On other systems than Linux each of them is none.

use std::time::Duration;

use serde::Serialize;

/// What a server's process has used since it started; cheap enough to read while a load is running.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Usage {
    pub(crate) user: Duration,
    pub(crate) system: Duration,
    pub(crate) resident_bytes: u64,
    pub(crate) threads: u64,
}

/// How often the process's threads gave up a core of themselves, and how often they were made to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Switches {
    pub(crate) voluntary: u64,
    pub(crate) involuntary: u64,
}

impl Switches {
    pub(crate) fn since(self, earlier: Self) -> Self {
        // A thread that ended in between takes its count along.
        Self {
            voluntary: self.voluntary.saturating_sub(earlier.voluntary),
            involuntary: self.involuntary.saturating_sub(earlier.involuntary),
        }
    }
}

/// What the whole machine has done since it started, and what its kernel holds for all processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Machine {
    /// CPU time of processes, all cores together; interrupts are left out, since nobody can be named for them.
    pub(crate) busy: Duration,
    /// Time that another virtual machine took.
    pub(crate) steal: Duration,
    /// Sockets, files, thread stacks, page tables.
    pub(crate) kernel_bytes: u64,
}

pub(crate) use system::{
    cpu_exactly, machine, memory_bytes, own_thread_cpu, own_thread_wait, processor,
    resident_exactly, switches, usage,
};

#[cfg(target_os = "linux")]
mod system {
    use std::time::Duration;

    use procfs::process::Process;
    use procfs::{CpuInfo, Current as _, CurrentSI as _, KernelStats, Meminfo, ProcResult};

    use super::{Machine, Switches, Usage};

    /// CPU time of the calling thread.
    #[expect(clippy::unnecessary_wraps, reason = "other systems have no answer")]
    pub(crate) fn own_thread_cpu() -> Option<Duration> {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        Some(Duration::try_from(time).expect("CPU time is not negative"))
    }

    /// How long the calling thread could have run and had no core.
    pub(crate) fn own_thread_wait() -> Option<Duration> {
        let schedstat = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
        Some(Duration::from_nanos(
            schedstat.split_whitespace().nth(1)?.parse().ok()?,
        ))
    }

    pub(crate) fn usage(pid: u32) -> Option<Usage> {
        let stat = process(pid).ok()?.stat().ok()?;
        Some(Usage {
            user: ticks(stat.utime),
            system: ticks(stat.stime),
            resident_bytes: stat.rss * procfs::page_size(),
            threads: u64::try_from(stat.num_threads).ok()?,
        })
    }

    /// Resident memory by a walk over the page tables: exact where [`Usage`] is rounded by the kernel's
    /// per-core counters, and too slow for the middle of a load.
    pub(crate) fn resident_exactly(pid: u32) -> Option<u64> {
        let rollup = process(pid).ok()?.smaps_rollup().ok()?;
        rollup
            .memory_map_rollup
            .iter()
            .find_map(|map| map.extension.map.get("Rss").copied())
    }

    /// CPU time of all threads to the nanosecond, where [`Usage`] has hundredths of a second. Its cost grows with the
    /// threads; threads that have ended are not in it.
    pub(crate) fn cpu_exactly(pid: u32) -> Option<Duration> {
        let tasks = process(pid).ok()?.tasks().ok()?;
        // A thread that ends while it is looked at is no error; a kernel that does not tell says nothing of any.
        let each_ns = tasks.flatten().filter_map(|task| task.schedstat().ok());
        let sum_ns: u64 = each_ns.map(|stat| stat.sum_exec_runtime).sum();
        (sum_ns > 0).then(|| Duration::from_nanos(sum_ns))
    }

    pub(crate) fn machine() -> Option<Machine> {
        let total = KernelStats::current().ok()?.total;
        let memory = Meminfo::current().ok()?;
        Some(Machine {
            busy: ticks(total.user + total.nice + total.system),
            steal: ticks(total.steal.unwrap_or(0)),
            kernel_bytes: memory.slab
                + memory.kernel_stack.unwrap_or(0)
                + memory.page_tables.unwrap_or(0),
        })
    }

    /// The model of the first core.
    pub(crate) fn processor() -> Option<String> {
        let processors = CpuInfo::current().ok()?;
        Some(processors.model_name(0)?.to_owned())
    }

    pub(crate) fn memory_bytes() -> Option<u64> {
        Some(Meminfo::current().ok()?.mem_total)
    }

    fn ticks(count: u64) -> Duration {
        Duration::from_secs_f64(count as f64 / procfs::ticks_per_second() as f64)
    }

    /// Over all threads, so the cost grows with them.
    pub(crate) fn switches(pid: u32) -> Option<Switches> {
        let mut sum = Switches::default();
        for task in process(pid).ok()?.tasks().ok()? {
            // A thread that ends while it is looked at is no error.
            let Some(status) = task.ok().and_then(|task| task.status().ok()) else {
                continue;
            };
            sum.voluntary += status.voluntary_ctxt_switches.unwrap_or(0);
            sum.involuntary += status.nonvoluntary_ctxt_switches.unwrap_or(0);
        }
        Some(sum)
    }

    fn process(pid: u32) -> ProcResult<Process> {
        Process::new(i32::try_from(pid).unwrap_or(i32::MAX))
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        const KIB: u64 = 1024;

        #[test]
        fn own_process_has_sane_figures() {
            let pid = std::process::id();
            let usage = usage(pid).unwrap();
            assert!(usage.threads >= 1);
            let exact = resident_exactly(pid).unwrap();
            assert!(
                exact > 100 * KIB && exact.abs_diff(usage.resident_bytes) < 2 * KIB * KIB,
                "{exact}"
            );
        }

        #[test]
        fn exact_cpu_time_agrees_with_the_ticks() {
            // Not this process: threads of other tests end meanwhile, and take their time along.
            let mut busy = std::process::Command::new("yes")
                .stdout(std::process::Stdio::null())
                .spawn()
                .unwrap();
            let ticks = loop {
                let usage = usage(busy.id()).unwrap();
                if usage.user + usage.system >= Duration::from_millis(50) {
                    break usage.user + usage.system;
                }
                std::thread::sleep(Duration::from_millis(5));
            };
            let exact = cpu_exactly(busy.id()).unwrap();
            busy.kill().unwrap();
            busy.wait().unwrap();
            assert!(exact + Duration::from_millis(20) >= ticks, "{exact:?}");
        }

        #[test]
        fn waiting_for_another_is_a_voluntary_switch() {
            let mut waiting = std::process::Command::new("sh")
                .args(["-c", "while :; do sleep 0.001; done"])
                .spawn()
                .unwrap();
            let begin = std::time::Instant::now();
            while switches(waiting.id()).unwrap().voluntary < 20 {
                assert!(begin.elapsed() < Duration::from_secs(20), "none is counted");
                std::thread::sleep(Duration::from_millis(5));
            }
            waiting.kill().unwrap();
            waiting.wait().unwrap();
        }

        #[test]
        fn machine_does_at_least_what_this_process_does() {
            let (machine, own) = (machine().unwrap(), usage(std::process::id()).unwrap());
            assert!(machine.busy >= own.user + own.system);
            assert!(machine.kernel_bytes > 1024 * KIB);
        }

        #[test]
        fn process_that_does_not_exist_has_no_figures() {
            assert_eq!(usage(u32::MAX), None);
            assert_eq!(switches(u32::MAX), None);
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    use super::{Duration, Machine, Switches, Usage};

    pub(crate) fn machine() -> Option<Machine> {
        None
    }

    pub(crate) fn processor() -> Option<String> {
        None
    }

    pub(crate) fn memory_bytes() -> Option<u64> {
        None
    }

    pub(crate) fn own_thread_cpu() -> Option<Duration> {
        None
    }

    pub(crate) fn own_thread_wait() -> Option<Duration> {
        None
    }

    pub(crate) fn usage(_: u32) -> Option<Usage> {
        None
    }

    pub(crate) fn resident_exactly(_: u32) -> Option<u64> {
        None
    }

    pub(crate) fn cpu_exactly(_: u32) -> Option<Duration> {
        None
    }

    pub(crate) fn switches(_: u32) -> Option<Switches> {
        None
    }
}
