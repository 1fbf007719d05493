//! Questions and answers on the wire: RFC 1035, section 4, with EDNS (RFC 6891) and extended errors (RFC 8914).

use super::cursor::{Cursor, Malformed};
use super::name::Name;
use super::records::{Rcode, RecordType, data};
use super::{CHAIN_MAX, Ignored};

/// The largest answer by UDP that is asked for: it crosses nearly every network in one piece (dnsflagday.net/2020).
pub(super) const UDP_BYTES: u16 = 1232;

const INTERNET: u16 = 1;
const RESPONSE: u16 = 0x8000;
const OPCODE: u16 = 0x7800;
const AUTHORITATIVE: u16 = 0x0400;
const TRUNCATED: u16 = 0x0200;
const RECURSION_DESIRED: u16 = 0x0100;
const RCODE: u16 = 0x000f;
/// The option of OPT that says more of an error.
const EXTENDED_ERROR: u16 = 15;

/// What is asked.
#[derive(Clone, Debug)]
pub(super) struct Question<'a> {
    pub(super) id: u16,
    pub(super) name: &'a Name,
    pub(super) record: RecordType,
    pub(super) recursion: bool,
}

impl Question<'_> {
    /// The message that asks.
    pub(super) fn message(&self) -> Vec<u8> {
        let flags = if self.recursion { RECURSION_DESIRED } else { 0 };
        let mut message = Vec::with_capacity(64);
        // One question, and in the additional section the OPT record.
        for number in [self.id, flags, 1, 0, 0, 1] {
            message.extend(number.to_be_bytes());
        }
        message.extend(self.name.wire());
        message.extend(self.record.0.to_be_bytes());
        message.extend(INTERNET.to_be_bytes());
        message.push(0);
        for number in [RecordType::OPT.0, UDP_BYTES, 0, 0, 0] {
            message.extend(number.to_be_bytes());
        }
        message
    }

    /// Makes sure that `message` is an answer to this question (RFC 5452, section 9.1). What is not is counted and ignored.
    ///
    /// A server that has not understood the question, or does not want to, may leave it out of its answer.
    pub(super) fn is_answered_by(&self, message: &[u8], ignored: &mut Ignored) -> bool {
        let mut cursor = Cursor::new(message);
        let Ok(header) = cursor.array::<12>() else {
            ignored.garbage += 1;
            return false;
        };
        let [id, flags, questions] = [0, 2, 4].map(|at| u16::from_be_bytes([header[at], header[at + 1]]));
        if flags & RESPONSE == 0 || flags & OPCODE != 0 {
            ignored.garbage += 1;
            return false;
        }
        if id != self.id {
            ignored.id += 1;
            return false;
        }
        let asked = match questions {
            0 => flags & RCODE != 0,
            1 => {
                cursor.name().as_ref() == Ok(self.name)
                    && cursor.u16() == Ok(self.record.0)
                    && cursor.u16() == Ok(INTERNET)
            }
            _ => false,
        };
        ignored.question += u64::from(!asked);
        asked
    }
}

/// What a server answered.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) rcode: Rcode,
    pub(super) authoritative: bool,
    pub(super) truncated: bool,
    pub(super) answers: Vec<Resource>,
    pub(super) authority: Vec<Resource>,
    /// More of an error: its number, and what the server says of it.
    pub(super) extended: Option<(u16, String)>,
}

/// A record.
#[derive(Debug)]
pub(super) struct Resource {
    pub(super) name: Name,
    pub(super) record: RecordType,
    pub(super) ttl: u32,
    /// What it holds, as text.
    pub(super) data: String,
    /// What it is an alias of.
    alias: Option<Name>,
}

impl Message {
    /// Reads an answer. One that is cut off may end anywhere behind its header, and is not looked at further.
    pub(super) fn read(message: &[u8]) -> Result<Self, Malformed> {
        let mut cursor = Cursor::new(message);
        let (_, flags) = (cursor.u16()?, cursor.u16()?);
        let [questions, answers, authority, additional] = [cursor.u16()?, cursor.u16()?, cursor.u16()?, cursor.u16()?];
        let mut read = Message {
            rcode: Rcode(flags & RCODE),
            authoritative: flags & AUTHORITATIVE != 0,
            truncated: flags & TRUNCATED != 0,
            answers: Vec::new(),
            authority: Vec::new(),
            extended: None,
        };
        if read.truncated {
            return Ok(read);
        }
        for _ in 0..questions {
            cursor.name()?;
            cursor.u32()?;
        }
        for _ in 0..answers {
            read.answers.extend(resource(&mut cursor, &mut read.rcode, &mut read.extended)?);
        }
        for _ in 0..authority {
            read.authority.extend(resource(&mut cursor, &mut read.rcode, &mut read.extended)?);
        }
        for _ in 0..additional {
            resource(&mut cursor, &mut read.rcode, &mut read.extended)?;
        }
        Ok(read)
    }

