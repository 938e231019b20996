//! Bundles as farms write them, read from the outside: what becomes a command, and what cannot be one. `openjd.rs` has the tables.
#![expect(clippy::unwrap_used, reason = "a test's helpers and tables")]

use std::{collections::BTreeMap, fs, path::Path};

use safelight_job::{
    Action, Error, JobPlan, JobRecipe, Source, Submission, TaskCommand, settings::Where,
};
use safelight_policies::{
    id::{ClientAlias, JobId, PolicyDigest, PolicyName},
    outline::{Batch, Wishes},
};

const DIRECTORY: &str = "/studio/show/teapot";

fn bundles() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bundles")
}

/// Reads a bundle with these values from the command line.
fn read(name: &str, overrides: &[(&str, &str)]) -> Result<JobPlan, Error> {
    let text = |file: &str| fs::read_to_string(bundles().join(name).join(file)).ok();
    let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    let overrides: Vec<_> = overrides.iter().map(own).collect();
    JobPlan::read(&Source {
        directory: DIRECTORY,
        template: &text("template.yaml").expect("a template"),
        parameter_values: text("parameter_values.yaml")
            .or_else(|| text("parameter_values.json"))
            .as_deref(),
        asset_references: text("asset_references.yaml").as_deref(),
        job: text("safelight-job.toml").as_deref(),
        environments: &[],
        overrides: &overrides,
    })
}

fn submission() -> Submission {
    Submission {
        job: JobId::from_random([7; 10]),
        client: ClientAlias::new("c-1").unwrap(),
        policy: PolicyName::new("blender").unwrap(),
        policy_digest: PolicyDigest([9; 32]),
        wall: 7200,
        expires: 1000,
    }
}

/// The task as it is where the recipe is opened: after the seal.
fn task(plan: &JobPlan, step: u32, task: u64) -> TaskCommand {
    let (_, recipe) = plan.split(submission()).unwrap();
    let bytes = recipe.encode().unwrap();
    assert_eq!(JobRecipe::decode(&bytes), Ok(recipe));
    safelight_job::expand::task(&bytes, step, task, 1).unwrap()
}

fn texts(words: &[Vec<u8>]) -> Vec<&str> {
    words
        .iter()
        .map(|it| std::str::from_utf8(it).unwrap())
        .collect()
}

fn chain(error: &dyn std::error::Error) -> String {
    let rest = error.source().map(|it| format!(": {}", chain(it)));
    format!("{error}{}", rest.unwrap_or_default())
}

#[test]
fn a_turntable_becomes_blender_frames() {
    let plan = read("turntable", &[("Asset", "kettle")]).unwrap();
    assert_eq!(plan.name(), "Turntable: kettle");
    assert_eq!(plan.steps()[0].tasks, 6);
    let settings = plan.settings();
    assert_eq!((settings.priority, settings.retries), (70, Some(2)));
    assert_eq!(
        settings.policy.as_ref().map(PolicyName::as_str),
        Some("blender")
    );

    let last = task(&plan, 0, 5);
    let run = "/home/render/run.sh";
    let ocio = "/mnt/central/teapot/color/config.ocio";
    assert_eq!(texts(&last.command), ["/usr/bin/env", "bash", run, ocio]);
    assert_eq!(last.directory, b"/home/render");
    assert_eq!(texts(&last.expect), ["/mnt/central/teapot/frames/0100.png"]);
    let [setup, script] = last.files.as_slice() else {
        panic!("two files");
    };
    assert_eq!(
        (setup.path.as_slice(), setup.executable),
        (&b"/home/render/setup.py"[..], false)
    );
    assert_eq!(
        (script.path.as_slice(), script.executable),
        (run.as_bytes(), true)
    );
    let setup = std::str::from_utf8(&setup.bytes).unwrap();
    for line in [
        "scene.cycles.samples = 64\n",
        "int(100 * 0.5)\n",
        "scene.frame_set(100)\n",
        "# kettle from Z:\\show\\teapot\\teapot.blend\n",
    ] {
        assert!(setup.contains(line), "{line:?} in {setup}");
    }
    let script = std::str::from_utf8(&script.bytes).unwrap();
    assert!(script.contains(
        "--background '/mnt/central/teapot/teapot.blend' --python '/home/render/setup.py'"
    ));
    assert!(
        script.contains("--render-output '/mnt/central/teapot/frames/####' --render-frame 100\n")
    );
}

