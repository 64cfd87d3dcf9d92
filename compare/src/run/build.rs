//! The build of a lab server by cargo, with its progress: on a terminal a bar with the time left, elsewhere a line.

use std::collections::BTreeSet;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::results::text::Lang;

const PACKAGE: &str = "ws-realtime-lab";
const REDRAW: Duration = Duration::from_millis(250);
/// What cargo says of each part that is done.
const DONE: &str = r#""reason":"compiler-artifact""#;
/// Of a part that was done before.
const FRESH: &str = r#""fresh":true"#;

/// Builds `binary` of the workspace at `root` into `target`; an error where there is no cargo.
pub(crate) fn release(
    cargo: &Path,
    root: &Path,
    target: &Path,
    binary: &str,
    lang: Lang,
) -> io::Result<ExitStatus> {
    let mut build = Command::new(cargo)
        .args(["build", "--release", "--quiet", "--package", PACKAGE])
        .args(["--bin", binary, "--message-format=json-render-diagnostics"])
        .arg("--target-dir")
        .arg(target)
        .current_dir(root)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let bar = ProgressBar::new(parts(cargo, root).unwrap_or(1));
    let style = ProgressStyle::with_template("{bar:30.cyan/dim} {percent:>3}%  {msg}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    let mut is_told = false;
    for line in BufReader::new(build.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?).lines() {
        let line = line?;
        if !line.contains(DONE) {
            continue;
        }
        bar.inc(1);
        if line.contains(FRESH) {
            continue;
        }
        let left = humantime::format_duration(Duration::from_secs(bar.eta().as_secs()));
        bar.set_message(match lang {
            Lang::Vi => format!("còn khoảng {left} · đang biên dịch {binary}"),
            Lang::En => format!("about {left} left · building {binary}"),
        });
        if !is_told {
            is_told = true;
            bar.enable_steady_tick(REDRAW);
            if bar.is_hidden() {
                // Nobody may be listening; that is no reason to end.
                let _ = writeln!(io::stderr(), "building {binary}");
            }
        }
    }
    bar.finish_and_clear();
    build.wait()
}

/// How many parts the build has, about: a build script is a part of its own.
fn parts(cargo: &Path, root: &Path) -> Option<u64> {
    let tree = Command::new(cargo)
        .args([
            "tree",
            "--package",
            PACKAGE,
            "--edges",
            "normal,build",
            "--prefix",
            "none",
        ])
        .current_dir(root)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&tree.stdout).into_owned();
    let packages: BTreeSet<&str> = text
        .lines()
        .map(|line| line.trim_end_matches(" (*)"))
        .collect();
    u64::try_from(packages.len())
        .ok()
        .filter(|&count| count > 0)
}
