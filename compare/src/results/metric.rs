//! The figures that are compared, by name: the meaning of each, which way it is better, and where a run has it.

use serde::Serialize;

use super::figures::{Figures, Percentiles, ServerFigures};
use super::stats::Better;
use crate::plan::scenario::Scenario;

const KIB: f64 = 1024.0;

/// One named figure.
pub(crate) struct Metric {
    /// As in the results and in `--assert`; the unit is in the name.
    pub(crate) name: &'static str,
    pub(crate) vi: &'static str,
    pub(crate) en: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) better: Better,
    of: fn(&Measured) -> Option<f64>,
}

/// What one run of a case brought.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Measured {
    /// Of a search: of the largest room that passed, or of the smallest where none did.
    pub(crate) figures: Figures,
    /// Of a search: the largest room that kept its promise.
    pub(crate) largest_room: Option<usize>,
    /// Of a search: none of the sizes failed, so a larger room might do.
    pub(crate) open_ended: bool,
    /// Of a search: each size tried.
    pub(crate) probes: Vec<Probe>,
}

/// One size tried in a search.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Probe {
    pub(crate) clients: usize,
    pub(crate) passed: bool,
    pub(crate) p99_ms: f64,
    pub(crate) deliveries_per_s: f64,
    pub(crate) deliveries_due_per_s: f64,
    pub(crate) server_cpu: Option<f64>,
    pub(crate) generator_cpu: Option<f64>,
}

impl Probe {
    pub(crate) fn of(figures: &Figures, passed: bool) -> Self {
        Self {
            clients: figures.clients,
            passed,
            p99_ms: figures.corrected_ms.p99,
            deliveries_per_s: figures.deliveries_per_s,
            deliveries_due_per_s: figures.deliveries_due_per_s,
            server_cpu: figures.server.as_ref().map(|server| server.cpu),
            generator_cpu: figures.generator.cpu,
        }
    }
}

impl Metric {
    /// The figure of one run, where it has one.
    pub(crate) fn of(&self, measured: &Measured) -> Option<f64> {
        (self.of)(measured)
    }

    pub(crate) fn by_name(name: &str) -> Option<&'static Self> {
        ALL.iter().copied().find(|metric| metric.name == name)
    }
}

macro_rules! metrics {
    ($($id:ident = $name:literal, $vi:literal, $en:literal, $unit:literal, $better:ident, $of:expr;)*) => {
        $(pub(crate) const $id: Metric = Metric {
            name: $name, vi: $vi, en: $en, unit: $unit, better: Better::$better, of: $of,
        };)*
        /// Every metric, in the order of the tables.
        pub(crate) const ALL: &[&Metric] = &[$(&$id),*];
    };
}

