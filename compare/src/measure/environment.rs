//! The place of a comparison: without it nobody can repeat it, or see that they did not.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::process::Command;

use serde::Serialize;

use super::pin::Cores;
use super::procstat;

/// The machine, its limits, and what was run on it.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Environment {
    pub(crate) date: String,
    pub(crate) command: String,
    pub(crate) version: &'static str,
    pub(crate) commit: Option<String>,
    pub(crate) system: String,
    pub(crate) kernel: Option<String>,
    pub(crate) cpu: Option<String>,
    pub(crate) cores: usize,
    pub(crate) governor: Option<String>,
    pub(crate) memory_mib: Option<u64>,
    pub(crate) descriptor_limit: Option<u64>,
    /// Kernel settings that matter to thousands of connections.
    pub(crate) settings: BTreeMap<&'static str, String>,
    pub(crate) pinned: Option<Cores>,
    pub(crate) not_pinned: Option<String>,
    /// Descriptors wanted and had, where that was too few.
    pub(crate) descriptors_missing: Option<(u64, u64)>,
}

const SETTINGS: [(&str, &str); 6] = [
    ("net.core.somaxconn", "/proc/sys/net/core/somaxconn"),
    ("net.ipv4.tcp_wmem", "/proc/sys/net/ipv4/tcp_wmem"),
    ("net.ipv4.tcp_rmem", "/proc/sys/net/ipv4/tcp_rmem"),
    (
        "net.ipv4.tcp_congestion_control",
        "/proc/sys/net/ipv4/tcp_congestion_control",
    ),
    (
        "net.ipv4.ip_local_port_range",
        "/proc/sys/net/ipv4/ip_local_port_range",
    ),
    ("kernel.threads-max", "/proc/sys/kernel/threads-max"),
];

impl Environment {
    pub(crate) fn capture() -> Self {
        let line = |path: &str| {
            fs::read_to_string(path)
                .ok()
                .map(|text| text.trim().replace('\t', " "))
        };
        let settings = SETTINGS
            .iter()
            .filter_map(|&(name, path)| Some((name, line(path)?)))
            .collect();
        Self {
            date: humantime::format_rfc3339_seconds(std::time::SystemTime::now()).to_string(),
            command: command_line(),
            version: env!("CARGO_PKG_VERSION"),
            commit: commit(),
            system: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
            kernel: line("/proc/sys/kernel/osrelease"),
            cpu: procstat::processor(),
            cores: std::thread::available_parallelism().map_or(1, Into::into),
            governor: line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
            memory_mib: procstat::memory_bytes().map(|bytes| bytes / 1024 / 1024),
            descriptor_limit: None,
            settings,
            pinned: None,
            not_pinned: None,
            descriptors_missing: None,
        }
    }
}

/// As it would be typed.
fn command_line() -> String {
    let words: Vec<String> = std::env::args_os()
        .skip(1)
        .map(|word| quoted(&word))
        .collect();
    if words.is_empty() {
        return "cargo run --release -p compare".to_owned();
    }
    format!("cargo run --release -p compare -- {}", words.join(" "))
}

/// A word as a shell takes it. A name of a folder need not be UTF-8.
fn quoted(word: &OsStr) -> String {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "-_./:,=".contains(letter);
    match word.to_str() {
        Some(word) if !word.is_empty() && word.chars().all(plain) => word.to_owned(),
        Some(word) if !word.contains('\'') => format!("'{word}'"),
        _ => format!("$'{}'", word.as_encoded_bytes().escape_ascii()),
    }
}

fn commit() -> Option<String> {
    let git = |arguments: &[&str]| {
        let output = Command::new("git")
            .args(arguments)
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .output()
            .ok()?;
        output
            .status
            .success()
            .then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let commit = git(&["rev-parse", "--short", "HEAD"])?;
    let changed = git(&["status", "--porcelain", "--untracked-files=no"])
        .is_some_and(|changes| !changes.is_empty());
    Some(if changed {
        format!("{commit} + changes")
    } else {
        commit
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_for_a_shell() {
        let shown = ["--quick", "evloop.room.p99_ms<=100", "it's", "báo cáo", ""]
            .map(|word| quoted(OsStr::new(word)));
        assert_eq!(
            shown,
            [
                "--quick",
                "'evloop.room.p99_ms<=100'",
                r"$'it\'s'",
                "'báo cáo'",
                "''"
            ]
        );
    }
}
