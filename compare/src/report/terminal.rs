//! One run's figures as text.

use std::fmt::Write as _;

use crate::figures::{Figures, Percentiles, ServerFigures};

/// A line for each group of figures.
pub(crate) fn render(figures: &Figures) -> String {
    let mut out = String::new();
    write_all(&mut out, figures).expect("writing to memory does not fail");
    out
}

fn write_all(out: &mut String, figures: &Figures) -> std::fmt::Result {
    writeln!(
        out,
        "clients      {}, joined at {:.0}/s, {}",
        figures.clients,
        figures.joins_per_s,
        line(&figures.join_ms)
    )?;
    writeln!(
        out,
        "deliveries   {:.0}/s made, {:.0}/s due, {:.1} MB/s, window {:.2} s",
        figures.deliveries_per_s, figures.deliveries_due_per_s, figures.megabytes_per_s, figures.window_s
    )?;
    writeln!(out, "messages     {} due, {} of them never sent", figures.due, figures.unsent)?;
    writeln!(
        out,
        "exactness    {} of {} received; clients short {}, over {}; orders heard {}",
        figures.received, figures.expected, figures.clients_short, figures.clients_over, figures.orders
    )?;
    writeln!(out, "corrected    {}", line(&figures.corrected_ms))?;
    writeln!(out, "uncorrected  {}", line(&figures.uncorrected_ms))?;
    let cpu = figures.generator_cpu.map_or_else(|| "CPU unknown".to_owned(), |cpu| format!("CPU {:.0}%", cpu * 100.0));
    writeln!(out, "generator    {cpu}, late {}", line(&figures.generator_late_ms))?;
    writeln!(out, "  its turns  {}", line(&figures.generator_turn_ms))?;
    if let Some(server) = &figures.server {
        write_server(out, server)?;
    }
    for (trouble, count) in &figures.troubles {
        writeln!(out, "trouble      {}: {count}", trouble.label())?;
    }
    writeln!(out, "verdict      {}", if figures.is_correct() { "correct" } else { "NOT CORRECT" })
}

fn write_server(out: &mut String, server: &ServerFigures) -> std::fmt::Result {
    let used = &server.used;
    let mib = |bytes: u64| bytes as f64 / 1_048_576.0;
    writeln!(
        out,
        "server       CPU {:.0}% ({:.1}% of it user), {:.3} us a delivery, {} threads",
        server.cpu * 100.0,
        server.user_share * 100.0,
        server.cpu_us_per_delivery,
        used.threads
    )?;
    writeln!(
        out,
        "memory       {:.1} MiB before, {:.1} joined, {:.1} loaded; {:.0} bytes a client",
        mib(used.resident_before_bytes.unwrap_or(0)),
        mib(used.resident_joined_bytes.unwrap_or(0)),
        mib(used.resident_loaded_bytes),
        server.resident_per_client_bytes.unwrap_or(0.0)
    )?;
    let switches = used.switches.unwrap_or_default();
    writeln!(out, "switches     {} voluntary, {} involuntary", switches.voluntary, switches.involuntary)
}

fn line(percentiles: &Percentiles) -> String {
    let Percentiles { count, p50, p90, p99, p99_9, max } = percentiles;
    format!("ms p50 {p50:.3}  p90 {p90:.3}  p99 {p99:.3}  p99.9 {p99_9:.3}  max {max:.3}  ({count} samples)")
}
