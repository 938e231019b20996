//! A question that is answered from an index is answered as from the log, and an index never hides that a log was changed.

use std::{
    fs::{self, File},
    path::PathBuf,
    time::{Duration, SystemTime},
};

use safelight_policies::{
    event::{Op, Verdict},
    id::{NodeName, SlotIndex, TaskId},
};

use super::super::samples::farm::{self, Farm, JOB, access, log_of, session};
use super::*;
use crate::state::LogOf;

/// More than two blocks.
const RECORDS: u64 = 140_000;

fn one(number: u64) -> Access {
    let mut one = access(&format!("/c/{}/{:04}", number % 3, number % 701));
    (one.op, one.verdict) = match number % 11 {
        0 | 1 => (Op::OpenRead, Verdict::Allowed),
        2 | 3 => (Op::CloseRead, Verdict::Allowed),
        4 => (Op::Create, Verdict::Allowed),
        5 => (Op::Rename, Verdict::Allowed),
        6 => (Op::OpenWrite, Verdict::Failed { errno: 28 }),
        7 => (Op::Unlink, Verdict::NotAuthentic),
        8 if number.is_multiple_of(1009) => {
            let rule = format!("policy:{number}");
            (Op::OpenRead, Verdict::Denied { rule })
        }
        _ => (Op::Lookup, Verdict::Missing),
    };
    one.to = (one.op == Op::Rename).then(|| format!("/c/new/{}", number % 97).into_bytes());
    one.pid = 40 + (number / 50_000) as u32;
    one.comm = ["povray", "sh"][(number / 70_000) as usize].to_owned();
    one.bytes = number;
    one
}

/// When a record is written, by a clock that is right.
fn right(number: u64) -> u64 {
    1_000_000 + number * 10
}

/// By one that is set back in the middle of a block.
fn set_back(number: u64) -> u64 {
    right(if number < 30_000 {
        number
    } else {
        number - 20_000
    })
}

/// The records of two sessions, of which the second says where it is.
fn bodies(farm: &Farm, clock: fn(u64) -> u64) -> impl Iterator<Item = (u64, Body)> {
    let leased = Control::Leased {
        session: session(2),
        task: TaskId { step: 0, task: 1 },
        attempt: 1,
        fence: 3,
        node: NodeName::new("node-a").unwrap(),
        slot: SlotIndex(0),
    };
    let keys = [1, 2].map(|number| farm.opened.key.audit_key(session(number)));
    let mut next = [0, 0];
    let accesses = (0..RECORDS).map(move |number| {
        let of = usize::from(number > 1000 && number % 4 == 1);
        let index = next[of];
        next[of] += 1;
        let plain = postcard::to_stdvec(&one(number)).unwrap();
        let body = Body::Sealed {
            session: session(of as u8 + 1),
            index,
            bytes: keys[of].seal(index, &plain).unwrap(),
        };
        (clock(number), body)
    });
    [(5, Body::Control(leased))].into_iter().chain(accesses)
}

struct Large {
    farm: Farm,
    bytes: Vec<u8>,
}

impl Large {
    fn new() -> Self {
        Self::written_by(right)
    }

    fn written_by(clock: fn(u64) -> u64) -> Self {
        let farm = Farm::new();
        let (bytes, _) = log_of(LogOf::Job, bodies(&farm, clock));
        let large = Self { farm, bytes };
        large.farm.write(LogOf::Job, &large.bytes);
        large
    }

    fn path(&self) -> PathBuf {
        let client = &self.farm.opened.envelope.outline.client;
        self.farm.state.audit_log(client, JOB, LogOf::Job).unwrap()
    }

    fn index(&self) -> PathBuf {
        let name = format!("index/{JOB}.log.index");
        self.path().parent().unwrap().join(name)
    }

    /// As if the log had been written so many seconds ago.
    fn written(&self, ago: u64) {
        self.touch(SystemTime::now() - Duration::from_secs(ago));
    }

    fn touch(&self, then: SystemTime) {
        let file = File::options().write(true).open(self.path()).unwrap();
        file.set_modified(then).unwrap();
    }

    fn logs(&self) -> Logs<'_> {
        Logs::of(&self.farm.state, &self.farm.opened).unwrap()
    }

    fn paths(&self, span: Span) -> (String, Result<(), String>) {
        let mut paths = Paths::default();
        let walked = grouped(&self.logs(), span, |group| {
            paths.add_group(group);
            Ok(())
        });
        let end = walked.unwrap().right().map_err(|it| it.to_string());
        (format!("{:?}", paths.iter().collect::<Vec<_>>()), end)
    }

    fn records(&self, wanted: Wanted<'_>) -> Vec<OpenedRecord> {
        let mut all = Vec::new();
        let walked = in_order(&self.logs(), wanted, |record| {
            all.push(record);
            Ok(())
        });
        walked.unwrap().right().unwrap();
        all
    }
}

