//! The runner: each scenario's cases, each repeated, the servers in turn A B B A, so that what drifts (heat, neighbours)
//! hits all of them alike. Every run has a server of its own, freshly started.

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use crate::loadgen;
use crate::measure::monitor::Monitor;
use crate::measure::pin::Cores;
use crate::plan::case::{Case, Method, ROOM_P99_MAX_MS};
use crate::plan::scenario::Scenario;
use crate::plan::search::Search;
use crate::plan::{Moment, Plan};
use crate::results::Results;
use crate::results::figures::Figures;
use crate::results::metric::{Measured, Probe};
use crate::results::runs::{Run, RunResult};
use crate::results::text::number;
use crate::run::progress::Progress;
use crate::run::server::Server;
use crate::run::target::Target;

/// A comparison to be made.
pub(crate) struct Runner {
    pub(crate) targets: Vec<Target>,
    pub(crate) scenarios: Vec<(Scenario, Vec<Case>)>,
    pub(crate) repeats: usize,
    pub(crate) cores: Option<Cores>,
    pub(crate) stop: Arc<AtomicBool>,
    pub(crate) log: File,
    pub(crate) save_to: PathBuf,
    pub(crate) progress: Progress,
}

/// One run to be made.
#[derive(Debug, Clone, Copy)]
struct PlannedRun<'a> {
    scenario: Scenario,
    case: &'a Case,
    target: &'a Target,
    repeat: usize,
}

/// In a search, a probe that is nearly through counts; in one that is hopeless there is nothing to wait for.
const PROBE_DRAIN_MAX: Duration = Duration::from_secs(1);
/// Of what was due, the part that a room which keeps up has delivered when the window closes.
const KEEPS_UP: f64 = 0.97;
/// Besides warm-up and window: joining, settling, starting and stopping.
const RUN_BESIDES: Duration = Duration::from_millis(900);
const JOINS_PER_S: u32 = 8_000;
/// Probes that a search takes at first, and when it begins near its answer.
const PROBES_FIRST: u32 = 6;
const PROBES_LATER: u32 = 3;

impl Runner {
    /// Makes every run, saving as they come. Ends early, without an error, when told to stop.
    pub(crate) fn run(&self, results: &mut Results) {
        let begin = Instant::now();
        let planned_runs = self.planned_runs();
        let total = planned_runs.iter().map(PlannedRun::estimate).sum();
        self.progress.begin(total);
        for planned in &planned_runs {
            let (scenario, title) = (planned.scenario, planned.title(self.repeats));
            self.progress.start(&title, planned.estimate());
            let run_begin = Instant::now();
            let measured = self.measure(planned, results);
            if self.stop.load(Ordering::Relaxed) {
                break;
            }
            let result = match measured {
                Ok(measured) => RunResult::Measured(Box::new(measured)),
                Err(error) => RunResult::Failed(format!("{error:#}")),
            };
            self.progress.done(&title, scenario, &result);
            results.runs.all.push(Run {
                scenario,
                case: planned.case.name.clone(),
                server: planned.target.name.clone(),
                repeat: planned.repeat,
                took_s: run_begin.elapsed().as_secs_f64(),
                result,
            });
            results.took_s = begin.elapsed().as_secs_f64();
            if let Err(error) = results.save(&self.save_to) {
                // It will be tried again; what is measured until then can still be shown.
                self.progress.say(&format!("{error:#}"));
            }
        }
        results.complete = results.runs.all.len() == planned_runs.len();
        self.progress.end();
    }

