//! The texts that make a job, and what they say before anything is understood.
//!
//! Reading files is the caller's business. Every text is bounded before it is parsed, and what is not known is refused by name.

use openjd_expr::ExprValue;
use openjd_model::{
    CallerLimits, JobParameterInputValues,
    template::parse::{DocumentType, document_string_to_object},
};
use serde::Deserialize;
use serde_json::Value;

use crate::error::Error;

/// The longest text in bytes.
pub const TEXT_MAX: usize = 4 << 20;

/// The most tasks of one job.
pub const TASKS_MAX: u64 = 1 << 24;

/// The most steps of one job.
pub const STEPS_MAX: usize = 1000;

pub(crate) const TEMPLATE: &str = "template.yaml";
pub(crate) const VALUES: &str = "parameter_values.yaml";
pub(crate) const ASSETS: &str = "asset_references.yaml";
pub(crate) const SETTINGS: &str = "safelight-job.toml";

/// A job bundle: the texts of its files.
#[derive(Clone, Copy)]
pub struct Source<'a> {
    /// Where the bundle's directory is on the client's host: absolute. Relative paths in it begin here.
    pub directory: &'a str,
    /// `template.yaml` or `template.json`.
    pub template: &'a str,
    /// `parameter_values.yaml` or `.json`.
    pub parameter_values: Option<&'a str>,
    /// `asset_references.yaml` or `.json`.
    pub asset_references: Option<&'a str>,
    /// `safelight-job.toml`.
    pub job: Option<&'a str>,
    /// Environment templates of the client's own site, each with its name, the outermost first.
    pub environments: &'a [(String, String)],
    /// Values from the command line; they win.
    pub overrides: &'a [(String, String)],
}

/// What a bundle says of the job's scheduling in the words of AWS Deadline Cloud.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Scheduling {
    pub(crate) priority: Option<u8>,
    pub(crate) retries: Option<u32>,
    pub(crate) failures: Option<u64>,
    pub(crate) held: bool,
}

/// Files and directories that no parameter names.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct AssetReferences {
    #[serde(default)]
    pub(crate) inputs: Inputs,
    #[serde(default)]
    pub(crate) outputs: Outputs,
    /// Paths that only need to be mapped, which they are anyway.
    #[serde(default, rename = "referencedPaths")]
    _referenced: Vec<String>,
}

/// What is read.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Inputs {
    #[serde(default)]
    pub(crate) filenames: Vec<String>,
    #[serde(default)]
    pub(crate) directories: Vec<String>,
}

/// What is written.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Outputs {
    #[serde(default)]
    pub(crate) directories: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct WrittenValues {
    parameter_values: Vec<WrittenValue>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenValue {
    name: String,
    value: Value,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct WrittenAssets {
    asset_references: AssetReferences,
}

pub(crate) fn limits() -> CallerLimits {
    CallerLimits {
        max_step_count: Some(STEPS_MAX),
        max_task_count: Some(TASKS_MAX),
        max_template_size: Some(TEXT_MAX),
        ..CallerLimits::default()
    }
}

/// Parses YAML, or JSON if it begins like JSON.
pub(crate) fn document(file: &'static str, text: &str) -> Result<Value, Error> {
    check_length(file, text)?;
    let kind = if text.trim_start().starts_with('{') {
        DocumentType::Json
    } else {
        DocumentType::Yaml
    };
    document_string_to_object(text, kind, &limits()).map_err(Error::document(file))
}

pub(crate) fn check_length(file: &'static str, text: &str) -> Result<(), Error> {
    if text.len() > TEXT_MAX {
        return Err(Error::TooLong {
            file,
            len: text.len(),
            max: TEXT_MAX,
        });
    }
    Ok(())
}

fn shaped<T: serde::de::DeserializeOwned>(file: &'static str, text: &str) -> Result<T, Error> {
    serde_json::from_value(document(file, text)?).map_err(|error| {
        Error::document(file)(openjd_model::ModelError::DecodeValidation(
            error.to_string(),
        ))
    })
}

impl Source<'_> {
    /// Parameter values of the file and the command line, and what the file says of scheduling.
    pub(crate) fn values(&self) -> Result<(JobParameterInputValues, Scheduling), Error> {
        let mut values = JobParameterInputValues::new();
        let mut scheduling = Scheduling::default();
        if let Some(text) = self.parameter_values {
            let written: WrittenValues = shaped(VALUES, text)?;
            for (index, entry) in written.parameter_values.into_iter().enumerate() {
                let at = format!("parameterValues[{index}]");
                let text = scalar(&at, &entry.value)?;
                if let Some(word) = entry.name.strip_prefix("deadline:") {
                    scheduling.take(&at, word, &text)?;
                } else if values.insert(entry.name, ExprValue::String(text)).is_some() {
                    return Err(Error::invalid(
                        VALUES,
                        at,
                        "the parameter has a value already",
                    ));
                }
            }
        }
        for (name, value) in self.overrides {
            values.insert(name.clone(), ExprValue::String(value.clone()));
        }
        Ok((values, scheduling))
    }

    pub(crate) fn assets(&self) -> Result<AssetReferences, Error> {
        match self.asset_references {
            Some(text) => shaped::<WrittenAssets>(ASSETS, text).map(|it| it.asset_references),
            None => Ok(AssetReferences::default()),
        }
    }
}

fn scalar(at: &str, value: &Value) -> Result<String, Error> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Number(number) => Ok(number.to_string()),
        _ => Err(Error::invalid(
            VALUES,
            at,
            "a value must be a text or a number",
        )),
    }
}

impl Scheduling {
    /// The words that Deadline's submitters write beside a job's own parameters.
    fn take(&mut self, at: &str, word: &str, value: &str) -> Result<(), Error> {
        let unsupported = || Error::Unsupported {
            file: VALUES,
            at: at.to_owned(),
            thing: format!("deadline:{word} with this value is"),
        };
        match word {
            "priority" => {
                let priority = value.parse().ok().filter(|priority| *priority <= 100);
                self.priority = Some(priority.ok_or_else(unsupported)?);
            }
            "maxRetriesPerTask" => {
                self.retries = Some(value.parse().map_err(|_| unsupported())?);
            }
            "maxFailedTasksCount" => {
                self.failures = Some(value.parse().map_err(|_| unsupported())?);
            }
            "targetTaskRunStatus" if value == "READY" => self.held = false,
            "targetTaskRunStatus" if value == "SUSPENDED" => self.held = true,
            // No limit of its own, which is what every job has here.
            "maxWorkerCount" if value == "-1" => {}
            _ => return Err(unsupported()),
        }
        Ok(())
    }
}
