//! The kept records as a trace for Perfetto: JSON in the `trace_event` format.
//!
//! <https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU> describes it: complete events
//! (`"ph":"X"`) of one thread must lie within each other or beside each other.

use serde::Serialize;
use serde_json::{Value, json};

use super::Inside;
use super::threads::{Span, TICKER};
use super::turns::{Stage, TurnRecord};

#[derive(Debug, Serialize)]
struct Trace<'a> {
    #[serde(rename = "displayTimeUnit")]
    unit: &'static str,
    #[serde(rename = "otherData")]
    about: Value,
    #[serde(rename = "traceEvents")]
    events: Vec<Event<'a>>,
}

#[derive(Debug, Serialize)]
struct Event<'a> {
    name: &'a str,
    ph: &'static str,
    /// Microseconds, as the format has them.
    ts: f64,
    dur: f64,
    pid: u8,
    tid: u32,
    #[serde(skip_serializing_if = "Value::is_null")]
    args: Value,
}

/// The thread of the loop, and in the thread server of the ticker. Clients follow, from 2 on.
const MAIN: u32 = 1;
/// Snapshots of slow turns come in rows of their own.
const SLOW: u32 = 1_000_000;

/// All that is kept: the last turns and the slow ones, or the last spans of threads.
///
/// # Panics
/// Never: plain data is written to memory.
pub(crate) fn trace(inside: &Inside, model: &str) -> String {
    let mut events = Vec::new();
    let turns = inside.turns.lock();
    let (first, kept) = turns.kept();
    for (number, turn) in (first..).zip(kept) {
        push_turn(&mut events, number, turn, MAIN);
    }
    for (row, slow) in (SLOW..).zip(turns.slow()) {
        let first = slow.number + 1 - slow.turns.len() as u64;
        for (number, turn) in (first..).zip(&slow.turns) {
            push_turn(&mut events, number, turn, row);
        }
    }
    drop(turns);
    let spans = inside.threads.kept();
    push_spans(&mut events, &spans);
    let trace = Trace {
        unit: "ns",
        about: json!({ "server": model }),
        events,
    };
    serde_json::to_string(&trace).expect("plain data, written to memory")
}

fn push_turn(events: &mut Vec<Event<'_>>, number: u64, turn: &TurnRecord, tid: u32) {
    let wait = u64::from(turn.stages[0]);
    let mut at = turn.start + wait;
    events.push(event("wait", turn.start, wait, tid, Value::Null));
    let args = json!({
        "turn": number, "ready": turn.ready, "served": turn.served, "members": turn.members,
        "bytes_in": turn.bytes_in, "bytes_out": turn.bytes_out, "lag": turn.lag,
        "timers": turn.fired, "accepted": turn.accepted,
    });
    events.push(event("turn", at, turn.busy(), tid, args));
    for (stage, length) in Stage::ALL.into_iter().zip(turn.stages).skip(1) {
        if length > 0 {
            events.push(event(stage.name(), at, length.into(), tid, Value::Null));
        }
        at += u64::from(length);
    }
}

/// A thread waits, and sends, within what it does for one message; so its spans never cross. They are kept in the order
/// in which they end.
fn push_spans(events: &mut Vec<Event<'_>>, spans: &[Span]) {
    for span in spans {
        let tid = if span.thread == TICKER {
            MAIN
        } else {
            span.thread + 2
        };
        events.push(event(
            span.state.name(),
            span.start,
            span.length.into(),
            tid,
            Value::Null,
        ));
    }
}

fn event(name: &'static str, start: u64, length: u64, tid: u32, args: Value) -> Event<'static> {
    Event {
        name,
        ph: "X",
        ts: start as f64 / 10.0,
        dur: length as f64 / 10.0,
        pid: 1,
        tid,
        args,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;
    use crate::core::inside::tests::for_tests;
    use crate::core::inside::threads::ThreadState;

    /// Whether the events of each thread lie within or beside each other.
    fn is_nested(trace: &Value) -> bool {
        let mut threads: HashMap<u64, Vec<(u64, u64)>> = HashMap::new();
        let ticks = |value: &Value| {
            let ticks = value.as_f64().expect("a number") * 10.0;
            format!("{ticks:.0}")
                .parse::<u64>()
                .expect("no less than zero")
        };
        for event in trace["traceEvents"].as_array().expect("events") {
            let start = ticks(&event["ts"]);
            let tid = event["tid"].as_u64().expect("a thread");
            let span = (start, start + ticks(&event["dur"]));
            threads.entry(tid).or_default().push(span);
        }
        threads.into_values().all(|mut spans| {
            spans.sort_by_key(|(start, end)| (*start, u64::MAX - end));
            let mut open: Vec<u64> = Vec::new();
            spans.into_iter().all(|(start, end)| {
                while open.last().is_some_and(|outer| *outer <= start) {
                    open.pop();
                }
                let within = open.last().is_none_or(|outer| end <= *outer);
                open.push(end);
                within
            })
        })
    }

    proptest! {
        #[test]
        fn stages_lie_within_their_turns_and_turns_beside_each_other(turns in prop::collection::vec(any::<[u16; 7]>(), 0..200)) {
            let inside = for_tests(4);
            let mut start = 3;
            for stages in turns {
                let stages = stages.map(u32::from);
                let number = inside.turns.lock().push(TurnRecord { start, stages, ..TurnRecord::default() });
                if number.is_multiple_of(50) {
                    inside.turns.lock().keep_slow();
                }
                start += stages.iter().copied().map(u64::from).sum::<u64>();
            }
            let trace: Value = serde_json::from_str(&trace(&inside, "evloop")).expect("JSON");
            prop_assert!(is_nested(&trace));
        }
    }

    #[test]
    fn spans_of_threads_are_rows_of_their_own() {
        let inside = for_tests(4);
        for thread in [0, 1, TICKER] {
            inside.threads.push(Span {
                start: 5,
                length: 20,
                thread,
                state: ThreadState::Sending,
            });
        }
        let trace: Value = serde_json::from_str(&trace(&inside, "threads")).expect("JSON");
        let rows: Vec<_> = trace["traceEvents"]
            .as_array()
            .expect("events")
            .iter()
            .map(|event| {
                (
                    event["tid"].clone(),
                    event["name"].clone(),
                    event["dur"].clone(),
                )
            })
            .collect();
        let row = |tid: u32| (json!(tid), json!("send"), json!(2.0));
        assert_eq!(rows, [row(2), row(3), row(1)]);
        assert!(is_nested(&trace));
    }

    #[test]
    fn the_check_sees_events_that_cross() {
        let crossing = json!({"traceEvents": [
            {"ts": 0.0, "dur": 10.0, "tid": 1}, {"ts": 5.0, "dur": 10.0, "tid": 1},
        ]});
        assert!(!is_nested(&crossing));
    }
}
