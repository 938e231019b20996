//! What a session's walls refuse besides its view, on its log: system calls as they are refused, what Landlock refused at its end.
//!
//! Names of the client's are not for this log, which the operator reads: what Landlock refused is told with its path only where that is one of the
//! host's own.

use std::cell::RefCell;

use safelight_policies::{event::Control, grant::Terms, id::SessionId};
use safelight_worker::{
    kernel_log::{Deaf, KernelLog, Refused},
    plan::Identity,
    supervise::Ended,
};

use super::servers::AuditWriter;
use crate::failure::Failure;

/// Why calls are not heard of. The filter is the only thing that could be the reason.
const NO_CALLS: &str =
    "the policy has the caller killed or has no filter, or another listener stands before ours";

/// Hears what one session is refused.
pub(crate) struct Refusals<'a> {
    audit: &'a AuditWriter,
    session: SessionId,
    kernel: Result<KernelLog, Deaf>,
    /// What went wrong with the log meanwhile.
    failure: RefCell<Option<Failure>>,
}

impl<'a> Refusals<'a> {
    /// Begins to listen, before the session does. `kernel` is false where names of the client's must not stand in the host's own log.
    pub(crate) fn of(
        audit: &'a AuditWriter,
        session: SessionId,
        identity: Identity,
        kernel: bool,
    ) -> Self {
        let kernel = match identity {
            _ if !kernel => Err(Deaf::Dark),
            Identity::Rootless { .. } => Err(Deaf::NoUser),
            Identity::Root { uid, .. } => KernelLog::of(uid),
        };
        Self {
            audit,
            session,
            kernel,
            failure: RefCell::new(None),
        }
    }

    /// True if the kernel's log is listened to.
    pub(crate) fn hears_the_kernel(&self) -> bool {
        self.kernel.is_ok()
    }

    /// A call is refused for the first time: no record, no answer.
    pub(crate) fn witness(&self, call: &str) -> bool {
        let noted = self.call(call, 1);
        let put = noted.is_ok();
        if let Err(failure) = noted {
            self.failure.borrow_mut().get_or_insert(failure);
        }
        put
    }

    fn call(&self, call: &str, times: u64) -> Result<(), Failure> {
        self.audit.note(Control::CallRefused {
            session: self.session,
            call: call.to_owned(),
            times,
        })
    }

    /// The rest, once the session is over.
    pub(crate) fn finish(self, ended: &Ended, terms: &Terms) -> Result<(), Failure> {
        if let Some(failure) = self.failure.take() {
            return Err(failure);
        }
        for (call, times) in ended.refused.iter().flatten() {
            if *times > 1 {
                self.call(call, *times)?;
            }
        }
        let (refused, paths) = match self.kernel {
            Ok(kernel) => {
                let refused = kernel.finish();
                let paths = match refused.lost {
                    true => "the kernel said more than could be kept, or not all of it in time",
                    false => "",
                };
                (refused, paths.to_owned())
            }
            Err(deaf) => (Refused::default(), deaf.to_string()),
        };
        for ((what, path), times) in shown(refused, terms) {
            self.audit.note(Control::PathRefused {
                session: self.session,
                what,
                path,
                times,
            })?;
        }
        let calls = match &ended.refused {
            Some(_) => "",
            None => NO_CALLS,
        };
        self.audit.note(Control::Heard {
            session: self.session,
            calls: calls.to_owned(),
            paths,
        })
    }
}

/// What was refused, with paths of the host's own and without the rest.
fn shown(refused: Refused, terms: &Terms) -> std::collections::BTreeMap<(String, String), u64> {
    let mut shown = std::collections::BTreeMap::new();
    for ((what, path), times) in refused.times {
        let path = if is_the_hosts(&path, terms) {
            path
        } else {
            String::new()
        };
        *shown.entry((what, path)).or_default() += times;
    }
    shown
}

/// True for the root directory, a system directory that the policy shows, and what the kernel makes up.
fn is_the_hosts(path: &str, terms: &Terms) -> bool {
    let below = |at: &str| {
        path.strip_prefix(at)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/') || at.ends_with('/'))
    };
    path == "/" || below("/proc") || terms.root.iter().any(|root| below(&root.at))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use safelight_policies::{Catalogue, Request, id::PolicyName};

    use super::*;

    #[test]
    fn names_of_the_clients_are_not_shown() {
        let catalogue = Catalogue::shipped().unwrap();
        let policy = catalogue.resolve(&PolicyName::new("generic").unwrap());
        let grant = policy.unwrap().admit(&Request::default()).unwrap();
        let write = || "fs.write_file".to_owned();
        let times = [
            ("/usr/lib/x", 1),
            ("/usrx", 2),
            ("/tmp/secret scene", 3),
            ("/", 4),
            ("/proc/1/mem", 5),
        ];
        let times = times.map(|(path, times)| ((write(), path.to_owned()), times));
        let refused = Refused {
            times: times.into(),
            lost: false,
        };
        let expected = [("", 5), ("/", 4), ("/proc/1/mem", 5), ("/usr/lib/x", 1)];
        let expected = expected.map(|(path, times)| ((write(), path.to_owned()), times));
        assert_eq!(shown(refused, grant.terms()), BTreeMap::from(expected));
    }
}
