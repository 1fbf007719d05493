use proptest::prelude::*;

use super::*;

const COMPRESSIONS: [Compression; 4] = [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4];

fn encoded(records: &[Record], compression: Compression) -> BytesMut {
    let mut bytes = BytesMut::new();
    encode(records.iter(), Stamp::NONE, compression, &mut bytes).unwrap();
    bytes
}

/// Every message of every batch.
fn messages(bytes: Bytes) -> Vec<Message> {
    let mut messages = Vec::new();
    for batch in batches(bytes) {
        batch.unwrap().messages(3, 0, &mut messages).unwrap();
    }
    messages
}

fn expected(records: &[Record]) -> Vec<Message> {
    let message = |(offset, record): (usize, &Record)| Message {
        partition: 3,
        offset: offset as i64,
        key: Some(Bytes::from(record.key.clone())),
        value: Bytes::from(record.value.clone()),
        damage: None,
    };
    records.iter().enumerate().map(message).collect()
}

fn record() -> impl Strategy<Value = Record> {
    let value = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..80),
        (any::<u8>(), 0..70_000_usize).prop_map(|(byte, size)| vec![byte; size]),
    ];
    (prop::collection::vec(any::<u8>(), 0..20), value, any::<i64>()).prop_map(|(key, value, timestamp)| Record {
        key,
        value,
        timestamp,
    })
}

proptest! {
    #[test]
    fn what_is_written_is_read(records in prop::collection::vec(record(), 1..20)) {
        for compression in COMPRESSIONS {
            let bytes = encoded(&records, compression);
            prop_assert!(bytes.len() <= OVERHEAD + records.iter().map(size).sum::<usize>());
            prop_assert_eq!(messages(bytes.freeze()), expected(&records));
        }
    }
}
