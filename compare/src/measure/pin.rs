//! The cores of server and generator: on a small machine the two would otherwise be in each other's way.

use serde::Serialize;

pub(crate) use system::{
    PinnedProcess, choose, pin_this_thread, restore_this_thread, this_threads_cores,
};

/// The cores of a comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct Cores {
    pub(crate) server: usize,
    pub(crate) generator: usize,
}

#[cfg(target_os = "linux")]
mod system {
    use std::fs;
    use std::io;

    use rustix::thread::{CpuSet, Pid, sched_getaffinity, sched_setaffinity};

    use super::Cores;

    /// Two cores that this process may use, not two threads of one core where that can be had.
    pub(crate) fn choose() -> Option<Cores> {
        let allowed = this_threads_cores()?;
        let mut cores = (0..CpuSet::MAX_CPU).filter(|&core| allowed.is_set(core));
        let server = cores.next()?;
        let rest: Vec<usize> = cores.collect();
        let siblings = siblings_of(server);
        let generator = *rest
            .iter()
            .find(|core| !siblings.contains(core))
            .or(rest.first())?;
        Some(Cores { server, generator })
    }

    /// The hardware threads of the same core: `0-1` or `0,8`.
    fn siblings_of(core: usize) -> Vec<usize> {
        let path = format!("/sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list");
        let list = fs::read_to_string(path).unwrap_or_default();
        let range = |part: &str| {
            let (from, to) = part.split_once('-').unwrap_or((part, part));
            Some(from.parse().ok()?..=to.parse().ok()?)
        };
        list.trim().split(',').filter_map(range).flatten().collect()
    }

    /// Moves the calling thread, and the threads and processes it starts from now on, to `core`.
    pub(crate) fn pin_this_thread(core: usize) -> io::Result<()> {
        Ok(sched_setaffinity(None, &only(core))?)
    }

    pub(crate) fn this_threads_cores() -> Option<CpuSet> {
        sched_getaffinity(None).ok()
    }

    pub(crate) fn restore_this_thread(cores: &CpuSet) {
        // They were this thread's a moment ago.
        let _ = sched_setaffinity(None, cores);
    }

    /// A running process held on one core; it gets its cores back when this is dropped.
    #[derive(Debug)]
    pub(crate) struct PinnedProcess {
        pid: u32,
        before: CpuSet,
    }

    impl PinnedProcess {
        pub(crate) fn pin(pid: u32, core: usize) -> io::Result<Self> {
            let main = task_id(&pid.to_string()).ok_or(io::ErrorKind::InvalidInput)?;
            let before = sched_getaffinity(Some(main))?;
            let pinned = Self { pid, before };
            pinned.set_all(&only(core))?;
            Ok(pinned)
        }

        fn set_all(&self, cores: &CpuSet) -> io::Result<()> {
            for task in fs::read_dir(format!("/proc/{}/task", self.pid))? {
                if let Some(task) = task_id(&task?.file_name().to_string_lossy()) {
                    // A thread may have ended since it was listed.
                    let _ = sched_setaffinity(Some(task), cores);
                }
            }
            Ok(())
        }
    }

    impl Drop for PinnedProcess {
        fn drop(&mut self) {
            // The process may have gone; then there is nothing to give back.
            let _ = self.set_all(&self.before);
        }
    }

    fn only(core: usize) -> CpuSet {
        let mut cores = CpuSet::new();
        cores.set(core);
        cores
    }

    fn task_id(text: &str) -> Option<Pid> {
        Pid::from_raw(text.parse().ok()?)
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    use std::io;

    use super::Cores;

    pub(crate) fn choose() -> Option<Cores> {
        None
    }

    pub(crate) fn pin_this_thread(_: usize) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(crate) fn this_threads_cores() -> Option<()> {
        None
    }

    pub(crate) fn restore_this_thread((): &()) {}

    #[derive(Debug)]
    pub(crate) struct PinnedProcess;

    impl PinnedProcess {
        pub(crate) fn pin(_: u32, _: usize) -> io::Result<Self> {
            Err(io::ErrorKind::Unsupported.into())
        }
    }
}
