//! How many clients the machine can bear: what each takes, and the limits that are met first.
//!
//! A descriptor or a thread that is missing later turns one client away. Address space and mappings must be known before:
//! each new thread maps a stack for signals, and the standard library ends the process where it cannot.

use anyhow::bail;
use tracing::warn;

use crate::config::{Config, SPARE_SOCKETS};

/// Descriptors besides the clients': standard streams, listeners, poll, the spare one, shared pages, `/proc` at each tick.
#[cfg(unix)]
const OTHER_DESCRIPTORS: u64 = 32;

/// What a client takes besides memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cost {
    /// A socket.
    Socket,
    /// A socket, and a thread with a stack of so many bytes.
    SocketAndThread {
        /// What the thread is given.
        stack: usize,
    },
}

/// A limit of the machine's that there is no getting round.
#[derive(Debug, PartialEq, Eq)]
struct Limit {
    /// As in "the limit of 64 open files".
    name: String,
    /// Sockets that it leaves room for, with what else their clients take.
    sockets: u64,
    /// What to do so that there is room for all that are wanted.
    remedy: String,
}

impl Limit {
    fn clients(&self) -> usize {
        usize::try_from(self.sockets)
            .unwrap_or(usize::MAX)
            .saturating_sub(SPARE_SOCKETS)
    }
}

/// Makes room for `--max-clients`. Where the machine allows less, the default gives way; a number that was asked for
/// does not.
///
/// # Errors
/// There is no room for the number that was asked for, or for any client.
pub fn make_room(config: &mut Config, cost: Cost) -> anyhow::Result<()> {
    let wanted = config.max_sockets() as u64;
    let mut limits = limits(wanted, cost);
    limits.retain(|limit| limit.sockets < wanted);
    let Some(fitting) = limits.iter().map(Limit::clients).min() else {
        return Ok(());
    };
    if config.max_clients_asked_for || fitting == 0 {
        let advice = match fitting {
            0 => String::new(),
            fitting => format!("; or take fewer clients: --max-clients {fitting}"),
        };
        let too_low = limits
            .iter()
            .map(|limit| format!("{} is too low: {}", limit.name, limit.remedy));
        let too_low: Vec<_> = too_low.collect();
        bail!(
            "no room for {} clients: {}{advice}",
            config.max_clients,
            too_low.join("; ")
        );
    }
    for limit in limits {
        warn!(
            "[SERVER] Here {} leaves room for {} clients; for {}: {}",
            limit.name,
            limit.clients(),
            config.max_clients,
            limit.remedy
        );
    }
    config.max_clients = fitting;
    Ok(())
}

/// The limits that the system tells of. One that it does not tell is met later, by turning clients away.
fn limits(wanted: u64, cost: Cost) -> Vec<Limit> {
    let mut limits = Vec::from_iter(open_files(wanted));
    if let Cost::SocketAndThread { stack } = cost {
        limits.extend(threads(wanted, stack as u64));
    }
    limits
}

/// Raises the limit as far as it must be, or may be.
#[cfg(unix)]
fn open_files(wanted: u64) -> Option<Limit> {
    let needed = wanted + OTHER_DESCRIPTORS;
    match rlimit::increase_nofile_limit(needed) {
        Ok(granted) => Some(Limit {
            name: format!("the limit of {granted} open files"),
            sockets: granted.saturating_sub(OTHER_DESCRIPTORS),
            remedy: format!("raise it with `ulimit -n {needed}`"),
        }),
        Err(error) => {
            warn!("[SERVER] The limit on open files cannot be read: {error}");
            None
        }
    }
}

/// Sockets are not counted as files here.
#[cfg(not(unix))]
fn open_files(_: u64) -> Option<Limit> {
    None
}

#[cfg(target_os = "linux")]
use linux::limits as threads;

/// A client that gets no thread is turned away.
#[cfg(not(target_os = "linux"))]
fn threads(_: u64, _: u64) -> Vec<Limit> {
    Vec::new()
}

#[cfg(target_os = "linux")]
mod linux {
    use std::fs;
    use std::path::{Path, PathBuf};

    use procfs::process::Process;
    use procfs::{Current, LoadAverage, sys};
    use rlimit::Resource;

    use super::Limit;

    /// The stack of a thread and the page that guards it, and the same again for its stack for signals.
    pub(super) const MAPPINGS_PER_THREAD: u64 = 4;
    /// What Linux allows where it has not been changed (`DEFAULT_MAX_MAP_COUNT`).
    const DEFAULT_MAPPINGS: u64 = 65_530;
    /// Mappings besides the clients': the program's, the allocator's, those of threads that are just ending.
    const OTHER_MAPPINGS: u64 = 2048;
    /// Threads besides the clients': one accepts, one ticks, one writes the log; and some to spare.
    const OTHER_THREADS: u64 = 16;
    /// Address space of a client besides its stack: the guard pages, the stack for signals, its share of the heap.
    const OTHER_SPACE_PER_THREAD: u64 = 64 << 10;
    /// Address space besides the clients': tables, history, the other threads.
    const OTHER_SPACE: u64 = 32 << 20;
    /// What glibc's allocator sets aside for an arena, of which threads get their own up to a number (mallopt(3)).
    const ARENA: u64 = 64 << 20;
    /// Numbers that the kernel keeps from being given to processes again (`RESERVED_PIDS`).
    const RESERVED_PIDS: u64 = 300;

