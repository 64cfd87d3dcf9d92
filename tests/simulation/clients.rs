//! Clients of all kinds, and what each of them may rely on.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::model::Next;
use crate::wire::{self, BINARY, CLOSE, Heard, PING, PONG, TEXT};
use crate::world::{Action, MS, Part, SECOND, Sim, Time, note};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Talks, reads, answers Pings: nothing may go wrong for it.
    Talker,
    /// Talks, but reads in small bits and late; may be dropped.
    Slow,
    /// Comes in and never reads.
    Deaf,
    /// Reads and never answers a Ping.
    Mute,
    /// Connects and says nothing.
    Silent,
    /// Breaks the protocol.
    Liar,
    Watcher,
    Echo,
    /// Asks over HTTP, several times on one connection.
    Visitor,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    Asking,
    Open,
    /// It has said Close, or ended its output, and awaits the server.
    Leaving,
    Gone,
}

/// What it asked for of the past.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Past {
    Nothing,
    Newest(u64),
    Since(u64),
}

#[derive(Debug)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "what has been seen of it, each by itself"
)]
pub(crate) struct Client {
    pub(crate) kind: Kind,
    pub(crate) stage: Stage,
    pub(crate) link: usize,
    /// Who it is; the same after coming back.
    person: usize,
    past: Past,
    input: Vec<u8>,
    is_reading: bool,
    pub(crate) next: Next,
    /// Messages on their way, by `cid`.
    pub(crate) unacked: BTreeMap<u64, String>,
    acked: Option<(u64, String)>,
    /// Those that it has sent more than once.
    repeated: BTreeSet<u64>,
    sent: u64,
    pub(crate) online: Option<u64>,
    /// When the last Ping came, for one that does not answer; or the last tick, for a watcher.
    beat: Option<Time>,
    opened: Time,
    /// The echoes it awaits.
    echoes: Vec<Vec<u8>>,
    said_close: bool,
    got_close: bool,
    /// The server may refuse it, or end it at any time.
    pub(crate) is_welcome: bool,
}

impl Client {
    pub(crate) fn new(kind: Kind, person: usize) -> Self {
        Self {
            kind,
            stage: Stage::Gone,
            link: usize::MAX,
            person,
            past: Past::Nothing,
            input: Vec::new(),
            is_reading: false,
            next: None,
            unacked: BTreeMap::new(),
            acked: None,
            repeated: BTreeSet::new(),
            sent: 0,
            online: None,
            beat: None,
            opened: 0,
            echoes: Vec::new(),
            said_close: false,
            got_close: false,
            is_welcome: true,
        }
    }

    fn name(&self) -> String {
        format!("p{}", self.person)
    }

    pub(crate) fn is_in_chat(&self) -> bool {
        matches!(
            self.kind,
            Kind::Talker | Kind::Slow | Kind::Deaf | Kind::Mute
        )
    }

    /// It must not be dropped, and misses nothing.
    fn is_honest(&self) -> bool {
        matches!(self.kind, Kind::Talker | Kind::Watcher | Kind::Echo)
    }
}

impl Sim {
    pub(crate) fn client_action(&mut self, action: Action) {
        match action {
            Action::Connect(client) => self.come(client),
            Action::Read(client) => self.read_client(client),
            Action::Act(client) => self.act(client),
            Action::Settle => self.settle(),
            Action::Audit => self.audit(),
            Action::Leave => self.all_leave(),
            Action::CheckEmpty => self.look = crate::world::Look::Empty,
            Action::Deliver(_) | Action::Stop => unreachable!("the network's"),
        }
    }

    fn come(&mut self, client: usize) {
        let link = self.connect(client);
        let kind = self.clients[client].kind;
        self.clients[client].link = link;
        self.clients[client].stage = Stage::Asking;
        self.clients[client].opened = self.now;
        note!(self, "client {client} ({kind:?}) connects as link {link}");
        let request = match kind {
            Kind::Talker | Kind::Slow | Kind::Deaf | Kind::Mute => {
                wire::upgrade(&self.chat_path(client))
            }
            Kind::Liar => {
                let path = self.dice.pick(&["/ws/chat", "/ws/dashboard", "/ws/echo"]);
                wire::upgrade(path)
            }
            Kind::Watcher => wire::upgrade("/ws/dashboard"),
            Kind::Echo => wire::upgrade("/ws/echo"),
            Kind::Visitor => b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec(),
            Kind::Silent => Vec::new(),
        };
        if !request.is_empty() {
            self.send(link, Part::Bytes(request));
        }
        let pace = self.odds.pace;
        let first = self.now + self.dice.below(pace);
        self.at(first, Action::Act(client));
    }

