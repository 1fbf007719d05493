//! Where the slots of a label lie: at the wall times that leave the label's phase when divided by its interval.
//!
//! The phase comes out of agent and label alone, so that a restart keeps it, and is as good as random, so that a thousand
//! checks do not start together. The hash is FNV-1a, 64 bits (RFC 9923), over the agent, a NUL and the label, in UTF-8,
//! followed by the finaliser of MurmurHash3, since FNV alone leaves names that differ in their last letters close together.
//! It never changes: another hash would move every slot of every agent that is upgraded.

/// The phase of a label, in whole milliseconds below `interval_ms`.
pub(super) fn phase_ms(agent: &str, label: &str, interval_ms: u64) -> u64 {
    let bytes = agent.bytes().chain([0]).chain(label.bytes());
    let fnv =
        bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
    finalise(fnv) % interval_ms.max(1)
}

/// `fmix64` of MurmurHash3: every bit of the input reaches every bit of the output.
fn finalise(mut hash: u64) -> u64 {
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

/// The first time at or after `at` that leaves `phase` when divided by `interval`; all in one unit, `phase < interval`.
pub(super) fn first_at_or_after(at: u64, phase: u64, interval: u64) -> u64 {
    let into = at % interval;
    let start = at - into;
    if phase >= into { start + phase } else { start + phase + interval }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_never_changes() {
        for (agent, label, interval_ms, phase) in [
            ("edge-01", "shop", 10_000, 9_536),
            ("edge-01", "shop", 30_000, 29_536),
            ("edge-02", "shop", 10_000, 8_721),
            ("edge-01", "", 10_000, 1_771),
            ("", "edge-01", 10_000, 1_584),
            ("köln", "späti", 60_000, 40_886),
        ] {
            assert_eq!(phase_ms(agent, label, interval_ms), phase, "{agent} {label} {interval_ms}");
        }
    }

    #[test]
    fn names_that_run_into_each_other_are_apart() {
        assert_ne!(phase_ms("a", "bc", 1 << 40), phase_ms("ab", "c", 1 << 40));
    }

    #[test]
    fn slots_are_spread_evenly() {
        // 10,000 numbered labels over 100 bins of 100 ms: 100 a bin, give or take 5 standard deviations.
        let mut bins = [0_u32; 100];
        for n in 0..10_000 {
            bins[(phase_ms("edge-01", &format!("shop-{n}"), 10_000) / 100) as usize] += 1;
        }
        assert!(bins.iter().all(|&count| (50..=150).contains(&count)), "{bins:?}");
    }

    #[test]
    fn the_next_slot_leaves_the_phase() {
        for (at, phase, interval, first) in [
            (0, 3, 10, 3),
            (3, 3, 10, 3),
            (4, 3, 10, 13),
            (13, 3, 10, 13),
            (14, 3, 10, 23),
            (7, 0, 10, 10),
            (7, 0, 1, 7),
        ] {
            assert_eq!(first_at_or_after(at, phase, interval), first, "{at} {phase} {interval}");
        }
    }
}
