//! The unsampled members of a room at the record of its stream: each goes along with it, or apart for a while.

use super::clients::Clients;
use super::room_record::Place;
use super::tally::ErrorKind;
use crate::plan::Role;

impl Clients {
    /// Everyone begins at the beginning of the record.
    pub(super) fn begin_following(&mut self) {
        for index in 0..self.all.len() {
            let client = &self.all[index];
            let follows = client.order_check.is_none() && self.role(client).receives_the_room();
            if follows && client.is_open() && client.reader.to_next_frame() == Some(0) {
                self.come_along(index, 0, 0);
            }
        }
    }

    /// Takes in what an unsampled member of the room received.
    #[inline]
    pub(super) fn follow_room(&mut self, index: usize, bytes: &[u8]) -> Result<(), ErrorKind> {
        match self.all[index].place {
            Place::Along { at, .. } => self.go_along(index, at, bytes),
            Place::Apart => self.go_apart(index, bytes),
        }
    }

    #[inline]
    fn go_along(&mut self, index: usize, at: usize, bytes: &[u8]) -> Result<(), ErrorKind> {
        let followed = self.record.follow(at, bytes);
        if let Place::Along { at, .. } = &mut self.all[index].place {
            *at += followed;
        }
        if followed == bytes.len() {
            return Ok(());
        }
        // What differs belongs to this client alone; its own reader takes it from where the frame began.
        self.count_followed(index);
        self.leave_record(index);
        let start = self.record.end_of(self.record.frames_at(at + followed));
        let part = self.record.part(start, at).to_vec();
        self.parse(index, &part)?;
        self.parse(index, &bytes[start.saturating_sub(at)..])
    }

    fn go_apart(&mut self, index: usize, bytes: &[u8]) -> Result<(), ErrorKind> {
        let next = self.all[index].reader.to_next_frame();
        let (Some(next), true) = (next.filter(|&next| next < bytes.len()), self.is_following)
        else {
            return self.parse(index, bytes);
        };
        let known = self.record.find(&bytes[next..]);
        let found = match known {
            // Where everyone has gone apart, one goes ahead again.
            None if self.along == 0 => Some(self.record.resume()),
            known => known,
        };
        let Some((at, frames)) = found else {
            return self.parse(index, bytes);
        };
        self.parse(index, &bytes[..next])?;
        self.come_along(index, at, frames);
        self.go_along(index, at, &bytes[next..])
    }

    fn come_along(&mut self, index: usize, at: usize, counted: usize) {
        self.along += 1;
        self.is_following = true;
        self.all[index].reader.restart();
        self.all[index].place = Place::Along { at, counted };
    }

    fn leave_record(&mut self, index: usize) {
        if self.all[index].place != Place::Apart {
            self.along -= 1;
            self.all[index].place = Place::Apart;
        }
    }

    /// A connection has ended, with what its client received.
    pub(super) fn end_following(&mut self, index: usize) {
        self.count_followed(index);
        self.leave_record(index);
    }

    /// Counts what all clients have followed so far: as often as somebody looks, not as often as something comes.
    pub(crate) fn count_all_followed(&mut self) {
        for index in 0..self.all.len() {
            self.count_followed(index);
        }
    }

    fn count_followed(&mut self, index: usize) {
        let client = &mut self.all[index];
        let Place::Along { at, counted } = &mut client.place else {
            return;
        };
        let frames = self.record.frames_at(*at);
        let come = self
            .record
            .counts(frames)
            .since(self.record.counts(*counted));
        *counted = frames;
        client.received += come.messages;
        self.tally.delivered += come.messages;
        self.tally.notices += come.notices;
        match self.workloads[client.group].group.role {
            Role::Spam { .. } => self.tally.ends.spam_refused += come.errors,
            _ => self.tally.errors.add(ErrorKind::ErrorAnswer, come.errors),
        }
    }
}