    fn chat_path(&mut self, client: usize) -> String {
        if self.clients[client].past == Past::Nothing && self.dice.chance(300) {
            self.clients[client].past = Past::Newest(self.dice.below(40));
        }
        match self.clients[client].past {
            Past::Nothing => "/ws/chat".to_owned(),
            Past::Newest(count) => format!("/ws/chat?history={count}"),
            Past::Since(id) => format!("/ws/chat?since=epoch:{id}"),
        }
    }

    // What it says.

    fn act(&mut self, client: usize) {
        let stage = self.clients[client].stage;
        if self.settled || matches!(stage, Stage::Gone | Stage::Leaving) {
            return;
        }
        if stage == Stage::Open || self.clients[client].kind == Kind::Deaf {
            match self.clients[client].kind {
                Kind::Talker | Kind::Slow => self.talk(client),
                Kind::Liar => self.lie(client),
                Kind::Echo => self.ask_echo(client),
                Kind::Watcher => self.subscribe(client),
                Kind::Visitor => {
                    let request = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec();
                    self.send(self.clients[client].link, Part::Bytes(request));
                }
                Kind::Deaf | Kind::Mute | Kind::Silent => {}
            }
        }
        if self.dice.chance(self.odds.leave) {
            self.leave(client);
        } else if self.dice.chance(self.odds.reset) {
            self.reset(client);
        }
        let next = self.now + MS + self.dice.below(self.odds.pace);
        self.at(next, Action::Act(client));
    }

    fn talk(&mut self, client: usize) {
        match self.dice.below(20) {
            0 => self.send_text(client, &json!({"type": "ping"})),
            1 => self.send(
                self.clients[client].link,
                Part::Bytes(wire::frame(TEXT, b"{")),
            ),
            2 => {
                if let Some((cid, text)) = self.clients[client].acked.clone() {
                    self.clients[client].repeated.insert(cid);
                    self.clients[client].unacked.insert(cid, text);
                    self.say(client, cid);
                }
            }
            3 => {
                for _ in 0..self.dice.below(100) {
                    self.say_something(client);
                }
            }
            _ => self.say_something(client),
        }
    }

    fn say_something(&mut self, client: usize) {
        let padding = "x".repeat(self.dice.size(480));
        let talker = &mut self.clients[client];
        let cid = talker.sent;
        talker.sent += 1;
        let text = format!("{}.{cid}.{padding}", talker.name());
        talker.unacked.insert(cid, text);
        self.say(client, cid);
    }

    fn say(&mut self, client: usize, cid: u64) {
        let talker = &self.clients[client];
        let message = json!({"type": "chat", "name": talker.name(), "text": talker.unacked[&cid], "cid": cid.to_string()});
        self.send_text(client, &message);
    }

    fn send_text(&mut self, client: usize, message: &Value) {
        let bytes = wire::frame(TEXT, message.to_string().as_bytes());
        self.send(self.clients[client].link, Part::Bytes(bytes));
    }

    fn ask_echo(&mut self, client: usize) {
        let payload = vec![b'e'; self.dice.size(self.limits.max_message.min(5000))];
        self.clients[client].echoes.push(payload.clone());
        self.send(
            self.clients[client].link,
            Part::Bytes(wire::frame(TEXT, &payload)),
        );
    }

    fn subscribe(&mut self, client: usize) {
        if self.dice.chance(100) {
            self.send_text(
                client,
                &json!({"type": "subscribe", "metrics": ["cpu", "stock", "nonsense"]}),
            );
        }
    }

