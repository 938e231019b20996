//! What an enrolled node may not do, each beside what it may.

use axum::http::HeaderValue;
use safelight_bundle::BlobList;
use safelight_policies::{
    cause::Cause,
    id::{ClientAlias, Fence, KemKey, PolicyDigest, SessionId, SlotIndex},
    lease::Lease,
    outline::{Outline, StepOutline},
};
use safelight_scheduler::{NodeSpec, SlotSpec, Terms};
use tempfile::TempDir;

use super::*;
use crate::{
    jobs,
    node::protocol::{Ended, Standing, Work, object_path},
    registers,
    site::Role,
    state::LogOf,
};

struct World {
    desk: Arc<Desk>,
    keys: [SigningSecret; 2],
    _directory: TempDir,
}

fn name(index: usize) -> NodeName {
    format!("n{}", index + 1).parse().unwrap()
}

fn client(number: u8) -> ClientAlias {
    format!("client-{number}").parse().unwrap()
}

fn job(number: u8) -> JobId {
    JobId::from_random([number; 10])
}

fn session(number: u8) -> SessionId {
    SessionId::from_random([number; 10])
}

fn secret(number: u8) -> SigningSecret {
    SigningSecret::from_bytes(&[number; 32])
}

/// A site with two nodes of one slot each, and a job of each of two clients, the first one's first.
async fn world() -> World {
    let directory = tempfile::tempdir().unwrap();
    let state = State::open(Some(directory.path())).unwrap();
    let trust = state.warden().join("trust/nodes");
    std::fs::create_dir_all(&trust).unwrap();
    let keys = [secret(1), secret(2)];
    let ledger = SqliteLedger::open(&state.ledger()).await.unwrap();
    let now = process::now_seconds();
    for (index, key) in keys.iter().enumerate() {
        let text = format!("{}\n", HEXLOWER.encode(&key.public().0));
        std::fs::write(trust.join(name(index).as_str()), text).unwrap();
        let spec = NodeSpec {
            name: name(index),
            key: key.public(),
            slots: vec![SlotSpec::default()],
        };
        ledger.register_node(&spec, now).await.unwrap();
    }
    let listen = "127.0.0.1:0".parse().unwrap();
    let desk = Desk {
        config: Config::new("film".parse().unwrap(), Role::Remote, listen),
        ledger,
        schedule: secret(3),
        guard: Guard::default(),
        state,
    };
    let world = World {
        desk: Arc::new(desk),
        keys,
        _directory: directory,
    };
    for number in [1, 2] {
        world.receive(number, &[(2, &[])]).await;
    }
    world
}

impl World {
    async fn receive(&self, number: u8, steps: &[(u64, &[u32])]) {
        let desk = &self.desk;
        let step = |(tasks, before): &(u64, &[u32])| StepOutline {
            tasks: *tasks,
            depends_on: before.to_vec(),
            amounts: Default::default(),
            attributes: Default::default(),
            timeout: 60,
            batch: None,
        };
        let now = process::now_seconds();
        let outline = Outline {
            job: job(number),
            client: client(number),
            priority: 50,
            policy: "generic".parse().unwrap(),
            policy_digest: PolicyDigest([0; 32]),
            steps: steps.iter().map(step).collect(),
            expires: now + 9_999,
            central: vec![],
            retries: None,
            wishes: Default::default(),
        };
        let envelope = ObjectId([number; 32]);
        let terms = Terms::default();
        let received = desk.ledger.receive(&outline, envelope, &terms, now - 9);
        received.await.unwrap();
        let path = desk.state.job(job(number)).unwrap().join("envelope");
        jobs::write_private(&path, b"signed").unwrap();
        jobs::write_list(&desk.state, job(number), ObjectId([number; 32])).unwrap();
    }

    fn headers(
        &self,
        index: usize,
        time: u64,
        method: &Method,
        path: &str,
        body: &[u8],
    ) -> HeaderMap {
        let message = protocol::message(method.as_str(), path, time, body);
        let signature = self.keys[index].sign(protocol::CONTEXT, &message);
        let mut headers = HeaderMap::new();
        let mut set = |header, value: String| {
            headers.insert(header, HeaderValue::from_str(&value).unwrap());
        };
        set(protocol::NODE, name(index).to_string());
        set(protocol::TIME, time.to_string());
        set(protocol::SIGNATURE, HEXLOWER.encode(&signature));
        headers
    }

