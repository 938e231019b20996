//! What an attempt left is written down once, and where results go is read as it was written.

use super::*;
use crate::results::tests::left;

#[test]
fn what_a_session_left_is_said_once_and_one_result_of_a_task_counts() {
    let directory = tempfile::tempdir().unwrap();
    let state = State::open(Some(directory.path())).unwrap();
    let job = JobId::from_random([1; 10]);
    let first = left((0, 1), 1, 3, Cause::Exited { code: 0 });
    assert!(keep_left(&state, job, &first).unwrap());
    let later = Left {
        at: first.at + 1,
        ..first.clone()
    };
    assert!(keep_left(&state, job, &later).unwrap(), "said again");
    let others = [
        Left {
            manifest: Some(ObjectId([9; 32])),
            ..first.clone()
        },
        Left {
            cause: Cause::NoKey,
            ..first.clone()
        },
        Left {
            task: TaskId { step: 0, task: 2 },
            ..first.clone()
        },
    ];
    for other in others {
        assert!(!keep_left(&state, job, &other).unwrap(), "{other:?}");
    }
    assert_eq!(left_of(&state, job, &first), first);
    let second = left((0, 1), 2, 4, Cause::Exited { code: 0 });
    assert!(keep_left(&state, job, &second).unwrap());
    for _again in 0..2 {
        assert!(counts(&state, job, &first).unwrap());
        assert!(!counts(&state, job, &second).unwrap());
    }
    let other_task = left((0, 2), 1, 5, Cause::Exited { code: 0 });
    assert!(counts(&state, job, &other_task).unwrap());
    assert_eq!(all_left(&state, job).unwrap(), [first, second]);
}

fn left_of(state: &State, job: JobId, of: &Left) -> Left {
    super::left(state, job, of.session).unwrap().unwrap()
}

/// What `home` holds of version 1. It is one line of text, and kept as such, since what it is not allowed to become is another.
#[test]
fn where_results_go_is_read_as_version_1_has_it() {
    let home = Homeward {
        places: vec![
            (
                "/mnt/show".parse().unwrap(),
                b"/home/ann/\xff".to_vec(),
                true,
            ),
            ("/mnt/tex".parse().unwrap(), b"/srv/tex".to_vec(), false),
        ],
        audit: Some(b"/home/ann/audit".to_vec()),
        title: "a golden job".to_owned(),
        notify: Notify {
            command: vec!["tell".to_owned(), "ann".to_owned()],
            url: Some("http://ann.example/told".to_owned()),
        },
    };
    let golden = b"SLHOMEW\x01\x02\x09/mnt/show\x0b/home/ann/\xff\x01\x08/mnt/tex\x08/srv/tex\x00\x01\x0f/home/ann/audit\
        \x0ca golden job\x02\x04tell\x03ann\x01\x17http://ann.example/told";
    assert_eq!(home.encode().unwrap(), golden);
    let read = Homeward::decode(golden).unwrap();
    assert_eq!(read.encode().unwrap(), golden);
    assert!(Homeward::decode(&golden[..golden.len() - 1]).is_err());
    assert!(Homeward::decode(&[&golden[..], b"x"].concat()).is_err());
    assert!(Homeward::decode(b"SLHOMEW\x02").is_err());
}
