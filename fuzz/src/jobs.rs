//! What people and jobs write: job bundles, recipes, policies, ids, and what an action says on its standard output.

use safelight_bundle::{ENVELOPE_VERSION, Envelope};
use safelight_job::{JobPlan, JobRecipe, Recipe, Source, Submission};
use safelight_policies::{
    Catalogue, PolicyFile,
    central::{Decision, Judge, Want},
    grant::{CentralRule, CentralRules},
    id::{ClientAlias, JobId, NodeName, ObjectId, PolicyDigest, PolicyName, SessionId},
    path::CentralPath,
};

use crate::{bounded::bounded, signed::signer, words};

/// How many parsers this family has.
pub const CHOICES: u8 = 7;

/// What a text may cost. YAML and TOML become trees of values, and a template is resolved.
fn text_bound(bytes: &[u8]) -> usize {
    (16 << 20) + 2048 * bytes.len()
}

/// Calls the parser that the first byte chooses; true if it took the rest.
pub fn check(bytes: &[u8]) -> bool {
    let Some((choice, bytes)) = bytes.split_first() else {
        return false;
    };
    let text = || std::str::from_utf8(bytes).ok();
    match choice % CHOICES {
        0 => text().is_some_and(bundle),
        1 => recipe(bytes),
        2 => job_recipe(bytes),
        3 => text().is_some_and(policy),
        4 => rules(bytes),
        5 => text().is_some_and(id),
        _ => said(bytes),
    }
}

/// The four texts of a job bundle and the site's environments, with a zero byte between them. What is read is split, what is split fits an envelope, and the recipe comes
/// out of its bytes as it went in.
fn bundle(text: &str) -> bool {
    let mut parts = text.split('\0');
    let own = |text: &str| ("site.yaml".to_owned(), text.to_owned());
    let environments: Vec<_> = text.split('\0').skip(4).map(own).collect();
    let source = Source {
        directory: "/studio/show/teapot",
        template: parts.next().unwrap_or_default(),
        parameter_values: parts.next().filter(|it| !it.is_empty()),
        asset_references: parts.next().filter(|it| !it.is_empty()),
        job: parts.next().filter(|it| !it.is_empty()),
        environments: &environments,
        overrides: &[],
    };
    let plan = bounded(text_bound(text.as_bytes()), || JobPlan::read(&source));
    let Ok(plan) = plan else { return false };
    let submission = Submission {
        job: JobId::from_random([1; 10]),
        client: ClientAlias::new("c-1").expect("an alias"),
        policy: PolicyName::new("blender").expect("a policy"),
        policy_digest: PolicyDigest([9; 32]),
        wall: 30 * 86_400,
        expires: 1000,
    };
    let Ok((outline, recipe)) = plan.split(submission) else {
        return false;
    };
    let bytes = recipe.encode().expect("a recipe that was made is valid");
    assert!(JobRecipe::decode(&bytes).as_ref() == Ok(&recipe));
    let envelope = Envelope {
        version: ENVELOPE_VERSION,
        outline,
        client_verify: signer().public(),
        attest: signer().public(),
        inputs: ObjectId([1; 32]),
        recipe: ObjectId([2; 32]),
        prekey: [1; 16],
        site: signer().public(),
        stanza_for_site: vec![1],
        issued: 1,
        expires: 1000,
    };
    let sealed = safelight_bundle::seal(&envelope, &signer().public(), |context, body| {
        signer().sign(context, body)
    });
    match sealed {
        Ok(_) | Err(safelight_bundle::Error::TooLong { .. }) => {}
        Err(error) => panic!("a job is read that no envelope can hold: {error}"),
    }
    tasks(&recipe);
    true
}

/// Asks for the first and the last task of some steps, and for one that is not there.
fn tasks(recipe: &JobRecipe) {
    for step in 0..recipe.steps().min(4) as u32 {
        for task in [0, 1, u64::MAX] {
            let _ = recipe.task(step, task, 1);
            let _ = recipe.task(step, task, 1024);
        }
        let _ = recipe.step_name(step);
    }
    assert!(recipe.task(u32::MAX, 0, 1).is_err());
}