    async fn get(&self, index: usize, job: JobId, object: ObjectId) -> Result<Vec<u8>, u16> {
        let path = object_path(job, object);
        let headers = self.headers(index, process::now_seconds(), &Method::GET, &path, b"");
        let named = Path((job.to_string(), object.to_string()));
        let desk = With(Arc::clone(&self.desk));
        let got = fetch(desk, named, headers, Method::GET, path.parse().unwrap()).await;
        match got {
            Ok(body) => Ok(axum::body::to_bytes(body, 1 << 20).await.unwrap().to_vec()),
            Err(Refused(status, _)) => Err(status.as_u16()),
        }
    }

    async fn put(&self, index: usize, job: JobId, object: ObjectId, bytes: &'static [u8]) -> u16 {
        let path = object_path(job, object);
        let headers = self.headers(index, process::now_seconds(), &Method::PUT, &path, b"");
        let named = Path((job.to_string(), object.to_string()));
        let (desk, uri) = (With(Arc::clone(&self.desk)), path.parse().unwrap());
        let body = Body::from(bytes);
        match store(desk, named, headers, Method::PUT, uri, body).await {
            Ok(status) | Err(Refused(status, _)) => status.as_u16(),
        }
    }

    async fn call(&self, index: usize, call: Call) -> Answer {
        let answer = call::answer(&self.desk, &name(index), call).await;
        answer.map_err(|failure| failure.message()).unwrap()
    }

    /// Leases to a node's slot.
    async fn lease(&self, index: usize, number: u8) -> (Work, Lease) {
        let asks = vec![(SlotIndex(0), session(number))];
        let Answer::Work(mut given) = self.call(index, Call::Next { asks }).await else {
            panic!("no work");
        };
        let work = given.pop().expect("work");
        let lease = safelight_bundle::open(&work.lease, &self.desk.schedule.public()).unwrap();
        (work, lease)
    }

    fn ended(&self, lease: &Lease, cause: Cause) -> Call {
        Call::Ended(Box::new(Ended {
            session: lease.session,
            fence: lease.fence,
            cause,
            sealed: None,
            audit: Vec::new(),
            objects: Vec::new(),
        }))
    }
}

fn why(answer: &Answer) -> &str {
    match answer {
        Answer::Refused { reason } => reason,
        _ => "",
    }
}

#[tokio::test]
async fn objects_are_for_nodes_that_work_for_the_job_and_while_they_do() {
    let world = world().await;
    let store = |number| Store::open(&world.desk.state, &client(number)).unwrap();
    let first = store(1).put_bytes(b"first").unwrap();
    let second = store(2).put_bytes(b"second").unwrap();
    assert_eq!(world.get(0, job(1), first).await, Err(403), "no lease yet");
    let (_, lease) = world.lease(0, 1).await;
    assert_eq!(lease.job, job(1));
    assert_eq!(world.get(0, job(1), first).await, Ok(b"first".to_vec()));
    assert_eq!(world.get(0, job(1), second).await, Err(404), "another area");
    assert_eq!(world.get(0, job(2), second).await, Err(403), "another job");
    assert_eq!(world.get(1, job(1), first).await, Err(403), "another node");
    assert_eq!(world.get(0, job(7), first).await, Err(403), "no job");
    let made = safelight_bundle::object_id(b"made");
    assert_eq!(world.put(1, job(1), made, b"made").await, 403);
    assert_eq!(world.put(0, job(2), made, b"made").await, 403);
    assert_eq!(world.put(0, job(1), made, b"other").await, 400);
    assert_eq!(store(1).area().len(made).unwrap(), None);
    assert_eq!(world.put(0, job(1), made, b"made").await, 201);
    assert_eq!(store(1).area().len(made).unwrap(), Some(4));
    assert_eq!(store(2).area().len(made).unwrap(), None);
    let end = world.ended(&lease, Cause::Exited { code: 1 });
    assert!(matches!(world.call(0, end).await, Answer::Settled));
    assert_eq!(world.get(0, job(1), first).await, Err(403), "it is over");
}