    fn lie(&mut self, client: usize) {
        let text = wire::frame(TEXT, b"hello");
        let bytes = match self.dice.below(8) {
            0 => (0..self.dice.below(300))
                .map(|_| self.dice.below(256).to_le_bytes()[0])
                .collect(),
            1 => text[..3].to_vec(),
            2 => vec![0x81, 0x05, b'p', b'l', b'a', b'i', b'n'],
            3 => wire::frame(0x3, b"reserved"),
            4 => vec![0x81, 0xFF, 0, 0, 0, 1, 0, 0, 0, 0, 1, 2, 3, 4],
            5 => wire::frame(TEXT, &[0xFF, 0xFE]),
            6 => wire::frame(CLOSE, &[0, 1, 2]),
            _ => wire::frame(0x0, b"continues nothing"),
        };
        self.send(self.clients[client].link, Part::Bytes(bytes));
    }

    /// Goes in order: by a Close, or by ending its output.
    pub(crate) fn leave(&mut self, client: usize) {
        let (link, stage) = (self.clients[client].link, self.clients[client].stage);
        if matches!(stage, Stage::Gone | Stage::Leaving) {
            return;
        }
        let is_websocket = stage == Stage::Open && self.clients[client].kind != Kind::Visitor;
        if is_websocket && self.dice.chance(700) {
            self.send(
                link,
                Part::Bytes(wire::frame(CLOSE, &1000_u16.to_be_bytes())),
            );
            self.clients[client].said_close = true;
        } else {
            self.send(link, Part::End);
        }
        note!(self, "client {client} leaves");
        self.clients[client].stage = Stage::Leaving;
        if self.clients[client].kind == Kind::Deaf {
            self.reset(client);
        }
    }

    pub(crate) fn reset(&mut self, client: usize) {
        if self.clients[client].stage != Stage::Gone {
            note!(self, "client {client} resets");
            self.send(self.clients[client].link, Part::Reset);
            self.gone(client);
        }
    }

    /// Its socket is closed. It may come back, and then wants what it missed.
    fn gone(&mut self, client: usize) {
        self.clients[client].stage = Stage::Gone;
        let person = &self.clients[client];
        let comes_back = matches!(person.kind, Kind::Talker | Kind::Slow) && person.next.is_some();
        if comes_back && !self.settled && self.dice.chance(700) {
            let mut again = Client::new(person.kind, person.person);
            again.past = Past::Since(person.next.map_or(0, |next| next - 1));
            again.unacked = person.unacked.clone();
            again.repeated = person.unacked.keys().copied().collect();
            again.sent = person.sent;
            self.clients.push(again);
            let next = self.now + self.dice.below(SECOND);
            self.at(next, Action::Connect(self.clients.len() - 1));
        }
        self.clients[client].unacked.clear();
    }

    // What it hears.

    /// There is something for it to read.
    pub(crate) fn wake_reader(&mut self, client: usize) {
        let reader = &mut self.clients[client];
        if reader.kind == Kind::Deaf || reader.is_reading || reader.stage == Stage::Gone {
            return;
        }
        reader.is_reading = true;
        let delay = match reader.kind {
            Kind::Talker | Kind::Echo if !self.settled => self.dice.below(self.odds.delay_max + 1),
            Kind::Slow if !self.settled => self.dice.below(500 * MS),
            _ => 0,
        };
        self.at(self.now + delay, Action::Read(client));
    }

    fn read_client(&mut self, client: usize) {
        self.clients[client].is_reading = false;
        let (kind, link, stage) = (
            self.clients[client].kind,
            self.clients[client].link,
            self.clients[client].stage,
        );
        if stage == Stage::Gone {
            return;
        }
        let most = if kind == Kind::Slow && !self.settled {
            700
        } else {
            usize::MAX
        };
        let bytes = self.receive(link, most);
        self.clients[client].input.extend(bytes);
        while let Some(heard) = self.next_heard(client) {
            self.hear(client, heard);
        }
        if self.clients[client].stage == Stage::Gone {
            return;
        }
        if self.links[link].resets_client {
            self.ended(client, true);
        } else if !self.links[link].outbox.is_empty() {
            self.wake_reader(client);
        } else if self.links[link].output_ended.is_some() {
            self.ended(client, false);
        }
    }

    fn next_heard(&mut self, client: usize) -> Option<Heard> {
        let Client {
            input, stage, kind, ..
        } = &mut self.clients[client];
        let in_http = *stage == Stage::Asking || matches!(kind, Kind::Visitor | Kind::Silent);
        if in_http || input.starts_with(b"HTTP/1.1") {
            wire::take_answer(input)
        } else {
            wire::take_frame(input)
        }
    }

