//! The proxy beside a session whose policy names addresses outside, as the agent holds it; see [`crate::proxy`].

use std::{
    net::SocketAddr,
    os::fd::{AsFd, OwnedFd},
};

use safelight_audit::Source;
use safelight_channel::Channel;
use safelight_policies::{grant::Terms, id::SessionId};

use super::servers::end;
use crate::{
    failure::{Failure, Kind, OrFail},
    process::{self, Process},
    proxy::{self, ToProxy},
    state::{State, user},
};

/// What the processes beside a session have to speak to the audit writer with.
pub(crate) struct Recorded {
    /// The view server's.
    pub(crate) view: Channel,
    /// The proxy's, if there is one.
    pub(crate) proxy: Option<Channel>,
}

impl Recorded {
    /// The sources besides the agent: these, then the view server, then the proxy if the terms need one.
    pub(crate) fn sources(first: &[Source], view: Source, terms: &Terms) -> Vec<Source> {
        let proxy = (!terms.reach.is_empty()).then_some(Source::Proxy);
        first.iter().copied().chain([view]).chain(proxy).collect()
    }

    /// The channels of those sources; what is not taken stays in the list.
    pub(crate) fn take(channels: &mut Vec<Channel>, terms: &Terms) -> Result<Self, Failure> {
        let too_few = || Failure::new(Kind::Internal, "the audit writer has too few channels");
        let proxy = match terms.reach.is_empty() {
            true => None,
            false => Some(channels.pop().ok_or_else(too_few)?),
        };
        let view = channels.pop().ok_or_else(too_few)?;
        Ok(Self { view, proxy })
    }
}

/// The proxy of a session whose policy names addresses outside.
pub(crate) struct Proxy {
    process: Process,
}

impl Proxy {
    /// Starts a proxy for a session. It carries nothing before it has the session's doors.
    pub(crate) fn start(
        state: &State,
        session: SessionId,
        reach: Vec<SocketAddr>,
        audit: &Channel,
    ) -> Result<Self, Failure> {
        let identity = state.is_privileged().then_some((user::PROXY, user::PROXY));
        let process = process::start(proxy::COMMAND, &[], identity, None)?;
        let order = ToProxy::Order { session, reach };
        let sent = process.channel.send_with(&order, &[audit.as_fd()]);
        sent.or_fail(Kind::Environment)?;
        Ok(Self { process })
    }

    /// Gives it the session's doors.
    pub(crate) fn carry(&self, doors: &[OwnedFd]) -> Result<(), Failure> {
        let doors: Vec<_> = doors.iter().map(AsFd::as_fd).collect();
        let sent = self.process.channel.send_with(&ToProxy::Doors, &doors);
        sent.or_fail(Kind::Environment)
    }

    /// Hangs up; returns when what it carried is on the log.
    pub(crate) fn finish(self) {
        end(self.process);
    }
}
