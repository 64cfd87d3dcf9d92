//! The loads of each scenario: a few plans made from sizes, none with code of its own.

use std::time::Duration;

use crate::plan::scenario::Scenario;
use crate::plan::search::{Grid, Search};
use crate::plan::{Ending, Group, Pace, Plan, Role};

/// One load of a scenario.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Case {
    /// Tells it from the scenario's other cases: `clients-1000`.
    pub(crate) name: String,
    pub(crate) plan: Plan,
    pub(crate) method: Method,
    /// What the server is told as its least time between two messages of a client.
    pub(crate) chat_interval: Duration,
}

/// How a case is measured.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Method {
    /// The plan as it is.
    AsPlanned,
    /// The plan with fewer clients where there is no room for all.
    AsManyAsFit,
    /// The largest room in which the plan holds, everyone speaking once a second.
    LargestRoom(RoomSearch),
}

/// The sizes of a search, and where it begins.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct RoomSearch {
    grid: Grid,
    guess: usize,
    stride: u16,
}

impl RoomSearch {
    /// Begins at the answer of an earlier search, where there is one.
    pub(crate) fn begin(self, earlier: Option<usize>) -> Search {
        match earlier {
            Some(size) => Search::new(self.grid, size, 1),
            None => Search::new(self.grid, self.guess, self.stride),
        }
    }
}

/// The sizes scenarios are made with; what is set here overrides the scenario's own.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Sizes {
    pub(crate) extent: Extent,
    pub(crate) clients: Option<usize>,
    pub(crate) rate_per_s: Option<u64>,
    /// Percent of the clients of `slow` that never read.
    pub(crate) non_reading_percent: usize,
    pub(crate) sampled: usize,
    pub(crate) text_bytes: Option<usize>,
    pub(crate) warm_up: Option<Duration>,
    pub(crate) window: Option<Duration>,
    pub(crate) drain_max: Duration,
}

/// How thorough.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extent {
    Quick,
    Thorough,
}

/// What a p99 must not exceed for a room to count as working.
pub(crate) const ROOM_P99_MAX_MS: f64 = 100.0;
/// The protocol's own limit on how often a client may speak.
const CHAT_INTERVAL: Duration = Duration::from_secs(1);
/// Long enough for a server that takes a hundred a second.
const JOIN_MAX: Duration = Duration::from_mins(1);
const TEXT_BYTES: usize = 16;
const SLOW_TEXT_BYTES: usize = 500;
const SLOW_RATE_PER_S: u64 = 4_000;
/// Until the buffers of the clients that do not read are full.
const SLOW_WARM_UP: Duration = Duration::from_secs(2);
const VISITORS: usize = 64;
/// In a large room it takes a while until every socket has the buffers it needs.
const ROOM_WARM_UP: Duration = Duration::from_secs(1);
/// A large room tells of its arrivals in a summary a second later; that is not what its idle members cost.
const CALM_AFTER: Duration = Duration::from_millis(1_200);
/// What one generator and the ports of this machine carry.
const C1M_CLIENTS: usize = 60_000;
const ROOM_LEAST: usize = 20;
const ROOM_MOST: usize = 16_000;
/// A larger room alone takes ten seconds.
const ROOM_MOST_QUICK: usize = 7_200;
const SPAM_MESSAGES_PER_S: u64 = 40;

impl Scenario {
    /// The loads it consists of.
    pub(crate) fn cases(self, sizes: &Sizes) -> Vec<Case> {
        match self {
            Self::Idle => growth(
                sizes,
                &[1_000, 5_000],
                &[100, 1_000, 5_000, 10_000],
                |clients| sizes.of_one_group(clients, Role::Listen).calm(sizes),
            ),
            Self::Connect => connect(sizes),
            Self::Echo => {
                let pace = sizes
                    .rate_per_s
                    .map_or(Pace::Closed, |group_per_s| Pace::Rate { group_per_s });
                vec![sizes.of_one_group(sizes.clients.unwrap_or(100), Role::Echo { pace })]
            }
            Self::Room => vec![room(sizes)],
            Self::Fanout => fanout(sizes),
            Self::Dashboard => growth(sizes, &[2_000], &[1_000, 5_000], |clients| {
                let case = sizes.of_one_group(clients, Role::Subscribe);
                case.whole_ticks(sizes)
            }),
            Self::Slow => slow(sizes),
            Self::Spam => vec![spam(sizes)],
            Self::Stall => stall(sizes),
            Self::Mixed => vec![mixed(sizes)],
            Self::Sparse => vec![sparse(sizes)],
            Self::C1m => vec![c1m(sizes)],
        }
    }
}

