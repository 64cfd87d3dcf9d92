//! The findings of a comparison, as they are saved: `results.json` is [`Results`], field by field.
//!
//! The schema in short: `runs` has each run with all its figures and raw histograms; `summaries` the median and the
//! spread of each figure over the repeats of a case; `comparisons` the first server against each other one;
//! `claims` the table of the guide; `warnings` what to doubt and what to do about it. Names of figures are those
//! of [`metric`], with their unit; times are in the unit that the name says; a field that could not be measured
//! is null or absent.
//!
//! In reading order: [`figures`] of one run and its [`timeline`], each with a name in [`metric`]; [`stats`] makes repeats a median and two
//! medians a ratio; [`runs`] is what was measured; [`comparison`], [`claims`], [`warning`] and [`assertion`] are what
//! follows from it, [`diff`] what has changed since another comparison, in the words of [`warning_text`] and the languages of [`text`].

pub(crate) mod assertion;
pub(crate) mod claims;
pub(crate) mod comparison;
pub(crate) mod diff;
pub(crate) mod figures;
pub(crate) mod metric;
pub(crate) mod runs;
pub(crate) mod stats;
pub(crate) mod text;
pub(crate) mod timeline;
pub(crate) mod warning;
mod warning_text;

use std::fs;
use std::io::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde::Serialize;

use crate::measure::environment::Environment;
use assertion::{Assertion, Verdict};
use claims::Claim;
use comparison::{Comparison, Line};
use runs::{Participant, Runs};
use text::Text;
use warning::Warning;

/// Changes when a field changes its meaning.
const SCHEMA: &str = "ws-realtime-lab/compare/1";

/// A whole comparison.
#[derive(Debug, Serialize)]
pub(crate) struct Results {
    schema: &'static str,
    /// False where it was interrupted.
    pub(crate) complete: bool,
    pub(crate) took_s: f64,
    pub(crate) environment: Environment,
    pub(crate) skipped: Vec<Skipped>,
    #[serde(flatten)]
    pub(crate) runs: Runs,
    pub(crate) summaries: Vec<Line>,
    pub(crate) comparisons: Vec<Comparison>,
    pub(crate) claims: Vec<Claim>,
    pub(crate) warnings: Vec<Warned>,
    pub(crate) assertions: Vec<Verdict>,
}

/// A server that does not take part, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Skipped {
    pub(crate) server: String,
    pub(crate) reason: String,
}

/// A warning with its words.
#[derive(Debug, Serialize)]
pub(crate) struct Warned {
    #[serde(flatten)]
    pub(crate) warning: Warning,
    pub(crate) says: Text,
    pub(crate) advice: Text,
}

impl Results {
    pub(crate) fn new(
        environment: Environment,
        repeats: usize,
        servers: Vec<Participant>,
        skipped: Vec<Skipped>,
    ) -> Self {
        Self {
            schema: SCHEMA,
            complete: false,
            took_s: 0.0,
            environment,
            skipped,
            runs: Runs {
                repeats,
                servers,
                all: Vec::new(),
            },
            summaries: Vec::new(),
            comparisons: Vec::new(),
            claims: Vec::new(),
            warnings: Vec::new(),
            assertions: Vec::new(),
        }
    }

    /// Draws the conclusions from the runs so far.
    pub(crate) fn conclude(&mut self, assertions: &[Assertion]) {
        self.summaries = comparison::summarize(&self.runs);
        self.comparisons = comparison::compare(&self.runs);
        self.warnings = warning::find(&self.runs, &self.environment)
            .into_iter()
            .map(|warning| Warned {
                says: warning.says(),
                advice: warning.advice(),
                warning,
            })
            .collect();
        self.claims = claims::judge(&self.runs);
        let check = |assertion: &Assertion| assertion.check(&self.runs);
        self.assertions = assertions.iter().map(check).collect();
    }

    /// Writes all of it; a reader never sees half a file.
    pub(crate) fn save(&self, path: &Path) -> Result<()> {
        let part = path.with_extension("json.part");
        let write = || {
            let mut file = std::io::BufWriter::new(fs::File::create(&part)?);
            serde_json::to_writer(&mut file, self)?;
            file.flush()?;
            fs::rename(&part, path)
        };
        write().with_context(|| {
            // Half a file is of no use, least of all on a full disk.
            let _ = fs::remove_file(&part);
            format!("cannot write {}", path.display())
        })
    }
}