fn recipe(bytes: &[u8]) -> bool {
    let Ok(recipe) = bounded(text_bound(bytes), || Recipe::decode(bytes)) else {
        return false;
    };
    let again = recipe.encode().expect("what was valid");
    assert!(again.len() <= bytes.len() && Recipe::decode(&again).as_ref() == Ok(&recipe));
    true
}

fn job_recipe(bytes: &[u8]) -> bool {
    let Ok(recipe) = bounded(text_bound(bytes), || JobRecipe::decode(bytes)) else {
        return false;
    };
    let again = recipe.encode().expect("what was valid");
    assert!(again.len() <= bytes.len() && JobRecipe::decode(&again).as_ref() == Ok(&recipe));
    tasks(&recipe);
    true
}

/// A policy as a studio writes it: read, and resolved among those that are shipped.
fn policy(text: &str) -> bool {
    bounded(text_bound(text.as_bytes()), || {
        let Ok(file) = PolicyFile::parse(text, "p.toml") else {
            return false;
        };
        let name = file.name().clone();
        let mut catalogue = Catalogue::shipped().expect("what is shipped");
        match catalogue.add(text, "p.toml") {
            Ok(added) => {
                assert_eq!(added, name);
                let (first, again) = (catalogue.resolve(&name), catalogue.resolve(&name));
                assert_eq!(format!("{first:?}"), format!("{again:?}"));
                first.is_ok()
            }
            Err(_) => false,
        }
    })
}

/// Rules over paths, a zero byte between them: `allow\0deny\0path`.
fn rules(bytes: &[u8]) -> bool {
    let mut parts = bytes.splitn(3, |byte| *byte == 0);
    let mut rule = || {
        let glob = String::from_utf8(parts.next()?.to_vec()).ok()?;
        let origin = "p.toml:1".to_owned();
        Some(vec![CentralRule { glob, origin }])
    };
    let (Some(allow), Some(deny)) = (rule(), rule()) else {
        return false;
    };
    let path = parts.next().unwrap_or_default();
    let judge = |deny: Vec<CentralRule>| {
        Judge::new(&CentralRules {
            read: allow.clone(),
            write: allow.clone(),
            deny,
        })
    };
    let (Ok(free), Ok(bound)) = (judge(vec![]), judge(deny)) else {
        return false;
    };
    for want in [Want::Traverse, Want::Read, Want::Write, Want::MakeDirectory] {
        let allowed = |judge: &Judge| judge.decide(path, want) == Decision::Allow;
        assert!(
            !allowed(&bound) || allowed(&free),
            "a rule that denies allows"
        );
        // Who may read or write may go there.
        assert!(
            !allowed(&bound) || judge_way(&bound, path),
            "no way to what is allowed"
        );
    }
    true
}

fn judge_way(judge: &Judge, path: &[u8]) -> bool {
    judge.decide(path, Want::Traverse) == Decision::Allow
}

fn id(text: &str) -> bool {
    let mut accepted = false;
    let mut same = |shown: Option<String>| {
        if let Some(shown) = shown {
            assert_eq!(shown, text, "two spellings of an id");
            accepted = true;
        }
    };
    same(text.parse::<JobId>().ok().map(|id| id.to_string()));
    same(text.parse::<SessionId>().ok().map(|id| id.to_string()));
    same(text.parse::<ObjectId>().ok().map(|id| id.to_string()));
    same(ClientAlias::new(text).ok().map(|id| id.to_string()));
    same(NodeName::new(text).ok().map(|id| id.to_string()));
    same(CentralPath::new(text).ok().map(|it| it.as_str().to_owned()));
    accepted
}

/// A line that an action prints: what it sets is a variable, and what is secret is not shown.
fn said(line: &[u8]) -> bool {
    let Some(said) = bounded((64 << 10) + 16 * line.len(), || words::read(line)) else {
        return false;
    };
    let words::Change::Set { name, value } = &said.change else {
        return true;
    };
    assert!(!name.is_empty() && !name.contains(&b'=') && !name.contains(&0) && !value.contains(&0));
    let mut secrets = Vec::new();
    words::keep_secret(&mut secrets, value);
    // A mask is made of stars: a secret of stars is there after it, too.
    if !value.contains(&b'*') {
        let shown = words::redact(line, &secrets);
        for secret in &secrets {
            let leaks = shown.windows(secret.len()).any(|part| part == secret);
            assert!(!leaks, "a secret is shown");
        }
    }
    true
}
