//! What the other side is believed to hold is not brought again, and comes after all if the belief was wrong.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{self, Read},
    os::unix::fs::PermissionsExt,
};

use safelight_bundle::{Batch, Directory, Medium, Objects, Why};
use safelight_policies::id::ObjectId;

use crate::{
    faults::Rough,
    parties::{START, Store, pair},
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

/// A store whose objects are files on the medium's own file system.
struct OnDisk<'a>(&'a Store, tempfile::TempDir);

impl Objects for OnDisk<'_> {
    fn len(&self, id: ObjectId) -> io::Result<Option<u64>> {
        self.0.len(id)
    }
    fn put(&self, id: ObjectId, len: u64, source: &mut dyn Read) -> io::Result<()> {
        self.0.put(id, len, source)
    }
    fn batch(&self) -> Box<dyn Batch + '_> {
        self.0.batch()
    }
    fn open(&self, id: ObjectId) -> io::Result<Box<dyn Read + '_>> {
        self.0.open(id)
    }
    fn file(&self, id: ObjectId) -> io::Result<Option<File>> {
        let path = self.1.path().join(id.to_string());
        fs::write(&path, &self.0.objects.borrow()[&id])?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640))?;
        File::open(path).map(Some)
    }
    fn room(&self) -> io::Result<u64> {
        self.0.room()
    }
}

/// What only gets another name is not read with the first offer: the recipient reads it, and does not take it. When nobody answers, it is.
#[test]
fn what_is_shared_and_damaged_is_taken_by_nobody_and_found_when_nobody_answers() {
    let at = tempfile::tempdir().unwrap();
    let [hot, store] = ["hot", "store"].map(|name| at.path().join(name));
    fs::create_dir(&hot).unwrap();
    fs::create_dir(&store).unwrap();
    let medium = Directory::create(&hot).unwrap();
    let (mut client, mut site) = pair();
    let (_, _) = client.announce(1, site.signer.key(), &[b"large"], NOW);
    let large = safelight_bundle::object_id(b"large");
    let sealed = std::mem::take(&mut client.store);
    let spoil = |bytes: &[u8]| sealed.objects.borrow_mut().insert(large, bytes.to_vec());
    let objects = OnDisk(&sealed, tempfile::tempdir_in(&store).unwrap());
    let (outbox, ledger) = (&mut client.outbox, &mut client.ledger);
    let said = |stopped: Option<safelight_bundle::OutboxError>| stopped.map(|it| it.to_string());
    let unreadable = Some(format!("object {large} cannot be read to be sent"));

    // Of another length: that costs nothing to see.
    spoil(b"larg");
    let pushed = outbox.push(&medium, &objects, ledger, NOW);
    assert_eq!(said(pushed.stopped), unreadable);
    spoil(b"l4rge");
    let pushed = outbox.push(&medium, &objects, ledger, NOW);
    assert!(pushed.stopped.is_none() && pushed.offered.len() == 1);
    assert_eq!(medium.blob_len(large).unwrap(), Some(5));
    let report = site.scan(&medium, NOW);
    assert_eq!((report.accepted, site.store.has(large)), (0, false));
    let pushed = outbox.push(&medium, &objects, ledger, NOW + RETRY);
    assert_eq!(said(pushed.stopped), unreadable);

    // Sealed again, it goes as it is, and is taken.
    spoil(b"large");
    let pushed = outbox.push(&medium, &objects, ledger, NOW + RETRY);
    assert!(pushed.stopped.is_none(), "{pushed:?}");
    assert_eq!(site.scan(&medium, NOW + RETRY).accepted, 1);
}
