use std::io::{Read, Write};
use std::net::TcpStream;

use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::{
    HeartbeatRequest, HeartbeatResponse, JoinGroupRequest, LeaveGroupRequest, SaslAuthenticateResponse,
    SaslHandshakeResponse,
};

use super::super::fake::{Fake, access, answer, frame, request, versions};
use super::super::{Mechanism, Sasl};
use super::*;
use crate::net::{TlsSettings, Verify};
use crate::secret::Secret;

/// Long enough for what is there at once.
const SOON: Duration = Duration::from_secs(10);
/// For those that are silent.
const WAITED: Duration = Duration::from_millis(150);

/// What a connection comes to with a peer that sends `says` as soon as it was asked, and then is silent or closes.
fn meet(says: Vec<u8>, then: Then, tls: bool) -> Result<Connection, Error> {
    let fake = Fake::speaking(move |mut socket: TcpStream| {
        let mut asked = [0; 512];
        if socket.read(&mut asked).is_err() || socket.write_all(&says).is_err() {
            return;
        }
        match then {
            Then::Closes => {}
            Then::IsSilent => while matches!(socket.read(&mut asked), Ok(1..)) {},
        }
    });
    let mut access = access(vec![], None);
    access.cluster.tls = tls.then(|| Arc::new(TlsSettings { verify: Verify::Nothing, ..TlsSettings::default() }));
    let patience = if matches!(then, Then::Closes) { SOON } else { WAITED };
    let begun = Instant::now();
    let met = Connection::open_by(&fake.address, &access, begun + patience);
    assert!(begun.elapsed() < patience + Duration::from_secs(2), "it took {:?}", begun.elapsed());
    met.map_err(|error| {
        let text = |what: String| what.replace(&fake.address, "PEER");
        match error {
            Error::Away(what) => Error::Away(text(what)),
            Error::Garbage(what) => Error::Garbage(text(what)),
            other => other,
        }
    })
}

#[derive(Clone, Copy)]
enum Then {
    Closes,
    IsSilent,
}

#[test]
fn what_is_no_broker_is_told_in_time() {
    use Then::{Closes, IsSilent};
    let many = [&0_i16.to_be_bytes()[..], &i32::MAX.to_be_bytes(), &[0; 60]].concat();
    let more = [versions().unwrap(), vec![0]].concat();
    let no_broker = "PEER is no Kafka broker: what it says begins with";
    let bad_frame = "broker PEER answered a request with what is no answer: a frame of";
    let bad_answer = "broker PEER answered ApiVersions with what is no answer:";
    for (name, says, then, told) in [
        ("nothing", vec![], IsSilent, "broker PEER did not answer ApiVersions in time; is it a Kafka broker?".to_owned()),
        ("closed", vec![], Closes, "broker PEER closed the connection after ApiVersions; is it a Kafka broker, and does it expect TLS?".to_owned()),
        ("half a length", vec![0, 0], IsSilent, "broker PEER did not answer ApiVersions in time; is it a Kafka broker?".to_owned()),
        ("cut", frame(1, &[0; 90])[..40].to_vec(), Closes, "broker PEER closed the connection after ApiVersions; is it a Kafka broker, and does it expect TLS?".to_owned()),
        ("half an answer", frame(1, &[0; 90])[..40].to_vec(), IsSilent, "broker PEER did not answer ApiVersions in time; is it a Kafka broker?".to_owned()),
        ("huge", vec![0x7f, 0xff, 0xff, 0xff], IsSilent, format!("{bad_frame} 2147483647 bytes, of at most 65536")),
        ("negative", vec![0xff, 0xff, 0xff, 0x85], IsSilent, format!("{bad_frame} -123 bytes, of at most 65536")),
        ("too short", vec![0, 0, 0, 3], IsSilent, format!("{bad_frame} 3 bytes, of at most 65536")),
        ("too long before it is known", frame(1, &[0; 65_533]), IsSilent, format!("{bad_frame} 65537 bytes, of at most 65536")),
        ("another's answer", frame(7, &versions().unwrap()), IsSilent, format!("{bad_answer} an answer to request 7 in place of 1")),
        ("more than is there", frame(1, &many), IsSilent, format!("{bad_answer} an array of 2147483647 at byte 6 of 66")),
        ("a byte too many", frame(1, &more), IsSilent, format!("{bad_answer} 1 bytes too many")),
        ("an error", frame(1, &[0, 35, 0, 0, 0, 0]), IsSilent, format!("{bad_answer} UnsupportedVersion (35)")),
        ("HTTP", b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(), Closes, format!("{no_broker} `HTTP`")),
        ("SSH", b"SSH-2.0-OpenSSH_9.2\r\n".to_vec(), IsSilent, format!("{no_broker} `SSH-`")),
        ("SMTP", b"220 mail.example ESMTP\r\n".to_vec(), IsSilent, format!("{no_broker} `220 `")),
        ("a TLS alert", vec![21, 3, 3, 0, 2, 2, 80], Closes, "broker PEER answered in TLS: it expects TLS on this port; set `queue.kafka.tls` or take its plaintext port".to_owned()),
    ] {
        let error = meet(says, then, false).expect_err(name);
        assert_eq!(error.to_string(), told, "{name}");
        assert!(matches!(error, Error::Away(_) | Error::Garbage(_)), "{name}: {error:?}");
    }
}

