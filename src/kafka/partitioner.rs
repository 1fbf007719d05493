//! Which partition a key goes to: the one that the Java client's default partitioner and librdkafka's `murmur2` choose, so that
//! the records of a key lie in one partition, whichever client wrote them.
//!
//! Specified by `org.apache.kafka.common.utils.Utils.murmur2` and `BuiltInPartitioner.partitionForKey`: Austin Appleby's 32-bit
//! MurmurHash2, with the seed below, of which the sign is dropped.

const SEED: u32 = 0x9747_b28c;
const MIX: u32 = 0x5bd1_e995;
const ROTATE: u32 = 24;

/// The partition of a key, of `partitions` (at least one) that a topic has.
pub fn partition(key: &[u8], partitions: i32) -> i32 {
    (murmur2(key) & 0x7fff_ffff).cast_signed() % partitions.max(1)
}

/// MurmurHash2 as Kafka computes it.
pub fn murmur2(bytes: &[u8]) -> u32 {
    // The length of a key fits: no record is larger than an i32 says.
    let mut hash = SEED ^ bytes.len() as u32;
    let (words, tail) = bytes.as_chunks::<4>();
    for word in words {
        let mut mixed = u32::from_le_bytes(*word).wrapping_mul(MIX);
        mixed ^= mixed >> ROTATE;
        hash = hash.wrapping_mul(MIX) ^ mixed.wrapping_mul(MIX);
    }
    if !tail.is_empty() {
        hash ^= tail.iter().rev().fold(0, |word, byte| word << 8 | u32::from(*byte));
        hash = hash.wrapping_mul(MIX);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(MIX);
    hash ^ hash >> 15
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_those_that_kafka_publishes() {
        // Of Kafka's own UtilsTest.testMurmur2.
        for (key, hash) in [
            (&b"21"[..], -973_932_308),
            (b"foobar", -790_332_482),
            (b"a-little-bit-long-string", -985_981_536),
            (b"a-little-bit-longer-string", -1_486_304_829),
            (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            (b"abc", 479_470_107),
        ] {
            assert_eq!(murmur2(key).cast_signed(), hash, "{}", key.escape_ascii());
        }
    }

    #[test]
    fn a_key_stays_in_its_partition() {
        for (key, partitions, partition) in
            [(&b"21"[..], 1, 0), (b"21", 7, 3), (b"foobar", 12, 6), (b"abc", 7, 4), (b"abc", 0, 0)]
        {
            assert_eq!(super::partition(key, partitions), partition, "{} of {partitions}", key.escape_ascii());
        }
    }
}
