//! How many results it takes until what is shown of a check turns.

use std::fmt;

/// So many of the last so many results. Logs are never altered by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Confirm {
    needed: u8,
    of: u8,
}

impl Confirm {
    /// The first result that says otherwise turns it.
    pub const ONCE: Confirm = Confirm { needed: 1, of: 1 };
    /// The longest row of results that is looked at.
    pub const OF_MAX: u8 = 100;

    /// `None` where both states could be confirmed by one and the same results, or none ever.
    pub fn new(needed: u8, of: u8) -> Option<Self> {
        let more_than_half = u16::from(needed) * 2 > u16::from(of);
        (more_than_half && needed <= of && of <= Self::OF_MAX).then_some(Confirm { needed, of })
    }

    /// How many have to say so.
    pub fn needed(self) -> usize {
        self.needed.into()
    }

    /// How many of the last ones are looked at.
    pub fn of(self) -> usize {
        self.of.into()
    }
}

impl Default for Confirm {
    fn default() -> Self {
        Self::ONCE
    }
}

/// As the config has it: `3`, or `3 of 5`.
impl fmt::Display for Confirm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.needed == self.of {
            true => write!(f, "{}", self.needed),
            false => write!(f, "{} of {}", self.needed, self.of),
        }
    }
}
