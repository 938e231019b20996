//! What leaves in clear, and what a hostile recipe can do.
//!
//! Every place of a bundle that takes a text of the client's gets a word of its own; none of the words is in the outline, and all of those
//! that a session needs are in the recipe, which shows that they went in.
#![expect(
    clippy::unwrap_used,
    clippy::too_many_lines,
    reason = "a test's helpers and tables"
)]

use proptest::prelude::*;
use safelight_job::{JobPlan, JobRecipe, Source, Submission, expand, job_recipe::JOB_RECIPE_MAX};
use safelight_policies::id::{ClientAlias, JobId, PolicyDigest, PolicyName};

/// A bundle in which each word stands in a place of its own.
fn bundle(words: &[String]) -> [String; 4] {
    let [
        name,
        description,
        step,
        other,
        parameter,
        value,
        task,
        item,
        command,
        argument,
        ..,
    ] = words
    else {
        panic!("ten words and more")
    };
    let [
        file,
        filename,
        data,
        label,
        dir,
        host,
        also,
        hook,
        tell,
        output,
        ..,
    ] = &words[10..]
    else {
        panic!("twenty words")
    };
    let around =
        |number: &str| format!("{{ name: E{number}, variables: {{ V{number}: {data}{number} }} }}");
    let (job_environment, step_environment) = (around("j"), around("s"));
    let template = format!(
        r##"
specificationVersion: jobtemplate-2023-09
jobEnvironments: [{job_environment}]
name: "{name} {{{{Param.{parameter}}}}}"
description: "{description}"
parameterDefinitions:
  - {{ name: {parameter}, type: STRING, userInterface: {{ control: LINE_EDIT, label: "{label}" }} }}
  - {{ name: Scene, type: PATH, objectType: FILE, dataFlow: IN, default: "{dir}/a.pov" }}
steps:
  - name: "{step}"
    dependencies: [{{ dependsOn: "{other}" }}]
    stepEnvironments: [{step_environment}]
    hostRequirements:
      amounts: [{{ name: amount.worker.vcpu, min: 2 }}]
      attributes: [{{ name: attr.worker.cpu.arch, anyOf: [X86_64] }}]
    parameterSpace:
      taskParameterDefinitions:
        - {{ name: {task}, type: STRING, range: ["{item}"] }}
    script:
      embeddedFiles:
        - {{ name: {file}, type: TEXT, filename: "{filename}", data: "{data}" }}
      actions:
        onRun:
          command: "{command}"
          args: ["{argument}", "{{{{Task.Param.{task}}}}}", "{{{{Param.Scene}}}}", "{{{{Task.File.{file}}}}}"]
  - name: "{other}"
    script: {{ actions: {{ onRun: {{ command: "true" }} }} }}
"##
    );
    let values = format!("parameterValues: [{{ name: {parameter}, value: {value} }}]");
    let assets = format!("assetReferences: {{ inputs: {{ filenames: [{dir}/b] }} }}");
    let settings = format!(
        r#"
expect = {{ {step} = ["{output}.png"] }}
central = [{{ host = "/home/{host}", path = "/mnt/central", write = true, also = ['Z:\{also}'] }}]
notify = {{ command = ["{tell}"], url = "https://{hook}.example" }}
"#
    );
    [template, values, assets, settings]
}

fn split(words: &[String]) -> (Vec<u8>, Vec<u8>) {
    let [template, values, assets, settings] = bundle(words);
    let plan = JobPlan::read(&Source {
        directory: &format!("/home/{}", words[15]),
        template: &template,
        parameter_values: Some(&values),
        asset_references: Some(&assets),
        environments: &[],
        job: Some(&settings),
        overrides: &[],
    })
    .unwrap();
    let (outline, recipe) = plan
        .split(Submission {
            job: JobId::from_random([1; 10]),
            client: ClientAlias::new("c").unwrap(),
            policy: PolicyName::new("povray").unwrap(),
            policy_digest: PolicyDigest([2; 32]),
            wall: 3600,
            expires: 77,
        })
        .unwrap();
    for printed in [format!("{plan:?}"), format!("{recipe:?}")] {
        assert!(
            words.iter().all(|word| !printed.contains(word)),
            "{printed}"
        );
    }
    let mut clear = postcard::to_stdvec(&outline).unwrap();
    clear.extend(serde_json::to_vec(&outline).unwrap());
    clear.extend(format!("{outline:?}").into_bytes());
    (clear, recipe.encode().unwrap())
}

