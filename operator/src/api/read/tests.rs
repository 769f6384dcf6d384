use super::*;

const SHOP: &str = "\
apiVersion: larder.dev/v1alpha1
kind: CacheCluster
metadata: {name: shop}
spec:
  members: 3
  memory: 512Mi
";

/// The lines that are printed for a CacheCluster with this spec.
fn lines(spec: &str) -> Vec<String> {
    let text = format!(
        "apiVersion: larder.dev/v1alpha1\nkind: CacheCluster\nmetadata: {{name: shop}}\n\
         spec:\n  memory: 64Mi\n{spec}"
    );
    let problems = read_documents(&text).expect_err("something is wrong");
    problems.iter().map(|problem| problem.in_file("shop.yaml")).collect()
}

#[test]
fn a_misspelt_field_is_reported_with_its_line_and_the_right_name() {
    let text = SHOP.replace("memory", "memry");
    let problems = read_documents(&text).expect_err("a typo");
    let lines: Vec<_> = problems.iter().map(|problem| problem.in_file("shop.yaml")).collect();
    assert!(lines.contains(
        &"shop.yaml:6: CacheCluster \"shop\": spec.memry: unknown field, did you mean \"memory\"?"
            .to_string()
    ));
    assert!(
        lines.contains(&"shop.yaml:4: CacheCluster \"shop\": spec: memory is required".to_string())
    );
}

#[test]
fn unknown_fields_are_refused_at_every_depth() {
    let deep = "  scheduling:\n    affinity:\n      podAntiAffinity:\n        prefered: []\n";
    assert_eq!(
        lines(deep),
        ["shop.yaml:9: CacheCluster \"shop\": spec.scheduling.affinity.podAntiAffinity.prefered: \
          unknown field, must be one of preferredDuringSchedulingIgnoredDuringExecution, \
          requiredDuringSchedulingIgnoredDuringExecution"]
    );
    let meta = SHOP.replace("{name: shop}", "{name: shop, lables: {}}");
    let problems = read_documents(&meta).expect_err("a typo");
    assert_eq!(problems[0].field, "metadata.lables");
    assert_eq!(problems[0].message, "unknown field, did you mean \"labels\"?");
}

#[test]
fn a_misplaced_field_is_reported_with_its_right_place() {
    let text = "apiVersion: larder.dev/v1alpha1\nkind: CacheGroup\nmetadata: {name: g}\nspec:\n  \
                clusterRef: {name: shop}\n  origin: {http: {urlTemplate: 'http://a/{key}'}}\n  \
                ttlSeconds: 5\n";
    let problems = read_documents(text).expect_err("misplaced");
    assert_eq!(
        problems[0].to_string(),
        "CacheGroup \"g\": spec.ttlSeconds: unknown field, \
         did you mean \"spec.freshness.ttlSeconds\"?"
    );
}

#[test]
fn wrong_values_are_reported_with_what_they_must_be() {
    let cases = [
        ("  members: three\n", "spec.members: must be an integer, is \"three\""),
        ("  members: 0\n", "spec.members: must be at least 1, is 0"),
        ("  members: 51\n", "spec.members: must be at most 50, is 51"),
        ("  cpu: lots\n", "spec.cpu: must be a quantity such as 512Mi, is \"lots\""),
        ("  cpu: [1]\n", "spec.cpu: must be an integer or a string, is [1]"),
        (
            "  placement: {algorithm: rendezvous}\n",
            "spec.placement.algorithm: must be Rendezvous or Ring, is \"rendezvous\", \
             did you mean \"Rendezvous\"?",
        ),
        (
            "  etcd: {external: {endpoints: []}}\n",
            "spec.etcd.external.endpoints: must not be empty",
        ),
        (
            "  etcd: {external: {endpoints: ['a:1']}}\n",
            "spec.etcd.external.endpoints[0]: must match ^https?://[^/@]+:[0-9]{1,5}$, is \"a:1\"",
        ),
    ];
    for (spec, line) in cases {
        assert_eq!(lines(spec), [format!("shop.yaml:6: CacheCluster \"shop\": {line}")]);
    }
}

