//! The generator's messages, and the stamp by which a receiver recognises each.
//!
//! A stamp names the group and the slot, nothing else: when the message was due follows from the schedule, and
//! when it was sent is in the generator's own log, so no clock reading has to travel.

/// Group and slot of one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) group: usize,
    pub(crate) slot: u64,
}

impl Stamp {
    /// The text `#group.slot#`, filled up with dots to `text_bytes`.
    pub(crate) fn text(self, text_bytes: usize) -> String {
        let mark = format!("#{}.{}#", self.group, self.slot);
        format!("{mark:.<text_bytes$}")
    }

    /// Finds the stamp in a message and holds its whole text against what was sent.
    pub(crate) fn find(message: &[u8], text_bytes: usize) -> Option<Self> {
        let start = message.iter().position(|&byte| byte == b'#')?;
        let text = message.get(start..start + text_bytes)?;
        let (group, rest) = number(&text[1..])?;
        let (slot, rest) = number(rest.strip_prefix(b".")?)?;
        let filler = rest.strip_prefix(b"#")?;
        let whole = filler.iter().all(|&byte| byte == b'.');
        whole.then_some(Self {
            group: usize::try_from(group).ok()?,
            slot,
        })
    }

    /// The JSON a chat client sends.
    pub(crate) fn chat(self, member: usize, text_bytes: usize) -> String {
        format!(
            r#"{{"type":"chat","name":"u{member}","text":"{}"}}"#,
            self.text(text_bytes)
        )
    }
}

/// Reads the decimal digits at the start.
fn number(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let digits = bytes
        .iter()
        .take_while(|byte| byte.is_ascii_digit())
        .count();
    let (number, rest) = bytes.split_at(digits);
    Some((std::str::from_utf8(number).ok()?.parse().ok()?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::TEXT_BYTES_MIN;

    const STAMP: Stamp = Stamp {
        group: 2,
        slot: 4_071,
    };

    #[test]
    fn stamp_survives_the_servers_json() {
        let spaced = format!(
            r#"{{"type": "chat", "name": "u1", "text": "{}", "ts": 17}}"#,
            STAMP.text(40)
        );
        assert_eq!(Stamp::find(spaced.as_bytes(), 40), Some(STAMP));
        assert_eq!(Stamp::find(STAMP.chat(5, 16).as_bytes(), 16), Some(STAMP));
    }

    #[test]
    fn longest_stamp_fits_the_shortest_text() {
        let longest = Stamp {
            group: 255,
            slot: u64::from(u32::MAX),
        };
        assert_eq!(longest.text(TEXT_BYTES_MIN).len(), TEXT_BYTES_MIN);
    }

    #[test]
    fn changed_or_shortened_text_is_noticed() {
        let text = STAMP.text(20);
        for (position, _) in text.char_indices() {
            let mut changed = text.clone().into_bytes();
            changed[position] = b'x';
            assert_eq!(Stamp::find(&changed, 20), None, "changed at {position}");
        }
        assert_eq!(Stamp::find(&text.as_bytes()[..19], 20), None);
    }
}
