//! The forms of the report: [`table`] is what all of them have in common, [`answer`] is the answer in five lines;
//! [`terminal`], [`markdown`] and [`csv`] are short, [`list`] is what can be asked for; [`html`] is the whole report in one file, with [`charts`] drawn by [`svg`].

mod answer;
mod charts;
mod csv;
pub(crate) mod diff;
mod html;
pub(crate) mod list;
mod markdown;
mod svg;
mod table;
pub(crate) mod terminal;

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};

use crate::results::Results;
use crate::results::text::Lang;

/// Writes every form of the report that is a file into `out`.
pub(crate) fn write_all(results: &Results, lang: Lang, out: &Path) -> Result<()> {
    let files = [
        ("results.csv", csv::render(results)),
        ("results.md", markdown::render(results, lang)),
        ("report.html", html::render(results, lang)),
    ];
    for (name, content) in files {
        let path = out.join(name);
        fs::write(&path, content).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}