#[test]
fn a_port_without_tls_is_told_in_time() {
    let hint = "; if it expects plaintext on this port, leave out `queue.kafka.tls`";
    for (name, says, then, told) in [
        ("closed", vec![], Then::Closes, "broker PEER: connection closed by it in the TLS handshake"),
        (
            "text",
            b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(),
            Then::Closes,
            "broker PEER: TLS: it does not speak TLS (answered in plain text)",
        ),
        ("nothing", vec![], Then::IsSilent, "broker PEER: TLS handshake with it not done within 150 ms"),
    ] {
        let error = meet(says, then, true).expect_err(name);
        assert_eq!(error, Error::Away(format!("{told}{hint}")), "{name}");
    }
}

#[test]
fn files_that_are_no_certificates_are_told_before_anybody_is_asked() {
    let pem = crate::net::Pem { path: "ca.pem".into(), content: Secret::new("nothing") };
    let mut access = access(vec![], None);
    access.cluster.tls = Some(Arc::new(TlsSettings { ca: Some(pem), ..TlsSettings::default() }));
    let Err(Error::Unusable(what)) = Connection::open("127.0.0.1:1", &access) else { panic!("it was asked") };
    assert!(what.contains("`ca.pem`"), "{what}");
}

#[test]
fn an_answer_may_come_byte_by_byte() {
    let fake = Fake::speaking(|mut socket| {
        socket.set_nodelay(true).unwrap();
        while let Some((.., correlation, _)) = request(&mut socket) {
            for byte in frame(correlation, &versions().unwrap()) {
                socket.write_all(&[byte]).unwrap();
            }
        }
    });
    let connection = Connection::open(&fake.address, &access(vec![], None)).unwrap();
    assert_eq!(connection.versions().of(1), Some((4, 11)));
}

/// A peer that tells its versions, and sends `says` once it was asked twice more.
fn ready(says: Vec<u8>) -> (Fake, Connection) {
    let fake = Fake::speaking(move |mut socket| {
        let Some((.., correlation, _)) = request(&mut socket) else { return };
        socket.write_all(&frame(correlation, &versions().unwrap())).unwrap();
        let _ = (request(&mut socket), request(&mut socket));
        socket.write_all(&says).unwrap();
        while request(&mut socket).is_some() {}
    });
    let connection = Connection::open(&fake.address, &access(vec![], None)).unwrap();
    (fake, connection)
}

#[test]
fn answers_come_in_the_order_of_the_requests() {
    let heartbeat = answer(&HeartbeatResponse::default().with_error_code(27), 3).unwrap();
    let both = |one: i32, other: i32| [frame(one, &heartbeat), frame(other, &heartbeat)].concat();
    for (says, told) in [
        (both(2, 3), None),
        (both(3, 2), Some("an answer to request 3 in place of 2")),
        (both(2, 2), Some("an answer to request 2 in place of 3")),
    ] {
        let (_fake, mut connection) = ready(says);
        let by = Instant::now() + SOON;
        let ask = HeartbeatRequest::default();
        connection.send(&ask, by).and_then(|()| connection.send(&ask, by)).unwrap();
        let heard = connection.receive::<HeartbeatRequest>(by).and_then(|_| connection.receive::<HeartbeatRequest>(by));
        match told {
            None => assert_eq!(heard.map(|answer| answer.error_code), Ok(27)),
            Some(told) => assert!(matches!(&heard, Err(Error::Garbage(what)) if what.contains(told)), "{heard:?}"),
        }
    }
}

