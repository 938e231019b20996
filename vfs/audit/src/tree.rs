//! The Merkle tree of RFC 6962 (section 2.1): heads, proofs, and their verification. Pure.
//!
//! A tree is asked for by its complete subtrees, of which `node(level, index)` covers the leaves from `index << level` on. Where those come
//! from, memory or tiles on a disk, is the asker's business.

use ring::digest::{Context, SHA256};

/// A hash of the tree: SHA-256.
pub type Hash = [u8; 32];

fn hash(parts: &[&[u8]]) -> Hash {
    let mut context = Context::new(&SHA256);
    parts.iter().for_each(|part| context.update(part));
    let mut hash = [0; 32];
    hash.copy_from_slice(context.finish().as_ref());
    hash
}

/// The hash of a leaf.
pub fn leaf(data: &[u8]) -> Hash {
    hash(&[&[0], data])
}

/// The hash of a node over two others.
pub fn node(left: &Hash, right: &Hash) -> Hash {
    hash(&[&[1], left, right])
}

/// The head of a growing tree: the hashes of its largest complete subtrees, of which there are as many as its size has bits.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Frontier {
    size: u64,
    peaks: Vec<Hash>,
}

impl Frontier {
    /// Adds a leaf by its hash.
    pub fn push(&mut self, leaf: Hash) {
        let mut new = leaf;
        for _ in 0..self.size.trailing_ones() {
            if let Some(left) = self.peaks.pop() {
                new = node(&left, &new);
            }
        }
        self.peaks.push(new);
        self.size += 1;
    }

    /// The number of leaves.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The hash of the whole tree; of an empty one the hash of nothing.
    pub fn root(&self) -> Hash {
        let mut peaks = self.peaks.iter().rev();
        match peaks.next() {
            Some(last) => peaks.fold(*last, |right, left| node(left, &right)),
            None => hash(&[]),
        }
    }

    /// The head of a tree whose complete subtrees are known.
    pub fn of<E>(size: u64, nodes: &impl Fn(u32, u64) -> Result<Hash, E>) -> Result<Self, E> {
        let mut peaks = Vec::new();
        let mut begin = 0;
        for level in (0..64).rev().filter(|level| size >> level & 1 == 1) {
            peaks.push(nodes(level, begin >> level)?);
            begin += 1 << level;
        }
        Ok(Self { size, peaks })
    }
}

/// The hash over the leaves from `begin` up to `end`.
fn range<E>(begin: u64, end: u64, nodes: &impl Fn(u32, u64) -> Result<Hash, E>) -> Result<Hash, E> {
    let count = end - begin;
    if count.is_power_of_two() && begin.is_multiple_of(count) {
        return nodes(count.trailing_zeros(), begin / count);
    }
    let middle = begin + split(count);
    Ok(node(
        &range(begin, middle, nodes)?,
        &range(middle, end, nodes)?,
    ))
}

/// The largest power of two below a count of at least two.
fn split(count: u64) -> u64 {
    1 << (63 - (count - 1).leading_zeros())
}

/// Proves that a leaf is in a tree of `size` leaves: the hashes beside its way up, lowest first. The leaf must be below the size.
pub fn inclusion<E>(
    index: u64,
    size: u64,
    nodes: &impl Fn(u32, u64) -> Result<Hash, E>,
) -> Result<Vec<Hash>, E> {
    let (mut begin, mut end, mut path) = (0, size, Vec::new());
    while end - begin > 1 {
        let middle = begin + split(end - begin);
        if index < middle {
            path.push(range(middle, end, nodes)?);
            end = middle;
        } else {
            path.push(range(begin, middle, nodes)?);
            begin = middle;
        }
    }
    path.reverse();
    Ok(path)
}

/// Proves that a tree of `size` leaves begins with one of `old` leaves. `old` must be from one up to the size.
pub fn consistency<E>(
    old: u64,
    size: u64,
    nodes: &impl Fn(u32, u64) -> Result<Hash, E>,
) -> Result<Vec<Hash>, E> {
    let (mut begin, mut end, mut path) = (0, size, Vec::new());
    // Of the old tree itself the verifier knows the hash already.
    let mut known = true;
    while old != end {
        let middle = begin + split(end - begin);
        if old <= middle {
            path.push(range(middle, end, nodes)?);
            end = middle;
        } else {
            path.push(range(begin, middle, nodes)?);
            begin = middle;
            known = false;
        }
    }
    if !known {
        path.push(range(begin, end, nodes)?);
    }
    path.reverse();
    Ok(path)
}

/// True if a proof shows that a leaf is in the tree with this root (RFC 9162, section 2.1.3.2).
pub fn includes(leaf: Hash, index: u64, size: u64, path: &[Hash], root: &Hash) -> bool {
    if index >= size {
        return false;
    }
    let (mut at, mut last, mut hash) = (index, size - 1, leaf);
    for beside in path {
        if last == 0 {
            return false;
        }
        if at & 1 == 1 || at == last {
            hash = node(beside, &hash);
            while at & 1 == 0 && at != 0 {
                at >>= 1;
                last >>= 1;
            }
        } else {
            hash = node(&hash, beside);
        }
        at >>= 1;
        last >>= 1;
    }
    last == 0 && hash == *root
}

