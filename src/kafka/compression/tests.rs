use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};
use proptest::prelude::*;
use ruzstd::encoding::{CompressionLevel, compress_to_vec};

use super::*;

const MOST: usize = 1 << 20;

/// Bytes of which some shrink and some do not.
fn sample(size: usize) -> Vec<u8> {
    let words = (0_u32..)
        .flat_map(|n| if n % 3 == 0 { (n / 64).to_le_bytes() } else { n.wrapping_mul(2_654_435_761).to_le_bytes() });
    words.take(size).collect()
}

fn packed(codec: i16, raw: &[u8]) -> Vec<u8> {
    match codec {
        1 => gzip(raw).unwrap(),
        2 => snappy(raw).unwrap(),
        3 => lz4(raw).unwrap(),
        _ => compress_to_vec(raw, CompressionLevel::Fastest),
    }
}

#[test]
fn frames_may_follow_each_other_and_are_as_large_as_they_may() {
    for codec in 1..=4 {
        let (first, second) = (sample(150_000), vec![7; 1_001]);
        let whole = [packed(codec, &first), packed(codec, &second), packed(codec, &[])].concat();
        let raw = [first, second].concat();
        assert_eq!(decompress(codec, &whole, raw.len()).as_ref(), Ok(&raw), "codec {codec}");
        let refused = decompress(codec, &whole, raw.len() - 1).unwrap_err();
        assert!(refused.ends_with(": grows beyond 151000 bytes"), "codec {codec}: {refused}");
        let refused = decompress(codec, &whole, 1_000).unwrap_err();
        assert!(refused.ends_with(": grows beyond 1000 bytes"), "codec {codec}: {refused}");
    }
}

#[test]
fn nothing_comes_of_what_is_cut_off() {
    for codec in 1..=4 {
        let whole = packed(codec, &sample(3_000));
        // Behind the name of a snappy stream there may be no chunks at all.
        for cut in (1..whole.len()).filter(|cut| (codec, *cut) != (2, XERIAL.len())) {
            assert!(decompress(codec, &whole[..cut], MOST).is_err(), "codec {codec}, cut at {cut} of {}", whole.len());
        }
    }
}

#[test]
fn lz4_frames_of_others_are_read_and_ours_by_others() {
    let raw = sample(300_000);
    let mut ours = Vec::new();
    lz4_flex::frame::FrameDecoder::new(&lz4(&raw).unwrap()[..]).read_to_end(&mut ours).unwrap();
    assert_eq!(ours, raw);
    for (name, info) in [
        ("as the Java client", FrameInfo::new().block_size(BlockSize::Max64KB)),
        ("linked", FrameInfo::new().block_size(BlockSize::Max64KB).block_mode(BlockMode::Linked)),
        ("linked, large", FrameInfo::new().block_size(BlockSize::Max256KB).block_mode(BlockMode::Linked)),
        ("checksums", FrameInfo::new().block_checksums(true).content_checksum(true)),
        ("with its size", FrameInfo::new().content_size(Some(raw.len() as u64)).block_size(BlockSize::Max4MB)),
    ] {
        let mut encoder = FrameEncoder::with_frame_info(info, Vec::new());
        encoder.write_all(&raw).unwrap();
        let theirs = encoder.finish().unwrap();
        let read = decompress(3, &[&theirs[..], &theirs].concat(), MOST);
        assert!(read == Ok([&raw[..], &raw].concat()), "{name}: {:?}", read.err());
    }
}

#[test]
fn linked_blocks_are_copied_from_as_far_back_as_lz4_looks() {
    let noise = sample(30_000).into_iter().step_by(15).collect::<Vec<u8>>();
    let raw = [&noise[..], &[0; 63_500], &noise, &noise].concat();
    let info = FrameInfo::new().block_size(BlockSize::Max64KB).block_mode(BlockMode::Linked);
    let mut encoder = FrameEncoder::with_frame_info(info, Vec::new());
    encoder.write_all(&raw).unwrap();
    assert!(decompress(3, &encoder.finish().unwrap(), MOST) == Ok(raw));
}

#[test]
fn snappy_is_read_bare_and_in_chunks_of_any_size() {
    let raw = sample(100_000);
    let bare = |raw: &[u8]| snap::raw::Encoder::new().compress_vec(raw).unwrap();
    assert_eq!(decompress(2, &bare(&raw), MOST).as_ref(), Ok(&raw));
    let mut chunks = XERIAL.to_vec();
    for chunk in raw.chunks(7_001) {
        chunks.extend((bare(chunk).len() as u32).to_be_bytes());
        chunks.extend(bare(chunk));
    }
    assert_eq!(decompress(2, &chunks, MOST), Ok(raw));
}

