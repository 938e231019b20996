//! How long a node lives: as long as a name, an open handle or the kernel refers to it.

use super::{Answer, Bytes, Ino, Kind, ROOT, Tree};
use crate::content::SharedContent;

/// Of a node of the layers that is no more.
const GONE: u32 = u32::MAX;

/// The kernel knows a node more often than can be counted: it is never forgotten.
const ALWAYS: u32 = u32::MAX - 1;

impl Tree {
    fn place(&self, ino: Ino) -> Option<usize> {
        let place = usize::try_from(ino.checked_sub(1)?).ok()?;
        (place < self.known.len()).then_some(place)
    }

    pub(super) fn is_gone(&self, ino: Ino) -> bool {
        self.place(ino).is_some_and(|at| self.known[at] == GONE)
    }

    /// The kernel learned of a node once more.
    pub(crate) fn looked_up(&mut self, ino: Ino) {
        if let Some(at) = self.place(ino) {
            if self.known[at] < ALWAYS {
                self.known[at] += 1;
            }
        } else if let Some(node) = self.made.get_mut(&ino) {
            node.lookups += 1;
        }
    }

    /// The kernel forgot a node `count` times.
    pub(crate) fn forget(&mut self, ino: Ino, count: u64) -> Option<SharedContent> {
        if let Some(at) = self.place(ino) {
            if self.known[at] < ALWAYS {
                let count = u32::try_from(count).unwrap_or(u32::MAX);
                self.known[at] = self.known[at].saturating_sub(count);
            }
        } else if let Some(node) = self.made.get_mut(&ino) {
            node.lookups = node.lookups.saturating_sub(count);
        }
        self.collect(ino)
    }

    fn is_known(&self, ino: Ino) -> bool {
        match self.place(ino) {
            Some(at) => self.known[at] > 0,
            None => self.made.get(&ino).is_some_and(|node| node.lookups > 0),
        }
    }

    /// A handle on the node was opened.
    pub(crate) fn opened(&mut self, ino: Ino, writes: bool) -> Answer<()> {
        let node = self.held(ino)?;
        node.opens += 1;
        node.writers += u32::from(writes);
        Ok(())
    }

    /// A handle on the node was closed.
    pub(crate) fn closed(&mut self, ino: Ino, writes: bool) -> Option<SharedContent> {
        if let Some(node) = self.made.get_mut(&ino) {
            node.opens -= 1;
            node.writers -= u32::from(writes);
        }
        self.collect(ino)
    }

    /// Drops a node that nothing refers to any more; answers its content, so that its space can be given back. A node of the layers that
    /// was not changed is theirs again when nobody has it open.
    pub(crate) fn collect(&mut self, ino: Ino) -> Option<SharedContent> {
        let node = self.made.get(&ino)?;
        if ino == ROOT || node.opens > 0 {
            return None;
        }
        if !node.names.is_empty() {
            let whole = match &node.kind {
                Kind::File(Bytes::Own(content)) => content.is_as_sealed(),
                _ => true,
            };
            if !node.changed && whole && self.layers.has(ino) {
                self.made.remove(&ino);
            }
            return None;
        }
        if self.is_known(ino) {
            return None;
        }
        let node = self.made.remove(&ino)?;
        match self.place(ino) {
            Some(at) => self.known[at] = GONE,
            None => self.weight.names -= node.weight_of_target(),
        }
        self.nodes -= 1;
        self.weight.xattrs -= node.charged;
        match node.kind {
            Kind::File(Bytes::Own(content)) => Some(content),
            _ => None,
        }
    }
}