#[test]
fn what_was_not_asked_is_not_waited_for() {
    let (_fake, mut connection) = ready(Vec::new());
    let by = Instant::now() + SOON;
    assert!(matches!(connection.receive::<HeartbeatRequest>(by), Err(Error::Garbage(_))));
    connection.send(&HeartbeatRequest::default(), by).unwrap();
    connection.send(&HeartbeatRequest::default(), by).unwrap();
    let late = connection.receive::<HeartbeatRequest>(Instant::now() + WAITED).unwrap_err();
    assert!(late.to_string().ends_with("did not answer Heartbeat in time"), "{late}");
    connection.stop.set();
    assert_eq!(connection.receive::<HeartbeatRequest>(by).unwrap_err(), Error::Stopped);
}

/// Whatever it waits for, who is told to stop does not wait for its deadline.
#[test]
fn the_word_to_stop_ends_a_handshake_and_a_write() {
    let mut told = access(vec![], None);
    let silent = Fake::speaking({
        let stop = told.stop.clone();
        move |mut socket| {
            let _ = socket.read(&mut [0; 64]);
            stop.set();
            while matches!(socket.read(&mut [0; 512]), Ok(1..)) {}
        }
    });
    told.cluster.tls = Some(Arc::new(TlsSettings { verify: Verify::Nothing, ..TlsSettings::default() }));
    let begun = Instant::now();
    assert_eq!(Connection::open(&silent.address, &told).unwrap_err(), Error::Stopped);

    let told = access(vec![], None);
    let (_end, over) = std::sync::mpsc::channel::<()>();
    let over = std::sync::Mutex::new(over);
    let full = Fake::speaking({
        let stop = told.stop.clone();
        move |mut socket| {
            let Some((.., correlation, _)) = request(&mut socket) else { return };
            socket.write_all(&frame(correlation, &versions().unwrap())).unwrap();
            // What is sent now is not read any more.
            let _ = socket.read(&mut [0; 1]);
            stop.set();
            let _ = over.lock().unwrap().recv();
        }
    });
    let mut connection = Connection::open(&full.address, &told).unwrap();
    let much = JoinGroupRequestProtocol::default().with_metadata(Bytes::from(vec![0; 32 << 20]));
    let ask = JoinGroupRequest::default().with_protocols(vec![much]);
    assert_eq!(connection.send(&ask, begun + READY_MAX * 2).unwrap_err(), Error::Stopped);
    assert!(begun.elapsed() < SOON, "it took {:?}", begun.elapsed());
}

#[test]
fn a_broker_that_closes_may_want_sasl() {
    let closes = || Fake::start(|_, _, _| None);
    for (sasl, told) in [
        (false, "closed the connection after LeaveGroup; it may ask for SASL on this port: set `queue.kafka.sasl`"),
        (true, "closed the connection after LeaveGroup"),
    ] {
        let fake = closes();
        let mut connection = Connection::open(&fake.address, &access(vec![], None)).unwrap();
        connection.credentials = sasl.then(credentials);
        let error = connection.call(&LeaveGroupRequest::default(), Instant::now() + SOON).unwrap_err();
        assert_eq!(error, Error::Away(format!("broker {} {told}", fake.address)));
    }
}

fn credentials() -> Sasl {
    Sasl { mechanism: Mechanism::Plain, username: "pingeon".to_owned(), password: Secret::new("hunter2") }
}

/// A broker that answers SaslHandshake and SaslAuthenticate like this.
fn sasl_broker(handshake: SaslHandshakeResponse, authenticate: SaslAuthenticateResponse) -> Fake {
    Fake::start(move |key, version, body| match key {
        17 => answer(&handshake, version),
        36 => {
            assert!(body.ends_with(b"\0pingeon\0hunter2"), "RFC 4616");
            answer(&authenticate, version)
        }
        12 => answer(&HeartbeatResponse::default(), version),
        _ => None,
    })
}

