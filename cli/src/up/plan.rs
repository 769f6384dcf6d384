//! Pure: from a file of resources to what `up` starts. The schema, the rules and the builders are
//! the operator's own, so what works here means the same on Kubernetes.

use larder_operator::api::cluster::CacheCluster;
use larder_operator::api::group::CacheGroup;
use larder_operator::api::{Document, read_documents};
use larder_operator::cluster::build::node_config;
use larder_operator::cluster::validate::{Cluster, Etcd, Images, validate};
use larder_operator::group::contract::contract;
use larder_proto::config::NodeConfig;
use larder_proto::contract::GroupContract;

use crate::exit::BadConfiguration;

/// More members than this say nothing more on one machine, and take its ports.
pub(super) const MAX_MEMBERS: usize = 16;

/// What is to be started.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) cluster: String,
    pub(super) members: usize,
    /// As the operator renders it for every member; addresses are not ours yet.
    pub(super) config: NodeConfig,
    pub(super) groups: Vec<Group>,
    /// What the user should know before it starts.
    pub(super) notes: Vec<String>,
}

/// A group of the cluster.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) name: String,
    pub(super) contract: GroupContract,
    /// The Secret that holds the database's URL; nothing for an origin without one.
    pub(super) secret: Option<SecretKey>,
}

/// One key of a Secret: `NAME/KEY`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SecretKey {
    pub(super) name: String,
    pub(super) key: String,
}

impl std::fmt::Display for SecretKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.name, self.key)
    }
}

impl Plan {
    /// Reads and checks a file's text. `members` replaces `spec.members`.
    pub(super) fn read(
        file: &str,
        text: &str,
        members: Option<usize>,
    ) -> Result<Self, BadConfiguration> {
        let bad = |text: String| BadConfiguration(format!("{file}: {text}"));
        let documents = read_documents(text).map_err(|problems| {
            let lines: Vec<String> = problems.iter().map(|p| p.in_file(file)).collect();
            BadConfiguration(lines.join("; "))
        })?;
        let mut notes = Vec::new();
        let (cluster, groups) = split(documents, &mut notes).map_err(bad)?;
        let cluster = validate(&cluster, &Images::default()).map_err(|e| bad(e.to_string()))?;
        let members = count(&cluster, members, &mut notes);
        if matches!(cluster.etcd, Etcd::External(_)) {
            notes.push("spec.etcd.external is left alone: the embedded registry is used".into());
        }
        let groups = own_groups(&cluster.name, groups, &mut notes).map_err(bad)?;
        if groups.is_empty() {
            notes.push(format!("no CacheGroup names the cluster {}", cluster.name));
        }
        let config = node_config(&cluster);
        Ok(Self { cluster: cluster.name, members, config, groups, notes })
    }
}

fn split(
    documents: Vec<Document>,
    notes: &mut Vec<String>,
) -> Result<(CacheCluster, Vec<CacheGroup>), String> {
    let mut clusters = Vec::new();
    let mut groups = Vec::new();
    for document in documents {
        match document {
            Document::Cluster(cluster) => clusters.push(*cluster),
            Document::Group(group) => groups.push(*group),
            Document::Other { kind, name, .. } => {
                notes.push(format!("{kind} {name} is not Larder's and is left out"));
            }
        }
    }
    match (clusters.pop(), clusters.len()) {
        (Some(cluster), 0) => Ok((cluster, groups)),
        (None, _) => Err("holds no CacheCluster".into()),
        (Some(_), more) => {
            Err(format!("holds {} CacheClusters; up runs one: give it a file with one", more + 1))
        }
    }
}

fn count(cluster: &Cluster, asked: Option<usize>, notes: &mut Vec<String>) -> usize {
    let wanted = asked.unwrap_or_else(|| usize::try_from(cluster.members).unwrap_or(MAX_MEMBERS));
    if wanted > MAX_MEMBERS {
        notes.push(format!("{wanted} members are wanted; on one machine {MAX_MEMBERS} are run"));
    }
    wanted.min(MAX_MEMBERS)
}

fn own_groups(
    cluster: &str,
    groups: Vec<CacheGroup>,
    notes: &mut Vec<String>,
) -> Result<Vec<Group>, String> {
    let mut own = Vec::new();
    for group in groups {
        let name = group.metadata.name.clone().unwrap_or_default();
        let serves = &group.spec.cluster_ref.name;
        if serves != cluster {
            notes.push(format!("CacheGroup {name} belongs to {serves} and is left out"));
            continue;
        }
        let contract = contract(&group).map_err(|e| format!("CacheGroup {name:?}: {e}"))?;
        let secret = group.spec.origin.sql.as_ref().map(|sql| SecretKey {
            name: sql.url_secret_ref.name.clone(),
            key: sql.url_secret_ref.key.clone(),
        });
        own.push(Group { name, contract, secret });
    }
    Ok(own)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLUSTER: &str = "
apiVersion: larder.dev/v1alpha1
kind: CacheCluster
metadata: {name: shop}
spec: {members: 3, memory: 512Mi}
";
    const GROUP: &str = "
apiVersion: larder.dev/v1alpha1
kind: CacheGroup
metadata: {name: students}
spec:
  clusterRef: {name: shop}
  origin:
    sql:
      urlSecretRef: {name: students-db, key: url}
      query: SELECT score FROM students WHERE name = $1
";

    fn read(text: &str) -> Result<Plan, String> {
        Plan::read("my.yaml", text, None).map_err(|e| e.to_string())
    }

    #[test]
    fn a_cluster_and_its_groups_become_a_plan() {
        let other = GROUP.replace("students}", "others}").replace("shop", "another");
        let plan = read(&format!("{CLUSTER}---{GROUP}---{other}")).expect("valid");
        assert_eq!((plan.cluster.as_str(), plan.members), ("shop", 3));
        let names: Vec<&str> = plan.groups.iter().map(|g| g.name.as_str()).collect();
        assert_eq!(names, ["students"]);
        let secret = plan.groups[0].secret.as_ref().expect("a SQL origin");
        assert_eq!(secret.to_string(), "students-db/url");
        assert_eq!(plan.notes, ["CacheGroup others belongs to another and is left out"]);
    }

    #[test]
    fn members_are_capped_with_a_line() {
        let plan = read(&CLUSTER.replace("members: 3", "members: 40")).expect("valid");
        assert_eq!(plan.members, MAX_MEMBERS);
        assert_eq!(plan.notes[0], "40 members are wanted; on one machine 16 are run");
        let plan = Plan::read("my.yaml", CLUSTER, Some(1)).expect("valid");
        assert_eq!(plan.members, 1);
    }

    #[test]
    fn a_file_without_one_cluster_is_refused() {
        assert_eq!(read(GROUP).expect_err("none"), "my.yaml: holds no CacheCluster");
        let two = format!("{CLUSTER}---{}", CLUSTER.replace("shop", "other"));
        assert!(read(&two).expect_err("two").contains("holds 2 CacheClusters"));
    }

    #[test]
    fn a_misspelt_field_is_named_with_its_line() {
        let error = read(&CLUSTER.replace("memory", "memmory")).expect_err("a typo");
        assert!(error.starts_with("my.yaml:5: CacheCluster \"shop\": spec"), "{error}");
        assert!(error.contains("memory"), "{error}");
    }
}