metrics! {
    LARGEST_ROOM = "largest_room", "Phòng lớn nhất", "largest room", "clients", Higher,
        |m| m.largest_room.map(|clients| clients as f64);
    DELIVERIES = "deliveries_per_s", "Tin giao được", "deliveries", "/s", Higher,
        |m| some(m.figures.deliveries_per_s);
    GBIT = "gbit_per_s", "Dữ liệu giao được", "data delivered", "Gbit/s", Higher, |m| some(m.figures.megabytes_per_s * 8.0 / 1e3);
    HANDSHAKES = "handshakes_per_s", "Bắt tay", "handshakes", "/s", Higher, |m| some(m.figures.visits_per_s);
    STORM = "storm_s", "Bão kết nối lại", "storm: all back", "s", Lower, |m| m.figures.storm_s;
    P50 = "p50_ms", "Độ trễ p50", "latency p50", "ms", Lower, |m| latency(m, |p| p.p50);
    P90 = "p90_ms", "Độ trễ p90", "latency p90", "ms", Lower, |m| latency(m, |p| p.p90);
    P99 = "p99_ms", "Độ trễ p99", "latency p99", "ms", Lower, |m| latency(m, |p| p.p99);
    P99_9 = "p99_9_ms", "Độ trễ p99.9", "latency p99.9", "ms", Lower, |m| latency(m, |p| p.p99_9);
    MAX = "max_ms", "Độ trễ lớn nhất", "latency max", "ms", Lower, |m| latency(m, |p| p.max);
    ARRIVAL_P99 = "arrival_p99_ms", "p99 lúc tới nơi", "p99 by arrival", "ms", Lower, |m| {
        (m.figures.arrival_ms.count > 0).then_some(m.figures.arrival_ms.p99)
    };
    OWN_P99 = "generator_own_p99_ms", "p99 chờ được đọc", "p99 wait to be read", "ms", Neither, |m| {
        let own = &m.figures.generator.read_after_ms;
        (own.count > 0).then_some(own.p99)
    };
    UNCORRECTED_P99 = "uncorrected_p99_ms", "p99 chưa hiệu chỉnh", "p99 uncorrected", "ms", Lower, |m| {
        let percentiles = m.figures.uncorrected();
        (percentiles.count > 0).then_some(percentiles.p99)
    };
    TICK_P99 = "tick_p99_ms", "Nhịp dashboard trễ p99", "tick lateness p99", "ms", Lower, |m| {
        (m.figures.tick_late_ms.count > 0).then_some(m.figures.tick_late_ms.p99)
    };
    CPU = "cpu_percent", "CPU máy chủ", "server CPU", "%", Lower, |m| server(m, |s| Some(s.cpu * 100.0));
    USER_SHARE = "user_percent", "CPU trong không gian người dùng", "of it in user space", "%", Neither, |m| {
        server(m, |s| (s.cpu > 0.0).then_some(s.user_share * 100.0))
    };
    CPU_PER_DELIVERY = "cpu_us_per_delivery", "CPU mỗi lần giao", "CPU per delivery", "µs", Lower,
        |m| server(m, |s| s.cpu_us_per_delivery);
    CPU_PER_VISIT = "cpu_us_per_visit", "CPU mỗi lượt ghé (vào rồi ra)", "CPU per visit (in and out)", "µs", Lower,
        |m| server(m, |s| s.cpu_us_per_visit);
    CPU_PER_JOIN = "cpu_us_per_join", "CPU mỗi lần vào", "CPU per join", "µs", Lower, |m| server(m, |s| s.cpu_us_per_join);
    RESIDENT_PER_CLIENT = "resident_kib_per_client", "Bộ nhớ mỗi client", "memory per client", "KiB", Lower,
        |m| server(m, |s| s.resident_per_client_bytes.map(|bytes| bytes / KIB));
    KERNEL_PER_CLIENT = "kernel_kib_per_client", "Bộ nhớ nhân mỗi client", "kernel memory per client", "KiB", Lower,
        |m| server(m, |s| s.kernel_per_client_bytes.map(|bytes| bytes / KIB));
    MILLION = "million_clients_gib", "Một triệu client sẽ cần", "a million clients would take", "GiB", Lower, |m| {
        server(m, |s| {
            let each = s.resident_per_client_bytes? + s.kernel_per_client_bytes.unwrap_or(0.0);
            (each > 0.0).then_some(each * 1e6 / KIB / KIB / KIB)
        })
    };
    CLIENTS_PER_CORE = "clients_per_core", "Client mỗi lõi, theo CPU", "clients per core, by CPU", "", Higher, |m| {
        server(m, |s| (s.cpu > 0.0).then_some(m.figures.clients as f64 / s.cpu))
    };
    CLIENTS = "clients", "Client", "clients", "", Neither, |m| some(m.figures.clients as f64);
    RESIDENT = "resident_mib", "Bộ nhớ thường trú", "resident memory", "MiB", Lower,
        |m| server(m, |s| some(s.used.resident_loaded_bytes as f64 / KIB / KIB));
    THREADS = "threads", "Luồng", "threads", "", Lower, |m| server(m, |s| some(s.used.threads as f64));
    SWITCHES = "switches_per_1000", "Chuyển ngữ cảnh / 1000 lần giao", "context switches in 1,000 deliveries", "", Lower,
        |m| server(m, |s| s.switches_per_thousand(m.figures.deliveries_per_s * m.figures.window_s));
    VOLUNTARY = "voluntary_switches", "Chuyển ngữ cảnh tự nguyện", "voluntary context switches", "", Neither,
        |m| server(m, |s| s.used.switches.map(|switches| switches.voluntary as f64));
    INVOLUNTARY = "involuntary_switches", "Chuyển ngữ cảnh bị ép", "involuntary context switches", "", Neither,
        |m| server(m, |s| s.used.switches.map(|switches| switches.involuntary as f64));
    REFUSED = "refused_per_s", "Tin spam bị từ chối", "spam refused", "/s", Neither, |m| {
        (m.figures.ends.spam_refused > 0).then_some(m.figures.ends.spam_refused as f64 / m.figures.window_s)
    };
    UNSENT = "unsent", "Đến hạn mà chưa gửi", "due and not sent", "", Lower, |m| some(m.figures.unsent as f64);
    ERRORS = "errors", "Lỗi", "errors", "", Lower, |m| {
        Some(m.figures.errors.iter().map(|&(_, count)| count as f64).sum())
    };
    GENERATOR_CPU = "generator_percent", "CPU bộ sinh tải", "generator CPU", "%", Neither,
        |m| m.figures.generator.cpu.map(|cpu| cpu * 100.0);
}