/// True if a proof shows that the newer tree begins with the older one (RFC 9162, section 2.1.4.2).
pub fn extends(old: (u64, &Hash), new: (u64, &Hash), path: &[Hash]) -> bool {
    let ((old, old_root), (new, new_root)) = (old, new);
    if old == new {
        return path.is_empty() && old_root == new_root;
    }
    if old == 0 || old > new {
        return false;
    }
    let mut path = path.iter();
    let first = match old.is_power_of_two() {
        true => Some(old_root),
        false => path.next(),
    };
    let Some(first) = first else { return false };
    let (mut at, mut last) = (old - 1, new - 1);
    while at & 1 == 1 {
        at >>= 1;
        last >>= 1;
    }
    let (mut older, mut newer) = (*first, *first);
    for beside in path {
        if last == 0 {
            return false;
        }
        if at & 1 == 1 || at == last {
            older = node(beside, &older);
            newer = node(beside, &newer);
            while at & 1 == 0 && at != 0 {
                at >>= 1;
                last >>= 1;
            }
        } else {
            newer = node(&newer, beside);
        }
        at >>= 1;
        last >>= 1;
    }
    last == 0 && older == *old_root && newer == *new_root
}

/// The complete subtrees of a tree in memory.
#[derive(Debug, Clone, Default)]
pub struct Forest {
    levels: Vec<Vec<Hash>>,
}

impl Forest {
    /// Adds a leaf by its hash.
    pub fn push(&mut self, leaf: Hash) {
        let mut new = leaf;
        for level in 0.. {
            if self.levels.len() == level {
                self.levels.push(Vec::new());
            }
            let row = &mut self.levels[level];
            row.push(new);
            match row.as_slice() {
                [.., left, right] if row.len().is_multiple_of(2) => new = node(left, right),
                _ => return,
            }
        }
    }

    /// The number of leaves.
    pub fn size(&self) -> u64 {
        self.levels.first().map_or(0, |leaves| leaves.len() as u64)
    }

    /// A complete subtree; `None` if there is no such.
    pub fn node(&self, level: u32, index: u64) -> Option<Hash> {
        let row = self.levels.get(level as usize)?;
        row.get(usize::try_from(index).ok()?).copied()
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    fn forest(size: u64) -> (Forest, Frontier) {
        let (mut forest, mut frontier) = (Forest::default(), Frontier::default());
        for number in 0..size {
            let leaf = leaf(&number.to_be_bytes());
            forest.push(leaf);
            frontier.push(leaf);
        }
        (forest, frontier)
    }

    /// As RFC 6962 writes it.
    fn naive(leaves: &[Hash]) -> Hash {
        match leaves {
            [] => hash(&[]),
            [only] => *only,
            many => {
                let (left, right) = many.split_at(split(many.len() as u64) as usize);
                node(&naive(left), &naive(right))
            }
        }
    }

    #[test]
    fn known_roots() {
        let hex = |hash: Hash| data_encoding::HEXLOWER.encode(&hash);
        // Published with the tests of Certificate Transparency.
        assert_eq!(
            hex(Frontier::default().root()),
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
        assert_eq!(
            hex(leaf(b"")),
            "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"
        );
    }

    #[test]
    fn every_proof_of_small_trees_holds_and_of_no_other_leaf_or_size() {
        for size in 1..=33_u64 {
            let (forest, frontier) = forest(size);
            let leaves: Vec<Hash> = (0..size).map(|at| forest.node(0, at).unwrap()).collect();
            let root = frontier.root();
            assert_eq!(root, naive(&leaves));
            let nodes = |level, index| Ok::<_, Infallible>(forest.node(level, index).unwrap());
            let Ok(again) = Frontier::of(size, &nodes);
            assert_eq!(again, frontier);
            for index in 0..size {
                let Ok(path) = inclusion(index, size, &nodes);
                let of = leaves[index as usize];
                assert!(includes(of, index, size, &path, &root));
                assert!(!includes(leaf(b"x"), index, size, &path, &root));
                assert!(!includes(of, (index + 1) % size, size, &path, &root) || size == 1);
                assert!(!includes(
                    of,
                    index,
                    size,
                    &[&path[..], &[root]].concat(),
                    &root
                ));
            }
            for old in 1..=size {
                let Ok(path) = consistency(old, size, &nodes);
                let older = naive(&leaves[..old as usize]);
                assert!(
                    extends((old, &older), (size, &root), &path),
                    "{old} of {size}"
                );
                assert!(!extends((old, &leaf(b"x")), (size, &root), &path));
                assert!(!extends((old, &older), (size, &leaf(b"x")), &path));
            }
            assert!(!extends((size + 1, &root), (size, &root), &[]));
            assert!(!extends((0, &root), (size, &root), &[]));
        }
    }
}
