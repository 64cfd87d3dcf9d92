//! The list of all that can be named on the command line: scenarios, servers, figures.

use std::fmt::Write as _;

use clap::ValueEnum;

use super::table;
use super::terminal::Page;
use crate::plan::scenario::Scenario;
use crate::results::metric;
use crate::results::text::{Text, text};

/// `servers` are names with what each is.
pub(crate) fn render(page: Page, servers: &[(&str, String)]) -> String {
    let of_scenario = |scenario: Scenario| (scenario.name(), table::title(scenario));
    let of_server = |(name, help): &(_, String)| (*name, Text::same(help.as_str()));
    let figures = metric::ALL.iter();
    let sections = [
        (
            text!("Kịch bản (--scenario)", "Scenarios (--scenario)"),
            Scenario::value_variants()
                .iter()
                .copied()
                .map(of_scenario)
                .collect(),
        ),
        (
            text!("Máy chủ (--server)", "Servers (--server)"),
            servers.iter().map(of_server).collect(),
        ),
        (
            text!(
                "Con số (--assert SERVER.SCENARIO.CON_SỐ<=SỐ)",
                "Figures (--assert SERVER.SCENARIO.FIGURE<=NUMBER)"
            ),
            figures
                .map(|it| (it.name, table::heading(it)))
                .collect::<Vec<(&str, Text)>>(),
        ),
    ];
    let mut out = String::new();
    for (title, rows) in sections {
        let mut drawn = page.table();
        for (name, help) in rows {
            drawn.add_row([&format!("  {name}"), help.get(page.lang)]);
        }
        let title = title.get(page.lang);
        writeln!(out, "{title}\n{}\n", drawn.trim_fmt()).expect("writing to memory does not fail");
    }
    out
}