    /// All runs in order.
    fn planned_runs(&self) -> Vec<PlannedRun<'_>> {
        let mut planned_runs = Vec::new();
        for (scenario, cases) in &self.scenarios {
            for case in cases {
                for repeat in 0..self.repeats {
                    let planned = |target| PlannedRun {
                        scenario: *scenario,
                        case,
                        target,
                        repeat,
                    };
                    // A B B A: the last one goes first.
                    if repeat % 2 == 0 {
                        planned_runs.extend(self.targets.iter().map(planned));
                    } else {
                        planned_runs.extend(self.targets.iter().rev().map(planned));
                    }
                }
            }
        }
        planned_runs
    }

    fn measure(&self, planned: &PlannedRun<'_>, results: &Results) -> Result<Measured> {
        match planned.case.method {
            Method::AsPlanned | Method::AsManyAsFit => Ok(Measured {
                figures: self.once(planned, &planned.case.plan)?,
                largest_room: None,
                open_ended: false,
                probes: Vec::new(),
            }),
            Method::LargestRoom(room) => {
                let name = &planned.target.name;
                let earlier = results
                    .runs
                    .measured(planned.scenario, &planned.case.name, name)
                    .find_map(|measured| measured.largest_room);
                self.search(planned, room.begin(earlier))
            }
        }
    }

    /// One plan against one fresh server.
    fn once(&self, planned: &PlannedRun<'_>, plan: &Plan) -> Result<Figures> {
        let clients = plan.groups.iter().map(|group| group.clients).sum();
        let server = Server::start(
            planned.target,
            planned.case.chat_interval,
            clients,
            self.cores,
            &self.log,
        )?;
        let mut monitor = Monitor::new(server.pid);
        let mut on_moment = |moment| {
            monitor.look(moment, plan.window);
            if moment != Moment::StepEnds {
                self.progress.moment(moment == Moment::WindowOpens);
            }
        };
        let (endpoint, owns_core) = (&server.endpoint, server.pinned);
        let outcome = loadgen::run(plan, endpoint, owns_core, &self.stop, &mut on_moment)
            .with_context(|| format!("{} clients", number(clients as f64)))?;
        Ok(Figures::new(clients, &outcome, monitor.into_seen()))
    }

    /// The largest room that keeps its promise.
    fn search(&self, planned: &PlannedRun<'_>, mut search: Search) -> Result<Measured> {
        let mut probes = Vec::new();
        let mut best: Option<Figures> = None;
        while let Some(clients) = search.next() {
            let mut plan = planned.case.room_plan(clients);
            plan.drain_max = PROBE_DRAIN_MAX;
            let figures = match self.once(planned, &plan) {
                Ok(figures) => figures,
                Err(error) if best.is_none() || self.stop.load(Ordering::Relaxed) => {
                    return Err(error);
                }
                Err(_) => {
                    // A server that runs already is not started again for the next size.
                    planned.target.find()?;
                    // A room it cannot even fill is too large.
                    search.learn(false);
                    continue;
                }
            };
            let probe = Probe::of(&figures, keeps_promise(&figures));
            self.progress.probe(&probe);
            search.learn(probe.passed);
            let better = best.as_ref().is_none_or(|best| {
                if keeps_promise(best) {
                    probe.passed && clients > best.clients
                } else {
                    probe.passed || clients < best.clients
                }
            });
            probes.push(probe);
            if better {
                best = Some(figures);
            }
        }
        Ok(Measured {
            figures: best.context("the search has no size to try")?,
            largest_room: search.answer(),
            open_ended: search.is_open_ended(),
            probes,
        })
    }
}

impl PlannedRun<'_> {
    fn title(&self, repeats: usize) -> String {
        let (scenario, case) = (self.scenario.name(), &self.case.name);
        let (target, repeat) = (&self.target.name, self.repeat + 1);
        format!("{scenario} {case} {target} {repeat}/{repeats}")
    }

    fn estimate(&self) -> Duration {
        let clients = self.case.clients();
        let one = |clients: usize| {
            let plan = &self.case.plan;
            let joining =
                Duration::from_secs(1) * u32::try_from(clients).unwrap_or(u32::MAX) / JOINS_PER_S;
            plan.warm_up + plan.window + joining + RUN_BESIDES
        };
        match self.case.method {
            Method::AsPlanned | Method::AsManyAsFit => one(clients),
            Method::LargestRoom(_) if self.repeat == 0 => one(2 * clients) * PROBES_FIRST,
            Method::LargestRoom(_) => one(2 * clients) * PROBES_LATER,
        }
    }
}

fn keeps_promise(figures: &Figures) -> bool {
    figures.is_correct()
        && figures.corrected_ms.p99 <= ROOM_P99_MAX_MS
        && figures.deliveries_per_s >= KEEPS_UP * figures.deliveries_due_per_s
}
