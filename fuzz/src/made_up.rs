//! A short run with made-up bytes where no fuzzer is built: files of the corpus, changed in a few places, for every parser.
//!
//! Blind, unlike `make fuzz-short`, and other bytes each time. What breaks a parser is left in a file, and the seed is told.

use std::{fs, panic::catch_unwind, path::PathBuf};

use safelight_seal::random::{Random, SystemRandom};

use crate::replay::{TARGETS, corpus};

/// Inputs for each target, unless `SAFELIGHT_FUZZ_INPUTS` says otherwise.
const INPUTS: u64 = 4000;

/// Numbers where lengths and counts have their edges.
const EDGES: [u64; 8] = [0, 1, 0x7f, 0xff, 0xffff, 0x7fff_ffff, 0xffff_ffff, u64::MAX];

/// Numbers that follow from a seed (xorshift64, Marsaglia 2003).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, most: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % most.max(1) as u64) as usize
    }
}

/// Changes one place. The first byte chooses the parser and stays.
fn change(bytes: &mut Vec<u8>, other: &[u8], numbers: &mut Numbers) {
    if bytes.len() < 2 {
        return;
    }
    let at = 1 + numbers.below(bytes.len() - 1);
    let len = numbers.below((bytes.len() - at).min(64)) + 1;
    match numbers.below(7) {
        0 => bytes[at] ^= 1 << numbers.below(8),
        1 => bytes[at] = numbers.below(256) as u8,
        2 => bytes.truncate(at),
        3 => drop(bytes.drain(at..(at + len).min(bytes.len()))),
        4 => {
            let piece = bytes[at..(at + len).min(bytes.len())].to_vec();
            bytes.splice(at..at, piece);
        }
        5 => {
            let edge = EDGES[numbers.below(EDGES.len())];
            let number = if numbers.below(2) == 0 {
                edge.to_le_bytes()
            } else {
                edge.to_be_bytes()
            };
            let width = [1, 2, 4, 8][numbers.below(4)];
            let number = if numbers.below(2) == 0 {
                &number[..width]
            } else {
                &number[8 - width..]
            };
            let end = (at + width).min(bytes.len());
            bytes[at..end].copy_from_slice(&number[..end - at]);
        }
        // The end of another file of the corpus.
        _ => {
            bytes.truncate(at);
            bytes.extend_from_slice(&other[at.min(other.len())..]);
        }
    }
}

fn number_of(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn random() -> u64 {
    let mut bytes = [1; 8];
    SystemRandom::new().fill(&mut bytes).expect("randomness");
    u64::from_le_bytes(bytes).max(1)
}

#[test]
fn made_up_bytes_break_no_parser() {
    let _alone = crate::bounded::alone();
    let seed = number_of("SAFELIGHT_FUZZ_SEED").unwrap_or_else(random);
    let inputs = number_of("SAFELIGHT_FUZZ_INPUTS").unwrap_or(INPUTS);
    let mut numbers = Numbers(seed);
    for (target, check, _) in TARGETS {
        let files = fs::read_dir(corpus(target)).expect("a corpus");
        let mut paths: Vec<PathBuf> = files.map(|file| file.expect("a file").path()).collect();
        paths.sort();
        let seeds: Vec<Vec<u8>> = paths
            .iter()
            .map(|path| fs::read(path).expect("a file"))
            .collect();
        for _ in 0..inputs {
            let mut bytes = seeds[numbers.below(seeds.len())].clone();
            let other = numbers.below(seeds.len());
            for _ in 0..=numbers.below(4) {
                change(&mut bytes, &seeds[other], &mut numbers);
            }
            if catch_unwind(|| check(&bytes)).is_err() {
                let left = std::env::temp_dir().join(format!("safelight-{target}-{seed}"));
                fs::write(&left, &bytes).expect("room");
                panic!(
                    "{target}, seed {seed}: {} breaks a parser; it belongs into {}",
                    left.display(),
                    corpus(target).display()
                );
            }
        }
    }
}
