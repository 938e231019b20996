use safelight_policies::path::CentralPath;

use super::*;
use crate::{
    job_recipe::{ActionRecipe, FileRecipe, JobParameter, Spelling, VALUE_MAX},
    space::{Parameter, Space, Values},
};

fn recipe() -> JobRecipe {
    let step = StepRecipe {
        name: "Render".to_owned(),
        space: Space {
            parameters: vec![Parameter {
                name: "Frame".to_owned(),
                values: Values::Integers(vec![7, -3, 12345]),
                chunk: None,
            }],
            ..Space::default()
        },
        run: ActionRecipe {
            words: vec!["povray".to_owned(), "{{Param.Scene}}".to_owned()],
            ..ActionRecipe::default()
        },
        files: vec![FileRecipe {
            name: "Run".to_owned(),
            filename: "run.sh".to_owned(),
            data: "#!/bin/sh\n".to_owned(),
            runnable: true,
        }],
        expect: vec!["/mnt/central/out/####.png".to_owned()],
        environments: vec![],
        in_turn: false,
    };
    JobRecipe {
        title: "title".to_owned(),
        parameters: vec![JobParameter {
            name: "Scene".to_owned(),
            raw: "Z:\\a.pov".to_owned(),
            mapped: Some("/mnt/central/a.pov".to_owned()),
        }],
        environments: vec![],
        steps: vec![step],
        writable: vec![CentralPath::new("/mnt/central").unwrap()],
        rules: vec![(
            Spelling::Windows,
            "Z:".to_owned(),
            "/mnt/central".to_owned(),
        )],
    }
}

fn changed(change: impl FnOnce(&mut JobRecipe)) -> Result<TaskCommand, Error> {
    let mut recipe = recipe();
    change(&mut recipe);
    recipe.encode()?;
    recipe.task(0, 0, 1)
}

#[test]
fn names_in_braces_have_values() {
    for (text, value) in [
        ("{{Param.Scene}}", "/mnt/central/a.pov"),
        ("{{ RawParam.Scene }}", "Z:\\a.pov"),
        ("a{{Task.Param.Frame}}b{{Task.RawParam.Frame}}", "a7b7"),
        ("{{Task.File.Run}}", "/home/render/run.sh"),
        ("{{Session.WorkingDirectory}}", "/home/render"),
        ("{{Session.HasPathMappingRules}}", "true"),
        (
            "{{Session.PathMappingRulesFile}}",
            "/home/render/path_mapping.json",
        ),
        ("{ not } a {name}", "{ not } a {name}"),
        ("", ""),
    ] {
        let task = changed(|it| it.steps[0].run.words.push(text.to_owned())).unwrap();
        assert_eq!(task.command[2], value.as_bytes(), "{text:?}");
    }
}

#[test]
fn anything_but_a_name_that_has_a_value_is_refused() {
    for text in [
        "{{Param.Other}}",
        "{{Param}}",
        "{{Task.Param.Scene}}",
        "{{Env.File.Run}}",
        "{{1 + 1}}",
        "{{'a' * 99999999}}",
        "{{len(Param.Scene)}}",
        "{{[x for x in range(10)]}}",
        "{{Param.Scene",
        "{{}}",
        "{{.}}",
        "{{Param..Scene}}",
        "{{Param.Scene}} {{ {{Param.Scene}} }}",
    ] {
        let outcome = changed(|it| it.steps[0].run.words.push(text.to_owned()));
        assert_eq!(outcome, Err(Error::Reference), "{text:?}");
    }
}

#[test]
fn a_value_is_a_text_and_never_read_again() {
    let task = changed(|it| it.parameters[0].mapped = Some("{{Param.Scene}} ##".to_owned()));
    assert_eq!(task.unwrap().command[1], b"{{Param.Scene}} ##");
}

#[test]
fn a_run_of_hashes_is_the_frame() {
    let all = |pattern: &str| {
        let mut recipe = recipe();
        recipe.steps[0].expect = vec![format!("/mnt/central/{pattern}")];
        [0, 1, 2].map(|task| {
            recipe
                .task(0, task, 1)
                .map(|it| it.expect[0].clone())
                .unwrap()
        })
    };
    let paths = |names: [&str; 3]| names.map(|name| format!("/mnt/central/{name}").into_bytes());
    assert_eq!(
        all("####.png"),
        paths(["0007.png", "-003.png", "12345.png"])
    );
    assert_eq!(
        all("#/##.png"),
        paths(["7/07.png", "-3/-3.png", "12345/12345.png"])
    );
    let wide = all(&"#".repeat(4000));
    assert_eq!(wide[0], b"/mnt/central/0000000000000007");
}

