use bytes::Bytes;
use proptest::prelude::*;

use super::super::Message;
use super::batches::{CONTROL, LENGTH_MIN};
use super::*;

const COMPRESSIONS: [Compression; 4] = [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4];

fn record(key: &str, value: &str, timestamp: i64) -> Record {
    Record { key: key.into(), value: value.into(), timestamp }
}

fn message(offset: i64, key: Option<&str>, value: &str) -> Message {
    let key = key.map(|key| Bytes::copy_from_slice(key.as_bytes()));
    Message { partition: 3, offset, key, value: Bytes::copy_from_slice(value.as_bytes()), damage: None }
}

fn encoded(records: &[Record], compression: Compression) -> BytesMut {
    let mut bytes = BytesMut::new();
    encode(records.iter(), Stamp::NONE, compression, &mut bytes).unwrap();
    bytes
}

/// A batch of these offsets, as a compacted one may have them. The value of each is its offset.
fn batch_of(offsets: &[i64], last_offset: i64) -> BytesMut {
    let mut bytes = encoded(&[record("", "", 0)], Compression::None);
    bytes.truncate(OVERHEAD);
    for offset in offsets {
        put_record(&record("key", &offset.to_string(), 0), 0, offset - offsets[0], &mut bytes);
    }
    let length = (bytes.len() - PREFIX) as i32;
    bytes[0..8].copy_from_slice(&offsets[0].to_be_bytes());
    bytes[8..12].copy_from_slice(&length.to_be_bytes());
    bytes[23..27].copy_from_slice(&((last_offset - offsets[0]) as i32).to_be_bytes());
    bytes[57..61].copy_from_slice(&(offsets.len() as i32).to_be_bytes());
    sealed(bytes)
}

fn three() -> Vec<u8> {
    [batch_of(&[10, 11, 12], 12), batch_of(&[13], 13), batch_of(&[20, 22], 23)].concat()
}

/// With the checksum of what it is now.
fn sealed(mut bytes: BytesMut) -> BytesMut {
    let crc = crc32c(&bytes[CRC_BEGIN..]);
    bytes[CRC..CRC_BEGIN].copy_from_slice(&crc.to_be_bytes());
    bytes
}

/// With these bytes there instead, and the checksum right again.
fn edited(mut bytes: BytesMut, at: usize, to: &[u8]) -> BytesMut {
    bytes[at..at + to.len()].copy_from_slice(to);
    sealed(bytes)
}

fn only(bytes: impl Into<Vec<u8>>) -> Batch {
    let mut batches = batches(Bytes::from(bytes.into()));
    let batch = batches.next().unwrap().unwrap();
    assert!(batches.next().is_none());
    batch
}

fn messages(batch: &Batch, from: i64) -> Result<Vec<Message>, String> {
    let mut messages = vec![];
    batch.messages(3, from, &mut messages).map(|()| messages)
}

/// Every message of every batch that can be read, and what is left.
fn read_all(bytes: Bytes) -> (Vec<Message>, Bytes) {
    let mut batches = batches(bytes);
    let read = batches.by_ref().map_while(Result::ok).flat_map(|batch| messages(&batch, 0).unwrap_or_default());
    (read.collect(), batches.rest().clone())
}

