//! A farm on which everything goes wrong, by a seed: nodes die, stop and come back late, ends are told twice, clocks jump, people pause,
//! cancel, drain and retry. After each step nothing that must never be is so; in the end nothing is lost.

use std::collections::{BTreeMap, BTreeSet};

use safelight_policies::{
    cause::Cause,
    id::{ClientAlias, JobId, TaskId},
};
use safelight_scheduler::{
    Given, JobState, Moved, Next, Queue, QueueRule, Report, Rules, Settlement,
};
use sqlx::{Row, SqliteConnection};

use crate::site::{START, Site, TTL, holding, job, needs, node, of, outline, place, recount, slot};

const STEPS: u32 = 700;
const JOBS: u8 = 12;
const CLIENTS: [&str; 3] = ["river", "lake", "sea"];
const NODES: [(&str, u16); 4] = [("a", 2), ("bb", 3), ("ccc", 1), ("dddd", 2)];
const CLIENT_CAP: u64 = 4;
const QUEUE_CAP: u64 = 3;

struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (self.0 >> 33) % sides
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        let sides = from.len().max(1) as u64;
        from.get(self.roll(sides) as usize)
    }
}

/// A node as it sees itself.
#[derive(Default)]
struct Node {
    holds: BTreeMap<u16, Given>,
    stopped: bool,
}

struct Farm {
    site: Site,
    dice: Dice,
    now: u64,
    nodes: [Node; NODES.len()],
    submitted: u8,
    /// What was accepted, and under which session.
    results: BTreeMap<(JobId, TaskId), Given>,
    /// Every lease that was ever given.
    past: Vec<Given>,
    fences: BTreeSet<u64>,
    raw: SqliteConnection,
}

impl Farm {
    async fn new(seed: u64) -> Self {
        let rules = Rules {
            client_cap: Some(CLIENT_CAP),
            elsewhere: 40,
            // The recount knows the name and the number.
            pools: [("amount.licence.sim".to_owned(), 2)].into(),
            ..Rules::default()
        };
        let site = Site::with(rules).await;
        let rule = QueueRule {
            paused: false,
            cap: Some(QUEUE_CAP),
        };
        site.ledger.set_queue(Queue::Active, rule).await.unwrap();
        let raw = site.raw().await;
        let mut farm = Self {
            site,
            dice: Dice(seed),
            now: START,
            nodes: Default::default(),
            submitted: 0,
            results: BTreeMap::new(),
            past: Vec::new(),
            fences: BTreeSet::new(),
            raw,
        };
        for which in 0..NODES.len() {
            farm.register(which).await;
        }
        farm
    }

    async fn register(&mut self, which: usize) {
        let (name, slots) = NODES[which];
        let slots: Vec<_> = (0..slots).map(|index| slot(4 << index)).collect();
        self.site.node(name, &slots, self.now).await;
        self.nodes[which] = Node::default();
    }

    async fn submit(&mut self) {
        if self.submitted == JOBS {
            return;
        }
        self.submitted += 1;
        let steps: &[(u64, &[u32])] = match self.dice.roll(3) {
            0 => &[(6, &[])],
            1 => &[(4, &[]), (2, &[0])],
            _ => &[(2, &[]), (3, &[]), (1, &[0, 1])],
        };
        let vcpu = [1.0, 4.0, 8.0][self.dice.roll(3) as usize];
        let client = CLIENTS[self.dice.roll(3) as usize];
        let mut outline = of(client, needs(vcpu, outline(self.submitted, steps)));
        outline.priority = self.dice.roll(101) as u8;
        if self.dice.roll(2) == 0 {
            let licences = [1.0, 1.0, 2.0][self.dice.roll(3) as usize];
            let amounts = &mut outline.steps[0].amounts;
            amounts.insert("amount.licence.sim".to_owned(), licences);
        }
        // Clocks jump below; no job is to be over by the clock alone.
        outline.expires = u64::MAX;
        self.site.receive(&outline, self.now).await;
    }

    async fn ask(&mut self, which: usize) {
        let (name, slots) = NODES[which];
        let index = self.dice.roll(slots.into()) as u16;
        if self.nodes[which].stopped || self.nodes[which].holds.contains_key(&index) {
            return;
        }
        if let Next::Leased(given) = self.site.next(place(name, index), self.now).await {
            assert!(self.fences.insert(given.leased.fence.0));
            assert_eq!(
                self.fences.last(),
                Some(&given.leased.fence.0),
                "a fence went back"
            );
            let task = (given.outline.job, given.task);
            assert!(
                !self.results.contains_key(&task),
                "leased though it has a result"
            );
            self.caps_hold(&given.outline.client).await;
            self.nodes[which].holds.insert(index, (*given).clone());
            self.past.push(*given);
        }
    }

