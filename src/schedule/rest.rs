//! When the owner of a schedule has to look at it again. To be woken costs more than to look, so it is seldom.

use std::time::Duration;

use super::Schedule;
use crate::clock::{Now, Steady};

/// Due slots are handed out this often at most: waking once for many costs less, and since each slot keeps its own moment (the
/// worker waits for it), intervals are none the worse.
pub const TICK: Duration = Duration::from_millis(100);

/// How far ahead slots are handed out: more than a tick, so that a tick that comes late makes no slot late.
pub const AHEAD: Duration = Duration::from_millis(150);

/// How long the owner may sleep, where nothing is due sooner. Slots go by the clock that counts a machine's sleep, and waits by
/// one that does not: after a sleep this is how late the first slots may be. As rare as it is, since it is the one thing that
/// wakes an agent without work.
pub const IDLE_MAX: Duration = Duration::from_secs(30);

/// Slots at once that are no crowd yet.
pub const FEW: usize = 8;

impl Schedule {
    /// How long nothing needs to be done, and whether to hear meanwhile what comes back. Mostly that is taken up with the next
    /// tick; but what may be due again by then is heard at once. Not so beside a crowd, which a tick follows anyway: there a check
    /// that comes back within a tick of its next due begins up to a tick late. `handed_out`: so many slots just were.
    pub fn rest(&self, now: Now, handed_out: usize) -> (Duration, bool) {
        let until = |at: Steady| at.since(now.steady);
        let (due, again) = (self.next_due().map(until), self.next_again().map(until));
        let later = again.filter(|&again| again >= TICK + AHEAD / 2);
        let next = [due, later].into_iter().flatten().min().map_or(IDLE_MAX, |next| next.saturating_sub(AHEAD / 2));
        let wait = next.clamp(TICK, IDLE_MAX);
        (wait, again != later && !(handed_out > FEW && wait == TICK))
    }

    /// When the first label whose slot is out is due again, or was while that slot did not come back. `None`: none is out.
    pub(super) fn next_again(&self) -> Option<Steady> {
        self.away.first().map(|&(again, _)| super::steady(again))
    }
}