fn has(bytes: &[u8], word: &str) -> bool {
    let word = word.to_ascii_lowercase();
    let bytes = bytes.to_ascii_lowercase();
    bytes.windows(word.len()).any(|it| it == word.as_bytes())
}

fn words() -> impl Strategy<Value = Vec<String>> {
    let distinct = |words: &Vec<String>| {
        words
            .iter()
            .collect::<std::collections::BTreeSet<_>>()
            .len()
            == 20
    };
    prop::collection::vec("[A-Z][a-z]{7}Q", 20).prop_filter("distinct", distinct)
}

fn sealed() -> Vec<u8> {
    let words: Vec<_> = ('a'..='t').map(|it| format!("Word{it}")).collect();
    split(&words).1
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn no_word_of_the_clients_is_in_the_outline(words in words()) {
        let (clear, recipe) = split(&words);
        for word in &words {
            prop_assert!(!has(&clear, word), "{word} is in clear");
        }
        // Not there because the job does not need them: description, label, what is told to whom.
        let elsewhere = [1, 13, 17, 18];
        for (index, word) in words.iter().enumerate().filter(|(it, _)| !elsewhere.contains(it)) {
            prop_assert!(has(&recipe, word), "word {index}, {word}, got lost");
        }
    }

    #[test]
    fn no_bytes_break_the_decoder(at in any::<prop::sample::Index>(), bytes: Vec<u8>, task in 0u64..3) {
        let mut recipe = sealed();
        let from = 8 + at.index(recipe.len() - 8);
        let to = (from + bytes.len()).min(recipe.len());
        recipe[from..to].copy_from_slice(&bytes[..to - from]);
        if let Ok(recipe) = JobRecipe::decode(&recipe) {
            for step in 0..3 {
                let _ = recipe.task(step, task, 3);
                let _ = recipe.around(step);
            }
        }
        let _ = JobRecipe::decode(&[&recipe[..8], &bytes].concat());
    }
}

#[test]
fn what_is_damaged_is_refused() {
    let bytes = sealed();
    assert!(JobRecipe::decode(&bytes).is_ok());
    for end in 0..bytes.len() {
        assert!(JobRecipe::decode(&bytes[..end]).is_err(), "{end}");
    }
    let longer = [bytes.as_slice(), b"x"].concat();
    assert_eq!(
        JobRecipe::decode(&longer),
        Err(expand::Error::Trailing { len: 1 })
    );
    let mut other = bytes.clone();
    other[7] = 1;
    assert_eq!(JobRecipe::decode(&other), Err(expand::Error::NotARecipe));
    let len = JOB_RECIPE_MAX + 1;
    assert_eq!(
        JobRecipe::decode(&vec![0; len]),
        Err(expand::Error::TooLong { len })
    );
}

#[test]
fn a_single_command_is_a_task_of_its_own() {
    let single = safelight_job::Recipe {
        command: vec![b"povray".to_vec()],
        directory: b"/".to_vec(),
        env: std::collections::BTreeMap::new(),
        expect: Vec::new(),
        title: String::new(),
    };
    let bytes = single.encode().unwrap();
    assert_eq!(
        expand::task(&bytes, 0, 0, 1).unwrap().command,
        single.command
    );
    assert_eq!(
        expand::task(&bytes, 0, 1, 1),
        Err(expand::Error::NoTask { step: 0, task: 1 })
    );
    assert!(matches!(
        expand::task(b"x", 0, 0, 1),
        Err(expand::Error::Recipe { .. })
    ));
}
