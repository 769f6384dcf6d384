//! Checks the chart: strict lint, rendering with every values file in `ci/`, refusal of misspelt
//! values; and the size of the custom resource definitions.
//!
//! It never talks to a cluster; the end-to-end tests install the chart.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::checks::{Checks, expect};
use super::report::Count;
use crate::tools::{self, Tool};
use crate::{command, workspace};

/// `kubectl apply` fails for larger objects: it stores a copy in an annotation of limited size.
const MAX_CRD_BYTES: u64 = 150 * 1024;

/// Runs and counts the checks, and prints each result.
///
/// # Errors
/// When helm cannot be built or the chart cannot be read.
pub(super) fn run() -> Result<Count> {
    let root = workspace::root();
    let chart = root.join("charts/larder");
    let helm = tools::ensure(&[Tool::Helm])?;
    let helm = Helm { program: helm.path(Tool::Helm).to_path_buf(), chart: chart.clone() };
    let schema: Value = serde_json::from_str(
        &fs::read_to_string(chart.join("values.schema.json"))
            .context("could not read values.schema.json")?,
    )
    .context("values.schema.json is not JSON")?;

    let mut checks = Checks::new("chart");
    checks.add("lint", helm.run("lint", &["--strict"]).map(drop));
    let values_files = yaml_files(&chart.join("ci"))?;
    checks.add(
        "ci/ has at least ten values files",
        expect(values_files.len() >= 10, || format!("it has {}", values_files.len())),
    );
    for file in &values_files {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        let values = ["--values", &file.to_string_lossy()].map(String::from);
        let values: Vec<&str> = values.iter().map(String::as_str).collect();
        let lint = helm.run("lint", &[&["--strict"], values.as_slice()].concat());
        checks.add(&format!("lint with {name}"), lint.map(drop));
        checks.add(&format!("render with {name}"), helm.template(&values).map(drop));
    }
    let open = open_objects(&schema, "");
    checks.add(
        "no object in the values' schema takes undeclared properties",
        expect(open.is_empty(), || open.join(", ")),
    );
    for name in properties(&schema) {
        let typo = misspelt(&name);
        checks.add(&format!("refuses the value {typo}"), helm.refuses(&typo));
    }
    for file in yaml_files(&root.join("manifests/crd"))? {
        let bytes = fs::metadata(&file)?.len();
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        checks.add(
            &format!("{name} is small enough"),
            expect(bytes < MAX_CRD_BYTES, || format!("{bytes} bytes")),
        );
    }
    Ok(checks.count)
}

struct Helm {
    program: PathBuf,
    chart: PathBuf,
}

impl Helm {
    fn run(&self, verb: &str, options: &[&str]) -> Result<String> {
        command::output(Command::new(&self.program).arg(verb).arg(&self.chart).args(options))
    }

    fn template(&self, options: &[&str]) -> Result<String> {
        self.run("template", &[&["--namespace", "larder-system"], options].concat())
    }

    /// Checks that helm refuses an undeclared value, naming it and its object.
    fn refuses(&self, path: &str) -> Result<()> {
        let Err(error) = self.template(&["--set", &format!("{path}=1")]) else {
            anyhow::bail!("it was accepted");
        };
        let message = refusal(path);
        expect(format!("{error:#}").contains(&message), || format!("no `{message}` in: {error:#}"))
    }
}

/// Helm's message about an undeclared value. Searching for the value's path as typed would prove
/// nothing: the error contains the command line, and so the path.
fn refusal(path: &str) -> String {
    let pointer = format!("/{}", path.replace('.', "/"));
    let (object, name) = pointer.rsplit_once('/').expect("it begins with one");
    format!("at '{object}': additional properties '{name}' not allowed")
}

fn yaml_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries =
        fs::read_dir(folder).with_context(|| format!("could not read {}", folder.display()))?;
    let mut files = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    files.retain(|file| file.extension().is_some_and(|end| end == "yaml"));
    files.sort();
    Ok(files)
}

/// The paths of objects that accept undeclared properties. An object without `properties` is a map,
/// whose `additionalProperties` is the schema of its values.
fn open_objects(schema: &Value, path: &str) -> Vec<String> {
    let mut open = Vec::new();
    match schema {
        Value::Object(fields) => {
            if let Some(Value::Object(properties)) = fields.get("properties") {
                if fields.get("additionalProperties") != Some(&Value::Bool(false)) {
                    open.push(if path.is_empty() { "/".into() } else { path.into() });
                }
                for (name, property) in properties {
                    open.extend(open_objects(property, &format!("{path}/{name}")));
                }
            }
            for (name, inner) in fields.iter().filter(|(name, _)| *name != "properties") {
                open.extend(open_objects(inner, &format!("{path}/{name}")));
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                open.extend(open_objects(item, &format!("{path}/{index}")));
            }
        }
        _ => {}
    }
    open
}

/// The paths of all declared values in the form of `--set`, except for those inside lists and maps.
fn properties(schema: &Value) -> Vec<String> {
    let mut paths = Vec::new();
    let Some(Value::Object(properties)) = schema.get("properties") else { return paths };
    for (name, property) in properties {
        paths.push(name.clone());
        paths.extend(self::properties(property).into_iter().map(|inner| format!("{name}.{inner}")));
    }
    paths
}

/// The same path with its last letter doubled.
fn misspelt(path: &str) -> String {
    let last = path.chars().last().unwrap_or('x');
    format!("{path}{last}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_object_that_accepts_undeclared_properties_is_found_by_its_path() {
        let schema = json!({
            "additionalProperties": false,
            "properties": {
                "image": {"properties": {"tag": {}}, "additionalProperties": false},
                "operator": {"properties": {"replicas": {}}},
                "labels": {"additionalProperties": {"type": "string"}},
                "list": {"items": {"properties": {"a": {}}}},
            },
        });
        assert_eq!(open_objects(&schema, ""), ["/list/items", "/operator"]);
    }

    #[test]
    fn every_declared_value_is_misspelt_once() {
        let schema = json!({"properties": {"image": {"properties": {"tag": {}}}}});
        assert_eq!(properties(&schema), ["image", "image.tag"]);
        assert_eq!(misspelt("image.tag"), "image.tagg");
        assert!(refusal("image.tagg").starts_with("at '/image': additional properties 'tagg'"));
        assert!(refusal("imagee").starts_with("at '': additional properties 'imagee'"));
    }
}