    fn hear(&mut self, client: usize, heard: Heard) {
        match heard {
            Heard::Answer(status, _) => self.answered(client, status),
            Heard::Frame(PING, payload) => {
                if self.clients[client].kind == Kind::Mute {
                    self.clients[client].beat = Some(self.now);
                } else if self.clients[client].stage == Stage::Open {
                    self.send(
                        self.clients[client].link,
                        Part::Bytes(wire::frame(PONG, &payload)),
                    );
                }
            }
            Heard::Frame(CLOSE, payload) => self.closed(client, &payload),
            Heard::Frame(TEXT | BINARY, _) if self.clients[client].kind == Kind::Liar => {}
            Heard::Frame(TEXT, payload) if self.clients[client].kind == Kind::Echo => {
                let expected = self.clients[client].echoes.remove(0);
                assert_eq!(payload, expected, "an echo of something else");
            }
            Heard::Frame(TEXT, payload) => {
                let message: Value = serde_json::from_slice(&payload).expect("a server's JSON");
                self.told(client, &message);
            }
            Heard::Frame(opcode, _) => panic!("a frame of kind {opcode}"),
        }
    }

    fn answered(&mut self, client: usize, status: u16) {
        note!(self, "client {client} is answered {status}");
        let now = self.now;
        let refusable = self.descriptors_max != usize::MAX
            || self.limits.max_clients < 1000
            || self.stop_at.is_some();
        match (status, self.clients[client].kind) {
            (408, Kind::Silent) => {
                let accepted = self.links[self.clients[client].link]
                    .accepted
                    .expect("it was answered");
                let due = accepted + nanos(self.limits.handshake_timeout);
                self.is_due(
                    "the end of patience with a head",
                    due,
                    self.clients[client].link,
                );
            }
            // A request that comes in parts may be late; so may the next one on a connection.
            (408, _) => assert!(now >= nanos(self.limits.handshake_timeout), "408 at once"),
            (503, _) => assert!(refusable, "there was room"),
            (200, Kind::Visitor) => self.opened(client),
            (101, kind) if kind != Kind::Visitor => self.opened(client),
            other => panic!("answered {other:?}"),
        }
    }

    fn opened(&mut self, client: usize) {
        let person = &mut self.clients[client];
        if person.stage == Stage::Asking {
            person.stage = Stage::Open;
            person.opened = self.now;
            // What was not acknowledged before is said again.
            if self.settled {
                return person.unacked.clear();
            }
            let unacked: Vec<u64> = person.unacked.keys().copied().collect();
            for cid in unacked {
                self.say(client, cid);
            }
        }
    }

    fn closed(&mut self, client: usize, payload: &[u8]) {
        let code = payload
            .get(..2)
            .map_or(1005, |code| u16::from_be_bytes([code[0], code[1]]));
        note!(self, "client {client} hears Close {code}");
        let person = &mut self.clients[client];
        person.got_close = true;
        let (kind, link) = (person.kind, person.link);
        match code {
            1011 => {
                assert!(
                    kind == Kind::Mute
                        || kind == Kind::Slow
                        || kind == Kind::Liar
                        || person.stage != Stage::Open,
                    "{kind:?} answered its Pings"
                );
                if kind == Kind::Mute {
                    let ping = person.beat.expect("a Ping before the end of patience");
                    let due = ping + nanos(self.limits.ping_timeout);
                    self.is_due("the end of patience with a Ping", due, link);
                }
            }
            1001 => assert!(self.stop_at.is_some(), "it was not told to stop"),
            1000 => assert!(
                person.said_close || kind == Kind::Liar,
                "it answers a Close"
            ),
            1008 => assert!(kind != Kind::Watcher && kind != Kind::Echo),
            _ => assert_eq!(kind, Kind::Liar, "closed with {code}"),
        }
        if kind != Kind::Liar && self.clients[client].stage == Stage::Open {
            if !self.clients[client].said_close {
                self.send(link, Part::Bytes(wire::frame(CLOSE, payload)));
                self.clients[client].said_close = true;
            }
            self.clients[client].stage = Stage::Leaving;
        }
    }