#[tokio::test]
async fn a_session_is_ended_and_opened_by_its_own_node_with_its_own_lease() {
    let world = world().await;
    let (_, own) = world.lease(0, 1).await;
    let (other_work, other) = world.lease(1, 2).await;
    assert_ne!(own.session, other.session);
    let end = world.ended(&other, Cause::NoKey);
    let answer = world.call(0, end).await;
    assert_eq!(why(&answer), "no such session of this node");
    let stale = Lease {
        fence: Fence(other.fence.0 + 1),
        ..other.clone()
    };
    let answer = world.call(1, world.ended(&stale, Cause::NoKey)).await;
    assert_eq!(why(&answer), "the session has another fence");
    // A release is logged with the session that asks: another's lease would put it on another client's log, or on none.
    let release = |session, lease: &[u8]| Call::Release {
        session,
        request: warden::Request {
            envelope: vec![],
            lease: lease.to_vec(),
            node_signature: vec![],
            view_key: KemKey([0; 32]),
        },
    };
    let answer = world.call(0, release(own.session, &other_work.lease)).await;
    assert_eq!(why(&answer), "the lease is not the session's");
    let answer = world
        .call(0, release(other.session, &other_work.lease))
        .await;
    assert_eq!(why(&answer), "no such session of this node");
    let end = world.ended(&other, Cause::NoKey);
    assert!(matches!(world.call(1, end).await, Answer::Settled));
}

/// Of the node that runs it, under its own fence, later than the one before, and while it runs.
#[tokio::test]
async fn the_state_of_a_running_log_is_its_own_nodes() {
    let world = world().await;
    let (_, own) = world.lease(0, 1).await;
    let said = |fence: Fence, records| {
        Call::Standing(Standing {
            session: own.session,
            fence,
            records,
            root: [4; 32],
            chain: [5; 32],
        })
    };
    let register = registers::directory(&world.desk.state, &client(1));
    let entries = || {
        let register = safelight_audit::Register::open(&register).unwrap();
        register.entries(0, register.size()).unwrap()
    };
    let answer = world.call(1, said(own.fence, 9)).await;
    assert_eq!(why(&answer), "no such session of this node");
    let answer = world.call(0, said(Fence(own.fence.0 + 1), 9)).await;
    assert_eq!(why(&answer), "the session's lease is over");
    assert!(matches!(
        world.call(0, said(own.fence, 9)).await,
        Answer::Settled
    ));
    let answer = world.call(0, said(own.fence, 9)).await;
    assert!(why(&answer).contains("is no later one"), "{answer:?}");
    let all = entries();
    let statement = safelight_audit::Statement::read(&all[0]).unwrap();
    assert_eq!((all.len(), statement.records), (1, 9));
    assert_eq!(statement.log, LogOf::Session(own.session).id(own.job));
    let end = world.ended(&own, Cause::Exited { code: 1 });
    assert!(matches!(world.call(0, end).await, Answer::Settled));
    let answer = world.call(0, said(own.fence, 99)).await;
    assert_eq!(why(&answer), "the session's lease is over");
    assert_eq!(entries().len(), 1);
}

#[tokio::test]
async fn asks_are_bounded() {
    let world = world().await;
    let asks = |count: u16| Call::Next {
        asks: (0..count)
            .map(|it| (SlotIndex(0), session(it as u8)))
            .collect(),
    };
    let most = u16::try_from(protocol::ASKS_MAX).unwrap();
    let answer = world.call(0, asks(most + 1)).await;
    assert_eq!(why(&answer), "no more than 16 slots ask at once");
    // The same slot again and again: one lease.
    let Answer::Work(given) = world.call(0, asks(most)).await else {
        panic!("no work");
    };
    assert_eq!(given.len(), 1);
}

