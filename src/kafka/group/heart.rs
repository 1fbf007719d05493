//! A member's heart: tells the coordinator that the member lives, however long it takes to work off a batch.
//!
//! A thread of its own on a connection of its own, so that a store that is slow costs no partitions. But a consumer that is not
//! asked for messages for `poll_max` is as good as dead: then the heart gives the seat to others, whose store may work (KIP-62).

use std::time::{Duration, Instant};

use kafka_protocol::messages::{GroupId, HeartbeatRequest};
use kafka_protocol::protocol::StrBytes;

use super::seat::{Heard, Seat};
use super::{LEAVE_MAX, Settings, leave};
use crate::jobs::{Pulse, Stop};
use crate::kafka::client::Client;
use crate::kafka::connection::Connection;
use crate::kafka::{Error, codes};

/// A beat that takes longer than this is stuck: it may ask every broker that is known for the coordinator.
const BEAT_MAX: Duration = Duration::from_secs(120);

/// How soon the first beat in a generation comes.
const BEAT_FIRST: Duration = Duration::from_millis(50);

/// The heart of one member. See [`run`](Heart::run).
#[derive(Debug)]
pub struct Heart {
    client: Client,
    settings: Settings,
    seat: Seat,
    connection: Option<Connection>,
    pace: Pace,
    /// What went wrong last, so that it is said once.
    said: Option<String>,
}

impl Heart {
    pub(in crate::kafka) fn new(client: Client, settings: Settings, seat: Seat) -> Self {
        Heart { client, settings, seat, connection: None, pace: Pace::default(), said: None }
    }

    /// Beats until told to stop or the consumer is no more.
    ///
    /// # Errors
    /// None: what goes wrong may go away, and the consumer meets it, too.
    pub fn run(mut self, stop: &Stop, pulse: &Pulse) -> Result<(), String> {
        loop {
            pulse.back_in(self.settings.heartbeat + BEAT_MAX);
            let generation = self.seat.taken().map(|(_, generation)| generation);
            let pause = self.pace.pause(generation, self.settings.heartbeat);
            if stop.wait(pause) || self.seat.is_gone() {
                return Ok(());
            }
            match self.beat() {
                Ok(()) => self.said = None,
                Err(Error::Stopped) => {}
                Err(error) => {
                    self.connection = None;
                    let what = error.to_string();
                    if self.said.as_ref() != Some(&what) {
                        log::warn!("{what}; the heartbeat tries again");
                        self.said = Some(what);
                    }
                }
            }
        }
    }

    fn beat(&mut self) -> Result<(), Error> {
        let Some((member, generation)) = self.seat.taken() else { return Ok(()) };
        let idle = self.seat.idle();
        if idle > self.settings.poll_max {
            return self.stand_up(&member, idle);
        }
        let group = StrBytes::from_string(self.settings.group.clone());
        let mut request = HeartbeatRequest::default()
            .with_group_id(GroupId(group))
            .with_generation_id(generation)
            .with_member_id(member);
        request.group_instance_id = self.settings.instance();
        // Leaves time for another try before the session ends.
        let by = Instant::now() + self.settings.session / 3;
        let code = self.connection()?.call(&request, by)?.error_code;
        match self.seat.hear(code, generation) {
            Heard::Fine | Heard::Rejoin => Ok(()),
            Heard::Lost => {
                log::warn!("{}: the partitions go to others", codes::group(code, &self.settings.group));
                Ok(())
            }
            Heard::Other => Err(codes::group(code, &self.settings.group)),
        }
    }

    /// Gives the seat to others. A static member's is kept for it until its session ends, so that one only falls silent.
    fn stand_up(&mut self, member: &StrBytes, idle: Duration) -> Result<(), Error> {
        if self.settings.instance_id.is_some() {
            return Ok(());
        }
        let (group, idle) = (&self.settings.group, idle.as_secs());
        log::warn!("consumer group `{group}`: nothing was asked for for {idle} s; the partitions go to others");
        self.seat.give_up();
        let settings = self.settings.clone();
        leave(self.connection()?, &settings, member, Instant::now() + LEAVE_MAX)
    }

    fn connection(&mut self) -> Result<&mut Connection, Error> {
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => {
                // Asked of all brokers that there are, not only of those to begin with.
                self.client.partitions()?;
                self.client.coordinator(&self.settings.group)?
            }
        };
        Ok(self.connection.insert(connection))
    }
}

/// How long it is from beat to beat. Members that start together join one after the other, and who is in already reads all the
/// partitions alone until a beat tells of the next one: so in each generation the first beats come sooner.
#[derive(Debug, Default)]
struct Pace {
    generation: Option<i32>,
    pause: Duration,
}

impl Pace {
    /// The pause before the next beat: doubles up to `most`, in another generation anew.
    fn pause(&mut self, generation: Option<i32>, most: Duration) -> Duration {
        let longer = if generation == self.generation { self.pause * 2 } else { Duration::ZERO };
        *self = Pace { generation, pause: longer.max(BEAT_FIRST).min(most) };
        self.pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beats_come_sooner_in_a_new_generation() {
        let mut pace = Pace::default();
        let most = Duration::from_millis(300);
        let pauses = [None, None, Some(1), Some(1), Some(1), Some(1), Some(1), Some(2), Some(2), None]
            .map(|generation| pace.pause(generation, most).as_millis());
        assert_eq!(pauses, [50, 100, 50, 100, 200, 300, 300, 50, 100, 50]);
    }
}
