//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::{Parser, Subcommand};

use crate::lesson::Lesson;
use crate::loadgen::{Foreign, TEXT_PLACE};
use crate::plan::case::{Extent, Sizes};
use crate::plan::scenario::Scenario;
use crate::plan::{TEXT_BYTES_MAX, TEXT_BYTES_MIN};
use crate::results::assertion::Assertion;
use crate::results::text::Lang;
use crate::run::fake::Faults;
use crate::run::target::{Choice, ServerUrl, Start, Target};
#[cfg(target_os = "linux")]
use crate::run::tied::Tied;

/// What can be asked of a server that does not speak the lab's protocol.
const FOREIGN_SCENARIOS: [Scenario; 3] = [Scenario::Idle, Scenario::Connect, Scenario::Echo];
const REPEATS_QUICK: usize = 1;
const REPEATS_THOROUGH: usize = 3;

/// Puts the same load on WebSocket servers and compares them: figures with their doubt, and a report.
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,

    /// Servers to compare, the first one against each of the others; see --list. Variants of the lab's servers:
    /// `thread:direct`, or flags, as in `evloop:--history 0`
    #[arg(long, value_delimiter = ',', default_value = "evloop,thread")]
    pub(crate) server: Vec<Choice>,

    /// A lesson in under a minute: 1 one loop, 2 a thread per client, 3 the slow reader, 4 a blocking call,
    /// 5 naive fan-out, 6 coordinated omission
    #[arg(long, value_name = "1..6", conflicts_with_all = ["scenario", "server", "target"], value_parser = parse_lesson)]
    pub(crate) lesson: Option<Lesson>,

    /// What to ask of them [default: everything]
    #[arg(long, value_enum, value_delimiter = ',')]
    pub(crate) scenario: Vec<Scenario>,

    /// A first look in under 90 s, everything measured once [default: under 15 min, 3 times]
    #[arg(long)]
    pub(crate) quick: bool,

    /// How often everything is measured
    #[arg(long, value_parser = clap::value_parser!(u8).range(1..=100))]
    pub(crate) repeats: Option<u8>,

    /// Clients, in place of each scenario's own sizes and of the search for the largest room
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=60_000))]
    pub(crate) clients: Option<u32>,

    /// Messages a second from all clients together, in place of the scenario's own
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    pub(crate) rate: Option<u64>,

    /// In slow: percent of the clients that never read
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u8).range(0..=99))]
    pub(crate) deaf: u8,

    /// Length of a message's text in bytes
    #[arg(long, value_parser = parse_text_bytes)]
    pub(crate) text_bytes: Option<usize>,

    /// Clients of each group whose messages are looked into and timed; the others only count
    #[arg(long, default_value_t = 32)]
    pub(crate) sampled: usize,

    /// Load before anything is measured
    #[arg(long, value_parser = humantime::parse_duration)]
    pub(crate) warm_up: Option<Duration>,

    /// Time that is measured
    #[arg(long, value_parser = humantime::parse_duration)]
    pub(crate) window: Option<Duration>,

    /// Longest wait for what is still on its way when the load has ended
    #[arg(long, default_value = "5s", value_parser = humantime::parse_duration)]
    pub(crate) drain: Duration,

    /// A condition on the figures; if one fails, so does the program. For example
    /// `evloop.room.p99_ms<=100` or `evloop/thread.room.largest_room>=2`
    #[arg(long = "assert", value_name = "CONDITION")]
    pub(crate) assertions: Vec<Assertion>,

    /// An earlier results.json: say what has changed since, and fail where a figure has become worse
    #[arg(long, value_name = "FILE")]
    pub(crate) baseline: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) change: Threshold,

    /// Where the report goes [default: compare/ in the target directory]
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,

    /// Language of the tables, and of the report when it is opened [default: the system's]
    #[arg(long, value_enum, global = true)]
    lang: Option<Lang>,

    /// List scenarios, servers and figures, and measure nothing
    #[arg(long)]
    pub(crate) list: bool,

    /// Measure a server that is already running, instead
    #[arg(long, env = "WSLAB_TARGET", value_name = "ws://HOST:PORT")]
    pub(crate) target: Option<ServerUrl>,

    /// Process of that server, for its CPU and memory
    #[arg(long, requires = "target")]
    pub(crate) pid: Option<u32>,

    /// Measure a server that does not speak the lab's protocol: the path to ask for; echo, connect and idle can be asked
    #[arg(long, requires = "target", value_parser = parse_path)]
    path: Option<String>,

    /// What to send it in echo, with {text} where the generator's text goes; it must come back with that text in it
    #[arg(long, requires = "path", value_name = "TEMPLATE", value_parser = parse_template)]
    message: Option<String>,

    /// The subprotocol to ask it for
    #[arg(long, requires = "path", value_parser = parse_subprotocol)]
    subprotocol: Option<String>,

    /// Allow a target that is not on loopback; only measure servers that are yours
    #[arg(long)]
    pub(crate) allow_remote: bool,

    /// Leave it to the system on which cores server and generator run
    #[arg(long)]
    pub(crate) no_pin: bool,

    /// A server with known faults under a name of its own: NAME=FLAGS
    #[arg(long, hide = true, value_parser = parse_fake)]
    pub(crate) fake: Vec<Target>,
}