    pub(super) fn limits(wanted: u64, stack: u64) -> Vec<Limit> {
        let threads = wanted + OTHER_THREADS;
        let mut limits = cgroup_limits(threads);
        limits.push(mappings(wanted));
        limits.extend(address_space(wanted, stack));
        limits.extend(threads_of_system(threads));
        limits.extend(threads_of_user(threads));
        limits
    }

    fn mappings(wanted: u64) -> Limit {
        // More than there may be would end the server, so where `/proc` is not mounted this is not left to chance.
        let most = sys::vm::max_map_count().unwrap_or(DEFAULT_MAPPINGS);
        let now = fs::read_to_string("/proc/self/maps").map_or(0, |maps| maps.lines().count());
        let others = now as u64 + OTHER_MAPPINGS;
        Limit {
            name: format!("the limit of {most} mappings"),
            sockets: most.saturating_sub(others) / MAPPINGS_PER_THREAD,
            remedy: format!(
                "raise it with `sysctl vm.max_map_count={}`",
                others + wanted * MAPPINGS_PER_THREAD
            ),
        }
    }

    fn address_space(wanted: u64, stack: u64) -> Option<Limit> {
        let (most, _) = rlimit::getrlimit(Resource::AS).ok()?;
        if most == rlimit::INFINITY {
            return None;
        }
        let now = Process::myself().ok()?.statm().ok()?.size * procfs::page_size();
        let others = now + OTHER_SPACE + arenas() * ARENA;
        let each = stack + OTHER_SPACE_PER_THREAD;
        Some(Limit {
            name: format!("the limit of {} KiB of address space", most >> 10),
            sockets: most.saturating_sub(others) / each,
            remedy: format!(
                "raise it with `ulimit -v {}`, or set MALLOC_ARENA_MAX=1 in the environment",
                (others + wanted * each) >> 10
            ),
        })
    }

    /// Arenas that the allocator may set space aside for, besides the first, which has none; and one on its way.
    fn arenas() -> u64 {
        if !cfg!(target_env = "gnu") {
            return 0;
        }
        let told = std::env::var("MALLOC_ARENA_MAX")
            .ok()
            .and_then(|most| most.parse().ok())
            .filter(|most| *most > 0);
        let cores = std::thread::available_parallelism().map_or(1, usize::from) as u64;
        match told.unwrap_or(8 * cores) {
            1 => 0,
            several => several,
        }
    }

    fn threads_of_system(threads: u64) -> Vec<Limit> {
        let Ok(load) = LoadAverage::current() else {
            return Vec::new();
        };
        let others = u64::from(load.max);
        let limit = |what: &str, setting: &str, most: u64, reserved: u64| Limit {
            name: format!("the system's limit of {most} {what}"),
            sockets: most.saturating_sub(reserved + others + OTHER_THREADS),
            remedy: format!(
                "raise it with `sysctl {setting}={}`",
                reserved + others + threads
            ),
        };
        let threads_max = sys::kernel::threads_max().ok().map(u64::from);
        let pid_max = sys::kernel::pid_max().ok();
        let pid_max = pid_max.and_then(|most| u64::try_from(most).ok());
        let threads_max = threads_max.map(|most| limit("threads", "kernel.threads-max", most, 0));
        let pid_max =
            pid_max.map(|most| limit("process ids", "kernel.pid_max", most, RESERVED_PIDS));
        threads_max.into_iter().chain(pid_max).collect()
    }

    /// Raises the limit on the user's threads as far as it must be, or may be.
    fn threads_of_user(threads: u64) -> Option<Limit> {
        let (soft, hard) = rlimit::getrlimit(Resource::NPROC).ok()?;
        if soft == rlimit::INFINITY || is_above_user_limits() {
            return None;
        }
        let others = other_threads_of_user().unwrap_or(0);
        let needed = others + threads;
        let mut granted = soft;
        if soft < needed && rlimit::setrlimit(Resource::NPROC, needed.min(hard), hard).is_ok() {
            granted = needed.min(hard);
        }
        Some(Limit {
            name: format!("the user's limit of {granted} threads"),
            sockets: granted.saturating_sub(others + OTHER_THREADS),
            remedy: format!("raise it with `ulimit -u {needed}`"),
        })
    }

    /// Root has no such limit, nor has one with the capability; but both are meant of the whole machine's users, not of
    /// a container's.
    fn is_above_user_limits() -> bool {
        const SYS_ADMIN: u64 = 1 << 21;
        const SYS_RESOURCE: u64 = 1 << 24;
        let users = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
        let all_users = users.split_whitespace().eq(["0", "0", "4294967295"]);
        let status = Process::myself().and_then(|myself| myself.status());
        all_users
            && status.is_ok_and(|status| {
                status.ruid == 0 || status.capeff & (SYS_ADMIN | SYS_RESOURCE) != 0
            })
    }

