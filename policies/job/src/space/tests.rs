use proptest::prelude::*;

use super::*;

fn space(parameters: Vec<(&str, Values)>, combination: Option<&str>) -> Space {
    let parameter = |(name, values): (&str, Values)| Parameter {
        name: name.to_owned(),
        values,
        chunk: None,
    };
    Space {
        parameters: parameters.into_iter().map(parameter).collect(),
        combination: combination.map(str::to_owned),
    }
}

fn task(space: &Space, task: u64) -> Result<Option<Vec<(String, String)>>, Error> {
    let run = space.run(task, 1)?;
    let own = |value: Value| (value.name, value.raw);
    Ok(run.map(|(values, _)| values.into_iter().map(own).collect()))
}

fn row(values: &[(&str, &str)]) -> Option<Vec<(String, String)>> {
    let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    Some(values.iter().map(own).collect())
}

#[test]
fn the_last_of_very_many_tasks_is_found_at_once() {
    let frames = space(
        vec![("Frame", Values::Ranges(vec![(1, 16_000_000, 1)]))],
        None,
    );
    assert_eq!(frames.tasks(), Ok(16_000_000));
    assert_eq!(task(&frames, 15_999_999), Ok(row(&[("Frame", "16000000")])));
    assert_eq!(task(&frames, 16_000_000), Ok(None));
    assert_eq!(task(&frames, u64::MAX), Ok(None));
}

