//! A place in a message, and what is read from there on. Nothing in here trusts the message: whatever it says, reading ends
//! within its bounds and after few steps.

use super::name::{NAME_BYTES_MAX, Name};

/// Pointers that one name may take: it has no more labels.
const POINTERS_MAX: usize = 127;

/// What is wrong with a message, for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed(pub(super) &'static str);

const ENDS: Malformed = Malformed("it ends too early");

/// Where to read on, and where to stop.
#[derive(Clone, Debug)]
pub(super) struct Cursor<'a> {
    message: &'a [u8],
    at: usize,
    end: usize,
}

impl<'a> Cursor<'a> {
    /// From the first byte of a message to its last.
    pub(super) fn new(message: &'a [u8]) -> Self {
        Cursor { message, at: 0, end: message.len() }
    }

    /// The next `length` bytes, to be read apart: names in them may still point to anywhere before.
    pub(super) fn part(&mut self, length: usize) -> Result<Cursor<'a>, Malformed> {
        let at = self.at;
        self.bytes(length)?;
        Ok(Cursor { message: self.message, at, end: self.at })
    }

    /// How many bytes there are left.
    pub(super) fn left(&self) -> usize {
        self.end - self.at
    }

    pub(super) fn bytes(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        if length > self.left() {
            return Err(ENDS);
        }
        let bytes = self.message.get(self.at..self.at + length).ok_or(ENDS)?;
        self.at += length;
        Ok(bytes)
    }

    pub(super) fn rest(&mut self) -> &'a [u8] {
        self.bytes(self.left()).unwrap_or_default()
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        self.bytes(N)?.try_into().map_err(|_| ENDS)
    }

    pub(super) fn u8(&mut self) -> Result<u8, Malformed> {
        self.array::<1>().map(u8::from_be_bytes)
    }

    pub(super) fn u16(&mut self) -> Result<u16, Malformed> {
        self.array().map(u16::from_be_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_be_bytes)
    }

    /// A string with its length before it (RFC 1035, section 3.3).
    pub(super) fn string(&mut self) -> Result<&'a [u8], Malformed> {
        let length = self.u8()?;
        self.bytes(length.into())
    }

    /// A name that may go on in another place (RFC 1035, section 4.1.4): each pointer has to lead to before the labels that
    /// it follows, so that none leads round in a circle.
    pub(super) fn name(&mut self) -> Result<Name, Malformed> {
        let mut wire = Vec::new();
        let mut from = self.clone();
        let mut after = None;
        for _ in 0..=POINTERS_MAX {
            let begin = from.at;
            let Some(pointer) = from.labels(&mut wire)? else {
                self.at = after.unwrap_or(from.at);
                return Ok(Name::from_wire(wire));
            };
            after.get_or_insert(from.at);
            if pointer >= begin {
                return Err(Malformed("a name in it runs in a circle"));
            }
            from = Cursor { message: self.message, at: pointer, end: self.message.len() };
        }
        Err(Malformed("a name in it has too many parts"))
    }

    /// Adds labels until the empty one, or until a pointer, which is given back.
    fn labels(&mut self, wire: &mut Vec<u8>) -> Result<Option<usize>, Malformed> {
        loop {
            let length = self.u8()?;
            match length >> 6 {
                0 => {
                    wire.push(length);
                    wire.extend(self.bytes(length.into())?);
                    if wire.len() > NAME_BYTES_MAX {
                        return Err(Malformed("a name in it is too long"));
                    }
                    if length == 0 {
                        return Ok(None);
                    }
                }
                3 => return Ok(Some(usize::from(length & 0x3f) << 8 | usize::from(self.u8()?))),
                _ => return Err(Malformed("a name in it has a part of an unknown kind")),
            }
        }
    }
}
