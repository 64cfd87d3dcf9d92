//! The stress test: the same load on each server, and the report of what came of it.
//!
//! In reading order: [`cli`] is what can be asked, [`lesson`] six questions with their answers; [`plan`] makes loads of it, which are data; [`run`] starts each
//! server and puts each load on it; [`loadgen`] carries a load out, while [`measure`] looks at the server's process;
//! [`results`] is what came of all runs and what follows from it; [`report`] shows it.

mod cli;
mod lesson;
mod lesson_load;
mod loadgen;
mod measure;
mod plan;
mod report;
mod results;
mod run;

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, ensure};
use clap::{Parser as _, ValueEnum as _};

use cli::{Args, Command, Diff, Threshold};
use measure::environment::Environment;
use measure::pin::{self, Cores};
use plan::case::Case;
use plan::scenario::Scenario;
use report::terminal::Page;
use results::diff::{self, Saved};
use results::runs::Participant;
use results::text::Lang;
use results::{Results, Skipped};
use run::progress::Progress;
use run::runner::Runner;
use run::target::{Known, Target};
use run::{fake, signals};

fn main() -> ExitCode {
    let mut args = Args::parse();
    if let Some(lesson) = args.lesson {
        lesson.prepare(&mut args);
    }
    let lang = args.lang();
    let done = match args.command {
        Some(Command::Diff(diff)) => return diff_of_files(&diff, lang),
        Some(Command::FakeServer(faults)) => fake::run(faults).map(|()| ExitCode::SUCCESS),
        #[cfg(target_os = "linux")]
        Some(Command::Tied(server)) => server.exec().map(|never| match never {}),
        None if args.list => list(lang),
        None => compare(&args),
    };
    done.unwrap_or_else(|error| {
        // Where nobody can be told, the exit status still says it.
        let _ = writeln!(io::stderr(), "compare: {error:#}");
        ExitCode::FAILURE
    })
}

fn compare(args: &Args) -> Result<ExitCode> {
    let stop = signals::stop_on_signal()?;
    signals::leave_no_server_behind();
    let baseline = args.baseline.as_deref().map(Saved::read).transpose()?;
    let (targets, skipped) = targets(args)?;
    let mut environment = Environment::capture();
    let scenarios = fitting(args, &mut environment)?;
    let cores = pin_generator(args, &mut environment);

    let out = args.out.clone().map_or_else(default_out, Ok)?;
    fs::create_dir_all(&out).with_context(|| format!("cannot make {}", out.display()))?;
    let servers = targets.iter().map(|target| Participant {
        name: target.name.clone(),
        command: target.command_line(),
    });
    let mut results = Results::new(environment, args.repeats(), servers.collect(), skipped);
    if let Some(old) = &baseline {
        // Before minutes are spent on what could not be compared.
        ensure_alike(old, &Saved::of(&results)?, args.change)?;
    }
    let log = out.join("servers.log");
    let runner = Runner {
        targets,
        scenarios,
        repeats: args.repeats(),
        cores,
        stop,
        log: File::create(&log).with_context(|| format!("cannot make {}", log.display()))?,
        save_to: out.join("results.json"),
        progress: Progress::new(args.lang()),
    };
    for Skipped { server, reason } in &results.skipped {
        runner.progress.say(&format!("{server}: {reason}"));
    }
    runner.run(&mut results);
    conclude(args, &mut results, baseline.as_ref(), &out)
}

/// The exit status: 0 where nothing is worse, 1 where something is, 2 where nothing can be said.
fn diff_of_files(diff: &Diff, lang: Lang) -> ExitCode {
    const CANNOT_SAY: u8 = 2;
    let read = || anyhow::Ok((Saved::read(&diff.old)?, Saved::read(&diff.new)?));
    let shown = read().and_then(|(old, new)| {
        let (text, is_worse) = difference(&old, &new, diff.change, lang)?;
        show(&text).map(|()| is_worse)
    });
    match shown {
        Ok(is_worse) => ExitCode::from(u8::from(is_worse)),
        Err(error) => {
            let _ = writeln!(io::stderr(), "compare: {error:#}");
            ExitCode::from(CANNOT_SAY)
        }
    }
}

/// The difference as Markdown, and whether something has become worse.
fn difference(old: &Saved, new: &Saved, change: Threshold, lang: Lang) -> Result<(String, bool)> {
    ensure_alike(old, new, change)?;
    let changes = diff::between(old, new, change.percent);
    ensure!(
        !changes.is_empty(),
        "the two have no scenario, case and server in common"
    );
    let is_worse = changes.iter().any(|change| change.verdict.is_regression());
    Ok((report::diff::render(old, new, &changes, lang), is_worse))
}

fn ensure_alike(old: &Saved, new: &Saved, change: Threshold) -> Result<()> {
    let unlike = old.unlike(new);
    ensure!(
        unlike.is_empty() || change.unlike_machines,
        "the machines are not alike ({}); --unlike-machines compares them all the same",
        unlike.join("; ")
    );
    Ok(())
}

/// Shows what can be asked for.
fn list(lang: Lang) -> Result<ExitCode> {
    let servers: Vec<(&str, String)> = Known::value_variants()
        .iter()
        .filter_map(|known| {
            let help = known.to_possible_value()?.get_help()?.to_string();
            Some((known.name(), help))
        })
        .collect();
    show(&report::list::render(Page::stdout(lang), &servers))?;
    Ok(ExitCode::SUCCESS)
}

