//! Round trips, and everything that a medium, a site or another client could do to a segment.

use proptest::prelude::*;

use super::*;
use crate::random::testing::Counting;

fn fresh(seed: u64) -> SegmentKey {
    SegmentKey::generate(&Counting::from(seed)).unwrap()
}

/// Bytes without a zero block.
fn data(len: usize, seed: u64) -> Vec<u8> {
    let mut out = vec![0; len];
    Counting::from(seed).fill(&mut out).unwrap();
    out
}

/// Reads a whole file as a careful reader does.
fn read(key: &OpenKey, file: &[u8]) -> Result<Vec<u8>, Error> {
    let short = Error::Malformed {
        what: "a segment",
        reason: "the file is short",
    };
    let page = file.first_chunk().ok_or(short.clone())?;
    let layout = layout(page)?;
    if layout.file_len != file.len() as u64 {
        return Err(short);
    }
    let segment = Segment::open(key, page, &file[layout.tags_at as usize..])?;
    let mut out = Vec::new();
    for index in 0..segment.blocks() {
        let mut block = match segment.place(index).unwrap() {
            Place::Hole { len } => vec![0xff; len],
            Place::Stored { offset, len } => file[offset as usize..][..len].to_vec(),
        };
        segment.open_block(index, &mut block)?;
        out.extend_from_slice(&block);
    }
    assert_eq!(out.len(), segment.plaintext_len());
    Ok(out)
}

#[test]
fn every_length_around_a_block_reads_back() {
    for len in [
        1,
        15,
        BLOCK - 1,
        BLOCK,
        BLOCK + 1,
        3 * BLOCK,
        3 * BLOCK + 4096,
        SEGMENT_MAX - 1,
        SEGMENT_MAX,
    ] {
        let plaintext = data(len, 1);
        let sealed = seal_segment(fresh(2), &plaintext).unwrap();
        assert_eq!(sealed.id, object_id(&sealed.bytes));
        let tags = len.div_ceil(BLOCK) * TAG_LEN;
        assert_eq!(sealed.bytes.len(), HEADER_LEN + len + tags);
        assert!(
            read(&sealed.key, &sealed.bytes).unwrap() == plaintext,
            "{len}"
        );
    }
}

#[test]
fn nothing_and_too_much_is_not_sealed() {
    assert!(matches!(
        seal_segment(fresh(1), b""),
        Err(Error::Malformed { .. })
    ));
    assert!(matches!(
        seal_segment(fresh(1), &vec![0; SEGMENT_MAX + 1]),
        Err(Error::TooLarge { .. })
    ));
}

#[test]
fn a_key_opens_its_segment_only() {
    let a = seal_segment(fresh(1), b"one").unwrap();
    let b = seal_segment(fresh(2), b"one").unwrap();
    assert_ne!(a.id, b.id);
    let refused = Err(Error::NotAuthentic { what: "a segment" });
    assert_eq!(read(&b.key, &a.bytes), refused);
    assert_eq!(read(&OpenKey::none(), &a.bytes), refused);
    // A segment of holes only has no block to fail: its header must.
    let holes = seal_segment(fresh(1), &[0; 3]).unwrap();
    assert_eq!(holes.bytes.len(), HEADER_LEN);
    assert_eq!(read(&holes.key, &holes.bytes).unwrap(), [0; 3]);
    assert_eq!(read(&b.key, &holes.bytes), refused);
}

#[test]
fn dedup_is_within_one_client() {
    let rng = Counting::from(3);
    let mine = DedupKey::generate(&rng).unwrap();
    let other = DedupKey::generate(&rng).unwrap();
    let seal =
        |dedup: &DedupKey, bytes: &[u8]| seal_segment(dedup.segment_key(bytes), bytes).unwrap();
    let text = data(BLOCK + 7, 4);
    assert_eq!(seal(&mine, &text).id, seal(&mine, &text).id);
    assert_ne!(seal(&mine, &text).id, seal(&other, &text).id);
    assert_ne!(seal(&mine, &text).id, seal(&mine, &text[1..]).id);
    let sealed = seal(&mine, &text);
    assert!(read(&sealed.key, &sealed.bytes).unwrap() == text);
}

