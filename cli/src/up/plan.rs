//! Pure: from a file of resources to what `up` starts. The schema, the rules and the builders are
//! the operator's own, so a file means the same here and on Kubernetes.

use larder_operator::api::cluster::CacheCluster;
use larder_operator::api::group::CacheGroup;
use larder_operator::api::{Document, read_documents};
use larder_operator::cluster::build::node_config;
use larder_operator::cluster::validate::{Cluster, Etcd, Images, validate};
use larder_operator::group::contract::contract;
use larder_proto::config::{Mode, NodeConfig};
use larder_proto::contract::GroupContract;

use super::secrets::SecretKey;
use crate::exit::BadConfiguration;

/// More members show nothing more on one machine, and take its ports.
pub(super) const MAX_MEMBERS: usize = 16;

/// What is to be started.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) cluster: String,
    pub(super) members: usize,
    /// As the operator renders it for every member, with the addresses of Kubernetes.
    pub(super) config: NodeConfig,
    pub(super) groups: Vec<Group>,
    /// What the user should know before it starts.
    pub(super) notes: Vec<String>,
}

/// A group of the cluster.
#[derive(Debug, PartialEq)]
pub(super) struct Group {
    pub(super) name: String,
    pub(super) contract: GroupContract,
    /// The Secret that holds the database's URL; nothing for an origin without one.
    pub(super) secret: Option<SecretKey>,
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
        let members = count(&cluster, members).map_err(bad)?;
        if matches!(cluster.etcd, Etcd::External(_)) {
            notes.push("spec.etcd.external is ignored: the embedded registry is used".into());
        }
        let groups: Result<Vec<Group>, _> = groups.iter().map(Group::of).collect();
        let groups = groups.map_err(bad)?;
        if groups.is_empty() {
            notes.push(format!("no CacheGroup names the cluster {}", cluster.name));
        }
        let mut config = node_config(&cluster);
        if let Mode::Member(member) = &mut config.mode {
            // The folder is one of a pod. The demo leaves nothing on the disk.
            member.snapshot = None;
        }
        Ok(Self { cluster: cluster.name, members, config, groups, notes })
    }
}

impl Group {
    fn of(group: &CacheGroup) -> Result<Self, String> {
        let name = group.metadata.name.clone().unwrap_or_default();
        let contract = contract(group).map_err(|e| format!("CacheGroup {name:?}: {e}"))?;
        let secret = group.spec.origin.sql.as_ref().map(|sql| SecretKey {
            name: sql.url_secret_ref.name.clone(),
            key: sql.url_secret_ref.key.clone(),
        });
        Ok(Self { name, contract, secret })
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
                notes.push(format!("{kind} {name} is ignored: not an API of Larder"));
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

fn count(cluster: &Cluster, asked: Option<usize>) -> Result<usize, String> {
    let wanted = match asked {
        Some(asked) => asked,
        None => usize::try_from(cluster.members).map_err(|_| "spec.members is negative")?,
    };
    if wanted > MAX_MEMBERS {
        return Err(format!(
            "CacheCluster {:?} has {wanted} members; up runs {MAX_MEMBERS} at most: choose fewer \
             with --members",
            cluster.name
        ));
    }
    Ok(wanted)
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
        let other = "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\n";
        let plan = read(&format!("{CLUSTER}---{GROUP}---\n{other}")).expect("valid");
        assert_eq!((plan.cluster.as_str(), plan.members), ("shop", 3));
        let names: Vec<&str> = plan.groups.iter().map(|g| g.name.as_str()).collect();
        assert_eq!(names, ["students"]);
        let secret = plan.groups[0].secret.as_ref().expect("a SQL origin");
        assert_eq!(secret.to_string(), "students-db/url");
        assert_eq!(plan.notes, ["Secret s is ignored: not an API of Larder"]);
    }

    #[test]
    fn a_group_of_a_cluster_that_the_file_lacks_is_refused() {
        let other = GROUP.replace("{name: shop}", "{name: shopp}");
        let error = read(&format!("{CLUSTER}---{other}")).expect_err("no such cluster");
        assert_eq!(
            error,
            "my.yaml:11: CacheGroup \"students\": spec.clusterRef.name: no CacheCluster \"shopp\" \
             in this file, did you mean \"shop\"?"
        );
    }

    #[test]
    fn more_members_than_one_machine_runs_are_refused() {
        let many = CLUSTER.replace("members: 3", "members: 40");
        assert_eq!(
            read(&many).expect_err("too many"),
            "my.yaml: CacheCluster \"shop\" has 40 members; up runs 16 at most: choose fewer with \
             --members"
        );
        assert_eq!(Plan::read("my.yaml", &many, Some(16)).expect("valid").members, 16);
    }

    #[test]
    fn a_file_without_one_cluster_is_refused() {
        assert_eq!(read(GROUP).expect_err("none"), "my.yaml: holds no CacheCluster");
        assert_eq!(read("").expect_err("empty"), "my.yaml: holds no CacheCluster");
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
