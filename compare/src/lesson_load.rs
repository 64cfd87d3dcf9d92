//! The load of a lesson: what it asks of the command line.

use std::time::Duration;

use crate::cli::Args;
use crate::lesson::{BLOCKED, FREE, Lesson, STALL};
use crate::plan::scenario::Scenario;
use crate::run::target::{Choice, Known, Start, Target};

const ROOM: usize = 3_000;
const IDLE: usize = 5_000;
const FAN_OUT: usize = 200;
const DRAIN_MAX: Duration = Duration::from_secs(2);

impl Lesson {
    /// Asks for its load; what was asked for besides stays.
    pub(crate) fn prepare(self, args: &mut Args) {
        let known = |names: &[(Known, Option<&str>)]| {
            names
                .iter()
                .map(|&(known, variant)| Choice::new(known, variant))
                .collect()
        };
        let both = known(&[(Known::Evloop, None), (Known::Thread, None)]);
        let direct = (Known::Thread, Some("direct"));
        let (servers, scenario, clients, rate) = match self {
            Self::OneLoop => (known(&[(Known::Evloop, None)]), Scenario::Room, ROOM, None),
            Self::ThreadPerClient => (both, Scenario::Idle, IDLE, None),
            Self::SlowReader => (
                known(&[(Known::Evloop, None), (Known::Thread, None), direct]),
                Scenario::Slow,
                50,
                Some(1_500),
            ),
            Self::BlockingCall => (Vec::new(), Scenario::Fanout, 100, Some(500)),
            Self::NaiveFanOut => (
                known(&[(Known::Evloop, None), (Known::Thread, None), direct]),
                Scenario::Fanout,
                FAN_OUT,
                Some(2_000),
            ),
            Self::CoordinatedOmission => (Vec::new(), Scenario::Echo, 5, Some(5_000)),
        };
        let fake = |name: &str, flags: &[&str]| Target {
            name: name.to_owned(),
            start: Start::Fake(flags.iter().map(|&flag| flag.to_owned()).collect()),
        };
        match self {
            Self::BlockingCall => args.fake = vec![fake(FREE, &[]), fake(BLOCKED, &STALL)],
            Self::CoordinatedOmission => args.fake = vec![fake(BLOCKED, &STALL)],
            _ => args.server = servers,
        }
        args.scenario = vec![scenario];
        let clients = u32::try_from(clients).expect("thousands");
        args.clients = args.clients.or(Some(clients));
        args.rate = args.rate.or(rate);
        args.repeats = args.repeats.or(Some(1));
        args.window = args.window.or(Some(Duration::from_secs(3)));
        // A lesson lasts less than a minute, whatever has stuck.
        args.drain = args.drain.min(DRAIN_MAX);
    }
}