/// Draws the conclusions, shows them and decides the exit status.
fn conclude(
    args: &Args,
    results: &mut Results,
    baseline: Option<&Saved>,
    out: &Path,
) -> Result<ExitCode> {
    results.conclude(&args.assertions);
    let saved = results.save(&out.join("results.json"));
    let written = report::write_all(results, args.lang(), out);
    let page = Page::stdout(args.lang());
    let mut shown = vec![match args.lesson {
        None => report::terminal::render(results, page),
        Some(lesson) => {
            let verdict = lesson.judge(&results.runs);
            report::terminal::render_lesson(results, lesson, &verdict, page)
        }
    }];
    shown.extend(results.assertions.iter().map(|it| format!("{it}\n")));
    let difference = baseline
        .map(|old| difference(old, &Saved::of(results)?, args.change, args.lang()))
        .transpose();
    if let Ok(Some((text, _))) = &difference {
        shown.push(format!("{text}\n"));
    }
    if written.is_ok() {
        shown.push(format!("{}\n", out.join("report.html").display()));
    }
    show(&shown.concat()).and(saved).and(written)?;
    let is_worse = difference?.is_some_and(|(_, is_worse)| is_worse);
    let runs = &results.runs.all;
    let measured = runs.iter().any(|run| run.result.measured().is_some());
    Ok(if !results.complete {
        ExitCode::from(signals::INTERRUPTED)
    } else if measured && !is_worse && results.assertions.iter().all(|verdict| verdict.holds) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Writes to standard output. A reader that has gone, as `head` does, has seen what it wanted.
fn show(text: &str) -> Result<()> {
    match io::stdout()
        .write_all(text.as_bytes())
        .and_then(|()| io::stdout().flush())
    {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(error).context("cannot write to standard output")
        }
        _ => Ok(()),
    }
}

fn targets(args: &Args) -> Result<(Vec<Target>, Vec<Skipped>)> {
    let mut ready = args.given_targets()?;
    for target in &ready {
        target.find()?;
    }
    let mut skipped = Vec::new();
    if ready.is_empty() {
        for known in &args.server {
            match known.prepare(args.lang()) {
                Ok(target) => ready.push(target),
                Err(error) => skipped.push(Skipped {
                    server: known.name.clone(),
                    reason: format!("{error:#}"),
                }),
            }
        }
    }
    let reasons: Vec<String> = skipped
        .iter()
        .map(|Skipped { server, reason }| format!("{server}: {reason}"))
        .collect();
    ensure!(
        !ready.is_empty(),
        "no server to measure\n{}",
        reasons.join("\n")
    );
    Ok((ready, skipped))
}

/// Descriptors the program needs besides one per client.
const DESCRIPTORS_BESIDES: u64 = 64;

/// The cases that the limit of open files has room for.
fn fitting(args: &Args, environment: &mut Environment) -> Result<Vec<(Scenario, Vec<Case>)>> {
    let sizes = args.sizes();
    let mut scenarios: Vec<(Scenario, Vec<Case>)> = args
        .scenarios()
        .into_iter()
        .map(|scenario| (scenario, scenario.cases(&sizes)))
        .collect();
    let largest = scenarios
        .iter()
        .flat_map(|(_, cases)| cases)
        .map(Case::clients_most)
        .max()
        .unwrap_or(0);
    let wanted = largest as u64 + DESCRIPTORS_BESIDES;
    let limit = raise_descriptor_limit(wanted)?;
    environment.descriptor_limit = Some(limit);
    if limit < wanted {
        environment.descriptors_missing = Some((wanted, limit));
        let room = usize::try_from(limit.saturating_sub(DESCRIPTORS_BESIDES)).unwrap_or(usize::MAX);
        for (_, cases) in &mut scenarios {
            cases.retain_mut(|case| case.fit(room));
        }
        scenarios.retain(|(_, cases)| !cases.is_empty());
        ensure!(
            !scenarios.is_empty(),
            "{largest} clients need {wanted} descriptors, the limit is {limit}: ulimit -n {wanted}"
        );
    }
    Ok(scenarios)
}

#[cfg(unix)]
fn raise_descriptor_limit(wanted: u64) -> Result<u64> {
    rlimit::increase_nofile_limit(wanted).context("cannot read the descriptor limit")
}

/// Sockets are not counted as files here.
#[cfg(not(unix))]
fn raise_descriptor_limit(wanted: u64) -> Result<u64> {
    Ok(wanted)
}

/// Holds this thread on a core, if that can be done; the servers get another.
fn pin_generator(args: &Args, environment: &mut Environment) -> Option<Cores> {
    let pinned = match pin::choose() {
        _ if args.no_pin => Err("--no-pin".to_owned()),
        None => Err("one core, or not Linux".to_owned()),
        Some(cores) => pin::pin_this_thread(cores.generator)
            .map(|()| cores)
            .map_err(|error| error.to_string()),
    };
    environment.pinned = pinned.as_ref().ok().copied();
    environment.not_pinned = pinned.err();
    environment.pinned
}

/// `compare/` in the target directory of this program.
fn default_out() -> Result<PathBuf> {
    let own = std::env::current_exe().context("cannot tell where this program is")?;
    let target = own
        .ancestors()
        .nth(2)
        .context("a build is in a target directory")?;
    Ok(target.join("compare"))
}