/// The figures that answer a scenario's question, the most telling first.
pub(crate) fn headlines(scenario: Scenario) -> &'static [&'static Metric] {
    match scenario {
        Scenario::Idle => &[&RESIDENT_PER_CLIENT, &KERNEL_PER_CLIENT, &THREADS, &CPU],
        Scenario::Connect => &[&HANDSHAKES, &CPU_PER_VISIT, &CPU_PER_JOIN, &STORM, &P99],
        Scenario::Echo => &[&P50, &P99, &DELIVERIES, &GBIT, &CPU_PER_DELIVERY, &SWITCHES],
        Scenario::Room => &[
            &LARGEST_ROOM,
            &DELIVERIES,
            &GBIT,
            &P99,
            &ARRIVAL_P99,
            &CPU_PER_DELIVERY,
            &SWITCHES,
        ],
        Scenario::Fanout => &[
            &P50,
            &P99,
            &ARRIVAL_P99,
            &DELIVERIES,
            &GBIT,
            &CPU_PER_DELIVERY,
        ],
        Scenario::Dashboard => &[&P99, &MAX, &CPU],
        Scenario::Slow => &[&P99, &P50, &RESIDENT],
        Scenario::Spam => &[&P99, &REFUSED, &CPU],
        Scenario::Stall => &[&P99, &HANDSHAKES, &CPU_PER_VISIT],
        Scenario::Sparse => &[&CLIENTS_PER_CORE, &P99, &CPU, &RESIDENT_PER_CLIENT],
        Scenario::C1m => &[
            &MILLION,
            &CLIENTS,
            &RESIDENT_PER_CLIENT,
            &KERNEL_PER_CLIENT,
            &CPU,
        ],
        Scenario::Mixed => &[&P99, &TICK_P99, &CPU, &RESIDENT],
    }
}

fn some(value: f64) -> Option<f64> {
    (value > 0.0).then_some(value)
}

fn latency(measured: &Measured, pick: fn(&Percentiles) -> f64) -> Option<f64> {
    let percentiles = measured.figures.latency();
    (percentiles.count > 0).then(|| pick(percentiles))
}

fn server(measured: &Measured, pick: impl Fn(&ServerFigures) -> Option<f64>) -> Option<f64> {
    measured.figures.server.as_ref().and_then(pick)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_is_found_by_its_name_alone() {
        for metric in ALL {
            assert_eq!(
                Metric::by_name(metric.name).unwrap().en,
                metric.en,
                "{} is taken twice",
                metric.name
            );
        }
        assert!(Metric::by_name("speed").is_none());
    }
}