    /// The server's side has ended; it closes its own.
    fn ended(&mut self, client: usize, by_reset: bool) {
        note!(self, "client {client} sees the end, by reset: {by_reset}");
        let person = &self.clients[client];
        let may_be_refused =
            self.descriptors_max != usize::MAX || self.stop_at.is_some() || !person.is_welcome;
        // A reader over a narrow line may have more waiting for it than may wait.
        let was_slow = self.links[person.link].was_blocked;
        let may_be_refused = may_be_refused || was_slow;
        let is_told = person.got_close || person.stage == Stage::Asking && may_be_refused;
        if person.is_honest() && person.stage != Stage::Asking {
            assert!(
                is_told || person.stage == Stage::Leaving || may_be_refused,
                "client {client} was dropped"
            );
            let in_order =
                person.said_close && person.stage == Stage::Leaving && !by_reset && !may_be_refused;
            assert!(
                !in_order || person.got_close,
                "client {client}'s Close was not answered"
            );
        }
        // Liars wait and see.
        if person.kind != Kind::Liar || by_reset {
            self.send(self.clients[client].link, Part::End);
            self.gone(client);
        }
    }

    fn told(&mut self, client: usize, message: &Value) {
        let number = |field: &str| {
            message[field]
                .as_u64()
                .unwrap_or_else(|| panic!("{field} in {message}"))
        };
        let kind = message["type"].as_str().expect("a type");
        note!(self, "client {client} hears {:.100}", message.to_string());
        match kind {
            "chat" => {
                let Self { room, clients, .. } = self;
                room.hears(
                    &mut clients[client].next,
                    number("id"),
                    message["text"].as_str().expect("a text"),
                );
            }
            "ack" => {
                let cid = message["cid"]
                    .as_str()
                    .and_then(|cid| cid.parse().ok())
                    .expect("ours");
                let text = self.clients[client].unacked.remove(&cid);
                // One that was sent twice is acknowledged twice.
                if let Some(text) = text {
                    self.room.stands(number("id"), &text);
                    self.clients[client].acked = Some((cid, text));
                }
            }
            "error" => self.refused(client, message),
            "system" => self.noticed(client, message),
            "metric" => self.ticked(client, message),
            "pong" => {}
            other => panic!("a message of type {other}"),
        }
    }

    fn refused(&mut self, client: usize, message: &Value) {
        let cid = message["cid"].as_str().and_then(|cid| cid.parse().ok());
        match (message["code"].as_str().expect("a code"), cid) {
            ("rate_limited", Some(cid)) => {
                // It may stand all the same, where an acknowledgement was lost.
                if let Some(text) = self.clients[client].unacked.remove(&cid)
                    && !self.clients[client].repeated.contains(&cid)
                {
                    self.room.refused(&text);
                }
            }
            ("bad_json" | "unknown_metric", None) => {}
            _ if self.clients[client].kind == Kind::Liar => {}
            _ => panic!("{message}"),
        }
    }

    fn noticed(&mut self, client: usize, message: &Value) {
        let online = message["online_count"].as_u64();
        let person = &mut self.clients[client];
        person.online = online.or(person.online);
        if message["code"] != "welcome" || !person.is_in_chat() {
            return;
        }
        let last_id = message["last_id"].as_u64().expect("where the room stands");
        let oldest = self.room.oldest_kept(last_id);
        let recovered = message["recovered"].as_bool();
        let first = match person.past {
            Past::Nothing => last_id + 1,
            Past::Newest(count) => oldest.max((last_id + 1).saturating_sub(count)),
            Past::Since(id) => {
                assert_eq!(
                    recovered,
                    Some((oldest - 1..=last_id).contains(&id)),
                    "{message}"
                );
                if recovered == Some(true) {
                    id + 1
                } else {
                    oldest
                }
            }
        };
        self.room.reaches(last_id);
        person.next = Some(first);
    }

    /// The ticks of the dashboard keep their pace.
    fn ticked(&mut self, client: usize, message: &Value) {
        assert!(message["value"].is_number(), "{message}");
        if message["metric"] == "cpu"
            && let Some(before) = self.clients[client].beat.replace(self.now)
        {
            let interval = nanos(self.limits.metric_interval);
            let was_blocked = self.links[self.clients[client].link].was_blocked;
            let is_missing = self.is_overdue(before + interval + 10 * MS);
            assert!(was_blocked || !is_missing, "a tick is missing");
        }
    }