    async fn caps_hold(&mut self, client: &ClientAlias) {
        let row = sqlx::query(
            "SELECT count(*) FILTER (WHERE client = ?),
                count(DISTINCT job.id) FILTER (WHERE queue = 'active')
             FROM attempt JOIN job ON job.id = attempt.job WHERE attempt.state = 'running'",
        );
        let row = row
            .bind(client.to_string())
            .fetch_one(&mut self.raw)
            .await
            .unwrap();
        assert!(
            row.get::<i64, _>(0) as u64 <= CLIENT_CAP,
            "too many sessions of {client}"
        );
        assert!(
            row.get::<i64, _>(1) as u64 <= QUEUE_CAP,
            "too many jobs under way"
        );
    }

    async fn commit(&mut self, given: &Given) {
        let answer = self.site.commit(given, self.now).await;
        if answer == Settlement::Accepted {
            let task = (given.outline.job, given.task);
            let before = self.results.insert(task, given.clone());
            assert_eq!(before, None, "a task was committed twice");
            let state = self.site.state(given.outline.job.as_bytes()[0]).await;
            assert_ne!(state, JobState::Canceled);
        }
    }

    /// A node ends one of its sessions, well or not.
    async fn end(&mut self, which: usize, well: bool) {
        let held: Vec<u16> = self.nodes[which].holds.keys().copied().collect();
        let Some(index) = self.dice.pick(&held).copied() else {
            return;
        };
        if self.nodes[which].stopped {
            return;
        }
        let Some(given) = self.nodes[which].holds.remove(&index) else {
            return;
        };
        if well {
            self.commit(&given).await;
            return;
        }
        let causes = [
            Cause::Exited { code: 1 },
            Cause::OutOfMemory,
            Cause::Canceled,
            Cause::ViewLost,
            Cause::NotAuthentic,
            Cause::NotStarted {
                step: "mount".into(),
                errno: 1,
            },
        ];
        let cause = self.dice.pick(&causes).unwrap().clone();
        let _answer = self.site.end(&given, &cause, self.now).await;
    }

    async fn beat(&mut self, which: usize) {
        if self.nodes[which].stopped {
            return;
        }
        let name = node(NODES[which].0);
        let held: Vec<_> = self.nodes[which].holds.values().map(holding).collect();
        let beat = self.site.ledger.heartbeat(&name, &held, self.now, TTL);
        let pulse = beat.await.unwrap();
        let holds = &mut self.nodes[which].holds;
        let canceled: Vec<Given> = holds
            .values()
            .filter(|given| pulse.cancel.contains(&given.ask.session))
            .cloned()
            .collect();
        holds.retain(|_, given| {
            let session = &given.ask.session;
            !pulse.lost.contains(session) && !pulse.cancel.contains(session)
        });
        for given in canceled {
            let answer = self.site.end(&given, &Cause::Canceled, self.now).await;
            assert_eq!(answer, Settlement::Accepted);
        }
    }

    /// Someone tells again what was told, or what is long over.
    async fn repeat(&mut self) {
        let Some(given) = self.dice.pick(&self.past).cloned() else {
            return;
        };
        let held = self.nodes.iter().any(|node| {
            let mut holds = node.holds.values();
            holds.any(|held| held.ask.session == given.ask.session)
        });
        // A session that a node still holds ends once: by that node.
        if !held {
            self.commit(&given).await;
            let _answer = self
                .site
                .end(&given, &Cause::Exited { code: 9 }, self.now)
                .await;
        }
    }

    async fn meddle(&mut self) {
        let number = self.dice.roll(u64::from(self.submitted.max(1))) as u8 + 1;
        if self.submitted < number {
            return;
        }
        let name = node(NODES[self.dice.roll(4) as usize].0);
        let ledger = &self.site.ledger;
        match self.dice.roll(12) {
            0 => drop(
                ledger
                    .report(job(number), Report::Canceled, self.now)
                    .await
                    .unwrap(),
            ),
            1..=3 => drop(ledger.pause(job(number), true, self.now).await.unwrap()),
            4..=6 => drop(ledger.pause(job(number), false, self.now).await.unwrap()),
            7 => drop(ledger.retry(job(number), self.now).await.unwrap()),
            8 => drop(ledger.drain_node(&name).await.unwrap()),
            9..=10 => drop(ledger.resume_node(&name).await.unwrap()),
            _ => {
                let moved = ledger
                    .report(job(number), Report::Delivered, self.now)
                    .await
                    .unwrap();
                if moved
                    == (Moved::Done {
                        state: JobState::Delivered,
                    })
                {
                    self.complete(number).await;
                }
            }
        }
    }

