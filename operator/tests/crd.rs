//! The generated definitions: checked-in files are current, every field is described, Kubernetes'
//! limits hold.
//!
//! `UPDATE_GOLDEN=1 cargo test -p larder-operator --test crd` rewrites the files; review the diff.

use std::fs;
use std::path::Path;

use larder_operator::crd;
use serde_json::Value;

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

#[test]
fn checked_in_definitions_are_current() {
    for folder in crd::FOLDERS.map(|folder| root().join(folder)) {
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            crd::write(&folder).expect("writable");
        }
        for (name, text) in crd::files() {
            let path = folder.join(name);
            let found = fs::read_to_string(&path).unwrap_or_default();
            assert!(found == text, "{} is not current: run with UPDATE_GOLDEN=1", path.display());
        }
    }
}

#[test]
fn every_definition_fits_client_side_apply_with_room() {
    for crd in crd::all() {
        let bytes = serde_json::to_vec(&crd).expect("JSON").len();
        assert!(bytes < 150 * 1024, "{}: {bytes} bytes", crd.spec.names.kind);
    }
}

#[test]
fn templates_of_the_chart_would_not_read_any_text_as_their_own() {
    for (name, text) in crd::files() {
        assert!(!text.contains("{{"), "{name}");
    }
}

/// Calls `look` for every field of a schema, with its path.
fn walk(path: &str, schema: &Value, look: &mut impl FnMut(&str, &Value)) {
    for (name, inner) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        look(&path, inner);
        walk(&path, inner, look);
    }
    for inner in ["items", "additionalProperties"] {
        if let Some(inner) = schema.get(inner).filter(|inner| inner.is_object()) {
            walk(&format!("{path}[]"), inner, look);
        }
    }
}

fn schemas() -> Vec<(&'static str, Value)> {
    ["CacheCluster", "CacheGroup"].map(|kind| (kind, crd::schema(kind).expect("known"))).into()
}

/// Fields whose schema Kubernetes owns.
fn foreign(path: &str) -> bool {
    ["affinity.", "tolerations[]", "topologySpreadConstraints[]", "conditions[]"]
        .iter()
        .any(|part| path.contains(part))
        || path.ends_with(".metadata")
        || path.ends_with(".kind")
        || path.ends_with(".apiVersion")
}

#[test]
fn every_field_is_described() {
    for (kind, schema) in schemas() {
        let mut fields = 0;
        walk(kind, &schema, &mut |path, field| {
            fields += 1;
            // `spec` and `status` are described by the object itself.
            let described = field["description"].as_str().is_some_and(|text| text.len() > 10);
            let exempt = foreign(path) && !path.contains('[');
            assert!(described || exempt, "{path} is not described");
        });
        assert!(fields > 20, "{kind}: only {fields} fields were walked");
    }
}

#[test]
fn every_own_field_of_a_spec_says_its_default_or_that_it_is_required() {
    for (kind, schema) in schemas() {
        walk(&format!("{kind}.spec"), &schema["properties"]["spec"], &mut |path, field| {
            let text = field["description"].as_str().unwrap_or_default();
            let said =
                text.contains("Default:") || text.contains("Required") || path.ends_with(".name");
            assert!(foreign(path) || said, "{path}: {text}");
        });
    }
}

#[test]
fn every_own_number_says_its_unit_and_refuses_what_is_below_its_minimum() {
    for (kind, schema) in schemas() {
        walk(&format!("{kind}.spec"), &schema["properties"]["spec"], &mut |path, field| {
            if foreign(path) || field["type"] != "integer" {
                return;
            }
            let text = field["description"].as_str().unwrap_or_default();
            assert!(text.contains("Unit:"), "{path}: {text}");
            assert!(field["minimum"].as_f64().is_some_and(|least| least >= 0.0), "{path}");
            assert!(field["maximum"].is_number(), "{path}");
        });
    }
}

#[test]
fn description_and_schema_name_the_same_default() {
    let written = |field: &Value| match &field["default"] {
        Value::Number(number) => Some(number.to_string()),
        Value::String(text) => Some(text.clone()),
        _ => None,
    };
    for (kind, schema) in schemas() {
        let mut compared = 0;
        walk(&format!("{kind}.spec"), &schema["properties"]["spec"], &mut |path, field| {
            let Some(default) = written(field).filter(|_| !foreign(path)) else { return };
            compared += 1;
            let text = field["description"].as_str().unwrap_or_default();
            let said = text.split("Default: ").nth(1).unwrap_or_default();
            let said = said.split(['.', ',']).next().unwrap_or_default();
            assert_eq!(said, default, "{path}: {text}");
        });
        assert!(compared >= 5, "{kind}: only {compared} defaults were compared");
    }
}

#[test]
fn schema_is_structural() {
    for (kind, schema) in schemas() {
        walk(kind, &schema, &mut |path, field| {
            let typed = field["type"].is_string()
                || field["x-kubernetes-int-or-string"] == true
                || field["x-kubernetes-preserve-unknown-fields"] == true;
            assert!(typed, "{path} has no type");
            assert!(field.get("nullable").is_none(), "{path} is nullable");
            assert!(field.get("$ref").is_none(), "{path} is a reference");
        });
    }
}

#[test]
fn columns_scale_and_names_are_what_people_type() {
    let crds = crd::all();
    let [cluster, group] = crds.as_slice() else { panic!("two kinds") };
    assert_eq!(cluster.spec.names.short_names.as_deref(), Some(&["cc".to_string()][..]));
    assert_eq!(group.spec.names.short_names.as_deref(), Some(&["cg".to_string()][..]));
    for crd in [cluster, group] {
        let categories = crd.spec.names.categories.as_deref().unwrap_or_default();
        assert_eq!(categories, ["all", "larder"]);
        let columns = crd.spec.versions[0].additional_printer_columns.as_deref();
        let shown = columns.unwrap_or_default().iter().filter(|c| c.priority.is_none());
        assert!(shown.count() >= 5);
    }
    let scale = cluster.spec.versions[0].subresources.as_ref().and_then(|s| s.scale.as_ref());
    let scale = scale.expect("CacheCluster can be scaled");
    assert_eq!(scale.spec_replicas_path, ".spec.members");
    assert_eq!(scale.status_replicas_path, ".status.members");
    assert_eq!(scale.label_selector_path.as_deref(), Some(".status.selector"));
}
