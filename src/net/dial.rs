//! Names to connections: the phases `resolve` and `connect`.

use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use super::course::{Blame, Course, Failure, Spoken, Trouble, late};
use super::lookup::{ADDRESSES_MAX, THREADS_MAX, Unresolved};
use super::stream::Stream;
use super::{Host, IpFamily, Net};
use crate::check::Phase;

impl Net {
    /// Connects to `host`. Its addresses are tried in the resolver's order, each with a fair share of the time that is left;
    /// the address that accepted is noted in `course`.
    ///
    /// # Errors
    /// Why it has no address, or why none accepted.
    pub fn dial(&self, host: &Host, port: u16, ip: IpFamily, course: &mut Course) -> Result<Stream, Failure> {
        let addresses = self.resolve(host, port, ip, course)?;
        self.connect(host, addresses, course)
    }

    /// The same with `addresses` of `host` that were looked up before.
    ///
    /// # Errors
    /// Why none accepted.
    pub fn connect(&self, host: &Host, mut addresses: Vec<SocketAddr>, course: &mut Course) -> Result<Stream, Failure> {
        addresses.truncate(ADDRESSES_MAX);
        let mut failures = Vec::new();
        for (at, &address) in addresses.iter().enumerate() {
            course.enter(Phase::Connect);
            course.address = Some(address);
            let now = Instant::now();
            let until = share(now, course.deadline(), addresses.len() - at);
            // Where there are others, this one did not have all of the time, and its reason says so.
            let given = (addresses.len() > 1).then(|| Spoken(until.saturating_duration_since(now)));
            match Stream::connect(address, until) {
                Ok(stream) => {
                    course.note(|| ends(address, &stream));
                    return Ok(stream);
                }
                Err(trouble) => failures.push(trouble.at(address, given, course)),
            }
        }
        Err(verdict_of_all(failures, host, course))
    }

    /// The addresses of `host`, all of them. A literal is no lookup: the phase is not entered.
    ///
    /// # Errors
    /// Why it has none.
    pub fn resolve(
        &self,
        host: &Host,
        port: u16,
        ip: IpFamily,
        course: &mut Course,
    ) -> Result<Vec<SocketAddr>, Failure> {
        let name = match host {
            Host::Address(address) => {
                let fits = match ip {
                    IpFamily::Any | IpFamily::Each => true,
                    IpFamily::V4 => address.is_ipv4(),
                    IpFamily::V6 => address.is_ipv6(),
                };
                if !fits {
                    return Err(course.failed(Phase::Resolve, format!("{host} is no {} address", family(ip))));
                }
                return Ok(vec![SocketAddr::new(*address, port)]);
            }
            Host::Name(name) => name,
        };
        course.enter(Phase::Resolve);
        // Names know no case (RFC 4343), but some libraries that read /etc/hosts do.
        match self.lookups.ask(&name.to_ascii_lowercase(), ip, course.deadline()) {
            Ok(found) => {
                course.note(|| format!("{name}: {}", listed(&found)));
                Ok(found.into_iter().map(|ip| SocketAddr::new(ip, port)).collect())
            }
            Err(error) => Err(unresolved(error, name, ip, course)),
        }
    }
}

/// Both ends of a connection: who answers may depend on where it comes from.
fn ends(address: SocketAddr, stream: &Stream) -> String {
    match stream.local_address() {
        Some(own) => format!("{address} from {own}"),
        None => address.to_string(),
    }
}

fn listed(addresses: &[IpAddr]) -> String {
    addresses.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(", ")
}

fn unresolved(error: Unresolved, name: &str, ip: IpFamily, course: &mut Course) -> Failure {
    let reason = match error {
        Unresolved::NoSuchName => format!("no such name: `{name}`"),
        Unresolved::NoAddress => format!("`{name}` has no {} address", family(ip)),
        // Whether the agent's name server or the target's own is at fault cannot be told from here, so nothing is known of
        // the target.
        Unresolved::NoAnswer => {
            return course.blocked(Phase::Resolve, format!("the name service did not answer for `{name}`"));
        }
        Unresolved::Late => {
            let within = course.budget();
            return course
                .blocked(Phase::Resolve, format!("the name service did not answer for `{name}` within {within}"));
        }
        Unresolved::AllStuck => {
            return course.blocked(Phase::Resolve, format!("all {THREADS_MAX} lookup threads are stuck"));
        }
        Unresolved::Agent(reason) => return course.blocked(Phase::Resolve, reason),
    };
    course.failed(Phase::Resolve, reason)
}

fn family(ip: IpFamily) -> &'static str {
    match ip {
        IpFamily::Any | IpFamily::Each => "IP",
        IpFamily::V4 => "IPv4",
        IpFamily::V6 => "IPv6",
    }
}

/// Until when the first of `waiting` addresses may take: an equal part of what is left, so that one that swallows packets
/// leaves time for the others.
pub(crate) fn share(now: Instant, deadline: Instant, waiting: usize) -> Instant {
    let parts = u32::try_from(waiting.max(1)).unwrap_or(u32::MAX);
    now + deadline.saturating_duration_since(now) / parts
}

impl Trouble {
    fn at(self, address: SocketAddr, given: Option<Spoken>, course: &mut Course) -> (SocketAddr, Failure) {
        let failure = match (self, given) {
            (Trouble::Late, Some(given)) => course.failed(Phase::Connect, late(Phase::Connect, &address, given)),
            (trouble, _) => trouble.failure(course, Phase::Connect, &address),
        };
        course.note(|| failure.reason.clone());
        (address, failure)
    }
}

/// One failure out of those of all addresses. What the target did outweighs what the agent lacks: a host without IPv6 still
/// saw that the IPv4 address refused.
fn verdict_of_all(failures: Vec<(SocketAddr, Failure)>, host: &Host, course: &mut Course) -> Failure {
    let tried = failures.len();
    let targets = failures.iter().any(|(_, failure)| failure.blame == Blame::Target);
    let wanted = if targets { Blame::Target } else { Blame::Agent };
    let mut relevant = failures.into_iter().filter(|(_, failure)| failure.blame == wanted);
    let Some((address, first)) = relevant.next() else {
        return course.failed(Phase::Resolve, format!("{host} has no address"));
    };
    course.address = Some(address);
    course.leave();
    let mut reasons = vec![first.reason];
    for (address, failure) in relevant {
        course.address = Some(address);
        if !reasons.contains(&failure.reason) {
            reasons.push(failure.reason);
        }
    }
    let reason =
        if tried > 1 { format!("{} ({tried} addresses tried)", reasons.join("; ")) } else { reasons.join("; ") };
    Failure { phase: Phase::Connect, blame: wanted, reason }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn each_address_gets_a_fair_share_of_what_is_left() {
        let now = Instant::now();
        let deadline = now + Duration::from_secs(6);
        assert_eq!(share(now, deadline, 3), now + Duration::from_secs(2));
        assert_eq!(share(now + Duration::from_secs(2), deadline, 2), now + Duration::from_secs(4));
        assert_eq!(share(deadline, deadline, 1), deadline);
    }
}
