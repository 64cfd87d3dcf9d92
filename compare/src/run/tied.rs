//! A server's tie to this program: when the program ends in whatever way, SIGKILL included, so does the server.
//!
//! A process can ask the kernel for this only itself. So this program starts itself, asks, and becomes the server; what
//! was asked for stays. Elsewhere than on Linux a server outlives a program that is killed without warning.

use std::process::Command;

/// The same command, tied where that can be done.
pub(super) fn tie(command: &Command) -> Command {
    // Also when a new build has taken this program's place meanwhile.
    #[cfg(target_os = "linux")]
    if std::path::Path::new(linux::THIS_PROGRAM).exists() {
        let mut tied = Command::new(linux::THIS_PROGRAM);
        tied.args(["tied", &std::process::id().to_string()])
            .arg(command.get_program())
            .args(command.get_args());
        return tied;
    }
    let mut same = Command::new(command.get_program());
    same.args(command.get_args());
    same
}

#[cfg(target_os = "linux")]
pub(crate) use linux::Tied;

#[cfg(target_os = "linux")]
mod linux {
    use std::convert::Infallible;
    use std::ffi::OsString;
    use std::os::unix::process::CommandExt as _;
    use std::process::Command;

    use anyhow::{Context as _, Result, ensure};
    use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};

    pub(super) const THIS_PROGRAM: &str = "/proc/self/exe";

    /// A server that is to be tied to the thread that started it.
    #[derive(Debug, clap::Args)]
    pub(crate) struct Tied {
        parent: u32,
        program: OsString,
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    }

    impl Tied {
        /// Ties this process and becomes the server.
        pub(crate) fn exec(self) -> Result<Infallible> {
            set_parent_process_death_signal(Some(Signal::KILL))
                .context("cannot be tied to its parent")?;
            let parent = getppid().map(|pid| Pid::as_raw(Some(pid)).cast_unsigned());
            ensure!(
                parent == Some(self.parent),
                "its parent ended before it began"
            );
            let error = Command::new(&self.program).args(self.arguments).exec();
            Err(error).with_context(|| format!("cannot start {}", self.program.to_string_lossy()))
        }
    }
}