    fn other_threads_of_user() -> Option<u64> {
        let user = Process::myself().ok()?.status().ok()?.ruid;
        let processes = procfs::process::all_processes().ok()?;
        let statuses = processes.filter_map(|process| process.ok()?.status().ok());
        Some(
            statuses
                .filter(|status| status.ruid == user)
                .map(|status| status.threads)
                .sum(),
        )
    }

    fn cgroup_limits(threads: u64) -> Vec<Limit> {
        let directories = own_cgroups().unwrap_or_default();
        let limits = directories.iter().filter_map(|directory| {
            let figure = |name| {
                let text = fs::read_to_string(directory.join(name)).ok()?;
                text.trim().parse::<u64>().ok()
            };
            // Without a limit it says `max`.
            let (most, others) = (figure("pids.max")?, figure("pids.current")?);
            Some(Limit {
                name: format!("the control group's limit of {most} threads"),
                sockets: most.saturating_sub(others + OTHER_THREADS),
                remedy: format!(
                    "raise TasksMax= of the unit or the container's limit on processes to {}",
                    others + threads
                ),
            })
        });
        limits.collect()
    }

    /// The directories of the control groups that count this process's threads, in both versions of them.
    fn own_cgroups() -> Option<Vec<PathBuf>> {
        let myself = Process::myself().ok()?;
        let mounts = myself.mountinfo().ok()?;
        let mut directories = Vec::new();
        for group in myself.cgroups().ok()? {
            let counts = |name: &str| {
                group
                    .controllers
                    .iter()
                    .any(|controller| controller == name)
            };
            let version = if group.hierarchy == 0 {
                "cgroup2"
            } else if counts("pids") {
                "cgroup"
            } else {
                continue;
            };
            let mount = mounts.0.iter().find(|mount| {
                mount.fs_type == version
                    && (version == "cgroup2" || mount.super_options.contains_key("pids"))
            });
            if let Some(mount) = mount {
                let root = Path::new(&mount.root);
                directories.extend(upwards(
                    &mount.mount_point,
                    root,
                    Path::new(&group.pathname),
                ));
            }
        }
        Some(directories)
    }

    /// The directory of the group at `path` and those above it, where the group at `root` is mounted at `mount`. A group
    /// that cannot be seen from here is taken for the mounted one.
    pub(super) fn upwards(mount: &Path, root: &Path, path: &Path) -> Vec<PathBuf> {
        let below = path.strip_prefix(root).unwrap_or(Path::new(""));
        below
            .ancestors()
            .map(|ancestor| mount.join(ancestor))
            .collect()
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::path::{Path, PathBuf};
    use std::sync::Barrier;
    use std::thread;

    use super::*;

    #[test]
    fn a_thread_takes_no_more_mappings_than_are_counted() {
        const THREADS: usize = 200;
        let mappings = || {
            std::fs::read_to_string("/proc/self/maps")
                .expect("/proc")
                .lines()
                .count()
        };
        let (started, measured) = (Barrier::new(THREADS + 1), Barrier::new(THREADS + 1));
        let before = mappings();
        let taken = thread::scope(|scope| {
            for _ in 0..THREADS {
                let thread = thread::Builder::new().stack_size(crate::threads::CLIENT_STACK);
                let stay = || {
                    started.wait();
                    measured.wait();
                };
                thread.spawn_scoped(scope, stay).expect("a thread");
            }
            started.wait();
            let taken = mappings() - before;
            measured.wait();
            taken
        });
        // Some are the allocator's, for as many threads as there may be arenas, or of other tests.
        let counted = linux::MAPPINGS_PER_THREAD * THREADS as u64 + 100;
        assert!(taken as u64 <= counted, "{taken} for {THREADS} threads");
    }

    #[test]
    fn every_group_above_limits_too() {
        let upwards = |root, path| {
            linux::upwards(
                Path::new("/sys/fs/cgroup"),
                Path::new(root),
                Path::new(path),
            )
        };
        let paths = |paths: &[&str]| -> Vec<PathBuf> {
            let join = |path: &&str| Path::new("/sys/fs/cgroup").join(path);
            paths.iter().map(join).collect()
        };
        assert_eq!(
            upwards("/", "/user.slice/lab.service"),
            paths(&["user.slice/lab.service", "user.slice", ""])
        );
        assert_eq!(upwards("/docker/1", "/docker/1/lab"), paths(&["lab", ""]));
        assert_eq!(upwards("/docker/1", "/elsewhere"), paths(&[""]));
        assert_eq!(upwards("/", "/../.."), paths(&["../..", "..", ""]));
    }

    #[test]
    fn a_limit_leaves_room_for_clients_and_for_spare_sockets() {
        let limit = |sockets| Limit {
            name: String::new(),
            sockets,
            remedy: String::new(),
        };
        assert_eq!(limit(SPARE_SOCKETS as u64 + 5).clients(), 5);
        assert_eq!(limit(3).clients(), 0);
    }
}