/// What else the program can be.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Say what has become better or worse between two results.json, as Markdown
    Diff(Diff),
    /// A server with known faults, to test this program against
    #[command(hide = true)]
    FakeServer(Faults),
    /// A server that ends when the program that started it does
    #[cfg(target_os = "linux")]
    #[command(hide = true)]
    Tied(Tied),
}

/// Two comparisons.
#[derive(Debug, clap::Args)]
pub(crate) struct Diff {
    #[arg(value_name = "OLD.json")]
    pub(crate) old: PathBuf,
    #[arg(value_name = "NEW.json")]
    pub(crate) new: PathBuf,
    #[command(flatten)]
    pub(crate) change: Threshold,
}

/// What counts as a change.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct Threshold {
    /// Percent by which a figure must be worse, its intervals apart, to fail
    #[arg(long = "threshold", value_name = "PERCENT", default_value_t = 10.0, value_parser = parse_percent)]
    pub(crate) percent: f64,

    /// Compare results of machines that are not alike
    #[arg(long)]
    pub(crate) unlike_machines: bool,
}

impl Args {
    pub(crate) fn sizes(&self) -> Sizes {
        Sizes {
            extent: if self.quick {
                Extent::Quick
            } else {
                Extent::Thorough
            },
            clients: self.clients.map(|clients| clients as usize),
            rate_per_s: self.rate,
            non_reading_percent: usize::from(self.deaf),
            sampled: self.sampled,
            text_bytes: self.text_bytes,
            warm_up: self.warm_up,
            window: self.window,
            drain_max: self.drain,
        }
    }

    pub(crate) fn lang(&self) -> Lang {
        self.lang
            .unwrap_or_else(|| Lang::of_locale(sys_locale::get_locale().as_deref()))
    }

    pub(crate) fn repeats(&self) -> usize {
        let default = if self.quick {
            REPEATS_QUICK
        } else {
            REPEATS_THOROUGH
        };
        self.repeats.map_or(default, usize::from)
    }

    pub(crate) fn scenarios(&self) -> Vec<Scenario> {
        let asked_for = |scenario: &Scenario| match (&self.scenario[..], &self.path) {
            ([], None) => scenario.is_asked_by_default(),
            ([], Some(_)) => FOREIGN_SCENARIOS.contains(scenario),
            (named, _) => named.contains(scenario),
        };
        Scenario::ALL.into_iter().filter(asked_for).collect()
    }

    /// How a server is spoken to that does not speak the lab's protocol.
    fn foreign(&self) -> Result<Option<Foreign>> {
        let Some(path) = &self.path else {
            return Ok(None);
        };
        let other = self
            .scenario
            .iter()
            .find(|it| !FOREIGN_SCENARIOS.contains(it));
        ensure!(
            other.is_none(),
            "with --path a server can be asked for echo, connect and idle only"
        );
        Ok(Some(Foreign {
            path: path.clone(),
            subprotocol: self.subprotocol.clone(),
            message: self
                .message
                .clone()
                .unwrap_or_else(|| TEXT_PLACE.to_owned()),
        }))
    }