fn speak(rate_per_s: u64) -> Role {
    Role::Speak { rate_per_s }
}

impl Group {
    /// Clients that only count what they receive, if that.
    fn unsampled(clients: usize, role: Role) -> Self {
        Self {
            clients,
            sampled: 0,
            role,
        }
    }
}

/// One case for each size, for a scenario that looks at how something grows.
fn growth(
    sizes: &Sizes,
    quick: &[usize],
    thorough: &[usize],
    case: impl Fn(usize) -> Case,
) -> Vec<Case> {
    match sizes.clients {
        Some(clients) => vec![case(clients)],
        None => sizes
            .pick(quick, thorough)
            .iter()
            .copied()
            .map(case)
            .collect(),
    }
}

fn connect(sizes: &Sizes) -> Vec<Case> {
    let visitors = sizes.clients.unwrap_or(VISITORS);
    let dropped = sizes.clients.unwrap_or(sizes.pick(1_000, 2_000));
    let group = sizes.group(dropped, Role::Sit);
    let storm = sizes.case(format!("storm-{dropped}"), vec![group]);
    let mut storm = storm.calm(sizes);
    storm.plan.ending = Ending::Storm;
    vec![
        sizes.case(
            format!("visitors-{visitors}"),
            vec![sizes.group(visitors, Role::Visit { pace: Pace::Closed })],
        ),
        storm,
    ]
}

fn room(sizes: &Sizes) -> Case {
    if let Some(clients) = sizes.clients {
        return sizes.case(format!("clients-{clients}"), sizes.room_of(clients));
    }
    let (steps_per_doubling, guess, most) =
        sizes.pick((2, 2_600, ROOM_MOST_QUICK), (6, 1_000, ROOM_MOST));
    let grid = Grid {
        steps_per_doubling,
        least: ROOM_LEAST,
        most,
    };
    let mut case = sizes.case("largest".to_owned(), sizes.room_of(guess));
    case.plan.warm_up = sizes.warm_up.unwrap_or(ROOM_WARM_UP);
    case.method = Method::LargestRoom(RoomSearch {
        grid,
        guess,
        stride: steps_per_doubling,
    });
    case
}

fn fanout(sizes: &Sizes) -> Vec<Case> {
    let clients = sizes.clients.unwrap_or(100);
    let case = |rate_per_s| {
        let group = sizes.group(clients, Role::Speak { rate_per_s });
        sizes.case(format!("rate-{rate_per_s}"), vec![group])
    };
    let rates: &[u64] = sizes.pick(&[100, 2_000], &[100, 1_000, 3_000, 10_000]);
    match sizes.rate_per_s {
        Some(rate) => vec![case(rate)],
        None => rates.iter().copied().map(case).collect(),
    }
}

/// The same readers with and without others that never read, so that the difference is theirs.
fn slow(sizes: &Sizes) -> Vec<Case> {
    let clients = sizes.clients.unwrap_or(50);
    let non_reading = clients * sizes.non_reading_percent / 100;
    let reading = clients - non_reading;
    // Fast enough to fill what the kernel and the server keep for clients that do not read.
    let rate_per_s = sizes
        .rate_per_s
        .unwrap_or(SLOW_RATE_PER_S.max(reading as u64));
    let case = |non_reading: usize| {
        let groups = vec![
            sizes.group(reading, Role::Speak { rate_per_s }),
            Group::unsampled(non_reading, Role::NonReading),
        ];
        let mut case = sizes.case(format!("deaf-{non_reading}"), groups);
        case.plan.text_bytes = sizes.text_bytes.unwrap_or(SLOW_TEXT_BYTES);
        let warm_up = sizes.pick(SLOW_WARM_UP / 2, SLOW_WARM_UP);
        case.plan.warm_up = sizes.warm_up.unwrap_or(warm_up);
        case
    };
    let with_some = (non_reading > 0).then(|| case(non_reading));
    std::iter::once(case(0)).chain(with_some).collect()
}