#[test]
fn parameters_combine_as_written() {
    let parameters = || {
        vec![
            ("Frame", Values::Ranges(vec![(1, 10, 3), (20, 20, 1)])),
            (
                "Eye",
                Values::Texts(vec!["left".to_owned(), "right".to_owned()]),
            ),
        ]
    };
    let product = space(parameters(), None);
    assert_eq!(product.tasks(), Ok(10));
    assert_eq!(
        task(&product, 0),
        Ok(row(&[("Frame", "1"), ("Eye", "left")]))
    );
    assert_eq!(
        task(&product, 3),
        Ok(row(&[("Frame", "4"), ("Eye", "right")]))
    );
    assert_eq!(
        task(&product, 9),
        Ok(row(&[("Frame", "20"), ("Eye", "right")]))
    );
    let pairs = vec![
        ("Frame", Values::Integers(vec![9, -3])),
        parameters().remove(1),
    ];
    let pairs = space(pairs, Some("(Frame, Eye)"));
    assert_eq!(pairs.tasks(), Ok(2));
    assert_eq!(
        task(&pairs, 1),
        Ok(row(&[("Frame", "-3"), ("Eye", "right")]))
    );
    assert_eq!(task(&space(vec![], None), 0), Ok(Some(vec![])));
    assert_eq!(task(&space(vec![], None), 1), Ok(None));
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn a_hostile_space_is_refused() {
    let huge = || Values::Ranges(vec![(0, 1 << 60, 1)]);
    for (bad, error) in [
        (space(vec![("A", huge())], None), Error::Size),
        (
            space(vec![("A", huge()), ("B", huge())], None),
            Error::Shape,
        ),
        (
            space(vec![("A", Values::Ranges(vec![]))], None),
            Error::Shape,
        ),
        (
            space(vec![("A", Values::Integers(vec![]))], None),
            Error::Size,
        ),
        (
            space(vec![("A", Values::Ranges(vec![(1, 5, 0)]))], None),
            Error::Shape,
        ),
        (
            space(vec![("A", Values::Ranges(vec![(5, 1, 1)]))], None),
            Error::Shape,
        ),
        (
            space(
                vec![("A", Values::Ranges(vec![(1, 5, 1), (3, 9, 1)]))],
                None,
            ),
            Error::Shape,
        ),
        (
            space(vec![("A", Values::Integers(vec![1; 1025]))], None),
            Error::Size,
        ),
        (
            space(vec![("A", huge()), ("A", huge())], None),
            Error::Shape,
        ),
        (
            space(vec![("A", Values::Integers(vec![1]))], Some("B")),
            Error::Shape,
        ),
        (
            space(vec![("A", Values::Integers(vec![1]))], Some("(A")),
            Error::Shape,
        ),
        (
            space(
                vec![("A", Values::Integers(vec![1]))],
                Some(&"(".repeat(1280)),
            ),
            Error::Shape,
        ),
        (
            space(
                vec![("A", Values::Integers(vec![1]))],
                Some(&"(".repeat(1281)),
            ),
            Error::Size,
        ),
        (
            space(
                vec![
                    ("A", Values::Integers(vec![1])),
                    ("B", Values::Integers(vec![1, 2])),
                ],
                Some("(A, B)"),
            ),
            Error::Shape,
        ),
    ] {
        assert_eq!(bad.tasks(), Err(error));
    }
}

#[test]
fn the_frame_is_the_integer_that_nobody_doubts() {
    let one = || Values::Integers(vec![1]);
    let text = || Values::Texts(vec!["x".to_owned()]);
    for (parameters, frame) in [
        (vec![("N", one())], Some("N")),
        (vec![("N", one()), ("Eye", text())], Some("N")),
        (vec![("N", one()), ("Frame", one())], Some("Frame")),
        (vec![("N", one()), ("M", one())], None),
        (vec![("Frame", text())], None),
    ] {
        assert_eq!(space(parameters, None).frame(), frame);
    }
}

proptest! {
    #[test]
    fn no_space_breaks_the_library(
        ranges in prop::collection::vec((any::<i64>(), any::<i64>(), any::<i64>()), 0..4),
        list in prop::collection::vec(any::<i64>(), 0..4),
        combination in prop::option::of("[AB(),* ]{0,12}"),
        at in any::<u64>(),
    ) {
        let all = space(
            vec![("A", Values::Ranges(ranges)), ("B", Values::Integers(list))],
            combination.as_deref(),
        );
        let _ = all.tasks();
        let _ = task(&all, at);
        let _ = task(&all, 0);
    }
}

/// The chunks that one asker after the other gets, each asking for at most `most` tasks.
fn chunks(space: &Space, most: u32) -> Vec<String> {
    let mut task = 0;
    let mut texts = Vec::new();
    while let Some((values, taken)) = space.run(task, most).unwrap() {
        let words: Vec<&str> = values.iter().map(|it| it.raw.as_str()).collect();
        texts.push(words.join("/"));
        task += u64::from(taken);
    }
    texts
}

fn chunked(values: Values, chunk: Chunk, eye: bool, combination: Option<&str>) -> Space {
    let texts = Values::Texts(vec!["l".to_owned(), "r".to_owned()]);
    let mut space = space(vec![("Eye", texts), ("F", values)], combination);
    space.parameters[1].chunk = Some(chunk);
    if !eye {
        space.parameters.remove(0);
    }
    space
}

#[test]
fn chunks_have_the_size_that_was_named() {
    let frames = || Values::Ranges(vec![(1, 7, 1), (20, 21, 1)]);
    let of = |size, contiguous| Chunk { size, contiguous };
    let fixed = chunked(frames(), of(3, true), false, None);
    assert_eq!(chunks(&fixed, 9), ["1-3", "4-5", "6-7", "20-21"]);
    let loose = chunked(frames(), of(3, false), false, None);
    assert_eq!(chunks(&loose, 9), ["1-3", "4-6", "7,20,21"]);
    assert_eq!(loose.tasks(), Ok(3));
}

#[test]
fn an_adaptive_chunk_is_what_is_given_out_and_fits_together() {
    let frames = || Values::Ranges(vec![(1, 4, 1), (20, 21, 1)]);
    let of = |contiguous| Chunk {
        size: 0,
        contiguous,
    };
    let apart = chunked(frames(), of(true), true, None);
    assert_eq!(apart.tasks(), Ok(12));
    assert!(apart.is_adaptive());
    assert_eq!(
        chunks(&apart, 3),
        ["l/1-3", "l/4-4", "l/20-21", "r/1-3", "r/4-4", "r/20-21"]
    );
    assert_eq!(chunks(&apart, 1).len(), 12);
    let loose = chunked(frames(), of(false), true, None);
    assert_eq!(chunks(&loose, 5), ["l/1-4,20", "l/21", "r/1-4,20", "r/21"]);
}

#[test]
fn a_factor_is_moved_to_where_it_changes_fastest() {
    for (combination, moved) in [
        ("F", Some("F")),
        ("F * Eye", Some("Eye * F")),
        ("(A, B) * F*C", Some("(A, B) * C * F")),
        ("(A, F) * B", None),
        ("A * B", None),
    ] {
        assert_eq!(innermost(combination, "F").as_deref(), moved);
    }
}
