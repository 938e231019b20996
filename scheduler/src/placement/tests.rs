//! Here or there, and why.

use super::*;
use safelight_policies::id::{ClientAlias, JobId, PolicyDigest, PolicyName};

fn outline(tasks: u64) -> Outline {
    let step = |vcpu| StepOutline {
        tasks,
        depends_on: vec![],
        amounts: [("amount.worker.vcpu".to_owned(), vcpu)].into(),
        attributes: Default::default(),
        timeout: 60,
        batch: None,
    };
    Outline {
        job: JobId::from_random([1; 10]),
        client: ClientAlias::new("river").unwrap(),
        priority: 50,
        policy: PolicyName::new("blender").unwrap(),
        policy_digest: PolicyDigest([0; 32]),
        steps: vec![step(1.0), step(4.0)],
        expires: 1_000,
        central: vec![],
        retries: None,
        wishes: Default::default(),
    }
}

fn site(name: &str) -> SiteName {
    SiteName::new(name).unwrap()
}

fn profile(name: &str) -> ClientProfile {
    let sites = vec![site("north"), site("south")];
    let (sites, ship_from) = match name {
        "home" => (vec![], 1),
        "may" => (sites, 1),
        "large" => (sites, 100),
        other => panic!("{other}"),
    };
    ClientProfile {
        sites,
        ship_from,
        ..ClientProfile::default()
    }
}

fn load_of(name: &str) -> Load {
    let (free, waiting, misfit, open) = match name {
        "idle" => (2, 0, None, true),
        "busy" => (0, 16, None, true),
        "full" => (0, 17, None, true),
        "alone" => (0, 17, None, false),
        "misfit" => (2, 0, Some(1), true),
        // Free slots that others wait for are not free.
        "promised" => (2, 40, None, true),
        other => panic!("{other}"),
    };
    Load {
        misfit,
        matching: 4,
        free,
        waiting,
        open: open.then(|| site("south")).into_iter().collect(),
    }
}

/// Wanted, client, load here, and what follows. The job has ten tasks.
const TABLE: &str = "
    auto may idle: here: 2 of 4 fitting slots here are free
    auto may busy: here: only 16 tasks wait here for 4 fitting slots
    auto may full: south: 17 tasks wait here for 4 fitting slots
    auto may alone: here: 17 tasks wait here for 4 fitting slots; no other site takes jobs now
    auto home full: here: 17 tasks wait here for 4 fitting slots; this client's jobs stay at home
    auto large full: here: 17 tasks wait here for 4 fitting slots; 10 tasks are not worth the way (from 100 on)
    auto large misfit: south: no slot here fits step 1
    auto may promised: south: 40 tasks wait here for 4 fitting slots
    auto home misfit: here: no slot here fits step 1; this client's jobs stay at home
    local may full: here: the supplier asked for it to stay here
    local may misfit: here: the supplier asked for it to stay here; no slot here fits step 1
    south may idle: south: the supplier asked for south
    north may idle: nowhere: the supplier asked for north; north takes no jobs now
    east may idle: nowhere: the supplier asked for east; this client's jobs may not go to east
    south home idle: nowhere: the supplier asked for south; this client's jobs stay at home
";

#[test]
fn here_or_there_and_why() {
    for row in TABLE.trim().lines().map(str::trim) {
        let (given, expected) = row.split_once(": ").unwrap();
        let given: Vec<&str> = given.split(' ').collect();
        let wanted = match given[0] {
            "auto" => Wanted::Auto,
            "local" => Wanted::Local,
            name => Wanted::Site(site(name)),
        };
        let (profile, load) = (profile(given[1]), load_of(given[2]));
        let placement = decide(&outline(5), &wanted, &profile, &load);
        let target = match placement.target {
            Target::Here => "here".to_owned(),
            Target::There(site) => site.to_string(),
            Target::Nowhere => "nowhere".to_owned(),
        };
        let reasons: Vec<String> = placement.reasons.iter().map(Reason::to_string).collect();
        assert_eq!(
            format!("{target}: {}", reasons.join("; ")),
            expected,
            "{row}"
        );
    }
}

#[test]
fn load_counts_what_fits() {
    let slot = |vcpu| SlotSpec {
        vcpu,
        ..SlotSpec::default()
    };
    let (small, large) = (slot(2), slot(8));
    let seen = |slots: &[(&SlotSpec, bool)]| {
        let load = load(
            (&outline(1), &Pools::new()),
            slots.iter().copied(),
            7,
            vec![],
        );
        (load.misfit, load.matching, load.free)
    };
    assert_eq!(seen(&[]), (Some(0), 0, 0));
    assert_eq!(seen(&[(&small, true), (&small, false)]), (Some(1), 2, 1));
    assert_eq!(seen(&[(&small, true), (&large, false)]), (None, 2, 1));
    assert_eq!(seen(&[(&slot(0), true)]), (Some(0), 0, 0));
}
