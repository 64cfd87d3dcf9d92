//! The beginning of a conversation: HTTP requests, of which one may turn it into a WebSocket.

use tracing::info;

use super::{Conversation, Stage};
use crate::core::answers::{self, Outcome};
use crate::core::http::{Refusal, Request, Step, Upgrade};
use crate::core::time::Now;
use crate::core::websocket::engine_access::EngineAccess;
use crate::core::websocket::frame::Inspector;
use crate::core::websocket::session::Session;

/// Output above which no further pipelined request is answered: the last answer says `Connection: close`.
const MAX_PIPELINED_OUTPUT: usize = 64 * 1024;

impl Conversation {
    pub(super) fn answer_requests(&mut self, now: Now, access: &mut impl EngineAccess) {
        let start = access.output().reply.own().len();
        while let Stage::Http { head, .. } = &mut self.stage {
            match head.next_step() {
                Step::Incomplete => break,
                Step::Proxied(proxied) => {
                    if let Err(refusal) = self.caller.take_proxied(proxied, access.context()) {
                        self.refuse(refusal, now, access);
                    }
                }
                Step::Reject(refusal) => {
                    self.refuse(refusal, now, access);
                }
                Step::Request(request) => {
                    let last = access.output().reply.own().len() - start > MAX_PIPELINED_OUTPUT;
                    self.answer(now, &request, last, access);
                }
            }
        }
    }

    fn answer(&mut self, now: Now, request: &Request, last: bool, access: &mut impl EngineAccess) {
        if let Err(refusal) = self.caller.take_request(now, request, access.context()) {
            return self.refuse(refusal, now, access);
        }
        let start = access.output().reply.own().len();
        let draining = access.with(|engine, _| engine.is_draining());
        let mut out = std::mem::take(access.output().reply.own());
        let outcome = answers::answer(
            access.context(),
            request,
            self.caller.ends,
            now,
            draining,
            last,
            &mut out,
        );
        *access.output().reply.own() = out;
        match outcome {
            Outcome::Responded { keep_alive: true } => {
                let timeout = access.context().limits.handshake_timeout;
                if let Stage::Http {
                    deadline, answered, ..
                } = &mut self.stage
                {
                    *answered = true;
                    *deadline = now.instant + timeout;
                }
            }
            Outcome::Responded { keep_alive: false } => self.linger(now, access),
            Outcome::Upgraded(upgrade) => match self.enter(now, &upgrade, access) {
                Ok(number) => self.upgrade(now, &upgrade, number, access),
                Err(refusal) => {
                    access.output().reply.truncate(start);
                    self.refuse(refusal, now, access);
                }
            },
        }
    }

    /// Refuses what is no whole request, or has no place, and ends the connection.
    pub(super) fn refuse(&mut self, refusal: Refusal, now: Now, access: &mut impl EngineAccess) {
        let mut out = std::mem::take(access.output().reply.own());
        answers::refuse(
            access.context(),
            refusal,
            self.caller.ends.peer,
            now,
            &mut out,
        );
        *access.output().reply.own() = out;
        self.linger(now, access);
    }

    /// Takes a place, if there is one: between looking for it and taking it no other client may come in.
    fn enter(
        &self,
        now: Now,
        upgrade: &Upgrade,
        access: &mut impl EngineAccess,
    ) -> Result<u64, Refusal> {
        let (client, address) = (self.client, self.caller.address);
        let handshakes = &access.context().by_address.handshakes;
        handshakes
            .take(now.instant, address)
            .map_err(|_| Refusal::AddressHandshakes)?;
        access.with(|engine, output| {
            engine.vacancy(address).map_err(answers::refusal_of)?;
            Ok(engine.open(now, client, address, upgrade, output))
        })
    }

    /// Turns to WebSocket frames, of which the first may stand right behind the request.
    fn upgrade(
        &mut self,
        now: Now,
        upgrade: &Upgrade,
        number: u64,
        access: &mut impl EngineAccess,
    ) {
        let (address, limits) = (self.caller.address, &access.context().limits);
        let session = Session::new(now, upgrade, number, address, limits);
        self.inspector = Inspector::new(upgrade.deflate.is_some());
        info!(
            "[{}] Client {number} connected from {}",
            session.endpoint.tag(),
            self.caller
        );
        let before = std::mem::replace(&mut self.stage, Stage::Open(session));
        if let Stage::Http { mut head, .. } = before {
            let rest = head.take_rest();
            if !rest.is_empty() {
                self.take_frames(now, &rest, access);
            }
        }
    }
}
