//! A carrier that is late, forgetful and clumsy, and folders that are not there, cannot be written or are full: the state says so, nothing
//! is lost, nothing is done twice, and everything goes on when all is well again.

use std::{fs, path::PathBuf, time::Duration};

use serde_json::Value;

use crate::{
    bundles::{Supplier, TURN, all_turned, shell, told_by_command},
    carriage::{Act, Parcel},
    harness::{Ended, below_directory, end},
    sites::{Farm, Site, farm_requires, until},
};

/// A job of so many frames of [`TURN`], its words drawn anew.
fn submit(farm: &Farm, bundle: &str, frames: u32) -> (String, String) {
    let drawn = shell(&farm.home, bundle, frames, TURN, "");
    (farm.submit(bundle, "north"), drawn)
}

/// The job came home, each frame once; who is to be told was told once.
#[track_caller]
fn came_home(
    farm: &Farm,
    supplier: &Supplier,
    (job, bundle, drawn): (&str, &str, &str),
    frames: u32,
) {
    farm.delivered(job);
    all_turned(&farm.home, bundle, drawn, frames);
    let attempts = Farm::committed_once(&farm.north, job, frames.into());
    assert_eq!(attempts, frames as usize, "something was rendered twice");
    until("the supplier is told", || {
        (!told_by_command(&farm.home, job).is_empty() && !supplier.heard_of(job).is_empty())
            .then_some(())
    });
    farm.queues_are_empty();
    assert_eq!(told_by_command(&farm.home, job), ["delivered"]);
    assert_eq!(supplier.heard_of(job), ["delivered"]);
}

/// A number that a name decides: the same in every run for the same name, and different for others.
fn drawn_from(parcel: &Parcel, below: u32) -> u32 {
    let name = parcel.name.as_os_str().as_encoded_bytes();
    let sum = name.iter().fold(7u32, |sum, byte| {
        sum.wrapping_mul(31).wrapping_add(u32::from(*byte))
    });
    (sum >> 8) % below
}

#[test]
fn parcels_that_come_late_twice_in_parts_and_damaged_come_to_the_same() {
    if !farm_requires(&[]) {
        return;
    }
    let farm = Farm::at_work();
    let supplier = Supplier::at(&farm.home);
    // Letters overtake what they bring; of a blob comes first a part, then one with a wrong bit, at last the blob, once more or not.
    farm.carriage.rule(|parcel| {
        let late = drawn_from(parcel, 25);
        if parcel.is_letter() {
            return match parcel.rounds {
                rounds if rounds < late / 5 => Act::Leave,
                rounds if rounds < late / 5 + 2 => Act::CarryAgain,
                _ => Act::Carry,
            };
        }
        match parcel.rounds {
            rounds if rounds < late => Act::Leave,
            rounds if rounds < late + 3 => {
                Act::Damage(parcel.bytes[..parcel.bytes.len() / 2].to_vec())
            }
            rounds if rounds < late + 6 => {
                let mut bytes = parcel.bytes.clone();
                let at = bytes.len() / 3;
                bytes[at] ^= 1;
                Act::Damage(bytes)
            }
            rounds if rounds < late + 7 => Act::CarryAgain,
            _ => Act::Carry,
        }
    });
    for (bundle, frames) in [("one", 3), ("two", 2)] {
        let (job, drawn) = submit(&farm, bundle, frames);
        came_home(&farm, &supplier, (&job, bundle, &drawn), frames);
    }
}

#[test]
fn a_letter_that_is_hidden_is_waited_for_and_one_that_is_replayed_does_nothing() {
    if !farm_requires(&[]) {
        return;
    }
    let farm = Farm::at_work();
    let supplier = Supplier::at(&farm.home);
    let kept = std::sync::Arc::new(std::sync::Mutex::new(Vec::<Parcel>::new()));
    let keep = std::sync::Arc::clone(&kept);
    // The announcement and the first result stay away for a while; a photograph of everything is taken.
    farm.carriage.rule(move |parcel| {
        keep.lock().expect("nobody panics").push(parcel.clone());
        let hidden = match parcel.kind() {
            "job" => 40,
            "result" => 10 + drawn_from(parcel, 50),
            _ => 0,
        };
        if parcel.rounds < hidden {
            Act::Leave
        } else {
            Act::Carry
        }
    });
    let (job, drawn) = submit(&farm, "show", 3);
    came_home(&farm, &supplier, (&job, "show", &drawn), 3);

    // Everything once more, as it was, into both folders.
    farm.carriage.prompt();
    fs::remove_file(farm.home.seen("show/out/2.txt")).expect("a result");
    let kept = kept.lock().expect("nobody panics");
    let into = |parcel: &Parcel| {
        let site = if parcel.to_north {
            &farm.north
        } else {
            &farm.home
        };
        site.seen("hot/in").join(&parcel.name)
    };
    for parcel in kept.iter() {
        let path = into(parcel);
        fs::create_dir_all(path.parent().expect("a directory")).expect("directory");
        fs::write(path, &parcel.bytes).expect("a replay");
    }
    std::thread::sleep(Duration::from_secs(2));
    for site in [&farm.home, &farm.north] {
        assert_eq!(site.told(&["job", "list"]).len(), 1, "at {}", site.name);
    }
    // What its owner took away does not come back, and nobody is told again.
    assert_eq!(farm.home.read("show/out/2.txt"), "");
    assert_eq!(told_by_command(&farm.home, &job), ["delivered"]);
    assert_eq!(supplier.heard_of(&job), ["delivered"]);
    assert_eq!(Farm::committed_once(&farm.north, &job, 3), 3);
    farm.queues_are_empty();
    let (next, drawn) = submit(&farm, "next", 1);
    came_home(&farm, &supplier, (&next, "next", &drawn), 1);
}