#[test]
fn a_claim_takes_no_memory() {
    let snappy = |claim: &[u8]| [&XERIAL[..], &[0, 0, 0, claim.len() as u8], claim].concat();
    let zstd = |rest: &[u8]| [&[0x28, 0xb5, 0x2f, 0xfd][..], rest].concat();
    for (codec, packed, refused) in [
        (2, snappy(&[0xff, 0xff, 0xff, 0xff, 0x07, 0]), "claims more than it can hold"),
        (2, [&XERIAL[..], &[0xff; 4]].concat(), "cut off"),
        (2, vec![0xff, 0xff, 0xff, 0xff, 0x0f], "claims more than it can hold"),
        (3, [&LZ4_HEADER[..], &[1, 0, 1, 0x80], &[0; 65_537]].concat(), "a block that is larger than its frame allows"),
        (3, [&LZ4_HEADER[..], &[0xff; 4]].concat(), "cut off"),
        (3, vec![4, 0x22, 0x4d, 0x18, 0x60, 0x30, 0], "a block size that is not one"),
        (3, vec![4, 0x22, 0x4d, 0x18, 0x61, 0x40, 0], "a frame of another version, or with a dictionary"),
        (3, vec![4, 0x22, 0x4d, 0x18, 0xa0, 0x40, 0], "a frame of another version, or with a dictionary"),
        (4, zstd(&[0, 0xff]), "cut off"),
        (4, zstd(&[0xe0, 1, 0, 0, 4, 0, 0, 0, 0]), "cut off"),
        (4, zstd(&[0, 0, 0x0b, 0x00, 0x10]), "a block that is larger than the format allows"),
        (4, zstd(&[0, 0, 0x07, 0, 0]), "a block of no kind"),
        (4, zstd(&[1, 0, 0, 1, 0, 0]), "a frame with a dictionary, or of a later version"),
        (4, vec![0x50, 0x2a, 0x4d, 0x18, 0xff, 0xff, 0xff, 0xff], "cut off"),
    ] {
        let why = decompress(codec, &packed, usize::MAX / 2).unwrap_err();
        assert_eq!(why.split_once(": ").map(|(_, why)| why), Some(refused), "{packed:x?}");
    }
    assert_eq!(
        decompress(4, &[&zstd(&[0, 0x80, 1, 0, 0])[..], &[0x5f, 0x2a, 0x4d, 0x18, 2, 0, 0, 0, 9, 9]].concat(), 0),
        Ok(vec![])
    );
}

#[test]
fn what_grows_without_end_is_stopped_at_the_bound() {
    let frame = [0x28, 0xb5, 0x2f, 0xfd, 0, 0x38];
    // A hundred blocks of 128 KiB of the same byte, in 4 bytes each.
    let bomb = [&frame[..], &[0x02, 0x00, 0x10, 7].repeat(100)].concat();
    assert_eq!(decompress(4, &bomb, MOST), Err("zstd: grows beyond 1048576 bytes".to_owned()));

    // A block of 8 bytes to copy from, and one that copies 128 KiB 2,000 times, in 2 bytes each.
    let mut copies = vec![0x00, 0x80 + 7, 208, 0x54, 0, 0, 52];
    copies.resize(copies.len() + 2 * 2_000, 0xff);
    copies.push(1);
    let header = ((copies.len() as u32) << 3 | 2 << 1 | 1).to_le_bytes();
    let bomb = [&frame[..], &[0x42, 0, 0, 7], &header[..3], &copies].concat();
    let grows = "zstd: a block that grows larger than the format allows".to_owned();
    assert_eq!(decompress(4, &bomb, MOST), Err(grows));
    assert_eq!(decompress(4, &bomb, 1_000), Err("zstd: grows beyond 1000 bytes".to_owned()));
}

/// By the zstd command, levels 1 and 19: several blocks, with tables of their own, of others and none, and all the ways of
/// literals.
#[test]
fn zstd_of_the_reference_is_read() {
    let mut noise = 1_u32;
    let mut raw = Vec::new();
    for seq in 0..3_000 {
        noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let verdict = if noise >> 27 == 0 { "down" } else { "up" };
        writeln!(raw, r#"{{"seq":{seq},"label":"shop-{}","us":{},"verdict":"{verdict}"}}"#, seq % 7, noise >> 30)
            .unwrap();
    }
    raw.extend(sample(3_000));
    for (level, packed) in [(1, &include_bytes!("zstd/1.zst")[..]), (19, include_bytes!("zstd/19.zst"))] {
        assert!(decompress(4, packed, MOST).as_ref() == Ok(&raw), "level {level}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn garbage_ends_in_an_error_or_in_bounds(
        size in 0..3_000_usize,
        garbage in prop::collection::vec(any::<u8>(), 0..60),
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
    ) {
        for codec in 0..6 {
            prop_assert!(decompress(codec, &garbage, 1_000).map_or(true, |raw| raw.len() <= 1_000));
            let mut damaged = packed(codec, &sample(size));
            for (at, byte) in &flips {
                let at = at.index(damaged.len());
                damaged[at] = *byte;
            }
            prop_assert!(decompress(codec, &damaged, 2_000).map_or(true, |raw| raw.len() <= 2_000));
        }
    }
}