#[test]
fn an_embedded_file_is_run_by_its_interpreter() {
    let run = |data: &str, runnable| {
        changed(|it| {
            it.steps[0].run.words = vec!["{{Task.File.Run}}".to_owned(), "x".to_owned()];
            it.steps[0].files[0].data = data.to_owned();
            it.steps[0].files[0].runnable = runnable;
        })
        .map(|it| String::from_utf8(it.command.join(&b' ')).unwrap())
    };
    for (data, words) in [
        ("#!/bin/sh\necho", "/bin/sh /home/render/run.sh x"),
        (
            "#! /bin/sh -eu \r\necho",
            "/bin/sh -eu /home/render/run.sh x",
        ),
        (
            "#!/usr/bin/env  bash -x",
            "/usr/bin/env bash -x /home/render/run.sh x",
        ),
    ] {
        assert_eq!(run(data, true).as_deref(), Ok(words));
        assert_eq!(run(data, false), Err(Error::NoInterpreter));
    }
    for data in [
        "",
        "echo",
        "#!",
        "#!  \n/bin/sh",
        "\n#!/bin/sh",
        "#!/bin/\0sh\n",
    ] {
        assert_eq!(run(data, true), Err(Error::NoInterpreter), "{data:?}");
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn each_refusal_of_a_hostile_recipe() {
    type Change = fn(&mut JobRecipe);
    let rows: [(Change, Error); 21] = [
        (|it| it.steps[0].run.words.clear(), Error::NoCommand),
        (|it| it.steps[0].run.words[0].clear(), Error::NoCommand),
        (|it| it.steps[0].run.words.push("\0".to_owned()), Error::Nul),
        (
            |it| it.parameters[0].mapped = Some("\0".to_owned()),
            Error::Nul,
        ),
        (
            |it| it.steps[0].run.words.push("x".repeat(TASK_MAX)),
            Error::LongTask,
        ),
        (
            |it| it.steps[0].files[0].data = "x".repeat(TASK_MAX),
            Error::LongTask,
        ),
        (
            |it| it.steps[0].files[0].data = "x".repeat(TASK_MAX + 1),
            Error::LongTask,
        ),
        (
            |it| {
                it.parameters[0].mapped = Some("x".repeat(VALUE_MAX));
                it.steps[0].run.words = vec!["{{Param.Scene}}".repeat(900)];
            },
            Error::LongTask,
        ),
        (
            |it| it.parameters[0].raw = "x".repeat(VALUE_MAX + 1),
            Error::LongValue,
        ),
        (
            |it| it.parameters[0].name = "a.b".to_owned(),
            Error::BadName,
        ),
        (
            |it| it.parameters.push(it.parameters[0].clone()),
            Error::BadName,
        ),
        (
            |it| it.steps[0].files[0].filename = "../a".to_owned(),
            Error::BadFileName,
        ),
        (
            |it| it.steps[0].files[0].filename = "..".to_owned(),
            Error::BadFileName,
        ),
        (
            |it| it.steps[0].files[0].filename.clear(),
            Error::BadFileName,
        ),
        (
            |it| {
                let file = it.steps[0].files[0].clone();
                it.steps[0].files.push(FileRecipe {
                    name: "B".to_owned(),
                    ..file
                });
            },
            Error::BadFileName,
        ),
        (|it| it.title = "\u{1b}[2J".to_owned(), Error::BadTitle),
        (|it| it.steps.clear(), Error::TooMany),
        (
            |it| it.steps[0].expect[0] = "/mnt/central/../a".to_owned(),
            Error::OutsideOutput,
        ),
        (
            |it| it.steps[0].expect[0] = "/mnt/centralx/a".to_owned(),
            Error::OutsideOutput,
        ),
        (
            |it| it.steps[0].space.parameters[0].values = Values::Texts(vec!["7".to_owned()]),
            Error::NoFrame,
        ),
        (
            |it| {
                it.steps[0]
                    .expect
                    .push("/mnt/central/out/0007.png".to_owned())
            },
            Error::ExpectedTwice,
        ),
    ];
    for (index, (change, error)) in rows.into_iter().enumerate() {
        assert_eq!(changed(change), Err(error), "{index}");
    }
}

#[test]
fn debug_prints_counts_only() {
    let task = recipe().task(0, 0, 1).unwrap();
    let text = format!("{task:?} {:?} {:?}", task.files[0], recipe());
    assert_eq!(
        text,
        "TaskCommand { words: 2, files: 1, expected: 1, .. } EmbeddedFile { bytes: 10, .. } \
         JobRecipe { parameters: 1, steps: 1, .. }"
    );
}
