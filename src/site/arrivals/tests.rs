//! What a render site may say of a job, each beside what it may not.

use std::collections::BTreeMap;

use safelight_bundle::{Epoch, Load, Seq, Stamp};
use safelight_policies::{
    cause::Cause,
    id::{Fence, PolicyDigest, SessionId, SiteName, TaskId},
    outline::{Outline, StepOutline},
};
use safelight_scheduler::{ClientProfile, Errand, Target, Wanted};
use tempfile::TempDir;

use super::*;
use crate::site::Card;

const NOW: u64 = 1_800_000_000;

struct Home {
    state: State,
    books: Books,
    _directory: TempDir,
}

fn job(number: u8) -> JobId {
    JobId::from_random([number; 10])
}

fn site(name: &str) -> SiteName {
    name.parse().unwrap()
}

fn peer(name: &str) -> Peer {
    let key = VerifyKey([name.len() as u8; 32]);
    Peer {
        card: Card {
            site: site(name),
            role: Role::Remote,
            letters: key,
            schedule: key,
            client: None,
        },
        out: "/out".parse().unwrap(),
        r#in: "/in".parse().unwrap(),
    }
}

/// A client's own site with a job of two tasks at `north`, and one here.
fn home() -> Home {
    let directory = tempfile::tempdir().unwrap();
    let state = State::open(Some(directory.path())).unwrap();
    let books = Books::open(&state).unwrap();
    let home = Home {
        state,
        books,
        _directory: directory,
    };
    home.submit(1, &[site("north")]);
    home.submit(2, &[]);
    home
}

impl Home {
    fn submit(&self, number: u8, open: &[SiteName]) {
        let ledger = self.books.ledger();
        let step = StepOutline {
            tasks: 2,
            depends_on: vec![],
            amounts: BTreeMap::new(),
            attributes: BTreeMap::new(),
            timeout: 60,
            batch: None,
        };
        let outline = Outline {
            job: job(number),
            client: "c-one".parse().unwrap(),
            priority: 50,
            policy: "generic".parse().unwrap(),
            policy_digest: PolicyDigest([0; 32]),
            steps: vec![step],
            expires: NOW + 9_999,
            central: vec![],
            retries: None,
            wishes: Default::default(),
        };
        let mut terms = Terms::default();
        if let Some(site) = open.first() {
            terms.wanted = Wanted::Site(site.clone());
        } else {
            terms.wanted = Wanted::Local;
        }
        let envelope = ObjectId([number; 32]);
        let submitted = ledger.submit(&outline, envelope, &terms, NOW);
        self.books.wait(submitted).unwrap();
        let profile = ClientProfile {
            sites: open.to_vec(),
            ..ClientProfile::default()
        };
        let placed = ledger.place(job(number), &profile, open.to_vec(), NOW);
        let (placement, _) = self.books.wait(placed).unwrap();
        let expected = open.first().cloned().map_or(Target::Here, Target::There);
        assert_eq!(placement.target, expected);
    }

    fn result(&self, from: &str, letter: &ResultNotice) {
        let mut arrivals = Arrivals {
            state: &self.state,
            books: &self.books,
            peer: &peer(from),
            now: NOW,
            going: BTreeMap::new(),
            seen: None,
            receipts: Vec::new(),
            own: None,
        };
        let letter = AnyLetter::Result(letter.clone());
        arrivals.mean(&letter, &peer(from).card.letters).unwrap();
    }

    fn ended(&self, from: &str, outcome: Outcome) {
        let letter = JobEnded {
            stamp: stamp(NOW),
            job: job(1),
            outcome,
            results: 1,
        };
        let mut arrivals = Arrivals {
            state: &self.state,
            books: &self.books,
            peer: &peer(from),
            now: NOW,
            going: BTreeMap::new(),
            seen: None,
            receipts: Vec::new(),
            own: None,
        };
        let letter = AnyLetter::Ended(letter);
        arrivals.mean(&letter, &peer(from).card.letters).unwrap();
    }

    fn errands(&self, kind: &str) -> Vec<String> {
        let errands = self.books.ledger().errands(kind, None, 99);
        let errands: Vec<Errand> = self.books.wait(errands).unwrap();
        errands.into_iter().map(|errand| errand.subject).collect()
    }

