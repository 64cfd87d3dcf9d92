//! The log on standard error, which no thread waits for but the one that writes it.
//!
//! A pipe that is not read and a terminal after Ctrl+S take nothing more, and a write to them waits for ever. So lines wait
//! in a bounded queue for a thread of their own. When the queue is full, further lines are lost: they are counted in
//! `/metrics`, and the log tells of them when it moves again. Standard output, which has a banner and a last line, is
//! written to by a thread that is waited for no longer than a moment.

use std::fmt;
use std::io::{self, Write};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Subscriber, warn};
use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use crate::config::{LogFormat, LogLevel};

/// Lines that may wait to be written: some MiB at most.
const LINES_WAITING: usize = 8192;
/// How long a thread waits for an output that may never take what it is given.
const MOMENT: Duration = Duration::from_millis(250);
/// How soon the log tells again of lines that were lost.
const TOLD_AGAIN: Duration = Duration::from_secs(1);

/// Lines that found the queue full.
static OVERFLOWN: OnceLock<ErrorCounter> = OnceLock::new();
/// Lines that standard error refused: its reader has gone, or its disk is full.
static REFUSED: AtomicU64 = AtomicU64::new(0);

/// Log lines that were lost since the start.
pub(crate) fn lines_lost() -> u64 {
    lines_overflown() + REFUSED.load(Ordering::Relaxed)
}

fn lines_overflown() -> u64 {
    OVERFLOWN.get().map_or(0, ErrorCounter::dropped_lines) as u64
}

/// The log, for as long as the server runs. When it goes, what waits is written if that takes no longer than a moment.
#[derive(Debug)]
pub(crate) struct Log {
    _lines: Option<Lines>,
}

#[derive(Debug)]
struct Lines {
    queue: NonBlocking,
    /// Told by the writer when it comes to an empty line, which ends the log.
    ended: Receiver<()>,
    /// Kept to the end: to drop it may print, and wait.
    guard: Option<WorkerGuard>,
}

impl Log {
    /// Starts it. A log that is off has no thread.
    ///
    /// # Errors
    /// There is no thread for it.
    pub(crate) fn start(level: LogLevel, format: LogFormat) -> anyhow::Result<Self> {
        let level = match level {
            LogLevel::Off => return Ok(Self { _lines: None }),
            LogLevel::Error => LevelFilter::ERROR,
            LogLevel::Warn => LevelFilter::WARN,
            LogLevel::Info => LevelFilter::INFO,
            LogLevel::Debug => LevelFilter::DEBUG,
            LogLevel::Trace => LevelFilter::TRACE,
        };
        // The library panics where there is none.
        thread::Builder::new().spawn(|| ()).context(
            "no thread for the log; raise the limit (`ulimit -u`), or do without: --log off",
        )?;
        let (end, ended) = mpsc::channel();
        let (queue, guard) = NonBlockingBuilder::default()
            .buffered_lines_limit(LINES_WAITING)
            .lossy(true)
            .thread_name("log")
            .finish(StandardError::new(end));
        OVERFLOWN.get_or_init(|| queue.error_counter());
        let log = tracing_subscriber::fmt()
            .with_writer(queue.clone())
            .with_max_level(level)
            .log_internal_errors(false);
        match format {
            LogFormat::Text => log.event_format(PlainLines).init(),
            LogFormat::Json => log.json().with_target(false).init(),
        }
        let lines = Lines {
            queue,
            ended,
            guard: Some(guard),
        };
        Ok(Self {
            _lines: Some(lines),
        })
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        std::mem::forget(self.guard.take());
        let until = Instant::now() + MOMENT;
        let overflown = self.queue.error_counter();
        // A queue that is full may be moving.
        loop {
            let before = overflown.dropped_lines();
            let _ = self.queue.write(&[]);
            if overflown.dropped_lines() == before {
                let left = until.saturating_duration_since(Instant::now());
                let _ = self.ended.recv_timeout(left);
                return;
            }
            if Instant::now() >= until {
                return;
            }
            thread::sleep(MOMENT / 50);
        }
    }
}

/// Standard error, written to by the log's own thread.
struct StandardError {
    told: u64,
    tell_again: Instant,
    end: Sender<()>,
}

impl StandardError {
    fn new(end: Sender<()>) -> Self {
        Self {
            told: 0,
            tell_again: Instant::now(),
            end,
        }
    }

    /// The line takes its place behind those that wait: the one that is to be written has just left its own. Where it is
    /// lost all the same, it is counted, and told of the next time.
    fn tell_of_lost_lines(&mut self) {
        let lost = lines_overflown();
        if lost > self.told {
            let new = lost - self.told;
            self.told = lost;
            self.tell_again = Instant::now() + TOLD_AGAIN;
            warn!("[SERVER] {new} log lines were lost: they came faster than they were read");
        }
    }
}

impl Write for StandardError {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.write_all(line).map(|()| line.len())
    }

    fn write_all(&mut self, line: &[u8]) -> io::Result<()> {
        if line.is_empty() {
            let _ = self.end.send(());
            return Ok(());
        }
        if Instant::now() >= self.tell_again {
            self.tell_of_lost_lines();
        }
        // A line lost there is no reason to fail.
        if io::stderr().write_all(line).is_err() {
            REFUSED.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Nothing waits any more.
    fn flush(&mut self) -> io::Result<()> {
        self.tell_of_lost_lines();
        Ok(())
    }
}

/// Gives `output` a text, and waits no longer than a moment for it to be taken. An output that has gone is no reason to
/// fail.
pub(crate) fn say(mut output: impl Write + Send + 'static, text: String) {
    let (done, taken) = mpsc::channel();
    let write = move || {
        let _ = output
            .write_all(text.as_bytes())
            .and_then(|()| output.flush());
        let _ = done.send(());
    };
    match thread::Builder::new().name("say".to_owned()).spawn(write) {
        Ok(_) => drop(taken.recv_timeout(MOMENT)),
        Err(error) => warn!("[SERVER] No thread to write to standard output: {error}"),
    }
}

/// Lines as the user's document shows them, with the level in front only where it is not plain information.
struct PlainLines;

impl<S, N> FormatEvent<S, N> for PlainLines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let level = *event.metadata().level();
        if level != Level::INFO {
            write!(writer, "{level} ")?;
        }
        context
            .field_format()
            .format_fields(writer.by_ref(), event)?;
        writeln!(writer)
    }
}