#[test]
fn a_turntable_says_what_it_reads_and_writes() {
    let plan = read("turntable", &[]).unwrap();
    let assets: Vec<_> = plan
        .assets()
        .iter()
        .map(|it| {
            (
                it.host.as_str(),
                it.path.as_str(),
                it.directory,
                it.read,
                it.write,
            )
        })
        .collect();
    let teapot = "/studio/show/teapot/teapot.blend";
    assert_eq!(
        assets,
        [
            (
                "/studio/show/teapot/rig.json",
                "/mnt/central/teapot/rig.json",
                false,
                true,
                false
            ),
            (
                "/studio/show/library",
                "/mnt/central/library",
                true,
                true,
                false
            ),
            (
                "/studio/show/teapot/frames",
                "/mnt/central/teapot/frames",
                true,
                false,
                true
            ),
            (
                teapot,
                "/mnt/central/teapot/teapot.blend",
                false,
                true,
                false
            ),
            (
                "/studio/show/teapot/textures",
                "/mnt/central/teapot/textures",
                true,
                true,
                false
            ),
        ]
    );
}

#[test]
fn an_outline_has_numbers_and_standard_words_only() {
    let plan = read("turntable", &[]).unwrap();
    let (outline, _) = plan.split(submission()).unwrap();
    let [step] = outline.steps.as_slice() else {
        panic!("one step");
    };
    assert_eq!((outline.priority, step.tasks, step.timeout), (70, 6, 3600));
    let amounts = [
        ("amount.worker.memory", 8192.0),
        ("amount.worker.vcpu", 4.0),
    ];
    assert_eq!(
        step.amounts,
        BTreeMap::from(amounts.map(|(name, min)| (name.to_owned(), min)))
    );
    let linux = ("attr.worker.os.family".to_owned(), vec!["linux".to_owned()]);
    assert_eq!(step.attributes, BTreeMap::from([linux]));
}

#[test]
fn an_animation_counts_by_three_and_sees_its_own_directory() {
    let plan = read("animation", &[]).unwrap();
    assert_eq!(plan.steps()[0].tasks, 8);
    let command = |n| task(&plan, 0, n);
    assert_eq!(
        texts(&command(5).command),
        [
            "povray",
            "+I/job/marbles.pov",
            "+O/job/out/right_4.png",
            "+K4",
            "-D"
        ]
    );
    assert_eq!(texts(&command(3).expect), ["/job/out/left_10.png"]);
    let (outline, recipe) = plan.split(submission()).unwrap();
    assert_eq!(outline.steps[0].timeout, 600);
    let error = recipe.task(0, 8, 1).unwrap_err();
    assert_eq!(error.to_string(), "the job has no task 8 in step 0");
    assert!(recipe.task(1, 0, 1).is_err());
}

#[test]
fn steps_come_after_those_they_depend_on() {
    let plan = read("composite", &[("Last", "40")]).unwrap();
    let steps: Vec<_> = plan
        .steps()
        .iter()
        .map(|it| (it.name.as_str(), it.tasks, it.depends_on.as_slice()))
        .collect();
    assert_eq!(
        steps,
        [
            ("Denoise", 6, &[][..]),
            ("Merge", 40, &[0][..]),
            ("Deliver", 1, &[0, 1][..])
        ]
    );
    assert!(matches!(&plan.settings().place, Where::Site(site) if site.as_str() == "site-b"));

    let denoise = task(&plan, 0, 1);
    assert_eq!(
        texts(&denoise.command),
        ["denoise", "/mnt/plates/shot 10", "3", "1"]
    );
    assert_eq!(texts(&denoise.expect), ["/mnt/work/denoised/0003_1.exr"]);
    let merge = task(&plan, 1, 39);
    let rules = "/home/render/path_mapping.json";
    assert_eq!(texts(&merge.command), ["merge", "--rules", rules, "40"]);
    let rules: serde_json::Value = serde_json::from_slice(&merge.files[0].bytes).unwrap();
    assert_eq!(rules["version"], "pathmapping-1.0");
    assert_eq!(
        rules["path_mapping_rules"][1],
        serde_json::json!({
            "source_path_format": "POSIX",
            "source_path": "/studio/plates",
            "destination_path": "/mnt/plates",
        })
    );
    assert_eq!(texts(&task(&plan, 2, 0).expect), ["/mnt/work/final.mov"]);
}

