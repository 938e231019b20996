//! Notices what does not come: gaps in the numbers, and silence.

use std::collections::HashMap;

use safelight_policies::id::VerifyKey;

use super::Alarm;
use crate::{Seq, Windows};

/// How long a number may be missing until it is reported, in seconds.
const GAP_AFTER: u64 = 3_600;
/// How long a sender may be silent until it is reported: three heartbeats, in seconds.
const SILENCE: u64 = 3 * 3_600;

/// Since when each gap is known, by the sender and the gap's last number: one that fills from its beginning stays the same gap.
#[derive(Default)]
pub(super) struct Watch {
    gaps: HashMap<([u8; 32], Seq), u64>,
}

impl Watch {
    /// What is to be reported of these senders now.
    pub(super) fn alarms<'a>(
        &mut self,
        senders: impl Iterator<Item = &'a VerifyKey>,
        windows: &Windows,
        now: u64,
    ) -> Vec<Alarm> {
        let mut alarms = Vec::new();
        let mut known = HashMap::new();
        for (from, window) in senders.filter_map(|from| Some((*from, windows.of(from)?))) {
            let since = window.heard();
            if now.saturating_sub(since) >= SILENCE {
                alarms.push(Alarm::Silent { from, since });
            }
            let Some(epoch) = window.newest().map(|newest| newest.epoch) else {
                continue;
            };
            for numbers in window.gaps() {
                let number = *numbers.end();
                let key = (from.0, Seq { epoch, number });
                let since = self.gaps.get(&key).copied().unwrap_or(now);
                known.insert(key, since);
                if now.saturating_sub(since) >= GAP_AFTER {
                    alarms.push(Alarm::Gap {
                        from,
                        epoch,
                        numbers,
                        since,
                    });
                }
            }
        }
        self.gaps = known;
        alarms
    }
}
