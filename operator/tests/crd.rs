//! The generated definitions: every field is described, and Kubernetes' limits hold.
//!
//! `cargo xtask generate --check` compares them with the checked-in files.

use larder_operator::crd;
use serde_json::Value;

#[test]
fn every_definition_is_written_to_a_file_of_its_own() {
    let folder = tempfile::tempdir().expect("a folder");
    let paths = crd::write(&folder.path().join("crd")).expect("writable");
    assert_eq!(paths.len(), crd::files().len());
    for (path, (name, text)) in paths.iter().zip(crd::files()) {
        assert_eq!(path.file_name().and_then(|name| name.to_str()), Some(name.as_str()));
        assert_eq!(std::fs::read_to_string(path).expect("readable"), text);
    }
}

#[test]
fn every_definition_is_small_enough_for_client_side_apply() {
    for crd in crd::definitions() {
        let bytes = serde_json::to_vec(&crd).expect("JSON").len();
        assert!(bytes < 150 * 1024, "{}: {bytes} bytes", crd.spec.names.kind);
    }
}

#[test]
fn no_text_of_a_definition_is_a_template_expression_of_the_chart() {
    for (name, text) in crd::files() {
        assert!(!text.contains("{{"), "{name}");
    }
}

/// Calls `visit` for every field of a schema, with its path.
fn walk(path: &str, schema: &Value, visit: &mut impl FnMut(&str, &Value)) {
    for (name, inner) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        visit(&path, inner);
        walk(&path, inner, visit);
    }
    for inner in ["items", "additionalProperties"] {
        if let Some(inner) = schema.get(inner).filter(|inner| inner.is_object()) {
            walk(&format!("{path}[]"), inner, visit);
        }
    }
}

fn schemas() -> Vec<(&'static str, Value)> {
    ["CacheCluster", "CacheGroup"].map(|kind| (kind, crd::schema(kind).expect("known"))).into()
}

/// Fields whose schema comes from Kubernetes.
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
fn every_own_field_of_a_spec_documents_its_default_or_that_it_is_required() {
    for (kind, schema) in schemas() {
        walk(&format!("{kind}.spec"), &schema["properties"]["spec"], &mut |path, field| {
            let text = field["description"].as_str().unwrap_or_default();
            let documented = text.contains("Default:") || text.contains("Required");
            assert!(foreign(path) || documented, "{path}: {text}");
        });
    }
}

#[test]
fn every_own_number_documents_its_unit_and_has_limits() {
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
fn description_and_schema_have_the_same_default() {
    let schema_default = |field: &Value| match &field["default"] {
        Value::Number(number) => Some(number.to_string()),
        Value::String(text) => Some(text.clone()),
        _ => None,
    };
    for (kind, schema) in schemas() {
        let mut compared = 0;
        walk(&format!("{kind}.spec"), &schema["properties"]["spec"], &mut |path, field| {
            let Some(default) = schema_default(field).filter(|_| !foreign(path)) else { return };
            compared += 1;
            let text = field["description"].as_str().unwrap_or_default();
            let described = text.split("Default: ").nth(1).unwrap_or_default();
            let described = described.split(['.', ',']).next().unwrap_or_default();
            assert_eq!(described, default, "{path}: {text}");
        });
        assert!(compared >= 5, "{kind}: only {compared} defaults were compared");
    }
}

#[test]
fn every_schema_is_structural() {
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
fn short_names_categories_columns_and_scale_are_as_documented() {
    let crds = crd::definitions();
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
