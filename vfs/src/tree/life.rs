//! How long a node lives: as long as a name, an open handle or the kernel refers to it.

use super::{Answer, Ino, Kind, Node, ROOT, Tree, node::weight_of_xattrs};
use crate::content::SharedContent;

impl Tree {
    /// The kernel learned of a node once more.
    pub(crate) fn looked_up(&mut self, ino: Ino) {
        if let Some(node) = self.nodes.get_mut(&ino) {
            node.lookups += 1;
        }
    }

    /// The kernel forgot a node `count` times.
    pub(crate) fn forget(&mut self, ino: Ino, count: u64) -> Option<SharedContent> {
        if let Some(node) = self.nodes.get_mut(&ino) {
            node.lookups = node.lookups.saturating_sub(count);
        }
        self.collect(ino)
    }

    /// A handle on the node was opened.
    pub(crate) fn opened(&mut self, ino: Ino, writes: bool) -> Answer<()> {
        let node = self.node_mut(ino)?;
        node.opens += 1;
        node.writers += u32::from(writes);
        Ok(())
    }

    /// A handle on the node was closed.
    pub(crate) fn closed(&mut self, ino: Ino, writes: bool) -> Option<SharedContent> {
        if let Some(node) = self.nodes.get_mut(&ino) {
            node.opens -= 1;
            node.writers -= u32::from(writes);
        }
        self.collect(ino)
    }

    /// Drops a node that nothing refers to any more; answers its content, so that its space can be given back.
    pub(crate) fn collect(&mut self, ino: Ino) -> Option<SharedContent> {
        let unused = |node: &Node| node.names.is_empty() && node.lookups == 0 && node.opens == 0;
        if ino == ROOT || !self.nodes.get(&ino).is_some_and(unused) {
            return None;
        }
        let node = self.nodes.remove(&ino)?;
        self.weight.names -= node.weight_of_target();
        self.weight.xattrs -= weight_of_xattrs(&node.xattrs);
        match node.kind {
            Kind::File(content) => Some(content),
            _ => None,
        }
    }
}
