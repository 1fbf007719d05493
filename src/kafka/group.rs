//! Membership of a consumer group: how a member gets a seat and partitions, commits, and leaves.
//!
//! FindCoordinator → JoinGroup → (the leader shares out) → SyncGroup → OffsetFetch. Sharing out anew is eager: all give up
//! their partitions, and get their new ones in the next generation. Nothing is waited for longer than the caller says:
//! `Group::step` goes on where it was.
//!
//! A commit is good for one generation only, so that a member that was taken for dead undoes nothing of its successor's.
//!
//! Of two members with one instance id the later one has the seat. The other one asks for it once a session, and gets it when
//! the later one's session has ended.
//!
//! Specified by <https://kafka.apache.org/protocol.html>, KIP-62 (heartbeats), KIP-345 (static members) and KIP-394 (member
//! ids before joining).

pub mod heart;
mod join;
mod offsets;
pub(super) mod seat;

use std::time::{Duration, Instant};

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::{GroupId, LeaveGroupRequest};
use kafka_protocol::protocol::StrBytes;

use super::api::Api;
use super::client::{ANSWER_MAX, Client};
use super::connection::{Access, Connection};
use super::{Error, codes};
use crate::jobs::Stop;
use seat::Seat;

/// How long a member that goes waits for its goodbye to be heard.
pub(super) const LEAVE_MAX: Duration = Duration::from_secs(2);

/// From which version on LeaveGroup names several members at once (KIP-345: Kafka 2.4).
const LEAVE_SEVERAL: i16 = 3;

/// How a consumer takes part in its group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The group's name.
    pub group: String,
    /// The member's own name: it keeps its partitions over a restart that ends within `session`. `None`: it has none, and
    /// leaves the group when it stops.
    pub instance_id: Option<String>,
    /// How long after its last heartbeat a member is taken for dead.
    pub session: Duration,
    /// How often the heart beats.
    pub heartbeat: Duration,
    /// How long the members have to finish their batch when partitions are shared out anew.
    pub rebalance: Duration,
    /// How long after its last poll a consumer gives its partitions to others.
    pub poll_max: Duration,
}

impl Settings {
    /// A dynamic member of `group`, with the defaults of the Java client but for `rebalance`: a batch is worked off in less
    /// than a minute.
    pub fn new(group: String) -> Self {
        Settings {
            group,
            instance_id: None,
            session: Duration::from_secs(45),
            heartbeat: Duration::from_secs(3),
            rebalance: Duration::from_secs(60),
            poll_max: Duration::from_secs(300),
        }
    }

    fn instance(&self) -> Option<StrBytes> {
        self.instance_id.clone().map(StrBytes::from_string)
    }

    fn group_id(&self) -> GroupId {
        GroupId(StrBytes::from_string(self.group.clone()))
    }
}

/// How far a member is on its way into a generation.
#[derive(Debug)]
enum Phase {
    /// It has to ask.
    Out,
    /// It has asked to join.
    Joining { by: Instant },
    /// It has joined, and asked for its partitions.
    Syncing { by: Instant, generation: i32 },
    /// It has partitions, and has to ask where to go on with them.
    Placing { partitions: Vec<i32> },
    /// It has all that it needs.
    In,
}

/// A partition that was given to the member, and the offset that is committed there.
pub(super) type Placed = (i32, Option<i64>);

/// A member of a group.
#[derive(Debug)]
pub(super) struct Group {
    settings: Settings,
    seat: Seat,
    phase: Phase,
    connection: Option<Connection>,
    /// The topic's partitions, as the member knew them when it joined.
    partitions: i32,
}

impl Group {
    pub fn new(settings: Settings) -> Self {
        Group { settings, seat: Seat::default(), phase: Phase::Out, connection: None, partitions: 0 }
    }

    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    pub fn seat(&self) -> &Seat {
        &self.seat
    }

    /// Whether the member has its partitions and keeps them for now.
    pub fn is_settled(&self) -> bool {
        matches!(self.phase, Phase::In) && self.seat.is_settled()
    }

    /// The topic has so many partitions now. If there were others when they were shared out, they have to be again: it may
    /// have grown, or been made anew.
    pub fn note_partitions(&mut self, partitions: i32) {
        if matches!(self.phase, Phase::In) && partitions != self.partitions && self.seat.is_settled() {
            let group = &self.settings.group;
            match partitions {
                0 => log::warn!(
                    "consumer group `{group}`: the topic is gone; reading begins again where the group stands"
                ),
                _ => log::info!("consumer group `{group}`: the topic has {partitions} partitions now"),
            }
            self.seat.want_rejoin();
        }
    }

    /// The topic is not there any more. Where to go on is asked for anew; the reason, for people.
    pub fn topic_is_gone(&mut self) -> String {
        self.seat.want_rejoin();
        format!("consumer group `{}`: the topic is gone", self.settings.group)
    }

    /// Goes on towards a settled seat for as long as it may wait. The partitions and where to go on with them, once it has
    /// them.
    ///
    /// # Errors
    /// What the coordinator said, or why there is none. The next step begins anew.
    pub fn step(&mut self, client: &mut Client, until: Instant) -> Result<Option<Vec<Placed>>, Error> {
        let step = self.advance(client, until);
        match &step {
            Ok(_) => {}
            Err(Error::Code(code, _)) => {
                // The connection is in order, unless it leads to the wrong broker.
                if moved(*code) {
                    self.connection = None;
                }
                self.start_over();
            }
            Err(_) => {
                self.connection = None;
                self.start_over();
            }
        }
        step
    }