fn spam(sizes: &Sizes) -> Case {
    let spammers = sizes.clients.unwrap_or(200);
    let honest = spammers / 2;
    let rate_per_s = sizes
        .rate_per_s
        .unwrap_or(spammers as u64 * SPAM_MESSAGES_PER_S);
    // Half as often as they may, so that none of theirs is refused for being a little early.
    let honest_per_s = (honest as u64 / 2).max(1);
    let groups = vec![
        sizes.group(honest, speak(honest_per_s)),
        Group::unsampled(spammers, Role::Spam { rate_per_s }),
    ];
    let mut case = sizes.case(format!("spammers-{spammers}"), groups);
    case.chat_interval = CHAT_INTERVAL;
    case
}

/// The same visitors with and without half-open handshakes.
fn stall(sizes: &Sizes) -> Vec<Case> {
    let half_open = sizes.clients.unwrap_or(1_000);
    let case = |half_open: usize| {
        let groups = vec![
            sizes.group(VISITORS / 4, Role::Visit { pace: Pace::Closed }),
            Group::unsampled(half_open, Role::HalfOpen),
        ];
        sizes.case(format!("half-open-{half_open}"), groups)
    };
    vec![case(0), case(half_open)]
}

fn mixed(sizes: &Sizes) -> Case {
    let clients = sizes.clients.unwrap_or(500);
    let share = |percent: usize| (clients * percent / 100).max(1);
    let pace = Pace::Rate {
        group_per_s: share(5) as u64,
    };
    let groups = vec![
        sizes.group(share(40), speak((share(40) as u64 / 5).max(1))),
        sizes.group(share(33), Role::Listen),
        sizes.group(share(20), Role::Subscribe),
        sizes.group(share(5), Role::Visit { pace }),
        Group::unsampled(share(2), Role::NonReading),
    ];
    let case = sizes.case(format!("clients-{clients}"), groups);
    case.whole_ticks(sizes)
}

/// A message a minute from each, spread evenly.
fn sparse(sizes: &Sizes) -> Case {
    let clients = sizes.clients.unwrap_or(sizes.pick(5_000, 15_000));
    let group_per_s = sizes.rate_per_s.unwrap_or((clients as u64 / 60).max(1));
    let pace = Pace::Rate { group_per_s };
    sizes.of_one_group(clients, Role::Echo { pace })
}

/// Idle clients up to what one generator can open; fewer where the machine has less room.
fn c1m(sizes: &Sizes) -> Case {
    let clients = sizes.clients.unwrap_or(C1M_CLIENTS);
    let mut case = sizes.of_one_group(clients, Role::Listen).calm(sizes);
    case.method = Method::AsManyAsFit;
    case
}

impl Sizes {
    /// What the comparison's extent asks for.
    fn pick<T>(&self, quick: T, thorough: T) -> T {
        match self.extent {
            Extent::Quick => quick,
            Extent::Thorough => thorough,
        }
    }

    /// A case of the groups that have clients.
    fn case(&self, name: String, mut groups: Vec<Group>) -> Case {
        groups.retain(|group| group.clients > 0);
        let warm_up = self.pick(Duration::from_millis(400), Duration::from_secs(1));
        let window = self.pick(Duration::from_secs(1), Duration::from_secs(4));
        let plan = Plan {
            groups,
            warm_up: self.warm_up.unwrap_or(warm_up),
            window: self.window.unwrap_or(window),
            text_bytes: self.text_bytes.unwrap_or(TEXT_BYTES),
            join_max: JOIN_MAX,
            drain_max: self.drain_max,
            ending: Ending::Leave,
        };
        Case {
            name,
            plan,
            method: Method::AsPlanned,
            chat_interval: Duration::ZERO,
        }
    }

    fn of_one_group(&self, clients: usize, role: Role) -> Case {
        self.case(
            format!("clients-{clients}"),
            vec![self.group(clients, role)],
        )
    }

    fn group(&self, clients: usize, role: Role) -> Group {
        Group {
            clients,
            sampled: self.sampled,
            role,
        }
    }