    /// The records that answer the question, and the aliases that lead to them, each with what it is an alias of.
    pub(super) fn answers_to(&self, name: &Name, record: RecordType) -> (Vec<&Resource>, Vec<&Name>) {
        let mut aliases: Vec<&Name> = Vec::new();
        let mut owner = name;
        while record != RecordType::CNAME && aliases.len() < CHAIN_MAX {
            let next = self.answers.iter().find(|one| one.name == *owner && one.alias.is_some());
            let Some(alias) = next.and_then(|one| one.alias.as_ref()) else { break };
            aliases.push(alias);
            owner = alias;
        }
        (self.answers.iter().filter(|one| one.name == *owner && one.record == record).collect(), aliases)
    }
}

/// Reads one record; `None` for what is no record of the Internet's, such as OPT, of which `rcode` and `extended` are filled.
fn resource(
    cursor: &mut Cursor<'_>,
    rcode: &mut Rcode,
    extended: &mut Option<(u16, String)>,
) -> Result<Option<Resource>, Malformed> {
    let name = cursor.name()?;
    let (record, class, ttl) = (RecordType(cursor.u16()?), cursor.u16()?, cursor.u32()?);
    let length = cursor.u16()?;
    let mut held = cursor.part(length.into())?;
    if record == RecordType::OPT {
        // The first byte of what is the time to live elsewhere.
        rcode.0 |= u16::from(ttl.to_be_bytes()[0]) << 4;
        *extended = extended_error(&mut held)?;
        return Ok(None);
    }
    if class != INTERNET {
        return Ok(None);
    }
    let alias = if record == RecordType::CNAME { Some(held.clone().name()?) } else { None };
    Ok(Some(Resource { name, record, ttl, data: data(record, &mut held)?, alias }))
}

fn extended_error(options: &mut Cursor<'_>) -> Result<Option<(u16, String)>, Malformed> {
    let mut found = None;
    while options.left() > 0 {
        let (code, length) = (options.u16()?, options.u16()?);
        let mut option = options.part(length.into())?;
        if code == EXTENDED_ERROR {
            found = Some((option.u16()?, String::from_utf8_lossy(option.rest()).into_owned()));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// An answer with an alias, an address and OPT.
    const ANSWER: &[u8] = b"\x12\x34\x84\x00\0\x01\0\x02\0\0\0\x01\x01a\x01b\0\0\x01\0\x01\
        \xc0\x0c\0\x05\0\x01\0\0\0\x3c\0\x04\x01c\xc0\x0e\xc0\x21\0\x01\0\x01\0\0\0\x3c\0\x04\xc0\0\x02\x50\
        \0\0\x29\x04\xd0\x01\0\0\0\0\x08\0\x0f\0\x04\0\x07no";

    #[test]
    fn an_answer_is_read() {
        let name = Name::parse("A.b").unwrap();
        let question = Question { id: 0x1234, name: &name, record: RecordType(1), recursion: true };
        let mut ignored = Ignored::default();
        assert!(question.is_answered_by(ANSWER, &mut ignored), "{ignored:?}");
        let read = Message::read(ANSWER).unwrap();
        assert_eq!((read.rcode, read.authoritative, read.truncated), (Rcode(16), true, false));
        assert_eq!(read.extended, Some((7, "no".to_owned())));
        let (answers, aliases) = read.answers_to(&name, RecordType(1));
        assert_eq!(
            (answers[0].data.as_str(), answers[0].ttl, aliases),
            ("192.0.2.80", 60, vec![&Name::parse("c.b").unwrap()])
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let _ = Message::read(&bytes);
        }

        #[test]
        fn a_broken_answer_is_read_or_refused(at in 0..ANSWER.len(), byte in any::<u8>(), end in 0..=ANSWER.len()) {
            let mut bytes = ANSWER.to_vec();
            bytes[at] = byte;
            bytes.truncate(end);
            if let Ok(read) = Message::read(&bytes) {
                read.answers_to(&Name::parse("a.b").unwrap(), RecordType(1));
            }
        }
    }
}