    async fn step(&mut self) {
        let which = self.dice.roll(NODES.len() as u64) as usize;
        match self.dice.roll(40) {
            0..=2 => self.submit().await,
            3..=13 => self.ask(which).await,
            14..=20 => self.end(which, true).await,
            21..=23 => self.end(which, false).await,
            24..=29 => self.beat(which).await,
            30 => self.register(which).await,
            31 => self.nodes[which].stopped = true,
            32..=33 => self.nodes[which].stopped = false,
            34 => self.now += self.dice.roll(300),
            35 => self.now -= self.dice.roll(120),
            36 => self.meddle().await,
            37 => self.repeat().await,
            _ => drop(self.site.ledger.expire(self.now).await.unwrap()),
        }
        self.now += self.dice.roll(4);
    }

    /// Everything is mended and works on until nothing is left to do.
    async fn calm(&mut self) {
        self.now += 1_000;
        while self.submitted < JOBS {
            self.submit().await;
        }
        for (which, (name, _)) in NODES.iter().enumerate() {
            self.register(which).await;
            let resumed = self.site.ledger.resume_node(&node(name)).await;
            resumed.unwrap();
        }
        for number in 1..=JOBS {
            let _moved = self
                .site
                .ledger
                .pause(job(number), false, self.now)
                .await
                .unwrap();
        }
        for _round in 0..200 {
            for (which, (_, slots)) in NODES.into_iter().enumerate() {
                for _ask in 0..slots * 2 {
                    self.ask(which).await;
                }
                self.beat(which).await;
                while !self.nodes[which].holds.is_empty() {
                    self.end(which, true).await;
                }
            }
            self.now += 5;
            if self
                .site
                .ledger
                .queue(Queue::Active)
                .await
                .unwrap()
                .is_empty()
            {
                return;
            }
        }
        panic!("the farm never comes to rest");
    }

    /// A job that says that all is done has a result for every task, the one that was accepted.
    async fn complete(&self, number: u8) {
        let entry = self
            .site
            .ledger
            .job(&job(number).to_string())
            .await
            .unwrap();
        for (step, index) in entry.outline.steps.iter().zip(0u32..) {
            for task in 0..step.tasks {
                let task = TaskId { step: index, task };
                assert!(
                    self.results.contains_key(&(job(number), task)),
                    "{number} {task} was lost"
                );
            }
        }
    }
}

async fn simulate(seed: u64) -> (usize, usize) {
    let mut farm = Farm::new(seed).await;
    for step in 0..STEPS {
        farm.step().await;
        if step % 8 == 0 {
            recount(&mut farm.raw).await;
        }
    }
    farm.calm().await;
    recount(&mut farm.raw).await;
    let mut succeeded = 0;
    for number in 1..=JOBS {
        match farm.site.state(number).await {
            JobState::Succeeded | JobState::Delivered => {
                succeeded += 1;
                farm.complete(number).await;
            }
            JobState::Canceled => {}
            JobState::Failed => {
                let story = farm.site.ledger.story(job(number)).await.unwrap();
                let dead = format!("{:?}", story.last().unwrap().event);
                assert!(
                    dead.starts_with("Failed { tasks: ") && !dead.contains(": 0 "),
                    "{dead}"
                );
            }
            state => panic!("{number} is {state} in the end"),
        }
    }
    // What the ledger holds is what was accepted, by the session that was told so.
    let mut committed = 0;
    for number in 1..=JOBS {
        for attempt in farm.site.ledger.attempts(job(number)).await.unwrap() {
            if attempt.result.is_some() {
                committed += 1;
                let given = &farm.results[&(job(number), attempt.task)];
                assert_eq!(given.ask.session, attempt.session);
            }
        }
    }
    assert_eq!(committed, farm.results.len());
    (succeeded, farm.past.len())
}

#[tokio::test]
async fn whatever_goes_wrong_nothing_is_lost_or_done_twice() {
    let (mut succeeded, mut leases) = (0, 0);
    for seed in 1..=8 {
        let (more, given) = simulate(seed * 7_919).await;
        succeeded += more;
        leases += given;
    }
    // The farm was busy, and the trouble did not stop it.
    assert!(succeeded >= 20, "{succeeded}");
    assert!(leases >= 400, "{leases}");
}