#[test]
fn a_buffer_serves_for_the_next_segment() {
    let mut out = Vec::new();
    let long = data(2 * BLOCK, 1);
    seal_segment_into(fresh(1), &long, &mut out).unwrap();
    let (id, key) = seal_segment_into(fresh(2), b"short", &mut out).unwrap();
    assert_eq!(id, object_id(&out));
    assert_eq!(read(&key, &out).unwrap(), b"short");
}

#[test]
fn every_bit_that_the_header_says_is_authentic() {
    let mut plaintext = data(2 * BLOCK + 5, 1);
    plaintext[BLOCK..2 * BLOCK].fill(0);
    let sealed = seal_segment(fresh(1), &plaintext).unwrap();
    for bit in 0..HEADER_LEN * 8 {
        let mut page: [u8; HEADER_LEN] = *sealed.bytes.first_chunk().unwrap();
        page[bit / 8] ^= 1 << (bit % 8);
        // The reader of the file would stop at the length already; here the tags come along, so that only the header can refuse.
        for tags in [0, 1, 2, 3, 4] {
            let tags = vec![7; tags * TAG_LEN];
            assert!(
                Segment::open(&sealed.key, &page, &tags).is_err(),
                "bit {bit}"
            );
        }
    }
}

#[test]
fn every_tag_and_every_stored_block_is_authentic() {
    let sealed = seal_segment(fresh(1), &data(2 * BLOCK + 5, 1)).unwrap();
    let tags_at = HEADER_LEN + 2 * BLOCK + 5;
    let blocks = (HEADER_LEN..tags_at).step_by(4093);
    for at in blocks.chain(tags_at - 5..sealed.bytes.len()) {
        let mut file = sealed.bytes.clone();
        file[at] ^= 0x10;
        let refused = Err(Error::NotAuthentic { what: "a segment" });
        assert_eq!(read(&sealed.key, &file), refused, "byte {at}");
    }
}

#[test]
fn a_file_cut_or_grown_anywhere_is_refused() {
    let sealed = seal_segment(fresh(1), &data(BLOCK + 5, 1)).unwrap();
    let len = sealed.bytes.len();
    for cut in (0..len).step_by(997).chain(len - 40..len) {
        assert!(read(&sealed.key, &sealed.bytes[..cut]).is_err(), "{cut}");
    }
    for more in [1, 16, 4096, BLOCK] {
        let mut file = sealed.bytes.clone();
        file.resize(len + more, 0);
        assert!(read(&sealed.key, &file).is_err(), "{more}");
    }
}

/// Swaps ciphertext and tag of two stored blocks.
fn swap(file: &mut [u8], tags_at: usize, a: usize, b: usize) {
    for i in 0..BLOCK {
        file.swap(HEADER_LEN + a * BLOCK + i, HEADER_LEN + b * BLOCK + i);
    }
    for i in 0..TAG_LEN {
        file.swap(tags_at + a * TAG_LEN + i, tags_at + b * TAG_LEN + i);
    }
}

#[test]
fn blocks_stay_where_they_are() {
    let refused = Err(Error::NotAuthentic { what: "a segment" });
    let sealed = seal_segment(fresh(1), &data(3 * BLOCK, 1)).unwrap();
    let tags_at = HEADER_LEN + 3 * BLOCK;
    for (a, b) in [(0, 1), (1, 2), (0, 2)] {
        let mut file = sealed.bytes.clone();
        swap(&mut file, tags_at, a, b);
        assert_eq!(read(&sealed.key, &file), refused, "{a} and {b}");
    }
    // The same block of another segment of equal length, tag and all.
    let other = seal_segment(fresh(2), &data(3 * BLOCK, 2)).unwrap();
    let mut file = sealed.bytes.clone();
    file[HEADER_LEN..][..BLOCK].copy_from_slice(&other.bytes[HEADER_LEN..][..BLOCK]);
    file[tags_at..][..TAG_LEN].copy_from_slice(&other.bytes[tags_at..][..TAG_LEN]);
    assert_eq!(read(&sealed.key, &file), refused);
    // A whole other file under this key.
    assert_eq!(read(&sealed.key, &other.bytes), refused);
}

