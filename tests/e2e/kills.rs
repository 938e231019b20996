//! Whatever is killed, whenever: the same results, each frame committed once, whoever is to be told is told once.
//!
//! At named steps of the road, found by holding the carrier, pausing a queue or watching what runs; and at seeded random moments.

use std::time::Duration;

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{
    bundles::{Supplier, TURN, all_turned, shell, told_by_command},
    carriage::Act,
    harness::Role,
    sites::{Farm, NORTH_NODES, Site, farm_requires, until},
};

/// A farm, and who is told.
struct Trial {
    farm: Farm,
    supplier: Supplier,
    jobs: u32,
}

/// A job that something happens to.
struct Job {
    id: String,
    bundle: String,
    drawn: String,
    frames: u32,
}

impl Trial {
    fn new() -> Self {
        let farm = Farm::at_work();
        let supplier = Supplier::at(&farm.home);
        Self {
            farm,
            supplier,
            jobs: 0,
        }
    }

    fn submit(&mut self, frames: u32, script: &str) -> Job {
        self.jobs += 1;
        let bundle = format!("show{}", self.jobs);
        let drawn = shell(&self.farm.home, &bundle, frames, script, "");
        Job {
            id: self.farm.submit(&bundle, "north"),
            bundle,
            drawn,
            frames,
        }
    }

    /// It came to its end as if nothing had happened. Answers how many attempts that took.
    #[track_caller]
    fn survived(&self, job: &Job) -> usize {
        let home = &self.farm.home;
        self.farm.delivered(&job.id);
        all_turned(home, &job.bundle, &job.drawn, job.frames);
        until("the supplier is told", || {
            let command = told_by_command(home, &job.id);
            let posted = self.supplier.heard_of(&job.id);
            (!command.is_empty() && !posted.is_empty()).then_some(())
        });
        self.farm.queues_are_empty();
        assert_eq!(told_by_command(home, &job.id), ["delivered"]);
        assert_eq!(self.supplier.heard_of(&job.id), ["delivered"]);
        Farm::committed_once(&self.farm.north, &job.id, job.frames.into())
    }
}

/// Kills a process that a server of a site started, once there is one.
#[track_caller]
fn kill_one(site: &Site, servers: &[&str], role: Role) {
    let found = until(&format!("{role:?} runs at {}", site.name), || {
        let trees = servers.iter().map(|name| site.tree(name));
        let mut all = trees.flat_map(|tree| tree.processes);
        all.find(|process| process.role == role)
    });
    let _ = kill(Pid::from_raw(found.pid), Signal::SIGKILL);
}

fn again(site: &mut Site, server: &str) {
    site.kill(server);
    site.start(server);
}

#[test]
fn a_site_that_is_killed_between_two_steps_goes_on() {
    if !farm_requires(&[]) {
        return;
    }
    let mut trial = Trial::new();

    // Announced, and nobody has read it.
    trial.farm.carriage.rule(|parcel| {
        if parcel.to_north {
            Act::Leave
        } else {
            Act::Carry
        }
    });
    let job = trial.submit(2, TURN);
    trial.farm.home.until_job(&job.id, &["published"]);
    again(&mut trial.farm.home, "serve");
    trial.farm.carriage.prompt();
    assert_eq!(trial.survived(&job), 2);

    // Accepted, and nothing has begun.
    trial.farm.north.ask(&["queue", "pause", "active"]).ok();
    let job = trial.submit(2, TURN);
    trial.farm.home.until_job(&job.id, &["accepted"]);
    again(&mut trial.farm.north, "serve");
    again(&mut trial.farm.home, "serve");
    trial.farm.north.ask(&["queue", "resume", "active"]).ok();
    assert_eq!(trial.survived(&job), 2);

    // Every frame is stored, and home does not know that this is all.
    trial.farm.carriage.rule(|parcel| {
        if parcel.kind() == "ended" {
            Act::Leave
        } else {
            Act::Carry
        }
    });
    let job = trial.submit(2, TURN);
    trial.farm.north.until_job(&job.id, &["returning"]);
    again(&mut trial.farm.north, "serve");
    again(&mut trial.farm.home, "serve");
    trial.farm.carriage.prompt();
    assert_eq!(trial.survived(&job), 2);

    // One way of telling has worked, the other not yet.
    trial.supplier.be_deaf(true);
    let job = trial.submit(2, TURN);
    trial.farm.delivered(&job.id);
    until("the command has told", || {
        (!told_by_command(&trial.farm.home, &job.id).is_empty()).then_some(())
    });
    std::thread::sleep(Duration::from_millis(300));
    again(&mut trial.farm.home, "serve");
    trial.supplier.be_deaf(false);
    assert_eq!(trial.survived(&job), 2);
}

