//! A member's seat in its group, as its consumer and its heart both see it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use kafka_protocol::error::ResponseError;
use kafka_protocol::protocol::StrBytes;

/// The seat. Clones are the same one.
#[derive(Clone, Debug)]
pub(in crate::kafka) struct Seat(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    /// Given by the coordinator; empty: none yet.
    member: StrBytes,
    /// The group's generation that the member belongs to.
    generation: Option<i32>,
    /// The partitions are to be shared out anew.
    rejoin: bool,
    /// When it was last heard that another member has the same instance id, and the seat.
    fenced: Option<Instant>,
    /// When the consumer was last asked for messages.
    polled: Instant,
    /// The consumer is no more.
    gone: bool,
}

/// What an answer of the coordinator means for the seat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::kafka) enum Heard {
    /// Nothing.
    Fine,
    /// A new generation is wanted.
    Rejoin,
    /// It belongs to somebody else.
    Lost,
    /// Nothing, but something else is wrong.
    Other,
}

impl Default for Seat {
    fn default() -> Self {
        Seat(Arc::new(Mutex::new(State {
            member: StrBytes::default(),
            generation: None,
            rejoin: false,
            fenced: None,
            polled: Instant::now(),
            gone: false,
        })))
    }
}

impl Seat {
    /// Who the member is to the coordinator; empty: it has not said so yet.
    pub fn member(&self) -> StrBytes {
        self.lock().member.clone()
    }

    /// The coordinator has named the member.
    pub fn name(&self, member: StrBytes) {
        self.lock().member = member;
    }

    /// The member and the generation that it belongs to.
    pub fn taken(&self) -> Option<(StrBytes, i32)> {
        let state = self.lock();
        state.generation.map(|generation| (state.member.clone(), generation))
    }

    /// The member belongs to a generation from now on.
    pub fn take(&self, member: StrBytes, generation: i32) {
        let mut state = self.lock();
        (state.member, state.generation, state.rejoin, state.fenced) = (member, Some(generation), false, None);
    }

    /// The member belongs to no generation; who it is, it keeps.
    pub fn stand_up(&self) {
        let mut state = self.lock();
        (state.generation, state.rejoin) = (None, false);
    }

    /// The member is none any more.
    pub fn give_up(&self) {
        let mut state = self.lock();
        (state.member, state.generation, state.rejoin, state.fenced) = (StrBytes::default(), None, false, None);
    }

    /// Whether the member belongs to a generation, and nobody wants a new one.
    pub fn is_settled(&self) -> bool {
        let state = self.lock();
        state.generation.is_some() && !state.rejoin
    }

    /// A new generation is wanted.
    pub fn want_rejoin(&self) {
        self.lock().rejoin = true;
    }

    /// Another consumer has the same instance id, and with it the seat. Who the member was, it keeps: by that the coordinator
    /// can tell it from the other one.
    pub fn fence(&self) {
        self.lock().fenced = Some(Instant::now());
    }

    /// How long ago it was last heard that another consumer has the seat, if one has.
    pub fn fenced_for(&self) -> Option<Duration> {
        self.lock().fenced.map(|at| at.elapsed())
    }

    /// The coordinator answered a member of `generation` with `code`.
    pub fn hear(&self, code: i16, generation: i32) -> Heard {
        let mut state = self.lock();
        // An answer to what was asked before the seat was taken anew says nothing of it.
        if state.generation != Some(generation) {
            return Heard::Fine;
        }
        match ResponseError::try_from_code(code) {
            None => return Heard::Fine,
            Some(ResponseError::RebalanceInProgress) => {
                state.rejoin = true;
                return Heard::Rejoin;
            }
            Some(ResponseError::UnknownMemberId) => state.member = StrBytes::default(),
            Some(ResponseError::IllegalGeneration) => {}
            Some(ResponseError::FencedInstanceId) => state.fenced = Some(Instant::now()),
            Some(_) => return Heard::Other,
        }
        state.generation = None;
        Heard::Lost
    }

    /// The consumer was asked for messages.
    pub fn note_poll(&self) {
        self.lock().polled = Instant::now();
    }

    /// Since when the consumer has not been asked for messages.
    pub fn idle(&self) -> Duration {
        self.lock().polled.elapsed()
    }

    /// The consumer is no more.
    pub fn leave(&self) {
        self.lock().gone = true;
    }

    /// Whether the consumer is no more.
    pub fn is_gone(&self) -> bool {
        self.lock().gone
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
