//! The states of a job that is in a queue: events in, moves out. Pure.
//!
//! The same table serves both sites. At home a job goes new, outsourced, published, accepted, returning, delivered, or new, waiting,
//! running, succeeded, delivered. At the render site it begins as waiting, and from succeeded goes returning, delivered.

use crate::{
    event::Event,
    ledger::JobState::{
        self, Accepted, Canceled, Delivered, Failed, New, Outsourced, Published, Returning,
        Running, Succeeded, Waiting,
    },
    queue::Queue,
};

/// Where a move leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stand {
    /// The state.
    pub state: JobState,
    /// The queue, if the job is still in one.
    pub queue: Option<Queue>,
}

/// What follows from an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Follows {
    /// The job moves.
    Move(Stand),
    /// It happened before, and nothing changes: who was cut off may ask again.
    Already,
}

/// Why an event does not move a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MoveRefusal {
    /// No such thing happens to a job in this state.
    #[error("the job is {state}")]
    Unfit {
        /// Its state.
        state: JobState,
    },
    /// The queue has as many jobs under way as it may.
    #[error("the {queue} queue has {cap} jobs under way, which is its limit")]
    Full {
        /// The queue.
        queue: Queue,
        /// Its limit.
        cap: u64,
    },
    /// The job or its queue is paused.
    #[error("it is paused")]
    Paused,
    /// The job was never in a queue of this ledger.
    #[error("the job is in no queue")]
    NoQueue,
}

/// The answer to who reports an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Moved {
    /// The job is now in this state, durably.
    Done {
        /// The state.
        state: JobState,
    },
    /// It was there already.
    Already,
    /// Nothing changed.
    Refused {
        /// Why.
        reason: MoveRefusal,
    },
}

/// The table. `queue` is where the job is now.
pub fn follow(
    state: JobState,
    queue: Option<Queue>,
    event: &Event,
) -> Result<Follows, MoveRefusal> {
    let (to, into) = match (state, event) {
        (New, Event::PlacedHere { .. }) => (Waiting, Some(Queue::Active)),
        (New, Event::PlacedThere { .. }) => (Outsourced, Some(Queue::Outsourced)),
        (Outsourced, Event::Published) => (Published, queue),
        (Published, Event::Accepted) => (Accepted, queue),
        // A result may overtake the receipt: the medium keeps no order.
        (Published | Accepted | Succeeded, Event::Returning) => (Returning, queue),
        // Only at home does anything arrive that could be rejected.
        (Returning, Event::Rejected) if queue.is_some() => (Accepted, queue),
        (Returning | Succeeded, Event::Delivered) => (Delivered, None),
        (Published | Accepted, Event::FailedThere) => (Failed, None),
        (Waiting, Event::Started) => (Running, queue),
        (Waiting | Running, Event::Succeeded) => (Succeeded, None),
        (Waiting | Running, Event::Failed { .. }) => (Failed, None),
        (New | Outsourced | Waiting, Event::Expired) => (Failed, None),
        (New | Outsourced | Published | Accepted | Waiting | Running, Event::Canceled) => {
            (Canceled, None)
        }
        (Outsourced, Event::Recalled) => (New, Some(Queue::New)),
        (Failed, Event::Retried { tasks: 1.. }) => (Waiting, Some(Queue::Active)),
        (
            New | Outsourced | Published | Accepted | Waiting | Running,
            Event::Paused | Event::Resumed | Event::Reordered { .. },
        ) => (state, queue),
        _ if reached(event) == Some(state) => return Ok(Follows::Already),
        // A receipt that comes late says nothing new.
        (Returning | Delivered, Event::Accepted) | (Delivered, Event::Returning) => {
            return Ok(Follows::Already);
        }
        _ => return Err(MoveRefusal::Unfit { state }),
    };
    Ok(Follows::Move(Stand {
        state: to,
        queue: into,
    }))
}

/// The state that an event leads to, where there is but one.
fn reached(event: &Event) -> Option<JobState> {
    Some(match event {
        Event::PlacedHere { .. } => Waiting,
        Event::PlacedThere { .. } => Outsourced,
        Event::Published => Published,
        Event::Accepted => Accepted,
        Event::Returning => Returning,
        Event::Delivered => Delivered,
        Event::FailedThere => Failed,
        Event::Canceled => Canceled,
        Event::Recalled => New,
        _ => return None,
    })
}