#[test]
fn a_frame_whose_process_is_killed_is_rendered_once_more() {
    if !farm_requires(&[]) {
        return;
    }
    let mut trial = Trial::new();
    let slow = format!("sleep 1.5; {TURN}");
    for role in [Role::View, Role::Audit, Role::Launcher, Role::Command] {
        let job = trial.submit(1, &slow);
        kill_one(&trial.farm.north, &NORTH_NODES, Role::Command);
        if role != Role::Command {
            until("the next attempt runs", || {
                (trial.farm.north.attempts(&job.id).len() == 2).then_some(())
            });
            kill_one(&trial.farm.north, &NORTH_NODES, role);
        }
        let attempts = trial.survived(&job);
        assert!(attempts >= 2, "{role:?} was killed, and nothing came of it");
    }
}

#[test]
fn a_server_that_is_killed_while_frames_are_rendered_loses_none() {
    if !farm_requires(&[]) {
        return;
    }
    let mut trial = Trial::new();
    let slow = format!("sleep 1; {TURN}");

    // A node, with everything on it.
    let job = trial.submit(4, &slow);
    kill_one(&trial.farm.north, &["n1"], Role::Command);
    again(&mut trial.farm.north, "n1");
    assert!(trial.survived(&job) > 4);

    // The site whose nodes are at work.
    let job = trial.submit(4, &slow);
    trial.farm.north.until_job(&job.id, &["running"]);
    again(&mut trial.farm.north, "serve");
    trial.survived(&job);

    // The keepers of both sites' keys.
    let job = trial.submit(4, &slow);
    trial.farm.north.until_job(&job.id, &["running"]);
    kill_one(&trial.farm.north, &["serve"], Role::Warden);
    kill_one(&trial.farm.home, &["serve"], Role::Client);
    trial.survived(&job);

    // Home, while it stores what came.
    let job = trial.submit(4, &slow);
    until("the first frame is stored", || {
        let out = trial.farm.home.seen(&job.bundle).join("out");
        std::fs::read_dir(out)
            .is_ok_and(|mut files| files.next().is_some())
            .then_some(())
    });
    kill_one(&trial.farm.home, &["serve"], Role::Client);
    again(&mut trial.farm.home, "serve");
    trial.survived(&job);
}

/// A sequence of numbers that a seed decides.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        // Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}

/// Kills something at a random moment, so many times while one job is under way; what was a server is started again.
fn at_random(seed: u64, kills: u32) {
    println!("seed {seed}");
    let mut chance = Chance(seed);
    let mut trial = Trial::new();
    let job = trial.submit(6, &format!("sleep 0.5; {TURN}"));
    for _ in 0..kills {
        std::thread::sleep(Duration::from_millis(chance.below(1200)));
        let at_home = chance.below(3) == 0;
        let site = if at_home {
            &trial.farm.home
        } else {
            &trial.farm.north
        };
        let mut all = site.processes();
        all.sort_by_key(|process| (process.started, process.pid));
        let index = usize::try_from(chance.below(all.len() as u64)).unwrap_or_default();
        let chosen = &all[index];
        println!(
            "{} loses {:?} {:?}",
            site.name,
            chosen.role,
            chosen.arguments.get(1)
        );
        let server = site.server_with(chosen.pid);
        let site = if at_home {
            &mut trial.farm.home
        } else {
            &mut trial.farm.north
        };
        match server {
            Some(name) => again(site, &name),
            None => drop(kill(Pid::from_raw(chosen.pid), Signal::SIGKILL)),
        }
    }
    trial.survived(&job);
}

#[test]
fn whatever_is_killed_at_a_random_moment_is_missed_by_nobody() {
    if farm_requires(&[]) {
        at_random(1, 4);
        at_random(2, 4);
    }
}

#[test]
#[ignore = "long tier: minutes of random kills"]
fn whatever_is_killed_at_many_random_moments_is_missed_by_nobody() {
    if farm_requires(&[]) {
        (100..120).for_each(|seed| at_random(seed, 12));
    }
}
