//! What a job reads and writes: its PATH parameters by their data flow, and the files that its bundle names besides.
//!
//! A path that flows must lie below a central path, and one that flows out below a writable one. A path without flow is only a text: if
//! it lies below a central path the job gets it in the session's spelling, and nothing is packed for it.

use openjd_model::{
    DataFlow, JobParameterValues, ObjectType,
    template::{JobParameterDefinition, JobTemplate},
};

use crate::{
    error::Error,
    job_recipe::JobParameter,
    place::Places,
    source::{ASSETS, AssetReferences, TEMPLATE},
};

/// A file or directory that the job reads or writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asset {
    /// What names it first: the file of the bundle and the place in it.
    pub origin: String,
    /// Where it is on the client's host: absolute and normal.
    pub host: String,
    /// Where the session sees it: below a central path.
    pub path: String,
    /// True for a directory and all that is below it.
    pub directory: bool,
    /// True if it must be there before: it is packed.
    pub read: bool,
    /// True if it is written: it comes back.
    pub write: bool,
}

/// A path as written, and where.
struct Written<'a> {
    file: &'static str,
    at: String,
    path: &'a str,
}

/// Takes the files and directories that no parameter names.
pub(crate) fn references(
    references: &AssetReferences,
    places: &Places<'_>,
) -> Result<Vec<Asset>, Error> {
    let mut assets = Vec::new();
    for (part, list, directory, read) in [
        (
            "inputs.filenames",
            &references.inputs.filenames,
            false,
            true,
        ),
        (
            "inputs.directories",
            &references.inputs.directories,
            true,
            true,
        ),
        (
            "outputs.directories",
            &references.outputs.directories,
            true,
            false,
        ),
    ] {
        for (index, path) in list.iter().enumerate() {
            let written = Written {
                file: ASSETS,
                at: format!("assetReferences.{part}[{index}]"),
                path,
            };
            add(&mut assets, &written, places, directory, (read, !read))?;
        }
    }
    Ok(assets)
}

/// Takes the job's parameters, and the assets that they name.
pub(crate) fn parameters(
    template: &JobTemplate,
    values: &JobParameterValues,
    places: &Places<'_>,
    assets: &mut Vec<Asset>,
) -> Result<Vec<JobParameter>, Error> {
    let mut parameters = Vec::new();
    for (index, definition) in template.parameter_definitions_list().iter().enumerate() {
        let name = definition.name().to_owned();
        let at = format!("parameterDefinitions[{index}] ({name})");
        let Some(value) = values.get(&name) else {
            return Err(Error::invalid(TEMPLATE, at, "the parameter has no value"));
        };
        let raw = value.value.to_display_string();
        let mapped = match definition {
            JobParameterDefinition::PATH(_) if !raw.is_empty() => {
                let written = Written {
                    file: TEMPLATE,
                    at,
                    path: &raw,
                };
                flow(definition, &written, places, assets)?
            }
            _ => None,
        };
        parameters.push(JobParameter { name, raw, mapped });
    }
    Ok(parameters)
}

/// Notes what flows and answers the path in the session, if there is one. OpenJD 2.2: no data flow is NONE, no object type a directory.
fn flow(
    definition: &JobParameterDefinition,
    written: &Written<'_>,
    places: &Places<'_>,
    assets: &mut Vec<Asset>,
) -> Result<Option<String>, Error> {
    let (kind, data_flow) = definition.path_properties();
    let flows = match data_flow {
        Some(DataFlow::In) => (true, false),
        Some(DataFlow::Out) => (false, true),
        Some(DataFlow::Inout) => (true, true),
        Some(DataFlow::None) | None => {
            return Ok(places.find(written.path).map(|place| place.path));
        }
    };
    let directory = kind != Some(ObjectType::File);
    add(assets, written, places, directory, flows).map(Some)
}

/// Adds an asset, or what is new of it, and answers its path in the session.
fn add(
    assets: &mut Vec<Asset>,
    written: &Written<'_>,
    places: &Places<'_>,
    directory: bool,
    (read, write): (bool, bool),
) -> Result<String, Error> {
    let (file, path) = (written.file, written.path.to_owned());
    let at = written.at.clone();
    let Some(place) = places.find(written.path) else {
        return Err(Error::Outside { file, at, path });
    };
    if write && !place.write {
        return Err(Error::ReadOnly { file, at, path });
    }
    match assets.iter_mut().find(|it| it.path == place.path) {
        Some(known) => {
            known.directory |= directory;
            known.read |= read;
            known.write |= write;
        }
        None => assets.push(Asset {
            origin: format!("{file}: {at}"),
            host: place.host,
            path: place.path.clone(),
            directory,
            read,
            write,
        }),
    }
    Ok(place.path)
}