fn span(since: u64, until: u64) -> Span {
    Span {
        since: Some(1_000_000 + since * 10),
        until: Some(1_000_000 + until * 10),
    }
}

#[test]
fn an_index_answers_as_the_log_does() {
    answers_as_the_log_does(&Large::new());
}

/// Records keep their order, and none is left out because its time is before that of the record before it.
#[test]
fn an_index_answers_as_the_log_does_when_the_clock_was_set_back() {
    let large = Large::written_by(set_back);
    answers_as_the_log_does(&large);
    // What is of a time that came twice is all of it: 10 before the clock was set back, 10 after it, at the same moments.
    let twice = large.records(Wanted {
        span: span(15_000, 15_010),
        ..Wanted::ALL
    });
    let numbers: Vec<_> = twice.iter().map(|record| record.seq).collect();
    let expected: Vec<_> = (15_002..15_012).chain(35_002..35_012).collect();
    assert_eq!(numbers, expected);
}

fn answers_as_the_log_does(large: &Large) {
    let of = |path: &'static str| {
        move |record: &OpenedRecord| match &record.what {
            What::Access { access, .. } => access.path == path.as_bytes(),
            _ => true,
        }
    };
    let denied = |record: &OpenedRecord| match &record.what {
        What::Access { access, .. } => matches!(access.verdict, Verdict::Denied { .. }),
        _ => false,
    };
    let spans = [
        Span::default(),
        span(3, 5),
        span(60_000, 139_000),
        span(200_000, 300_000),
    ];
    let questions = |large: &Large| {
        let paths = spans.map(|span| large.paths(span));
        let mut records = Vec::new();
        for span in spans {
            for keep in [&of("/c/1/0042") as &dyn Fn(&_) -> _, &denied, &|_| false] {
                for after in [0, 70_000] {
                    records.push(large.records(Wanted {
                        span,
                        keep,
                        after: &move |_| after,
                    }));
                }
            }
        }
        records.push(large.records(Wanted {
            after: &|_| 139_990,
            ..Wanted::ALL
        }));
        (paths, records)
    };
    // A log that is being written has no index yet: this one will be, an hour from now.
    large.touch(SystemTime::now() + Duration::from_secs(3600));
    let (plain_paths, plain) = questions(large);
    assert!(!large.index().exists());
    large.written(60);
    let (made_paths, made) = questions(large);
    assert!(large.index().exists());
    let made_at = fs::metadata(large.index()).unwrap().modified().unwrap();
    let (found_paths, found) = questions(large);
    assert_eq!(
        fs::metadata(large.index()).unwrap().modified().unwrap(),
        made_at
    );
    assert!(plain == made && plain == found);
    assert!(plain_paths == made_paths && plain_paths == found_paths);
    // The questions are not about nothing.
    assert!(plain[0].len() > 20 && plain[2].len() > 5 && plain.last().unwrap().len() == 11);
    assert!(plain[0].iter().any(|record| record.place.is_some()));
}

#[test]
fn an_index_names_nothing_and_opens_with_its_jobs_key_only() {
    let large = Large::new();
    large.written(60);
    large.paths(Span::default()).1.unwrap();
    let bytes = fs::read(large.index()).unwrap();
    let clear = |what: &[u8]| bytes.windows(what.len()).any(|window| window == what);
    assert!(!clear(b"/c/1/") && !clear(b"povray") && !clear(b"node-a"));
    assert!(clear(b"SLINDEX"), "the control");
    // The index of another job with the same log's name, stamp and all is none.
    let other =
        safelight_seal::job_key::JobKey::generate(&safelight_seal::random::SystemRandom::new())
            .unwrap();
    assert!(other.read_key().index_key().open(0, &bytes).is_err());
}

#[test]
fn a_changed_index_is_made_again_or_refused() {
    let large = Large::new();
    large.written(60);
    let (truth, _) = large.paths(Span::default());
    let bytes = fs::read(large.index()).unwrap();
    // Its beginning, its head, its last bytes: no index, so it is made again.
    for at in [0, 9, bytes.len() - 200, bytes.len() - 2] {
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        fs::write(large.index(), &changed).unwrap();
        assert_eq!(large.paths(Span::default()), (truth.clone(), Ok(())));
        assert_ne!(fs::read(large.index()).unwrap(), changed, "byte {at}");
    }
    // One of its parts: what is asked of it is refused, and how to get on is said.
    let mut changed = bytes;
    changed[20] ^= 1;
    fs::write(large.index(), &changed).unwrap();
    let most = Span {
        since: None,
        ..span(0, 139_000)
    };
    let (_, end) = large.paths(most);
    let said = end.unwrap_err();
    assert!(
        said.contains("is damaged") && said.contains("rm "),
        "{said}"
    );
    fs::remove_file(large.index()).unwrap();
    large.paths(most).1.unwrap();
}