    /// Positions can be asked for again; anything else has to begin with joining.
    fn start_over(&mut self) {
        if !matches!(self.phase, Phase::Placing { .. }) {
            self.phase = Phase::Out;
        }
    }

    fn advance(&mut self, client: &mut Client, until: Instant) -> Result<Option<Vec<Placed>>, Error> {
        loop {
            // The other one keeps the seat for a session after its end. It is asked for by the old name of this member, so
            // that as long as the other one lives nothing is taken from it.
            if self.seat.fenced_for().is_some_and(|since| since < self.settings.session) {
                return Err(self.fenced());
            }
            match std::mem::replace(&mut self.phase, Phase::Out) {
                Phase::In if self.seat.is_settled() => {
                    self.phase = Phase::In;
                    return Ok(None);
                }
                Phase::Placing { partitions } if self.seat.taken().is_some() => {
                    self.phase = Phase::Placing { partitions: partitions.clone() };
                    let placed = self.positions(client, partitions)?;
                    self.phase = Phase::In;
                    return Ok(Some(placed));
                }
                Phase::Out | Phase::In | Phase::Placing { .. } => self.join(client)?,
                Phase::Joining { by } => {
                    if !self.answered(until, by, &client.access().stop)? {
                        self.phase = Phase::Joining { by };
                        return Ok(None);
                    }
                    self.joined(client)?;
                }
                Phase::Syncing { by, generation } => {
                    if !self.answered(until, by, &client.access().stop)? {
                        self.phase = Phase::Syncing { by, generation };
                        return Ok(None);
                    }
                    self.synced(client, generation)?;
                }
            }
        }
    }

    /// Says goodbye, as far as that can be done soon. A static member does not: its seat waits for it.
    pub fn leave(&mut self, access: &Access) {
        self.seat.leave();
        let member = self.seat.member();
        if self.settings.instance_id.is_some() || member.is_empty() {
            return;
        }
        let by = Instant::now() + LEAVE_MAX;
        let idle = self.connection.take();
        let gone = match idle {
            Some(mut connection) if connection.waiting() == 0 => leave(&mut connection, &self.settings, &member, by),
            // On a connection on which it still waits to join it would be heard after that.
            Some(connection) => {
                let access = Access { stop: Stop::default(), ..access.clone() };
                Connection::open_by(connection.peer(), &access, by)
                    .and_then(|mut connection| leave(&mut connection, &self.settings, &member, by))
            }
            None => Ok(()),
        };
        if let Err(error) = gone {
            log::debug!("{error}; the group notices when the session ends");
        }
    }

    /// The connection to the coordinator.
    fn connection(&mut self, client: &mut Client) -> Result<&mut Connection, Error> {
        let connection = match self.connection.take() {
            Some(connection) if connection.waiting() == 0 => connection,
            _ => client.coordinator(&self.settings.group)?,
        };
        Ok(self.connection.insert(connection))
    }

    /// Asks the coordinator what may be asked twice: it closes a connection on which nothing was said for long.
    fn ask<A: Api>(&mut self, client: &mut Client, request: &A) -> Result<A::Answer, Error> {
        let old = self.connection.is_some();
        let answer = self.connection(client)?.call(request, Instant::now() + ANSWER_MAX);
        let answer = match answer {
            Err(Error::Away(_)) if old => {
                self.connection = None;
                self.connection(client)?.call(request, Instant::now() + ANSWER_MAX)
            }
            answer => answer,
        };
        if answer.is_err() {
            self.connection = None;
        }
        answer
    }

    fn send<A: Api>(&mut self, request: &A) -> Result<(), Error> {
        self.waited_for()?.send(request, Instant::now() + ANSWER_MAX)
    }

    fn receive<A: Api>(&mut self) -> Result<A::Answer, Error> {
        self.waited_for()?.receive::<A>(Instant::now() + ANSWER_MAX)
    }

    fn waited_for(&mut self) -> Result<&mut Connection, Error> {
        let lost = || Error::Away(format!("consumer group `{}`: not connected", self.settings.group));
        self.connection.as_mut().ok_or_else(lost)
    }

    /// Whether an answer has begun to come; waits for it until then. An error when it should have come long ago.
    fn answered(&mut self, until: Instant, by: Instant, stop: &Stop) -> Result<bool, Error> {
        let connection = self.waited_for()?;
        if super::fetch::wait(&[&*connection], until, stop)?.is_empty() {
            if Instant::now() < by {
                return Ok(false);
            }
            return Err(Error::Away(format!("consumer group `{}` does not come together", self.settings.group)));
        }
        Ok(true)
    }

    fn fenced(&self) -> Error {
        let name = self.settings.instance_id.as_deref().unwrap_or_default();
        Error::Unusable(format!("another consumer has taken over `instance_id: {name}`; give each its own"))
    }
}

/// Takes `member` out of the group.
fn leave(connection: &mut Connection, settings: &Settings, member: &StrBytes, by: Instant) -> Result<(), Error> {
    let request = LeaveGroupRequest::default().with_group_id(settings.group_id());
    let request = if connection.version::<LeaveGroupRequest>()? < LEAVE_SEVERAL {
        request.with_member_id(member.clone())
    } else {
        request.with_members(vec![MemberIdentity::default().with_member_id(member.clone())])
    };
    match connection.call(&request, by)?.error_code {
        0 => Ok(()),
        code => Err(codes::group(code, &settings.group)),
    }
}

/// Whether a code says that another broker coordinates the group, or that none does now.
fn moved(code: i16) -> bool {
    code == ResponseError::NotCoordinator.code() || code == ResponseError::CoordinatorNotAvailable.code()
}

#[cfg(test)]
mod tests;