/// True if the supplier is told of it, once.
pub fn is_final(state: JobState) -> bool {
    matches!(state, Delivered | Failed | Canceled)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATES: [JobState; 11] = [
        New, Outsourced, Published, Accepted, Returning, Delivered, Canceled, Waiting, Running,
        Succeeded, Failed,
    ];

    fn events() -> Vec<Event> {
        let reasons = Vec::new;
        vec![
            Event::Submitted,
            Event::Received,
            Event::PlacedHere { reasons: reasons() },
            Event::PlacedThere {
                site: "north".parse().unwrap(),
                reasons: reasons(),
            },
            Event::Published,
            Event::Accepted,
            Event::Returning,
            Event::Rejected,
            Event::Delivered,
            Event::FailedThere,
            Event::Started,
            Event::Succeeded,
            Event::Failed { tasks: 1 },
            Event::Expired,
            Event::Canceled,
            Event::Recalled,
            Event::Retried { tasks: 1 },
            Event::Reordered { position: 1 },
            Event::Paused,
            Event::Resumed,
        ]
    }

    /// Runs a script: the words of the states a job goes through, `=` for nothing new, `!` for a refusal.
    fn script(start: Stand, events: &[Event]) -> Vec<String> {
        let mut stand = start;
        let mut seen = Vec::new();
        for event in events {
            seen.push(match follow(stand.state, stand.queue, event) {
                Ok(Follows::Move(next)) => {
                    stand = next;
                    let queue = next.queue.map_or("-", Queue::as_str);
                    format!("{}/{queue}", next.state)
                }
                Ok(Follows::Already) => "=".to_owned(),
                Err(_) => "!".to_owned(),
            });
        }
        seen
    }

    const SUBMITTED: Stand = Stand {
        state: New,
        queue: Some(Queue::New),
    };
    const RECEIVED: Stand = Stand {
        state: Waiting,
        queue: Some(Queue::Active),
    };

    #[test]
    fn a_job_goes_there_and_back() {
        let there = Event::PlacedThere {
            site: "north".parse().unwrap(),
            reasons: vec![],
        };
        let events = [
            Event::Published,
            there.clone(),
            there,
            Event::Published,
            Event::Published,
            Event::Accepted,
            Event::Recalled,
            Event::Returning,
            Event::Rejected,
            Event::Returning,
            Event::Accepted,
            Event::Delivered,
            Event::Delivered,
            Event::Canceled,
        ];
        assert_eq!(
            script(SUBMITTED, &events),
            [
                "!",
                "outsourced/outsourced",
                "=",
                "published/outsourced",
                "=",
                "accepted/outsourced",
                "!",
                "returning/outsourced",
                "accepted/outsourced",
                "returning/outsourced",
                "=",
                "delivered/-",
                "=",
                "!",
            ]
        );
    }

    #[test]
    fn a_job_is_rendered_and_sent_home() {
        let events = [
            Event::Started,
            Event::Published,
            Event::Succeeded,
            Event::Canceled,
            Event::Returning,
            Event::Rejected,
            Event::Delivered,
        ];
        assert_eq!(
            script(RECEIVED, &events),
            [
                "running/active",
                "!",
                "succeeded/-",
                "!",
                "returning/-",
                "!",
                "delivered/-"
            ]
        );
    }

    #[test]
    fn a_failed_job_may_be_tried_again_and_a_canceled_one_never() {
        let failed = Event::Failed { tasks: 2 };
        let again = Event::Retried { tasks: 2 };
        assert_eq!(
            script(
                RECEIVED,
                &[
                    failed,
                    Event::Retried { tasks: 0 },
                    again.clone(),
                    Event::Canceled,
                    again
                ]
            ),
            ["failed/-", "!", "waiting/active", "canceled/-", "!"]
        );
    }

    #[test]
    fn what_is_over_stays_over() {
        for state in STATES {
            for event in events() {
                let follows = follow(state, None, &event);
                if matches!(state, Delivered | Canceled) {
                    assert!(
                        !matches!(follows, Ok(Follows::Move(_))),
                        "{state} {event:?}"
                    );
                }
                if let Ok(Follows::Move(next)) = follows {
                    let leaves = is_final(next.state) || next.state == Succeeded;
                    assert!(!leaves || next.queue.is_none(), "{state} {event:?}");
                }
            }
        }
    }

    #[test]
    fn an_event_told_twice_moves_once() {
        for state in STATES {
            for event in events() {
                if matches!(
                    event,
                    Event::Paused | Event::Resumed | Event::Reordered { .. }
                ) {
                    continue;
                }
                if let Ok(Follows::Move(next)) = follow(state, Some(Queue::Active), &event) {
                    let again = follow(next.state, next.queue, &event);
                    assert!(!matches!(again, Ok(Follows::Move(_))), "{state} {event:?}");
                }
            }
        }
    }
}