/// Written by the Java client 4.3.1, read from the segment that the broker of that version made of it.
#[test]
fn batches_of_the_java_client_are_read() {
    let text = |seq| format!(r#"{{"v":1,"agent":"edge-01","seq":{seq},"label":"shop","verdict":"up"}}"#);
    let mut expected: Vec<Message> =
        (0..6).map(|seq| message(seq, Some(&format!("edge-01/shop-{}", seq % 2)), &text(seq))).collect();
    expected.push(message(6, None, "without a key"));
    expected.push(message(7, Some("tombstone"), ""));
    for (codec, segment) in [
        (0, &include_bytes!("java-4.3.1/none.log")[..]),
        (1, include_bytes!("java-4.3.1/gzip.log")),
        (2, include_bytes!("java-4.3.1/snappy.log")),
        (3, include_bytes!("java-4.3.1/lz4.log")),
        (4, include_bytes!("java-4.3.1/zstd.log")),
    ] {
        let batch = only(segment);
        assert_eq!((segment[22], batch.base_offset, batch.last_offset, batch.leader_epoch), (codec, 0, 7, 0));
        assert_eq!((batch.control, batch.transactional, &batch.damage, batch.marker()), (false, false, &None, None));
        assert_eq!(messages(&batch, 0).as_ref(), Ok(&expected), "codec {codec}");
        assert_eq!(messages(&batch, 6).unwrap(), expected[6..], "codec {codec}");
    }
}

#[test]
fn transactions_of_the_java_client_are_told_apart() {
    let batches = batches(Bytes::from_static(include_bytes!("java-4.3.1/transactions.log")));
    let batches: Vec<Batch> = batches.map(Result::unwrap).collect();
    assert!(batches.iter().all(|batch| batch.transactional && batch.producer_id == batches[0].producer_id));
    let told: Vec<_> = batches.iter().map(|batch| (batch.base_offset, batch.control, batch.marker())).collect();
    let (abort, commit) = (Some(Marker::Abort), Some(Marker::Commit));
    assert_eq!(
        told,
        [(0, false, None), (1, true, commit), (2, false, None), (4, true, abort), (5, false, None), (6, true, commit)]
    );
    let messages: Vec<Message> = batches.iter().flat_map(|batch| messages(batch, 0).unwrap()).collect();
    let expected = [(0, "counts"), (2, "does not"), (3, "neither"), (5, "counts again")];
    assert_eq!(messages, expected.map(|(offset, value)| message(offset, Some("k"), value)));
}

#[test]
fn other_control_records_are_no_markers() {
    let control = [0, CONTROL as u8];
    for (name, key, marker) in [
        ("abort", &[0, 0, 0, 0][..], Some(Marker::Abort)),
        ("commit, of a later version", &[0, 7, 0, 1, 9], Some(Marker::Commit)),
        ("a change of leaders", &[0, 0, 0, 2], None),
        ("a version that is none", &[0xff, 0xff, 0, 1], None),
        ("cut off", &[0, 0, 0], None),
    ] {
        let record = Record { key: key.into(), value: vec![], timestamp: 0 };
        let batch = only(edited(encoded(&[record], Compression::None), 21, &control));
        assert_eq!((batch.marker(), messages(&batch, 0)), (marker, Ok(vec![])), "{name}");
    }
    assert_eq!(only(edited(batch_of(&[7], 7), 21, &[0, 1 | CONTROL as u8])).marker(), None, "not gzip");
}

/// But for the epoch of the leader, which the broker sets.
#[test]
fn what_is_written_is_what_the_java_client_writes() {
    let java = include_bytes!("java-4.3.1/plain.log");
    let records = [
        record("edge-01/shop", r#"{"v":1,"seq":1}"#, 1_764_000_000_000),
        record("", "", 1_763_999_990_000),
        record(&format!("edge-02/{}", "long".repeat(40)), &"x".repeat(300), 1_764_000_086_400),
    ];
    let mut bytes = BytesMut::from("before");
    let stamp = Stamp { producer_id: 6, epoch: 0, sequence: 0 };
    encode(records.iter(), stamp, Compression::None, &mut bytes).unwrap();
    bytes[6 + 12..6 + 16].copy_from_slice(&[0; 4]);
    assert_eq!(bytes, [b"before", &java[..]].concat());
}

#[test]
fn what_cannot_be_a_batch_leaves_no_trace() {
    let mut bytes = BytesMut::from("before");
    let none = encode([].iter(), Stamp::NONE, Compression::Lz4, &mut bytes);
    assert_eq!(none, Err(Error::Unusable("a batch cannot be of 61 bytes".to_owned())));
    let large = record("", &"x".repeat(1 << 20), 0);
    let many = std::iter::repeat_n(&large, 2048);
    let many = encode(many, Stamp::NONE, Compression::Lz4, &mut bytes);
    assert_eq!(many, Err(Error::Unusable("a batch cannot be of 2147549245 bytes".to_owned())));
    assert_eq!(bytes, "before");
}

#[test]
fn what_does_not_shrink_is_not_compressed() {
    for compression in COMPRESSIONS {
        let small = encoded(&[record("k", "v", -1)], compression);
        assert_eq!(small, encoded(&[record("k", "v", -1)], Compression::None));
        let large = encoded(&[record("k", &"v".repeat(1000), -1)], compression);
        assert_eq!(large[22], compression.codec() as u8);
        assert_eq!(large.len() < 200, compression != Compression::None);
    }
}

#[test]
fn offsets_stay_where_records_are_gone() {
    let batch = only(batch_of(&[100, 103, 109], 112));
    assert_eq!((batch.base_offset, batch.last_offset), (100, 112));
    let all = [100, 103, 109].map(|offset| message(offset, Some("key"), &offset.to_string()));
    for (from, count) in [(0, 3), (100, 3), (101, 2), (103, 2), (109, 1), (110, 0), (112, 0), (113, 0)] {
        assert_eq!(messages(&batch, from).unwrap(), all[3 - count..], "from {from}");
    }
    let mut empty = batch_of(&[100], 112);
    empty.truncate(OVERHEAD);
    empty[8..12].copy_from_slice(&((OVERHEAD - PREFIX) as i32).to_be_bytes());
    let empty = only(edited(empty, 57, &[0; 4]));
    assert_eq!((empty.last_offset, messages(&empty, 0)), (112, Ok(vec![])));
}

#[test]
fn cut_anywhere_the_whole_batches_are_read() {
    let bytes = Bytes::from(three());
    let (all, rest) = read_all(bytes.clone());
    assert_eq!((all.len(), rest.len()), (6, 0));
    let ends: Vec<usize> = batches(bytes.clone())
        .scan(0, |end, batch| {
            *end += batch.unwrap().bytes().len();
            Some(*end)
        })
        .collect();
    for cut in 0..bytes.len() {
        let whole = ends.iter().filter(|end| **end <= cut).count();
        let (read, rest) = read_all(bytes.slice(..cut));
        assert_eq!(read, all[..[0, 3, 4][whole]], "cut at {cut}");
        assert_eq!(rest, bytes[[0, ends[0], ends[1]][whole]..cut], "cut at {cut}");
    }
}

#[test]
fn a_flipped_bit_is_noticed_and_what_comes_behind_is_read() {
    let good = three();
    let (all, _) = read_all(good.clone().into());
    let first = batch_of(&[10, 11, 12], 12).len();
    // Neither the base offset nor the epoch of the leader is under the checksum.
    for at in (8..first).filter(|at| !(12..16).contains(at)) {
        for bit in 0..8 {
            let mut bytes = good.clone();
            bytes[at] ^= 1 << bit;
            let mut batches = batches(bytes.clone().into());
            let name = format!("bit {bit} of byte {at}");
            match batches.next() {
                Some(Ok(batch)) => {
                    assert!(messages(&batch, 0).is_err() && batch.marker().is_none(), "{name}");
                    assert_eq!((batch.base_offset, &bytes[..batch.bytes().len()]), (10, &batch.bytes()[..]), "{name}");
                    if at >= PREFIX {
                        assert_eq!((batch.last_offset, batch.bytes().len()), (12, first), "{name}");
                        assert_eq!(read_all(batches.rest().clone()).0, all[3..], "{name}");
                    }
                }
                Some(Err(Error::Garbage(_))) | None => {
                    assert!((8..12).contains(&at) && batches.next().is_none(), "{name}");
                }
                Some(Err(e)) => unreachable!("{name}: {e}"),
            }
        }
    }
}

#[test]
fn where_a_damaged_batch_ends_is_not_taken_from_it_alone() {
    let last = |bytes: &[u8]| batches(Bytes::copy_from_slice(bytes)).next().unwrap().unwrap().last_offset;
    let flipped = |mut bytes: BytesMut, at: usize| {
        bytes[at] ^= 0x40;
        bytes
    };
    let behind = batch_of(&[200], 200);
    for (name, damaged, alone, with_one_behind) in [
        ("its records", flipped(batch_of(&[10, 11, 12], 12), 70), 12, 199),
        ("its last offset", flipped(batch_of(&[10, 11, 12], 12), 23), 10, 199),
        ("its records, compacted", flipped(batch_of(&[10, 12], 14), 70), 10, 199),
        ("its format", edited(batch_of(&[10, 11, 12], 12), 16, &[1]), 10, 199),
        ("its records, behind what is behind it", flipped(batch_of(&[300, 301], 301), 70), 301, 301),
    ] {
        assert_eq!(last(&damaged), alone, "{name}");
        assert_eq!(last(&[&damaged[..], &behind[..]].concat()), with_one_behind, "{name}");
        assert_eq!(last(&[&damaged[..], &behind[..8]].concat()), with_one_behind, "{name}");
        assert_eq!(last(&[&damaged[..], &i64::MIN.to_be_bytes()].concat()), alone, "{name}");
    }
}

#[test]
fn damage_is_told() {
    let good = || batch_of(&[10, 11, 12], 12);
    let records = |codec: u8| edited(good(), 22, &[codec]);
    let cut = {
        let mut bytes = encoded(&[record("k", &"v".repeat(1000), 0)], Compression::Lz4);
        bytes.truncate(bytes.len() - 6);
        let length = (bytes.len() - PREFIX) as i32;
        edited(edited(bytes, 7, &[10]), 8, &length.to_be_bytes())
    };
    let short = {
        let mut bytes = good();
        bytes.truncate(OVERHEAD - 1);
        edited(bytes, 8, &48_i32.to_be_bytes())
    };
    let mut flipped = good();
    flipped[70] ^= 1;
    for (bytes, damage) in [
        (flipped, "has the checksum f6ef1d60, and says that it is a8d18fc0"),
        (edited(good(), 16, &[0]), "is of record format 0; what is read here is 2, of Kafka 0.11 on"),
        (edited(good(), 16, &[3]), "is of record format 3; what is read here is 2, of Kafka 0.11 on"),
        (short, "has 60 bytes, fewer than its header"),
        (edited(good(), 23, &[0xff; 4]), "claims to end -1 behind its offset 10"),
        (edited(good(), 57, &[0xff; 4]), "claims to hold -1 records in 36 bytes"),
        (edited(good(), 57, &[0x7f, 0xff, 0xff, 0xff]), "claims to hold 2147483647 records in 36 bytes"),
        (edited(good(), 57, &[0, 0, 0, 6]), "claims to hold 6 records in 36 bytes"),
        (edited(good(), 57, &[0, 0, 0, 5]), "record 3 of its 5 cannot be read"),
        (edited(good(), 57, &[0, 0, 0, 2]), "has 12 bytes behind its 2 records"),
        (edited(good(), 26, &[1]), "record 2 of its 3 cannot be read"),
        (edited(good(), 76, &[0]), "record 1 of its 3 cannot be read"),
        (edited(good(), 77, &[0]), "record 1 of its 3 cannot be read"),
        (edited(good(), 61, &[0xff]), "record 0 of its 3 cannot be read"),
        (edited(good(), 65, &[3]), "record 0 of its 3 cannot be read"),
        (records(1), "gzip: invalid gzip header"),
        (records(2), "snappy: snappy: corrupt input (expected valid offset but got offset 822376805; dst position: 2)"),
        (records(3), "lz4: no LZ4 frame"),
        (records(4), "zstd: no frame"),
        (records(5), "compressed with codec 5, which is none that is known here"),
        (cut, "lz4: cut off"),
    ] {
        let batch = only(bytes.clone());
        let mut into = vec![message(0, None, "what is there stays")];
        assert_eq!(batch.messages(3, 0, &mut into).unwrap_err(), damage);
        assert_eq!((into.len(), batch.bytes(), batch.base_offset), (1, &bytes.freeze(), 10), "{damage}");
    }
}

#[test]
fn what_is_no_batch_ends_it() {
    for (name, base, length) in [
        ("zeros", 0, 0_i32),
        ("less than any format has", 0, 13),
        ("a negative length", 0, -1),
        ("the most negative length", 0, i32::MIN),
        ("a negative offset", -1_i64, 100),
    ] {
        let mut bytes = three();
        bytes.extend(base.to_be_bytes());
        bytes.extend(length.to_be_bytes());
        bytes.extend([0; 200]);
        let mut batches = batches(bytes.into());
        assert!(batches.by_ref().take(3).all(|batch| batch.is_ok()), "{name}");
        let garbage = format!("a batch of {length} bytes at offset {base} is none");
        assert_eq!(batches.next().unwrap().unwrap_err(), Error::Garbage(garbage), "{name}");
        assert!(batches.next().is_none(), "{name}");
    }
    let far = only(edited(batch_of(&[i64::MAX], i64::MAX), 26, &[1]));
    assert_eq!((far.last_offset, messages(&far, 0).is_err()), (i64::MAX, true));
}

#[test]
fn more_records_than_any_producer_writes_are_not_read() {
    let mut bytes = encoded(&[record("", "", 0)], Compression::None);
    bytes.truncate(OVERHEAD);
    let records = [12, 0, 0, 0, 0, 0, 0].repeat(RECORDS_MAX + 1);
    let packed = compression::compress(Compression::Lz4, &records).unwrap().unwrap();
    bytes.extend_from_slice(&packed);
    let length = (bytes.len() - PREFIX) as i32;
    bytes[8..12].copy_from_slice(&length.to_be_bytes());
    bytes[22] = Compression::Lz4.codec() as u8;
    let batch = only(edited(bytes, 57, &(RECORDS_MAX as i32 + 1).to_be_bytes()));
    assert_eq!(messages(&batch, 0), Err("claims to hold 1048577 records in 7340039 bytes".to_owned()));
}

fn any_record() -> impl Strategy<Value = Record> {
    let value = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..80),
        (any::<u8>(), 0..70_000_usize).prop_map(|(byte, size)| vec![byte; size]),
    ];
    let timestamp = prop_oneof![Just(-1), 1_700_000_000_000..1_800_000_000_000_i64, any::<i64>()];
    (prop::collection::vec(any::<u8>(), 0..20), value, timestamp).prop_map(|(key, value, timestamp)| Record {
        key,
        value,
        timestamp,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_written_is_read(records in prop::collection::vec(any_record(), 1..20)) {
        let expected: Vec<Message> = records.iter().zip(0..).map(|(record, offset)| Message {
            key: Some(Bytes::from(record.key.clone())),
            value: Bytes::from(record.value.clone()),
            ..message(offset, None, "")
        }).collect();
        for compression in COMPRESSIONS {
            let bytes = encoded(&records, compression);
            prop_assert!(bytes.len() <= OVERHEAD + records.iter().map(size).sum::<usize>());
            let batch = only(bytes);
            prop_assert_eq!((batch.base_offset, batch.last_offset + 1), (0, records.len() as i64));
            prop_assert_eq!(messages(&batch, 0).unwrap(), &expected[..]);
        }
    }

    #[test]
    fn any_bytes_come_to_an_end(
        mut bytes in prop::collection::vec(any::<u8>(), 0..200),
        codec in 0..8_u8,
        flips in prop::collection::vec((0..300_usize, any::<u8>()), 0..4),
    ) {
        let mut whole = edited(batch_of(&[10, 11, 12], 12), 22, &[codec]);
        for (at, byte) in flips {
            if let Some(there) = whole.get_mut(at) {
                *there = byte;
            }
        }
        bytes.extend_from_slice(&sealed(whole));
        let count = batches(bytes.clone().into()).count();
        prop_assert!(count <= bytes.len() / (PREFIX + LENGTH_MIN) + 1);
        read_all(bytes.into());
    }
}