    /// Servers that need no preparation: a target that runs already, or fakes.
    pub(crate) fn given_targets(&self) -> Result<Vec<Target>> {
        let Some(mut url) = self.target.clone() else {
            return Ok(self.fake.clone());
        };
        url.foreign = self.foreign()?;
        ensure!(
            self.allow_remote || url.is_loopback(),
            "{url} is not on loopback: a stress test of somebody else's server is an attack; \
             if it is yours, say --allow-remote"
        );
        Ok(vec![Target {
            name: "target".to_owned(),
            start: Start::Running { url, pid: self.pid },
        }])
    }
}

fn parse_text_bytes(text: &str) -> Result<usize, String> {
    let bytes: usize = text.parse().map_err(|_| "it is a whole number")?;
    let allowed = TEXT_BYTES_MIN..=TEXT_BYTES_MAX;
    if allowed.contains(&bytes) {
        Ok(bytes)
    } else {
        Err(format!("it is within {allowed:?}"))
    }
}

fn parse_lesson(text: &str) -> Result<Lesson, String> {
    let number = text.parse().map_err(|_| "it is a number from 1 to 6")?;
    Lesson::by_number(number).ok_or_else(|| "there are lessons 1 to 6".to_owned())
}

fn parse_path(text: &str) -> Result<String, String> {
    let plain = text.bytes().all(|byte| byte.is_ascii_graphic());
    if text.starts_with('/') && plain {
        Ok(text.to_owned())
    } else {
        Err("it begins with / and has no spaces".to_owned())
    }
}

fn parse_template(text: &str) -> Result<String, String> {
    if text.matches(TEXT_PLACE).count() != 1 {
        Err(format!("it has {TEXT_PLACE} in it, once"))
    } else if text.contains('#') {
        Err("it has no # in it: by that the text is found again".to_owned())
    } else {
        Ok(text.to_owned())
    }
}

/// RFC 6455, 4.1: a token of HTTP, or several.
fn parse_subprotocol(text: &str) -> Result<String, String> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._, ".contains(&byte);
    if !text.is_empty() && text.bytes().all(plain) {
        Ok(text.to_owned())
    } else {
        Err("it is letters, digits, -, . and _".to_owned())
    }
}

fn parse_percent(text: &str) -> Result<f64, String> {
    let percent: f64 = text.parse().map_err(|_| "it is a number of percent")?;
    if percent.is_finite() && percent >= 0.0 {
        Ok(percent)
    } else {
        Err("it is a number of percent, 0 or more".to_owned())
    }
}

fn parse_fake(text: &str) -> Result<Target, String> {
    let (name, flags) = text.split_once('=').ok_or("it has the form NAME=FLAGS")?;
    let flags = flags.split_whitespace().map(str::to_owned).collect();
    Ok(Target {
        name: name.to_owned(),
        start: Start::Fake(flags),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn definition_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn only_loopback_unless_told_so() {
        let target = |more: &[&str]| {
            let words = ["compare", "--target", "ws://192.0.2.1:80"]
                .iter()
                .chain(more);
            Args::parse_from(words).given_targets()
        };
        assert!(target(&[]).is_err());
        assert!(target(&["--allow-remote"]).is_ok());
        assert!(
            Args::parse_from(["compare", "--target", "ws://127.0.0.1:80/"])
                .given_targets()
                .is_ok()
        );
    }

    #[test]
    fn scenarios_run_in_the_programs_order() {
        let args = Args::parse_from(["compare", "--scenario", "room,idle"]);
        assert_eq!(args.scenarios(), [Scenario::Idle, Scenario::Room]);
        let default = Args::parse_from(["compare"]).scenarios();
        assert!(default.len() >= 10 && !default.contains(&Scenario::Sparse));
    }
}
