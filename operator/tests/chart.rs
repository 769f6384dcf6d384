//! The chart and the operator agree: every flag and variable that the chart sets exists, and the
//! chart grants exactly the permissions that the operator documents.
//!
//! `cargo xtask test` checks the rendered chart; it has helm.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use clap::CommandFactory;
use larder_operator::args::Args;
use serde::Deserialize;

fn template(name: &str) -> String {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../charts/larder/templates"));
    fs::read_to_string(folder.join(name)).expect("the file is checked in")
}

#[test]
fn every_flag_and_variable_of_the_chart_exists() {
    let mut command = Args::command();
    command.build();
    let run = command.find_subcommand("run").expect("the subcommand of the chart");
    let flags: BTreeSet<&str> = run.get_arguments().filter_map(clap::Arg::get_long).collect();
    let variables: BTreeSet<&str> =
        run.get_arguments().filter_map(|argument| argument.get_env()?.to_str()).collect();
    let deployment = template("deployment.yaml");
    let mut checked = 0;
    for line in deployment.lines().map(str::trim) {
        if let Some(flag) = line.strip_prefix("- --") {
            let flag = flag.split(['=', ' ']).next().unwrap_or_default();
            assert!(flags.contains(flag), "--{flag}");
            checked += 1;
        }
        if let Some(variable) = line.strip_prefix("- name: ").filter(|name| name.contains('_')) {
            assert!(variables.contains(variable), "{variable}");
            checked += 1;
        }
    }
    assert!(checked >= 8, "only {checked} flags and variables were found");
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Rule {
    api_groups: Vec<String>,
    resources: Vec<String>,
    verbs: Vec<String>,
}

/// The rules of one helper, rendered without `clusterWide`.
fn rules(helper: &str) -> Vec<Rule> {
    let helpers = template("_helpers.tpl");
    let start = format!("{{{{- define \"{helper}\" -}}}}");
    let text = helpers.split(&start).nth(1).expect("the helper exists");
    let text = text.split("{{- end -}}").next().expect("it ends");
    let text = text.replace("{{ if not .Values.clusterWide }}", "").replace("{{ end }}", "");
    serde_saphyr::from_str(&text).expect("plain YAML")
}

type Grants = BTreeMap<String, BTreeSet<String>>;

fn grants(rules: Vec<Rule>) -> Grants {
    let mut grants = Grants::new();
    for rule in rules {
        for resource in &rule.resources {
            assert_eq!(rule.api_groups.len(), 1, "{resource}");
            grants.entry(resource.clone()).or_default().extend(rule.verbs.iter().cloned());
        }
    }
    grants
}

/// The permissions in the table in the documentation of `run.rs`.
fn used() -> Grants {
    let source = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/src/run.rs"));
    let verbs = ["get", "list", "watch", "create", "update", "patch", "delete"];
    let mut used = Grants::new();
    for row in source.expect("the file exists").lines().filter(|line| line.starts_with("//! |")) {
        let cells: Vec<&str> = row.split('|').collect();
        let [_, resources, granted, _] = cells.as_slice() else { continue };
        let words = granted.split(|c: char| !c.is_ascii_alphabetic());
        let granted: BTreeSet<String> =
            words.filter(|word| verbs.contains(word)).map(Into::into).collect();
        // Every second piece is between backticks. API groups are not resources.
        let groups = ["larder.dev", "apps", "policy", "events.k8s.io", "coordination.k8s.io"];
        let names = resources.split('`').skip(1).step_by(2).filter(|name| !groups.contains(name));
        for name in names {
            used.entry(name.into()).or_default().extend(granted.iter().cloned());
        }
    }
    used
}

#[test]
fn every_grant_is_used_and_every_use_is_granted() {
    let mut granted = grants(rules("larder.rules"));
    granted.extend(grants(rules("larder.secretRules")));
    assert!(granted.len() >= 10);
    assert_eq!(granted, used());
}

#[test]
fn no_permission_is_a_wildcard_and_none_on_secrets_is_bound_cluster_wide() {
    for name in ["larder.rules", "larder.secretRules"] {
        for rule in rules(name) {
            let lists = [&rule.api_groups, &rule.resources, &rule.verbs];
            assert!(lists.iter().all(|list| list.iter().all(|word| !word.contains('*'))), "{name}");
        }
    }
    assert!(!grants(rules("larder.rules")).contains_key("secrets"));
    let rbac = template("rbac.yaml");
    assert!(!rbac.contains('*'), "a wildcard");
    let cluster_wide = rbac.split("kind: ClusterRoleBinding").nth(1).expect("one such binding");
    let bound = cluster_wide.split("---").next().expect("its text");
    assert!(!bound.contains("secrets"), "{bound}");
}