#[test]
fn a_log_that_was_changed_after_it_was_indexed_is_named_all_the_same() {
    let large = Large::new();
    large.written(60);
    large.paths(Span::default()).1.unwrap();
    let mut changed = large.bytes.clone();
    let middle = changed.len() / 2;
    changed[middle] ^= 1;
    large.farm.write(LogOf::Job, &changed);
    for ago in [0, 60] {
        large.written(ago);
        let (_, end) = large.paths(Span::default());
        assert!(end.unwrap_err().contains("is not authentic"), "{ago}");
    }
    assert!(!large.index().exists(), "what is not whole has no index");
    // Cut off before what the ledger noted.
    large.farm.write(LogOf::Job, &large.bytes);
    large.written(60);
    large.paths(Span::default()).1.unwrap();
    assert!(large.index().exists());
}

#[test]
fn a_log_with_a_record_out_of_turn_or_of_another_key_has_no_index() {
    const AT: u64 = 50_000;
    for (gap, stranger) in [(0, false), (1, false), (0, true)] {
        let farm = Farm::new();
        let (own, other) = (&farm.opened.key, farm::key());
        let keys = [own, &other].map(|key| key.audit_key(session(1)));
        let body = |number: u64| {
            let key = &keys[usize::from(stranger && number == AT)];
            let plain = postcard::to_stdvec(&one(number)).unwrap();
            let index = if number > AT { number + gap } else { number };
            let bytes = key.seal(index, &plain).unwrap();
            let session = session(1);
            (
                number + 1,
                Body::Sealed {
                    session,
                    index,
                    bytes,
                },
            )
        };
        let (bytes, _) = log_of(LogOf::Job, (0..60_000).map(body));
        farm.write(LogOf::Job, &bytes);
        let large = Large { farm, bytes };
        large.written(60);
        let (_, end) = large.paths(Span::default());
        let wrong = gap > 0 || stranger;
        assert_eq!(end.is_err(), wrong);
        assert_eq!(large.index().exists(), !wrong);
    }
}

#[test]
fn a_log_that_came_in_parts_is_one_log_and_needs_all_of_them() {
    let farm = Farm::new();
    let reads: Vec<(u64, String)> = (0..RECORDS)
        .map(|number| (number, format!("/c/{}", number % 501)))
        .collect();
    let reads: Vec<_> = reads
        .iter()
        .map(|(at, path)| (*at, path.as_str()))
        .collect();
    let whole = farm.session_log(7, &reads);
    let most = whole.len() as u64 * 2 / 5;
    let pieces = safelight_audit::parts::cut(Cursor::new(&whole), most).unwrap();
    let part = |piece: &safelight_audit::parts::Piece| {
        let mut bytes = Vec::new();
        let mut source = piece.read(Cursor::new(&whole)).unwrap();
        std::io::Read::read_to_end(&mut source, &mut bytes).unwrap();
        farm.put(&bytes)
    };
    let parts: Vec<_> = pieces.iter().map(part).collect();
    assert_eq!(parts.len(), 3);
    let release = farm.put(&farm.release_log(7, 1));
    let asked = |parts: &[safelight_policies::id::ObjectId]| {
        farm.left(7, 0, &[parts, &[release]].concat());
        let logs = Logs::of(&farm.state, &farm.opened).unwrap();
        let mut count = 0;
        let walked = grouped(&logs, Span::default(), |group| {
            count += group.count;
            Ok(())
        });
        let end = walked.unwrap().right().map_err(|it| it.to_string());
        let sound = logs.iter().filter(|log| logs.sound(log, |_| &[]).is_some());
        (logs.len(), sound.count(), count, end)
    };
    assert_eq!(asked(&parts), (2, 2, RECORDS + 1, Ok(())));
    // By the index that was made meanwhile, and again without it.
    assert_eq!(asked(&parts), (2, 2, RECORDS + 1, Ok(())));
    for wrong in [
        &[parts[0], parts[2], parts[1]][..],
        &[parts[0], parts[2]],
        &[parts[1], parts[2]],
    ] {
        let (_, sound, _, end) = asked(wrong);
        assert_eq!(sound, 1, "the release's");
        assert!(end.unwrap_err().contains("was changed"));
    }
    let (logs, sound, count, end) = asked(&parts[..2]);
    assert_eq!(
        (logs, sound, end),
        (2, 2, Ok(())),
        "its end is told by the register"
    );
    assert!(count < RECORDS);
}
