//! What earlier steps of a job brought home. Looked at only when something stands in the way.

use std::cell::OnceCell;

use safelight_policies::path::CentralPath;
use safelight_seal::manifest::{Entry, Manifest};

use crate::{jobs::Left, opened::OpenedJob};

/// The results of earlier steps, opened when they are first asked for.
pub(super) struct Earlier<'a> {
    open: Box<dyn Fn() -> Vec<Manifest> + 'a>,
    results: OnceCell<Vec<Manifest>>,
}

impl<'a> Earlier<'a> {
    /// What this opens.
    pub(super) fn new(open: impl Fn() -> Vec<Manifest> + 'a) -> Self {
        Self {
            open: Box::new(open),
            results: OnceCell::new(),
        }
    }

    /// Of these, the results of steps before that of `left`: steps are numbered so that each comes after those it depends on. One that
    /// does not open brought nothing.
    pub(super) fn of(opened: &'a OpenedJob, left: &Left, mut before: Vec<Left>) -> Self {
        before.retain(|it| it.task.step < left.task.step && it.cause.is_success());
        Self::new(move || {
            let results = before.iter().map(|left| opened.results(left));
            results.filter_map(Result::ok).collect()
        })
    }

    /// What they have at a path.
    pub(super) fn entries(
        &self,
        central: &CentralPath,
        path: &[u8],
    ) -> impl Iterator<Item = &Entry> {
        let results = self.results.get_or_init(|| (self.open)());
        let trees = results.iter().flat_map(|it| &it.trees);
        trees
            .filter(move |tree| tree.path == *central)
            .filter_map(move |tree| tree.get(path))
    }
}
