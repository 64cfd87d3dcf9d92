//! The order of the runs, and their execution: each scenario's cases, each repeated, the servers in turn A B B A, so
//! that what drifts (heat, neighbours) hits all of them alike. Every run has a server of its own, freshly started.

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use crate::loadgen;
use crate::measure::monitor::Monitor;
use crate::measure::pin::Cores;
use crate::plan::case::{Case, Method};
use crate::plan::scenario::Scenario;
use crate::plan::search::Search;
use crate::plan::{Moment, Plan};
use crate::results::Results;
use crate::results::figures::Figures;
use crate::results::metric::{Measured, Probe};
use crate::results::runs::{Run, RunResult};
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
    target: usize,
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
        self.progress.begin(
            planned_runs
                .iter()
                .map(|planned| Self::estimate(planned))
                .sum(),
        );
        for planned in &planned_runs {
            if self.stop.load(Ordering::Relaxed) {
                break;
            }
            self.progress
                .start(&self.title(planned), Self::estimate(planned));
            let run_begin = Instant::now();
            let measured = self.measure(planned, results);
            if self.stop.load(Ordering::Relaxed) {
                break;
            }
            let result = match measured {
                Ok(measured) => RunResult::Measured(Box::new(measured)),
                Err(error) => RunResult::Failed(format!("{error:#}")),
            };
            self.progress
                .done(&self.title(planned), planned.scenario, &result);
            results.runs.all.push(Run {
                scenario: planned.scenario,
                case: planned.case.name.clone(),
                server: self.targets[planned.target].name.clone(),
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
                    let order = 0..self.targets.len();
                    let planned = |target| PlannedRun {
                        scenario: *scenario,
                        case,
                        target,
                        repeat,
                    };
                    // A B B A: the last one goes first.
                    if repeat % 2 == 0 {
                        planned_runs.extend(order.map(planned));
                    } else {
                        planned_runs.extend(order.rev().map(planned));
                    }
                }
            }
        }
        planned_runs
    }

    fn title(&self, planned: &PlannedRun<'_>) -> String {
        let PlannedRun {
            scenario,
            case,
            target,
            repeat,
        } = planned;
        let name = &self.targets[*target].name;
        format!(
            "{} {} {name} {}/{}",
            scenario.name(),
            case.name,
            repeat + 1,
            self.repeats
        )
    }

    fn estimate(planned: &PlannedRun<'_>) -> Duration {
        let one = |clients: usize| {
            let plan = &planned.case.plan;
            let joining =
                Duration::from_secs(1) * u32::try_from(clients).unwrap_or(u32::MAX) / JOINS_PER_S;
            plan.warm_up + plan.window + joining + RUN_BESIDES
        };
        match planned.case.method {
            Method::AsPlanned => one(planned.case.clients()),
            Method::LargestRoom { .. } if planned.repeat == 0 => {
                one(2 * planned.case.clients()) * PROBES_FIRST
            }
            Method::LargestRoom { .. } => one(2 * planned.case.clients()) * PROBES_LATER,
        }
    }

    fn measure(&self, planned: &PlannedRun<'_>, results: &Results) -> Result<Measured> {
        match planned.case.method {
            Method::AsPlanned => {
                let figures = self.once(planned, &planned.case.plan)?;
                Ok(Measured {
                    figures,
                    largest_room: None,
                    open_ended: false,
                    probes: Vec::new(),
                })
            }
            Method::LargestRoom { .. } => self.search(planned, results),
        }
    }

    /// One plan against one fresh server.
    fn once(&self, planned: &PlannedRun<'_>, plan: &Plan) -> Result<Figures> {
        let target = &self.targets[planned.target];
        let clients = plan.groups.iter().map(|group| group.clients).sum();
        let server = Server::start(
            target,
            planned.case.chat_interval,
            clients,
            self.cores,
            &self.log,
        )?;
        let mut monitor = Monitor::new(server.pid);
        let mut on_moment = |moment| {
            monitor.look(moment, plan.window);
            self.progress.moment(moment == Moment::WindowOpens);
        };
        let outcome = loadgen::run(
            plan,
            &server.endpoint,
            server.pinned,
            &self.stop,
            &mut on_moment,
        )
        .with_context(|| format!("{} clients", crate::results::text::number(clients as f64)))?;
        Ok(Figures::new(clients, &outcome, monitor.into_seen()))
    }

    /// The largest room that keeps its promise; beginning where an earlier repeat ended.
    fn search(&self, planned: &PlannedRun<'_>, results: &Results) -> Result<Measured> {
        let Method::LargestRoom {
            grid,
            guess,
            stride,
            p99_max_ms,
        } = planned.case.method
        else {
            unreachable!("asked of searches only")
        };
        let target = &self.targets[planned.target];
        let earlier = results
            .runs
            .measured(planned.scenario, &planned.case.name, &target.name)
            .find_map(|measured| measured.largest_room);
        let mut search = match earlier {
            Some(size) => Search::new(grid, size, 1),
            None => Search::new(grid, guess, stride),
        };
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
                    target.find()?;
                    // A room it cannot even fill is too large.
                    search.learn(false);
                    continue;
                }
            };
            let passed = keeps_promise(&figures, p99_max_ms);
            self.progress
                .probe(clients, passed, figures.corrected_ms.p99);
            probes.push(Probe {
                clients,
                passed,
                p99_ms: figures.corrected_ms.p99,
                deliveries_per_s: figures.deliveries_per_s,
                deliveries_due_per_s: figures.deliveries_due_per_s,
                server_cpu: figures.server.as_ref().map(|server| server.cpu),
                generator_cpu: figures.generator.cpu,
            });
            search.learn(passed);
            let better = best.as_ref().is_none_or(|best| {
                if keeps_promise(best, p99_max_ms) {
                    passed && clients > best.clients
                } else {
                    passed || clients < best.clients
                }
            });
            if better {
                best = Some(figures);
            }
        }
        let figures = best.context("the search has no size to try")?;
        Ok(Measured {
            figures,
            largest_room: search.answer(),
            open_ended: search.is_open_ended(),
            probes,
        })
    }
}

fn keeps_promise(figures: &Figures, p99_max_ms: f64) -> bool {
    figures.is_correct()
        && figures.corrected_ms.p99 <= p99_max_ms
        && figures.deliveries_per_s >= KEEPS_UP * figures.deliveries_due_per_s
}