#[test]
fn a_hole_can_be_neither_forged_nor_filled() {
    let refused = Err(Error::NotAuthentic { what: "a segment" });
    let sealed = seal_segment(fresh(1), &data(3 * BLOCK, 1)).unwrap();
    // Block 1 becomes a hole: the bit is set, ciphertext and tag are taken out, and every length is right.
    let mut file = sealed.bytes.clone();
    file[16] |= 1 << 1;
    let tags_at = HEADER_LEN + 3 * BLOCK;
    file.drain(tags_at + TAG_LEN..tags_at + 2 * TAG_LEN);
    file.drain(HEADER_LEN + BLOCK..HEADER_LEN + 2 * BLOCK);
    assert_eq!(
        layout(file.first_chunk().unwrap()).unwrap().file_len,
        file.len() as u64
    );
    assert_eq!(read(&sealed.key, &file), refused);
    // Zeros in place of ciphertext and tag are no hole.
    let mut file = sealed.bytes.clone();
    file[HEADER_LEN..][..BLOCK].fill(0);
    file[tags_at..][..TAG_LEN].fill(0);
    assert_eq!(read(&sealed.key, &file), refused);
}

#[test]
fn a_hole_after_the_end_is_malformed() {
    let sealed = seal_segment(fresh(1), &data(5, 1)).unwrap();
    let mut page: [u8; HEADER_LEN] = *sealed.bytes.first_chunk().unwrap();
    page[16 + 31] = 0x80;
    assert_eq!(
        layout(&page),
        Err(Error::Malformed {
            what: "a segment",
            reason: "it has a hole after its end"
        })
    );
}

#[test]
fn a_block_that_is_not_authentic_leaves_no_bytes() {
    let sealed = seal_segment(fresh(1), &data(100, 1)).unwrap();
    let page = sealed.bytes.first_chunk().unwrap();
    let segment = Segment::open(&sealed.key, page, &[7; TAG_LEN]).unwrap();
    let mut block = sealed.bytes[HEADER_LEN..][..100].to_vec();
    assert!(segment.open_block(0, &mut block).is_err());
    assert_eq!(block, [0; 100]);
    assert!(segment.open_block(0, &mut [0; 99]).is_err());
    assert!(segment.open_block(1, &mut [0; 100]).is_err());
    assert_eq!(segment.place(1), None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn holes_anywhere_read_back(kinds in proptest::collection::vec(any::<bool>(), 1..140), tail in 1..=BLOCK, seed in 0..99u64) {
        let mut plaintext = data((kinds.len() - 1) * BLOCK + tail, seed);
        for (block, hole) in plaintext.chunks_mut(BLOCK).zip(&kinds) {
            if *hole {
                block.fill(0);
            } else {
                block[0] |= 1;
            }
        }
        let sealed = seal_segment(fresh(seed), &plaintext).unwrap();
        let stored = kinds.iter().filter(|hole| !**hole).count();
        let layout = layout(sealed.bytes.first_chunk().unwrap()).unwrap();
        prop_assert_eq!(layout.stored_blocks as usize, stored);
        prop_assert_eq!(layout.file_len, sealed.bytes.len() as u64);
        prop_assert!(read(&sealed.key, &sealed.bytes).unwrap() == plaintext);
        // Stored blocks follow one another, so that one read serves several.
        let segment = Segment::open(&sealed.key, sealed.bytes.first_chunk().unwrap(), &sealed.bytes[layout.tags_at as usize..]).unwrap();
        let mut next = HEADER_LEN as u64;
        for index in 0..segment.blocks() {
            if let Some(Place::Stored { offset, len }) = segment.place(index) {
                prop_assert_eq!(offset, next);
                next += len as u64;
            }
        }
        prop_assert_eq!(next, layout.tags_at);
    }

    #[test]
    fn no_header_page_makes_the_parser_fail_otherwise(bytes in proptest::collection::vec(any::<u8>(), 80), fixed in any::<bool>()) {
        let mut page = [0; HEADER_LEN];
        page[..80].copy_from_slice(&bytes);
        if fixed {
            page[..12].copy_from_slice(b"SLSEGMNT\x00\x01\x10\x00");
            page[15] &= 1;
        }
        if let Ok(layout) = layout(&page) {
            prop_assert!(layout.tags_len <= 4096);
            prop_assert!(layout.file_len <= (HEADER_LEN + SEGMENT_MAX + 4096) as u64);
            prop_assert!(Segment::open(&OpenKey::none(), &page, &vec![0; layout.tags_len]).is_err());
        }
    }
}