    // The end of the world.

    /// Whoever does not play by the rules goes; the others are left to hear what is on its way.
    fn settle(&mut self) {
        note!(self, "all is calm");
        self.settled = true;
        for client in 0..self.clients.len() {
            let person = &self.clients[client];
            self.check_patience(client);
            match person.kind {
                Kind::Talker | Kind::Slow | Kind::Watcher | Kind::Echo => self.wake_reader(client),
                Kind::Deaf | Kind::Mute | Kind::Silent | Kind::Liar | Kind::Visitor => {
                    self.reset(client);
                }
            }
        }
    }

    /// No deadline has been forgotten.
    fn check_patience(&self, client: usize) {
        let Client {
            kind,
            stage,
            opened,
            link,
            beat,
            ..
        } = self.clients[client];
        let limits = &self.limits;
        match (kind, stage) {
            (Kind::Silent, Stage::Asking) => {
                let accepted = self.links[link].accepted;
                let overdue = accepted
                    .is_some_and(|at| self.is_overdue(at + nanos(limits.handshake_timeout)));
                assert!(!overdue, "client {client} is still awaited");
            }
            (Kind::Mute, Stage::Open) => {
                let due = beat.map_or(opened + nanos(limits.ping_interval), |ping| {
                    ping + nanos(limits.ping_timeout)
                });
                let taken = self.links[link].was_blocked;
                assert!(
                    taken || !self.is_overdue(due),
                    "client {client} is not missed"
                );
            }
            _ => {}
        }
    }

    /// Everyone has heard everything by now; a newcomer asks for all there is.
    fn audit(&mut self) {
        note!(self, "the audit");
        let last_id = self.room.last_id();
        for (index, client) in self.clients.iter().enumerate() {
            assert!(
                client.stage != Stage::Asking,
                "client {index} has not been answered"
            );
            if client.stage != Stage::Open {
                continue;
            }
            assert!(
                client.unacked.is_empty(),
                "client {index} awaits {:?}",
                client.unacked.keys()
            );
            assert!(client.echoes.is_empty(), "client {index} awaits an echo");
            if client.is_in_chat() {
                assert_eq!(
                    client.next,
                    Some(last_id + 1),
                    "client {index} has not heard all"
                );
                assert_eq!(
                    client.online,
                    Some(self.members()),
                    "client {index} was told of others"
                );
            }
        }
        let mut auditor = Client::new(Kind::Talker, usize::MAX);
        auditor.past = Past::Since(0);
        auditor.is_welcome = false;
        self.clients.push(auditor);
        self.at(self.now, Action::Connect(self.clients.len() - 1));
    }

    fn members(&self) -> u64 {
        self.clients
            .iter()
            .filter(|client| client.is_in_chat() && client.stage == Stage::Open)
            .count() as u64
    }

    fn all_leave(&mut self) {
        let auditor = self.clients.last().expect("the auditor");
        if auditor.stage == Stage::Open {
            assert_eq!(
                auditor.next,
                Some(self.room.last_id() + 1),
                "the history is not whole"
            );
            assert_eq!(
                auditor.online,
                Some(self.members()),
                "the auditor was told of others"
            );
        }
        for client in 0..self.clients.len() {
            self.leave(client);
        }
    }

    /// The server closes a socket: may it?
    pub(crate) fn check_close(&self, link: usize) {
        let state = &self.links[link];
        if let Some(ended) = state.output_ended
            && self.stop_at.is_none()
        {
            let due = ended + nanos(self.limits.close_timeout);
            assert!(!self.is_overdue(due), "link {link} was let linger");
        }
    }

    /// Sockets whose clients are gone, and that the server has had time to close.
    pub(crate) fn forgotten(&self) -> Option<usize> {
        self.links
            .iter()
            .position(|link| link.closed.is_none() && link.accepted.is_some())
    }
}

pub(crate) fn nanos(duration: std::time::Duration) -> Time {
    u64::try_from(duration.as_nanos()).expect("a limit is below centuries")
}
