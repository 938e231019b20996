//! Files with several names: which rows are one node, and which entry says what it is.
//!
//! The first of the rows leads: its number is the node's. A file that lost all names but one is still here, led by itself.

/// The rows that are not simply themselves.
pub(super) struct Links {
    /// Sorted by row.
    by_row: Vec<Linked>,
    /// Leader and row, sorted.
    by_leader: Vec<(u32, u32)>,
    leaders: usize,
}

#[derive(Clone, Copy)]
struct Linked {
    row: u32,
    leader: u32,
    layer: u32,
    file: u32,
}

impl Links {
    /// Of layer, file in it and row that shows it, in any order and as often as they come.
    pub(super) fn of(mut found: Vec<(u32, u32, u32)>) -> Self {
        found.sort_unstable();
        found.dedup();
        let mut by_row = Vec::with_capacity(found.len());
        let mut leaders = 0;
        for names in found.chunk_by(|a, b| (a.0, a.1) == (b.0, b.1)) {
            leaders += 1;
            by_row.extend(names.iter().map(|(layer, file, row)| Linked {
                row: *row,
                leader: names[0].2,
                layer: *layer,
                file: *file,
            }));
        }
        by_row.sort_unstable_by_key(|linked| linked.row);
        let mut by_leader: Vec<(u32, u32)> = by_row
            .iter()
            .map(|linked| (linked.leader, linked.row))
            .collect();
        by_leader.sort_unstable();
        Self {
            by_row,
            by_leader,
            leaders,
        }
    }

    /// Rows that have no node of their own.
    pub(super) fn spare(&self) -> usize {
        self.by_row.len() - self.leaders
    }

    fn get(&self, row: usize) -> Option<&Linked> {
        let row = u32::try_from(row).ok()?;
        let at = self.by_row.binary_search_by_key(&row, |linked| linked.row);
        Some(&self.by_row[at.ok()?])
    }

    /// The row that leads this one.
    pub(super) fn leader(&self, row: usize) -> Option<usize> {
        self.get(row).map(|linked| linked.leader as usize)
    }

    /// The layer and the entry of the file that this row shows.
    pub(super) fn file(&self, row: usize) -> Option<(u32, u32)> {
        self.get(row).map(|linked| (linked.layer, linked.file))
    }

    /// The rows that this one leads, itself among them.
    pub(super) fn rows(&self, leader: usize) -> impl Iterator<Item = usize> {
        let leader = leader as u32;
        let from = self.by_leader.partition_point(|(at, _)| *at < leader);
        let rows = self.by_leader[from..].iter();
        rows.take_while(move |(at, _)| *at == leader)
            .map(|(_, row)| *row as usize)
    }
}
