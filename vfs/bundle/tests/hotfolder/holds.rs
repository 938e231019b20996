//! What the other side is believed to hold is not brought again, and comes after all if the belief was wrong.

use std::collections::BTreeSet;

use safelight_bundle::{Objects, Why};

use crate::{
    faults::Rough,
    parties::{START, pair},
};

const NOW: u64 = START + 1_000;
/// Until a letter that nobody answers is offered once more, in seconds.
const RETRY: u64 = 600;

#[test]
fn what_the_other_side_holds_is_not_brought_again() {
    let (mut client, mut site) = pair();
    let medium = Rough::new(1, 0);
    let to = site.signer.key();
    let (first, _) = client.announce(1, to, &[b"large", b"small"], NOW);
    client.push(&medium, NOW);
    site.turn(&medium, NOW);
    client.turn(&medium, NOW);
    assert_eq!(site.ledger.jobs(), [first]);

    let holds = [&b"large"[..], b"small"].map(safelight_bundle::object_id);
    client.outbox.believe(BTreeSet::from(holds));
    let (second, _) = client.announce(2, to, &[b"large", b"small", b"new"], NOW + 1);
    assert!(client.outbox.has_load_to_offer());
    let pushed = client.push(&medium, NOW + 1);
    // Envelope, manifest, recipe, what is new, and the list.
    assert_eq!(pushed.sent.0, 5, "{pushed:?}");
    assert!(!client.outbox.has_load_to_offer());
    site.turn(&medium, NOW + 1);
    assert_eq!(site.ledger.jobs(), [first, second]);
}

#[test]
fn a_wrong_belief_costs_time_and_no_job() {
    let (mut client, mut site) = pair();
    let medium = Rough::new(1, 0);
    let to = site.signer.key();
    let blob = safelight_bundle::object_id(b"large");
    client.outbox.believe(BTreeSet::from([blob]));
    let (job, _) = client.announce(1, to, &[b"large"], NOW);
    client.push(&medium, NOW);
    let report = site.turn(&medium, NOW);
    assert!(
        matches!(report.waiting[0].why, Why::Blobs(1)),
        "{:?}",
        report.waiting
    );
    assert_eq!(client.push(&medium, NOW + RETRY - 1).sent.0, 0);
    assert!(site.store.len(blob).unwrap().is_none());

    let pushed = client.push(&medium, NOW + RETRY);
    assert_eq!(pushed.sent.0, 1, "{pushed:?}");
    site.turn(&medium, NOW + RETRY);
    client.turn(&medium, NOW + RETRY);
    assert_eq!(site.ledger.jobs(), [job]);
    assert_eq!(
        client.outbox.items().filter(|it| it.load.is_some()).count(),
        0
    );
}
