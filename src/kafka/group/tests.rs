use std::io::Write as _;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use kafka_protocol::messages::JoinGroupRequest;

use super::*;
use crate::kafka::fake::{Fake, access, frame, request, versions};

#[test]
fn a_goodbye_that_needs_a_connection_of_its_own_is_no_longer_than_others() {
    // The first connection comes about and then hears nothing; on the others nothing is ever said.
    let connections = AtomicUsize::new(0);
    let fake = Fake::speaking(move |mut socket| {
        let first = connections.fetch_add(1, SeqCst) == 0;
        while let Some((key, _, correlation, _)) = request(&mut socket) {
            if let (true, 18, Some(versions)) = (first, key, versions()) {
                let _ = socket.write_all(&frame(correlation, &versions));
            }
        }
    });
    let access = access(vec![fake.address.clone()], None);
    let mut group = Group::new(Settings::new("g".to_owned()));
    let mut connection = Connection::open(&fake.address, &access).unwrap();
    connection.send(&JoinGroupRequest::default(), Instant::now() + LEAVE_MAX).unwrap();
    (group.connection, group.phase) = (Some(connection), Phase::Joining { by: Instant::now() + LEAVE_MAX });
    group.seat.name(StrBytes::from_static_str("m"));
    let begun = Instant::now();
    group.leave(&access);
    let took = begun.elapsed();
    assert!((LEAVE_MAX / 2..LEAVE_MAX * 2).contains(&took), "{took:?}");
}