#[test]
fn what_stands_around_tasks_is_run_from_the_outside_in() {
    let plan = read("sitting", &[]).unwrap();
    let (outline, recipe) = plan.split(submission()).unwrap();
    let around = recipe.around(0).unwrap().unwrap();
    let words = |action: &Option<Action>| {
        let command = action.as_ref().map(|it| it.command.clone());
        command.map(|command| texts(&command).join(" "))
    };
    let seen: Vec<_> = around
        .iter()
        .map(|it| (words(&it.enter), words(&it.exit)))
        .collect();
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(
        seen,
        [
            (
                some("/bin/sh /home/render/begin.sh"),
                some("licence-return /home/render")
            ),
            (some("ocean-server start"), some("ocean-server stop")),
        ]
    );
    let server = (b"LICENCE_SERVER".to_vec(), b"28000@90".to_vec());
    assert_eq!(around[0].variables, [server]);
    let limits = |action: &Option<Action>| action.as_ref().map(|it| (it.timeout, it.notice));
    assert_eq!(limits(&around[0].enter), Some((Some(20), None)));
    assert_eq!(limits(&around[1].exit), Some((Some(5), Some(30))));
    let task = task(&plan, 0, 1);
    assert_eq!((task.timeout, task.notice), (Some(90), Some(40)));
    let bed = "/elsewhere/b.vdb";
    let note = "/home/render/note.txt";
    assert_eq!(texts(&task.command), ["ocean", "7.25", bed, bed, note]);
    assert_eq!(task.files[0].bytes, b"a\r\nb\r\n");
    let first = recipe.task(0, 0, 1).unwrap();
    assert_eq!(first.command[2], b"/job/beds/a.vdb");
    assert_eq!(first.command[3], b"beds/a.vdb");
    // Its own limits hold inside, so the session's is the policy's; and it may have several tasks.
    let [water, report] = outline.steps.as_slice() else {
        panic!("two steps");
    };
    let batch = Some(Batch {
        size: 1,
        target: 60,
    });
    assert_eq!((water.timeout, water.batch), (7200, batch));
    assert_eq!(
        report.batch, batch,
        "the job's environment is around it too"
    );
    assert_eq!(water.amounts["amount.licence.c"], 1.0);
    assert_eq!(water.attributes["attr.room"], ["cellar", "attic"]);
    let wishes = Wishes {
        failures: Some(7),
        not_before: Some(1_801_425_600),
        held: true,
        trial: true,
    };
    assert_eq!(outline.wishes, wishes);
}

#[test]
fn chunks_are_tasks_or_made_by_who_gives_them_out() {
    let plan = read("chunks", &[]).unwrap();
    let (outline, recipe) = plan.split(submission()).unwrap();
    let steps: Vec<_> = outline
        .steps
        .iter()
        .map(|it| (it.tasks, it.batch))
        .collect();
    let paced = Batch {
        size: 4,
        target: 300,
    };
    assert_eq!(steps, [(3, None), (200, Some(paced))]);
    assert_eq!(recipe.around(0), Ok(None));
    assert_eq!(recipe.around(1), Ok(Some(vec![])));
    let last = recipe.task(0, 2, 9).unwrap();
    assert_eq!(
        (texts(&last.command), last.tasks),
        (vec!["render", "8-9"], 1)
    );
    assert_eq!(texts(&last.expect), ["/job/out/08.png", "/job/out/09.png"]);
    let run = recipe.task(1, 98, 7).unwrap();
    assert_eq!(
        (texts(&run.command), run.tasks),
        (vec!["render", "left", "99,100"], 2)
    );
    assert_eq!(
        texts(&run.expect),
        ["/job/out/left.099.png", "/job/out/left.100.png"]
    );
    let right = recipe.task(1, 100, 7).unwrap();
    assert_eq!(texts(&right.command), ["render", "right", "1-7"]);
}

#[test]
fn a_step_slower_than_the_policy_is_not_submitted() {
    let plan = read("turntable", &[]).unwrap();
    let short = Submission {
        wall: 60,
        ..submission()
    };
    let error = plan.split(short).unwrap_err();
    assert_eq!(
        error.to_string(),
        "step \"Render\" may take 3600 s, but the policy ends a session after 60 s"
    );
}

#[test]
fn what_cannot_be_is_said_with_file_and_place() {
    for (bundle, name, value, message) in [
        (
            "turntable",
            "SceneFile",
            "/etc/passwd",
            "template.yaml: parameterDefinitions[1] (SceneFile): \"/etc/passwd\" lies below no central path",
        ),
        (
            "turntable",
            "SceneFile",
            "../../../etc/passwd",
            "template.yaml: parameterDefinitions[1] (SceneFile): \"../../../etc/passwd\" lies below no central path",
        ),
        (
            "composite",
            "Work",
            "/studio/plates/out",
            "template.yaml: parameterDefinitions[1] (Work): \"/studio/plates/out\" is to be written, but its central path is not (write = true)",
        ),
        (
            "turntable",
            "Nobody",
            "1",
            "template.yaml with its parameter values is not a job",
        ),
        (
            "turntable",
            "Samples",
            "0",
            "template.yaml with its parameter values is not a job",
        ),
        (
            "turntable",
            "Samples",
            "many",
            "template.yaml with its parameter values is not a job",
        ),
        (
            "turntable",
            "Frames",
            "1-",
            "template.yaml with its parameter values is not a job",
        ),
        (
            "turntable",
            "Frames",
            "1-99999999",
            "template.yaml with its parameter values is not a job",
        ),
    ] {
        let error = chain(&read(bundle, &[(name, value)]).unwrap_err());
        assert!(error.starts_with(message), "{error}\nis not\n{message}");
    }
}
