//! Owns the CustomResourceDefinitions: generated from the types in [`crate::api`] and written to
//! files. It never calls Kubernetes.
//!
//! `cargo xtask generate` writes the checked-in files, and `cargo xtask generate --check` fails
//! when one is not current.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;
use serde_json::Value;

use crate::api::{CacheCluster, CacheGroup};

/// Why the files could not be written.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say what each variant is")]
pub enum Error {
    #[error("cannot create the folder {}", path.display())]
    Folder { path: PathBuf, source: io::Error },
    #[error("cannot write {}", path.display())]
    File { path: PathBuf, source: io::Error },
}

/// Both definitions.
#[must_use]
pub fn definitions() -> Vec<CustomResourceDefinition> {
    vec![structural(&CacheCluster::crd()), structural(&CacheGroup::crd())]
}

/// The schema of `kind`; `None` for a kind that is neither of the two.
#[must_use]
pub fn schema(kind: &str) -> Option<Value> {
    let crd = definitions().into_iter().find(|crd| crd.spec.names.kind == kind)?;
    let version = crd.spec.versions.into_iter().next()?;
    let schema = version.schema?.open_api_v3_schema?;
    Some(serde_json::to_value(schema).expect("a schema is always JSON"))
}

/// Both definitions as one YAML stream.
#[must_use]
pub fn yaml() -> String {
    definitions().iter().map(|crd| format!("---\n{}", to_yaml(crd))).collect()
}

/// Name and text of the generated files.
#[must_use]
pub fn files() -> Vec<(String, String)> {
    let file = |crd: &CustomResourceDefinition| {
        let text = format!("# Generated from operator/src/api. Do not edit.\n{}", to_yaml(crd));
        (format!("{}.yaml", crd.spec.names.plural), text)
    };
    definitions().iter().map(file).collect()
}

/// Writes the generated files into `folder` and returns their paths.
///
/// # Errors
/// When the folder cannot be created, or at the first file that cannot be written; earlier files
/// remain.
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

/// Writes limits as `1`, not as `1.0`: the Kubernetes type stores them as floating point.
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

/// The definition with descriptions of one line each and without `nullable`, which schemars writes
/// for every `Option`. Without it the API server treats `field: null` as an absent field, as the
/// rules (`has(self.field)`) expect.
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
