//! Golden recipes: what is sealed of a job's commands. Old jobs must run after an update, so these bytes are read for ever, too.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use safelight_job::{JobPlan, JobRecipe, Recipe, Source, Submission};
use safelight_policies::id::{ClientAlias, PolicyDigest, PolicyName};

use super::{golden, make::JOB};

/// A job with everything that a recipe can say: environments, files, chunks, paths.
const BUNDLES: [&str; 3] = ["sitting", "chunks", "turntable"];

fn job(bundle: &str) -> JobRecipe {
    let at = Path::new(env!("CARGO_MANIFEST_DIR")).join("policies/job/tests/bundles");
    let read = |name: &str| fs::read_to_string(at.join(bundle).join(name)).ok();
    let (values, assets) = (read("parameter_values.yaml"), read("asset_references.yaml"));
    let (template, settings) = (read("template.yaml"), read("safelight-job.toml"));
    let source = Source {
        directory: "/studio/show/teapot",
        template: &template.expect("a template"),
        parameter_values: values.as_deref(),
        asset_references: assets.as_deref(),
        job: settings.as_deref(),
        environments: &[],
        overrides: &[],
    };
    let submission = Submission {
        job: JOB,
        client: ClientAlias::new("river").expect("an alias"),
        policy: PolicyName::new("blender").expect("a policy"),
        policy_digest: PolicyDigest([5; 32]),
        wall: 36_000,
        expires: 1_700_900_000,
    };
    let plan = JobPlan::read(&source).expect("a job");
    plan.split(submission).expect("a recipe").1
}

fn command() -> Recipe {
    let bytes = |text: &str| text.as_bytes().to_vec();
    Recipe {
        command: vec![bytes("povray"), bytes("+I/mnt/show/a\n.pov"), vec![0xff]],
        directory: bytes("/mnt/show"),
        env: BTreeMap::from([(bytes("A"), bytes("1")), (bytes("B"), vec![0xfe])]),
        expect: vec![bytes("/mnt/show/frame.png")],
        title: "a golden job".to_owned(),
    }
}

/// Each recipe, by the name of its file.
fn recipes() -> Vec<(PathBuf, Vec<u8>)> {
    let mut all = vec![(
        PathBuf::from("recipes/command"),
        command().encode().expect("bytes"),
    )];
    all.extend(BUNDLES.map(|bundle| {
        let bytes = job(bundle).encode().expect("bytes");
        (PathBuf::from(format!("recipes/{bundle}")), bytes)
    }));
    all
}

/// Writes them.
pub(super) fn make(to: &Path) {
    fs::create_dir(to.join("recipes")).expect("a directory");
    for (name, bytes) in recipes() {
        fs::write(to.join(name), bytes).expect("a file");
    }
}

#[test]
fn golden_recipes_are_read_as_what_they_were_made_from() {
    let read = |name: &str| fs::read(golden().join("recipes").join(name)).expect("a recipe");
    assert!(Recipe::decode(&read("command")).expect("a recipe") == command());
    for bundle in BUNDLES {
        let kept = JobRecipe::decode(&read(bundle)).expect("a recipe");
        assert!(kept == job(bundle), "{bundle} is another recipe");
        assert!(kept.task(0, 0, 1).is_ok(), "{bundle} has no first task");
        assert!(Recipe::decode(&read(bundle)).is_err());
    }
}
