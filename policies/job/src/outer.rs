//! Environments that the client's own site puts around every job: OpenJD environment templates, outside the job's own environments.
//!
//! They are put into the job's document before it is understood, so that from there on there is one kind of environment, and they are sealed
//! with the rest of the recipe. A parameter that both define is merged as the format says: it may only become narrower. The render site
//! has no such templates: what it wrote would run inside a client's session.

use openjd_model::template::{EnvironmentTemplate, parse::decode_environment_template};
use serde_json::{Map, Value};

use crate::{error::Error, source::document, support};

/// What an environment template is called in an error's first part; the second names it.
const FILE: &str = "the site's environment";

/// The most environment templates of a site.
pub const ENVIRONMENTS_MAX: usize = 16;

/// Environment templates that were understood, the outermost first.
pub(crate) struct Outer {
    documents: Vec<Value>,
    pub(crate) templates: Vec<EnvironmentTemplate>,
}

impl Outer {
    /// Reads them: each with its name.
    pub(crate) fn read(texts: &[(String, String)]) -> Result<Self, Error> {
        if texts.len() > ENVIRONMENTS_MAX {
            return Err(Error::invalid(FILE, "*", "there are more than 16"));
        }
        let mut outer = Self {
            documents: Vec::with_capacity(texts.len()),
            templates: Vec::with_capacity(texts.len()),
        };
        for (name, text) in texts {
            let of = |source| Error::Environment {
                name: name.clone(),
                source: Box::new(source),
            };
            let document = document(FILE, text).map_err(of)?;
            support::check_outer(FILE, &document).map_err(of)?;
            let template =
                decode_environment_template(document.clone(), Some(&support::EXTENSIONS));
            let template = template.map_err(Error::document(FILE)).map_err(of)?;
            outer.documents.push(document);
            outer.templates.push(template);
        }
        Ok(outer)
    }

    /// Puts them around a job. What is no list where one belongs stays as it is: it is refused when the job is understood.
    pub(crate) fn put_around(&self, job: &mut Value) {
        let Some(job) = job.as_object_mut() else {
            return;
        };
        for outer in self.documents.iter().rev() {
            if let Some(own) = list(job, "jobEnvironments") {
                own.insert(0, outer["environment"].clone());
            }
            add(job, outer, "parameterDefinitions", |it| &it["name"]);
            add(job, outer, "extensions", |it| it);
        }
    }
}

/// The list of a job's, which is made if there is none.
fn list<'a>(job: &'a mut Map<String, Value>, key: &str) -> Option<&'a mut Vec<Value>> {
    let entry = job.entry(key).or_insert(Value::Null);
    if entry.is_null() {
        *entry = Value::Array(Vec::new());
    }
    entry.as_array_mut()
}

/// Adds what the outer document has in a list and the job has not, by what `name` says of each.
fn add(job: &mut Map<String, Value>, outer: &Value, key: &str, name: fn(&Value) -> &Value) {
    let Some(theirs) = outer[key].as_array() else {
        return;
    };
    if let Some(own) = list(job, key) {
        for one in theirs {
            if own.iter().all(|it| name(it) != name(one)) {
                own.push(one.clone());
            }
        }
    }
}
