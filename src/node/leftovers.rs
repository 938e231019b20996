//! What sessions left when their node was killed: sealed files that nobody will ask for any more.
//!
//! A node that begins holds nothing, so a session whose log it kept is over, and the site knows or will find out by itself. The logs stay:
//! they say what happened, and nobody else has them. A session without a log of its own is not a node's, and is left alone.

use std::{fs, path::Path, str::FromStr};

use safelight_policies::id::{JobId, SessionId};

use crate::state::State;

/// Removes the directories of sessions that are over. What cannot be removed stays; answers how many went.
pub(super) fn sweep(state: &State) -> usize {
    let root = state.root();
    let logs = names(&root.join("audit"))
        .into_iter()
        .flat_map(|client| names(&root.join("audit").join(client)));
    let over = logs.filter_map(|name| of_session(&name));
    over.filter(|(job, session)| {
        let sessions = root.join("jobs").join(job.to_string()).join("sessions");
        fs::remove_dir_all(sessions.join(session.to_string())).is_ok()
    })
    .count()
}

/// The session that a log is of, by its name: `JOB.SESSION.log`.
fn of_session(name: &str) -> Option<(JobId, SessionId)> {
    let (job, session) = name.strip_suffix(".log")?.split_once('.')?;
    JobId::from_str(job)
        .ok()
        .zip(SessionId::from_str(session).ok())
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::LogOf;

    #[test]
    fn only_what_a_node_left_is_swept() {
        let directory = tempfile::tempdir().unwrap();
        let state = State::open(Some(directory.path())).unwrap();
        assert_eq!(sweep(&state), 0);
        let job = JobId::from_random([1; 10]);
        let client = "c-one".parse().unwrap();
        let session = |number| SessionId::from_random([number; 10]);
        let log = |which| {
            let path = state.audit_log(&client, job, which).unwrap();
            fs::write(&path, b"records").unwrap();
            path
        };
        let [ours, released, anothers] = [1, 2, 3].map(|number| {
            let path = state.session(job, session(number), 0).unwrap();
            fs::write(path.join("object"), b"sealed").unwrap();
            path
        });
        let kept = log(LogOf::Session(session(1)));
        log(LogOf::Release(session(2)));
        log(LogOf::Job);
        log(LogOf::Session(session(9)));
        assert_eq!(sweep(&state), 1);
        assert!(!ours.exists() && kept.exists());
        assert!(released.exists() && anothers.exists());
    }
}
