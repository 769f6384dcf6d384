//! Owns the CustomResourceDefinitions: generated from the types in [`crate::api`], written to files
//! that users apply and that the chart installs. It never talks to Kubernetes.
//!
//! `operator/tests/crd.rs` fails while a checked-in file differs from what is generated here.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;
use serde_json::Value;

use crate::api::{CacheCluster, CacheGroup};

/// Where the files are checked in, below the project's root: for readers and `kubectl`, and for the
/// chart. Not the chart's `crds/`, which helm installs once and never updates.
pub const FOLDERS: [&str; 2] = ["manifests/crd", "charts/larder/files/crds"];

/// Why the files could not be written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A folder that cannot be made.
    #[error("cannot make the folder {}", path.display())]
    Folder {
        /// Which one.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file that cannot be written.
    #[error("cannot write {}", path.display())]
    File {
        /// Which one.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Both definitions, as Kubernetes takes them.
#[must_use]
pub fn all() -> Vec<CustomResourceDefinition> {
    vec![structural(&CacheCluster::crd()), structural(&CacheGroup::crd())]
}

/// The schema of `kind`, or nothing for a kind that is not ours.
#[must_use]
pub fn schema(kind: &str) -> Option<Value> {
    let crd = all().into_iter().find(|crd| crd.spec.names.kind == kind)?;
    let version = crd.spec.versions.into_iter().next()?;
    let schema = version.schema?.open_api_v3_schema?;
    Some(serde_json::to_value(schema).expect("a schema is always JSON"))
}

/// Both definitions as one YAML text.
#[must_use]
pub fn yaml() -> String {
    all().iter().map(|crd| format!("---\n{}", to_yaml(crd))).collect()
}

/// The generated files: name and text.
#[must_use]
pub fn files() -> Vec<(String, String)> {
    let file = |crd: &CustomResourceDefinition| {
        let text = format!("# Generated from operator/src/api. Do not edit.\n{}", to_yaml(crd));
        (format!("{}.yaml", crd.spec.names.plural), text)
    };
    all().iter().map(file).collect()
}

/// Writes the generated files into `folder` and says which.
///
/// # Errors
/// When the folder cannot be made, or at the first file that cannot be written; earlier ones stay.
pub fn write(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    fs::create_dir_all(folder).map_err(|source| Error::Folder { path: folder.into(), source })?;
    let mut written = Vec::new();
    for (name, text) in files() {
        let path = folder.join(name);
        fs::write(&path, text).map_err(|source| Error::File { path: path.clone(), source })?;
        written.push(path);
    }
    Ok(written)
}

fn to_yaml(crd: &CustomResourceDefinition) -> String {
    let mut value = serde_json::to_value(crd).expect("a definition is always JSON");
    whole_numbers(&mut value);
    serde_saphyr::to_string(&value).expect("a definition is always YAML")
}

/// Writes limits as `1`, not as `1.0`: the Kubernetes type holds them as floating point.
fn whole_numbers(value: &mut Value) {
    match value {
        Value::Number(number) => {
            if let Some(whole) = number.as_f64().filter(|n| n.fract() == 0.0 && n.abs() < 1e15) {
                #[expect(
                    clippy::cast_possible_truncation,
                    reason = "checked to be whole and small"
                )]
                let whole = whole as i64;
                *value = whole.into();
            }
        }
        Value::Object(fields) => fields.values_mut().for_each(whole_numbers),
        Value::Array(items) => items.iter_mut().for_each(whole_numbers),
        Value::Null | Value::Bool(_) | Value::String(_) => {}
    }
}

/// Makes of the types' schema what Kubernetes is to get. Descriptions become one line each; and
/// `nullable` goes, which schemars writes for every `Option`: without it the API server takes
/// `field: null` for an absent field, which is what the rules (`has(self.field)`) mean.
fn structural(crd: &CustomResourceDefinition) -> CustomResourceDefinition {
    let mut value = serde_json::to_value(crd).expect("a definition is always JSON");
    tidy(&mut value);
    serde_json::from_value(value).expect("only optional fields were removed and texts re-wrapped")
}

fn tidy(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            if fields.get("nullable").is_some_and(Value::is_boolean) {
                fields.remove("nullable");
            }
            if let Some(Value::String(text)) = fields.get_mut("description") {
                *text = text.split_whitespace().collect::<Vec<_>>().join(" ");
            }
            fields.values_mut().for_each(tidy);
        }
        Value::Array(items) => items.iter_mut().for_each(tidy),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