/// What a site says of itself.
fn status(site: &Site) -> Value {
    site.told(&["site", "status"]).remove(0)
}

/// Waits until a site says this of its folder.
#[track_caller]
fn until_it_says(site: &Site, word: &str) {
    let mut said = Value::Null;
    let mut look = || {
        said = status(site);
        said["links"].to_string().contains(word).then_some(())
    };
    let end = std::time::Instant::now() + Duration::from_secs(30);
    while look().is_none() {
        assert!(std::time::Instant::now() < end, "no {word:?} in {said:#}");
        std::thread::sleep(Duration::from_millis(50));
    }
    let troubles = said["troubles"].as_array().cloned().unwrap_or_default();
    assert!(!troubles.is_empty(), "{said:#}");
}

/// Waits until nothing troubles a site.
#[track_caller]
fn until_all_is_well(site: &Site) {
    until(&format!("all is well at {}", site.name), || {
        let said = status(site);
        let well = |link: &Value| link["stopped"].is_null();
        let links = said["links"].as_object().cloned().unwrap_or_default();
        let troubles = said["troubles"].as_array().is_some_and(Vec::is_empty);
        (troubles && links.values().all(well)).then_some(())
    });
}

/// A command of the site's host.
#[track_caller]
fn on_host(site: &Site, script: &str) -> Ended {
    let folder = site.path("hot");
    end(site.inside("sh").args(["-c", script, "sh"]).arg(folder)).ok()
}

/// A folder that is wrong for a while: how it becomes so, what the site says, how it ends.
struct Wrong {
    at_home: bool,
    becomes: &'static str,
    says: &'static str,
    ends: &'static str,
}

const WRONG: [Wrong; 5] = [
    Wrong {
        at_home: true,
        becomes: "mv $1/out $1/away",
        says: "No such file",
        ends: "mv $1/away $1/out",
    },
    Wrong {
        at_home: false,
        becomes: "mv $1/in $1/away",
        says: "No such file",
        ends: "mv $1/away $1/in",
    },
    // What is not mounted leaves an empty directory.
    Wrong {
        at_home: true,
        becomes: "mount -t tmpfs none $1/in",
        says: "hot folder",
        ends: "umount $1/in",
    },
    Wrong {
        at_home: false,
        becomes: "mount --bind $1/out $1/out && mount -o remount,bind,ro $1/out",
        says: "read-only",
        ends: "umount $1/out",
    },
    // A small medium that others filled.
    Wrong {
        at_home: true,
        becomes: "mkdir $1/small && mount -t tmpfs -o size=20m none $1/small && cp -a $1/out/. $1/small && \
                  head -c 12m /dev/zero > $1/small/others && mount --move $1/small $1/out",
        says: "free",
        ends: "rm $1/out/others",
    },
];

#[test]
fn a_folder_that_is_wrong_for_a_while_is_named_and_loses_nothing() {
    if !farm_requires(&[]) {
        return;
    }
    let farm = Farm::at_work();
    let supplier = Supplier::at(&farm.home);
    let (first, drawn) = submit(&farm, "first", 1);
    came_home(&farm, &supplier, (&first, "first", &drawn), 1);
    for (number, wrong) in WRONG.iter().enumerate() {
        println!("{}", wrong.becomes);
        let site = if wrong.at_home {
            &farm.home
        } else {
            &farm.north
        };
        on_host(site, wrong.becomes);
        let bundle = format!("show{number}");
        let (job, drawn) = submit(&farm, &bundle, 2);
        until_it_says(site, wrong.says);
        assert_ne!(farm.home.state_of(&job), "delivered");
        on_host(site, wrong.ends);
        until_all_is_well(site);
        came_home(&farm, &supplier, (&job, &bundle, &drawn), 2);
    }
    // What was carried and is done lies in no folder any more, but for what needs no answer.
    let folders = [(&farm.home, "hot/in"), (&farm.north, "hot/in")];
    until("the folders are cleared", || {
        let left = folders.iter().flat_map(|(site, name)| {
            below_directory(&site.seen(name).join("blobs")).unwrap_or_default()
        });
        let left: Vec<PathBuf> = left.filter(|path| path.is_file()).collect();
        left.is_empty().then_some(())
    });
}