#[tokio::test]
async fn a_job_of_too_many_layers_is_ended_and_blames_no_node() {
    // More results before a step than a task may have as layers; nothing of them needs to be there to know it.
    let many = safelight_vfs::protocol::LAYERS_MAX as u64 + 1;
    let work_after = |tasks| async move {
        let world = world().await;
        world.receive(3, &[(tasks, &[]), (1, &[0])]).await;
        let entry = world.desk.ledger.job(&job(3).to_string()).await.unwrap();
        let given = safelight_scheduler::Given {
            outline: entry.outline,
            envelope: entry.envelope,
            task: safelight_policies::id::TaskId { step: 1, task: 0 },
            tasks: 1,
            ask: safelight_scheduler::Ask {
                place: safelight_scheduler::Place {
                    node: name(0),
                    slot: SlotIndex(0),
                },
                session: session(9),
            },
            node_key: world.keys[0].public(),
            leased: safelight_scheduler::Leased {
                attempt: 1,
                fence: Fence(1),
                expires: 9,
            },
        };
        work::of(&world.desk, &given, process::now_seconds()).await
    };
    assert!(work_after(many - 1).await.is_ok());
    let cause = work_after(many).await.unwrap_err().cause().cloned();
    let step = "layers".to_owned();
    assert_eq!(cause, Some(Cause::NotStarted { step, errno: 0 }));
}

#[tokio::test]
async fn nobody_begins_or_leaves_in_a_nodes_name_by_saying_it_again() {
    let world = world().await;
    let spec = NodeSpec {
        name: name(0),
        key: world.keys[0].public(),
        slots: vec![SlotSpec::default()],
    };
    let say = async |call: &Call, time: u64| {
        let body = postcard::to_stdvec(call).unwrap();
        let path = protocol::CALL_PATH;
        let headers = world.headers(0, time, &Method::POST, path, &body);
        let desk = With(Arc::clone(&world.desk));
        let body = Body::from(body);
        let answered = answer(desk, headers, Method::POST, path.parse().unwrap(), body).await;
        answered.map_or_else(|Refused(status, _)| status.as_u16(), |_| 200)
    };
    let now = process::now_seconds();
    let register = Call::Register(spec);
    assert_eq!(say(&register, now).await, 200);
    let (_, lease) = world.lease(0, 1).await;
    for again in [&register, &register] {
        assert_eq!(say(again, now).await, 401);
    }
    let entry = world.desk.ledger.attempt_of(lease.session).await.unwrap();
    let state = entry.unwrap().1.state;
    assert_eq!(state, safelight_scheduler::AttemptState::Running);
    // What may be said again may be; and the node itself may begin anew.
    let beat = Call::Beat { held: vec![] };
    assert_eq!((say(&beat, now).await, say(&beat, now).await), (200, 200));
    assert_eq!(say(&register, now + 1).await, 200);
    assert_eq!(say(&register, now + 2 * protocol::WINDOW).await, 401);
}

#[tokio::test]
async fn what_is_left_is_there_and_as_long_as_it_is_said() {
    let world = world().await;
    let (_, lease) = world.lease(0, 1).await;
    let store = Store::open(&world.desk.state, &client(1)).unwrap();
    let there = store.put_bytes(b"there").unwrap();
    let ended = |objects: Vec<(ObjectId, u32)>, audit: Option<ObjectId>| {
        Call::Ended(Box::new(Ended {
            session: lease.session,
            fence: lease.fence,
            cause: Cause::Exited { code: 1 },
            sealed: None,
            audit: audit.into_iter().collect(),
            objects,
        }))
    };
    for (objects, audit) in [
        (vec![(ObjectId([9; 32]), 5)], None),
        (vec![(there, 6)], None),
        (vec![(there, 5)], Some(ObjectId([9; 32]))),
    ] {
        let answer = world.call(0, ended(objects, audit)).await;
        assert!(why(&answer).contains("is not here"), "{}", why(&answer));
    }
    let answer = world.call(0, ended(vec![(there, 5)], Some(there))).await;
    assert!(matches!(answer, Answer::Settled));
    let left = jobs::left(&world.desk.state, job(1), lease.session).unwrap();
    let list = store.list(left.unwrap().list.unwrap()).unwrap();
    assert_eq!(list, BlobList::new([(there, 5)]).unwrap());
}