    fn left(&self, number: u8) -> Vec<Left> {
        jobs::all_left(&self.state, job(number)).unwrap()
    }
}

fn stamp(issued: u64) -> Stamp {
    Stamp {
        to: VerifyKey([1; 32]),
        seq: Seq {
            epoch: Epoch::new(9, [0; 3]),
            number: 1,
        },
        issued,
        expires: issued + 99,
    }
}

fn notice(number: u8, task: u64, session: u8) -> ResultNotice {
    ResultNotice {
        stamp: stamp(NOW),
        job: job(number),
        task: TaskId { step: 0, task },
        session: SessionId::from_random([session; 10]),
        attempt: 1,
        fence: Fence(u64::from(session)),
        manifest: Some(ObjectId([session; 32])),
        log: None,
        audit: vec![],
        cause: Cause::Exited { code: 0 },
        load: Load {
            list: ObjectId([3; 32]),
            bytes: 9,
        },
    }
}

#[test]
fn a_result_is_of_a_job_that_was_sent_there_and_of_a_task_that_it_has() {
    let home = home();
    for (from, letter) in [
        ("north", notice(2, 0, 5)),
        ("north", notice(9, 0, 5)),
        ("southern", notice(1, 0, 5)),
        ("north", notice(1, 2, 5)),
    ] {
        home.result(from, &letter);
        assert_eq!(home.errands(errand::DELIVER), [""; 0], "{from} {letter:?}");
        assert!(home.left(1).is_empty() && home.left(2).is_empty());
    }
    let right = notice(1, 1, 5);
    home.result("north", &right);
    assert_eq!(home.errands(errand::DELIVER), [right.session.to_string()]);
    assert_eq!(home.left(1).len(), 1);
}

#[test]
fn what_a_session_left_is_not_replaced_by_a_later_letter() {
    let home = home();
    let first = notice(1, 0, 5);
    home.result("north", &first);
    let mut again = first.clone();
    again.stamp = stamp(NOW + 50);
    home.result("north", &again);
    for other in [
        ResultNotice {
            manifest: Some(ObjectId([9; 32])),
            ..first.clone()
        },
        ResultNotice {
            task: TaskId { step: 0, task: 1 },
            ..first.clone()
        },
        ResultNotice {
            cause: Cause::NoKey,
            ..first.clone()
        },
    ] {
        home.result("north", &other);
    }
    let left = home.left(1);
    assert_eq!(left.len(), 1);
    assert_eq!((left[0].manifest, left[0].at), (first.manifest, NOW));
    assert_eq!(home.errands(errand::DELIVER).len(), 1);
}

#[test]
fn a_job_ends_once_and_nothing_comes_after_it() {
    let home = home();
    home.ended("southern", Outcome::Failed);
    assert!(EndedThere::of(&home.state, job(1)).unwrap().is_none());
    home.result("north", &notice(1, 0, 5));
    home.ended("north", Outcome::Succeeded);
    home.ended("north", Outcome::Failed);
    let ended = EndedThere::of(&home.state, job(1)).unwrap().unwrap();
    assert_eq!(ended.outcome, Outcome::Succeeded);
    // A letter may overtake another; what comes once all was there is too late.
    home.result("north", &notice(1, 1, 6));
    assert_eq!(home.left(1).len(), 2);
    let (ledger, subject) = (home.books.ledger(), job(1).to_string());
    let done = ledger.finish_errand(errand::ENDED, &subject, NOW);
    assert_eq!(home.books.wait(done).unwrap(), Some(job(1)));
    home.result("north", &notice(1, 1, 7));
    assert_eq!(home.left(1).len(), 2);
}

#[test]
fn results_do_not_come_without_end() {
    let home = home();
    let ledger = home.books.ledger();
    for number in 0..2 * ATTEMPTS_MAX {
        let subject = number.to_string();
        let add = ledger.add_errand(errand::DELIVER, &subject, job(1), NOW);
        home.books.wait(add).unwrap();
    }
    home.result("north", &notice(1, 0, 5));
    assert!(home.left(1).is_empty());
}
