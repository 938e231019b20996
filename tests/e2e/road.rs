//! The whole road: handed in at home, placed here or there, carried, rendered, carried back, stored, told. Nothing in between can read it.

use std::{collections::BTreeSet, path::Path};

use crate::{
    bundles::{
        Project, Renderer, Supplier, TURN, all_turned, frame_file, frames_of, shell,
        told_by_command,
    },
    frames::Picture,
    sites::{Farm, farm_requires, until},
};

/// Every frame that came home is the frame that is rendered in the open.
#[track_caller]
fn same_pictures(home: &Path, open: &Path, frames: u32) {
    for frame in 1..=frames {
        let (dark, open) = (home.join(frame_file(frame)), open.join(frame_file(frame)));
        let differs = Picture::read(&dark).differs(&Picture::read(&open));
        assert_eq!(differs, 0, "frame {frame}");
    }
}

/// Both jobs of a project, one for each site, rendered and compared.
fn both_ways(renderer: Renderer, frames: u32) {
    let farm = Farm::at_work();
    let supplier = Supplier::at(&farm.home);
    let project = Project::new(farm.outside(), renderer, frames);
    project.bundle(&farm.home, "here");
    project.bundle(&farm.home, "there");
    // Something else lies where a frame will belong.
    farm.home.write("there/frames/frame1.png", "an older take");
    let (here, there) = (farm.submit("here", "local"), farm.submit("there", "north"));
    let open = project.in_the_open(farm.outside());
    farm.delivered(&here);
    farm.delivered(&there);

    same_pictures(&frames_of(&farm.home, "here"), &open, frames);
    assert_eq!(
        farm.home.read("there/frames/frame1.png"),
        "an older take",
        "what stood there was overwritten"
    );
    let aside = farm.home.seen(format!("there/frames/frame1.{there}.png"));
    let back = frames_of(&farm.home, "there").join(frame_file(1));
    std::fs::rename(aside, back).expect("the new frame beside the older one");
    same_pictures(&frames_of(&farm.home, "there"), &open, frames);

    assert_eq!(
        Farm::committed_once(&farm.home, &here, frames.into()),
        frames as usize
    );
    assert_eq!(
        Farm::committed_once(&farm.north, &there, frames.into()),
        frames as usize
    );
    assert!(
        farm.north.job(&here).is_none(),
        "north knows a job of home's own"
    );
    until("the suppliers are told", || {
        let jobs = [&here, &there];
        let told = jobs.iter().all(|job| {
            told_by_command(&farm.home, job) == ["delivered"]
                && supplier.heard_of(job) == ["delivered"]
        });
        told.then_some(())
    });
    farm.queues_are_empty();
}

#[test]
fn povray_frames_are_the_same_from_here_and_from_there() {
    if farm_requires(&["povray"]) {
        both_ways(Renderer::Povray, 3);
    }
}

#[test]
fn blender_frames_are_the_same_from_here_and_from_there() {
    if farm_requires(&["blender"]) {
        both_ways(Renderer::Blender, 1);
    }
}

#[test]
fn a_frame_can_be_followed_from_submission_to_storage() {
    if !farm_requires(&[]) {
        return;
    }
    let farm = Farm::at_work();
    let drawn = shell(&farm.home, "show", 6, TURN, "");
    let job = farm.submit("show", "north");
    let watched = farm.home.ask(&["job", "watch", &job, "--task", "0/3"]).ok();
    println!("{watched:?}");
    let away = farm
        .north
        .ask(&["job", "watch", &job, "--task", "0/3"])
        .ok();
    println!("{away:?}");
    farm.delivered(&job);
    all_turned(&farm.home, "show", &drawn, 6);
    Farm::committed_once(&farm.north, &job, 6);
    let places: BTreeSet<String> = farm
        .north
        .attempts(&job)
        .iter()
        .map(|attempt| format!("{} {}", attempt["node"], attempt["slot"]))
        .collect();
    assert_eq!(
        places.len(),
        4,
        "not every slot of every node worked: {places:?}"
    );
    let logs = farm.home.ask(&["job", "logs", &job, "--task", "0/3"]).ok();
    assert_eq!(logs.out, "frame 4\n");
    let refused = farm.north.ask(&["job", "logs", &job, "--task", "0/3"]);
    println!("{refused:?}");
    assert_ne!(refused.code, Some(0));
    // The same once more: what stands there already is the same.
    let again = farm.submit("show", "north");
    farm.delivered(&again);
    all_turned(&farm.home, "show", &drawn, 6);
    farm.queues_are_empty();
}