#[test]
fn who_is_refused_is_told_why_and_never_the_password() {
    let handshake = |code: i16, mechanisms: &[&'static str]| {
        let mechanisms = mechanisms.iter().map(|name| StrBytes::from_static_str(name)).collect();
        SaslHandshakeResponse::default().with_error_code(code).with_mechanisms(mechanisms)
    };
    let says = |code: i16, what: &'static str| {
        SaslAuthenticateResponse::default()
            .with_error_code(code)
            .with_error_message(Some(StrBytes::from_static_str(what)))
    };
    for (handshake, authenticate, code, told) in [
        (
            handshake(33, &["GSSAPI", "SCRAM-SHA-512"]),
            says(0, ""),
            33,
            "does not take PLAIN on this port, but GSSAPI, SCRAM-SHA-512; set `queue.kafka.sasl.mechanism`",
        ),
        (
            handshake(33, &[]),
            says(0, ""),
            33,
            "does not take PLAIN on this port, but none; set `queue.kafka.sasl.mechanism`",
        ),
        (
            handshake(34, &[]),
            says(0, ""),
            34,
            "asks for no SASL on this port; take its SASL port, or leave out `queue.kafka.sasl` if anybody may come in",
        ),
        (
            handshake(0, &["PLAIN"]),
            says(58, "no: hunter2"),
            58,
            "refused `pingeon`: username or password is not right for PLAIN (no: ***)",
        ),
        (
            handshake(0, &["PLAIN"]),
            says(58, ""),
            58,
            "refused `pingeon`: username or password is not right for PLAIN (SaslAuthenticationFailed (58))",
        ),
        (
            handshake(0, &["PLAIN"]),
            says(-1, "out of order\u{1b}[2J"),
            -1,
            "refused `pingeon` by PLAIN: out of order\\u{1b}[2J",
        ),
    ] {
        let fake = sasl_broker(handshake, authenticate);
        let error = Connection::open(&fake.address, &access(vec![], Some(credentials()))).unwrap_err();
        assert_eq!(error, Error::Code(code, format!("broker {} {told}", fake.address)));
    }
}

#[test]
fn credentials_that_are_believed_for_a_time_are_shown_anew() {
    let accepted = SaslAuthenticateResponse::default().with_session_lifetime_ms(1);
    let fake = sasl_broker(SaslHandshakeResponse::default(), accepted);
    let mut connection = Connection::open(&fake.address, &access(vec![], Some(credentials()))).unwrap();
    assert_eq!(fake.asked(), [18, 17, 36]);
    let by = Instant::now() + SOON;
    while fake.asked().iter().filter(|key| **key == 17).count() < 3 {
        connection.call(&HeartbeatRequest::default(), by).unwrap();
    }
    assert!(fake.asked().ends_with(&[17, 36, 12]), "{:?}", fake.asked());
}

#[test]
fn a_broker_that_does_not_know_the_password_is_not_believed() {
    let fake = Fake::start(|key, version, body| match key {
        17 => answer(&SaslHandshakeResponse::default(), version),
        36 => {
            let text = String::from_utf8_lossy(&body).into_owned();
            let nonce = text.split_once(",r=").map(|(_, nonce)| nonce.to_owned());
            let says = match nonce {
                Some(nonce) if !nonce.contains(",p=") => format!("r={nonce}theirs,s=QQ==,i=4096"),
                _ => "v=AAAA".to_owned(),
            };
            answer(&SaslAuthenticateResponse::default().with_auth_bytes(Bytes::from(says)), version)
        }
        _ => None,
    });
    for mechanism in [Mechanism::ScramSha256, Mechanism::ScramSha512] {
        let error = Connection::open(&fake.address, &access(vec![], Some(Sasl { mechanism, ..credentials() })));
        let Err(Error::Garbage(what)) = error else { panic!("it was believed") };
        assert!(what.contains("its signature is wrong: it does not know the password"), "{what}");
    }
}