#[test]
fn rules_are_checked_after_the_schema_and_with_defaults() {
    assert_eq!(
        lines("  placement: {ring: {virtualNodes: 10}}\n"),
        ["shop.yaml:6: CacheCluster \"shop\": spec.placement: \
          ring can only be set with the algorithm Ring"]
    );
    assert_eq!(
        lines("  etcd: {managed: {members: 2}}\n"),
        ["shop.yaml:6: CacheCluster \"shop\": spec.etcd.managed.members: \
          etcd must have 1 or 3 members"]
    );
}

#[test]
fn valid_documents_have_their_defaults_and_other_objects_are_not_checked() {
    let text = format!(
        "# a comment\n---\n{SHOP}  etcd:\n---\napiVersion: v1\nkind: Secret\n\
         metadata: {{name: s}}\n---\n"
    );
    let documents = read_documents(&text).expect("valid");
    let [Document::Cluster(cluster), Document::Other { kind, name, .. }] = documents.as_slice()
    else {
        panic!("{documents:?}")
    };
    assert_eq!((kind.as_str(), name.as_str()), ("Secret", "s"));
    let managed = cluster.spec.etcd.managed.as_ref().expect("the default");
    assert_eq!(managed.members, 3);
}

#[test]
fn lines_are_counted_over_all_documents() {
    let text = format!("{SHOP}---\n{SHOP}  colour: red\n");
    let problems = read_documents(&text).expect_err("unknown");
    assert_eq!(problems[0].line, Some(14));
}

#[test]
fn text_that_is_not_yaml_and_objects_without_a_kind_are_one_line_each() {
    let problems = read_documents("a: [1\nb: 2\n").expect_err("not closed");
    assert_eq!(problems.len(), 1);
    assert!(!problems[0].message.contains('\n') && problems[0].line.is_some());
    let problems = read_documents("spec: {}\n").expect_err("no kind");
    assert_eq!(problems[0].to_string(), "apiVersion and kind are required");
}

#[test]
fn misspelt_kinds_and_other_versions_are_refused() {
    let kind = SHOP.replace("CacheCluster", "CachCluster");
    let problems = read_documents(&kind).expect_err("a typo");
    assert!(problems[0].message.contains("did you mean \"CacheCluster\"?"), "{}", problems[0]);
    let version = SHOP.replace("v1alpha1", "v1");
    let problems = read_documents(&version).expect_err("unknown version");
    assert_eq!(problems[0].field, "apiVersion");
}

#[test]
fn a_group_of_a_cluster_that_the_file_lacks_is_refused_where_there_is_a_cluster() {
    let group = "\
apiVersion: larder.dev/v1alpha1
kind: CacheGroup
metadata: {name: g}
spec:
  clusterRef: {name: shopp}
  origin: {http: {urlTemplate: 'http://o/{key}'}}
";
    assert_eq!(read_documents(group).expect("its cluster may be elsewhere").len(), 1);
    let problems = read_documents(&format!("{SHOP}---\n{group}")).expect_err("a typo");
    let lines: Vec<_> = problems.iter().map(|problem| problem.in_file("shop.yaml")).collect();
    assert_eq!(
        lines,
        [
            "shop.yaml:12: CacheGroup \"g\": spec.clusterRef.name: no CacheCluster \"shopp\" in this \
          file, did you mean \"shop\"?"
        ]
    );
}

#[test]
fn a_bomb_of_aliases_is_refused_in_plain_words() {
    let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..10 {
        let below = format!("*a{}", level - 1);
        text += &format!("a{level}: &a{level} [{}]\n", [below.as_str(); 10].join(", "));
    }
    let problems = read_documents(&text).expect_err("too large");
    let message = &problems[0].message;
    assert_eq!(message, "too many YAML aliases: the expanded document would exceed 250000 values");
}
