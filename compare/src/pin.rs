//! Server and generator on a core each: on a small machine they would otherwise take turns in each other's way.

pub(crate) use system::{PinnedProcess, pin_this_thread};

/// The core that servers under test get.
pub(crate) const SERVER_CORE: usize = 0;
/// The core of the load generator.
pub(crate) const GENERATOR_CORE: usize = 1;

#[cfg(target_os = "linux")]
mod system {
    use std::fs;
    use std::io;

    use rustix::thread::{CpuSet, Pid, sched_getaffinity, sched_setaffinity};

    /// Moves the calling thread, and the threads and processes it starts from now on, to `core`.
    pub(crate) fn pin_this_thread(core: usize) -> io::Result<()> {
        Ok(sched_setaffinity(None, &only(core))?)
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

    pub(crate) fn pin_this_thread(_: usize) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    #[derive(Debug)]
    pub(crate) struct PinnedProcess;

    impl PinnedProcess {
        pub(crate) fn pin(_: u32, _: usize) -> io::Result<Self> {
            Err(io::ErrorKind::Unsupported.into())
        }
    }
}
