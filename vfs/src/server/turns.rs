//! The tasks of a session that runs actions in turn: made when they are asked for, one at a time, from the recipe that stays open as long
//! as the session does.
//!
//! Whatever is handed out is on the log before the launcher has it, and what each task must leave behind is remembered. A session that
//! ends well without having taken all of its tasks has not ended well.

use std::sync::{Arc, Mutex, PoisonError};

use safelight_channel::Channel;
use safelight_policies::id::TaskId;
use zeroize::Zeroizing;

use super::{Error, SealedLog};
use crate::{
    log::Log,
    protocol::Order,
    session::{Action, Environment, Expand, FromLauncher, SessionFile, Task, ToLauncher},
    view::Clock,
};

/// What is still to be handed out.
pub(super) struct Turns {
    expand: Expand,
    recipe: Zeroizing<Vec<u8>>,
    pub(super) around: Vec<Environment>,
    pub(super) directory: Vec<u8>,
    next: TaskId,
    left: u32,
}

/// What was handed out so far.
#[derive(Default)]
pub(super) struct Given {
    /// Outputs that must be there.
    pub(super) expect: Vec<Vec<u8>>,
    /// Nothing is left.
    pub(super) all: bool,
}

/// Shared with the thread that hands out.
pub(super) type Shared = Arc<Mutex<Given>>;

impl Turns {
    /// `None` if the first task cannot be made, or what stands around it cannot be begun.
    pub(super) fn new(
        expand: Expand,
        recipe: Zeroizing<Vec<u8>>,
        around: Vec<Environment>,
        order: &Order,
    ) -> Option<Self> {
        let mut turns = Self {
            expand,
            recipe,
            around,
            directory: Vec::new(),
            next: order.task,
            left: order.tasks,
        };
        turns.directory = turns.make()?.directory;
        let actions = turns
            .around
            .iter()
            .flat_map(|it| it.enter.iter().chain(&it.exit));
        let fit = actions
            .into_iter()
            .all(|action| SessionFile::are_fit(&action.files));
        fit.then_some(turns)
    }

    fn make(&self) -> Option<Task> {
        let task = (self.expand.task)(&self.recipe, self.next, self.left)?;
        let counted = (1..=self.left).contains(&task.tasks);
        // What is run in turn gets its variables from what stands around it.
        (counted && task.env.is_empty() && SessionFile::are_fit(&task.files)).then_some(task)
    }

    /// The next task, if there is one; an error if it cannot be made.
    fn take(&mut self, given: &Mutex<Given>) -> Result<Option<Action>, Error> {
        let mut given = given.lock().unwrap_or_else(PoisonError::into_inner);
        if self.left == 0 {
            given.all = true;
            return Ok(None);
        }
        let task = self.make().ok_or(Error::Recipe)?;
        self.next.task += u64::from(task.tasks);
        self.left -= task.tasks;
        given.expect.extend(task.expect);
        Ok(Some(Action {
            command: task.command,
            files: task.files,
            timeout: task.timeout,
            notice: task.notice,
        }))
    }

    /// Answers the session until it goes or asks for something else. Its own thread.
    pub(super) fn answer(
        mut self,
        launcher: &Channel,
        log: &SealedLog,
        clock: Clock,
        given: &Mutex<Given>,
    ) -> Result<(), Error> {
        while let Some(incoming) = launcher.recv::<FromLauncher>()? {
            if incoming.message != FromLauncher::Next {
                return Err(Error::DoesNotFit);
            }
            match self.take(given)? {
                Some(action) => {
                    let access = super::serving::exec(&action.command, clock);
                    log.record(access).map_err(|_| Error::DoesNotFit)?;
                    launcher.send(&ToLauncher::Act(action))?;
                }
                None => launcher.send(&ToLauncher::Leave)?,
            }
        }
        Ok(())
    }
}