    /// Everyone speaks once a second.
    fn room_of(&self, clients: usize) -> Vec<Group> {
        let rate_per_s = self.rate_per_s.unwrap_or(clients as u64);
        vec![self.group(clients, Role::Speak { rate_per_s })]
    }
}

impl Case {
    /// Nothing happens in it that would have to be watched for long.
    fn calm(mut self, sizes: &Sizes) -> Self {
        self.plan.warm_up = sizes.warm_up.unwrap_or(CALM_AFTER);
        let window = sizes.pick(Duration::from_millis(500), Duration::from_secs(1));
        self.plan.window = sizes.window.unwrap_or(window);
        self
    }

    /// A tick a second takes a few seconds to be seen more than once.
    fn whole_ticks(mut self, sizes: &Sizes) -> Self {
        let least = Duration::from_millis(2_500);
        self.plan.window = sizes.window.unwrap_or(self.plan.window.max(least));
        self
    }

    /// The plan of a room of `clients`, for a search.
    pub(crate) fn room_plan(&self, clients: usize) -> Plan {
        let mut plan = self.plan.clone();
        for group in &mut plan.groups {
            group.clients = clients;
            group.role = Role::Speak {
                rate_per_s: clients as u64,
            };
        }
        plan
    }

    /// Its largest number of clients.
    pub(crate) fn clients_most(&self) -> usize {
        match self.method {
            Method::AsPlanned | Method::AsManyAsFit => self.clients(),
            Method::LargestRoom(search) => search.grid.most,
        }
    }

    /// Whether it can be made with at most `room` clients; a search is made to.
    pub(crate) fn fit(&mut self, room: usize) -> bool {
        match &mut self.method {
            Method::AsPlanned => self.clients() <= room,
            Method::AsManyAsFit => {
                let fitting = self.clients().min(room);
                for group in &mut self.plan.groups {
                    group.clients = fitting;
                }
                self.name = format!("clients-{fitting}");
                fitting > 0
            }
            Method::LargestRoom(RoomSearch { grid, guess, .. }) => {
                grid.most = grid.most.min(room);
                *guess = (*guess).min(room);
                grid.least < room
            }
        }
    }

    pub(crate) fn clients(&self) -> usize {
        self.plan.groups.iter().map(|group| group.clients).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes(extent: Extent, clients: Option<usize>) -> Sizes {
        Sizes {
            extent,
            clients,
            rate_per_s: None,
            non_reading_percent: 10,
            sampled: 32,
            text_bytes: None,
            warm_up: None,
            window: None,
            drain_max: Duration::from_secs(5),
        }
    }

    #[test]
    fn cases_of_a_scenario_have_names_of_their_own() {
        for scenario in Scenario::ALL {
            for extent in [Extent::Quick, Extent::Thorough] {
                let mut names: Vec<String> = scenario
                    .cases(&sizes(extent, None))
                    .into_iter()
                    .map(|case| case.name)
                    .collect();
                let count = names.len();
                assert!(count > 0);
                names.sort();
                names.dedup();
                assert_eq!(names.len(), count, "{scenario:?}: {names:?}");
            }
        }
    }

    #[test]
    fn spammers_stay_below_the_streak_that_ends_a_connection() {
        // The protocol closes after 50 refusals in a row; one message a second is accepted.
        let case = spam(&sizes(Extent::Quick, None));
        let Role::Spam { rate_per_s } = case.plan.groups[1].role else {
            panic!("the second group spams")
        };
        assert!(rate_per_s / (case.plan.groups[1].clients as u64) < 50);
        assert_eq!(case.chat_interval, CHAT_INTERVAL);
    }

    #[test]
    fn the_two_cases_of_slow_have_the_same_readers() {
        let cases = slow(&sizes(Extent::Quick, Some(2_000)));
        assert_eq!(cases[0].plan.groups[0], cases[1].plan.groups[0]);
        assert_eq!(cases[1].plan.groups[1].clients, 200);
    }

    #[test]
    fn size_asked_for_replaces_the_search() {
        let case = room(&sizes(Extent::Quick, Some(300)));
        assert_eq!((case.method, case.clients()), (Method::AsPlanned, 300));
    }
}
