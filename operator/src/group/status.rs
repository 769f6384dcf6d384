//! Owns the status of a CacheGroup: computed without side effects, and written in one patch when it
//! changed.

use kube::api::{Patch, PatchParams};
use kube::{Api, Client, ResourceExt};
use serde_json::json;

use super::apply::ContractWrite;
use super::contract;
use super::observe::{ClusterState, Credential, Observed};
use crate::api::cluster::USE_AS_ORIGIN;
use crate::api::status::{ACCEPTED, READY, WRITTEN};
use crate::api::{CacheGroup, CacheGroupStatus};
use crate::cluster::labels::MANAGER;
use crate::conditions::{Finding, chain};

/// Whether the group can be served.
#[must_use]
pub fn accepted(observed: &Observed, contract: Result<(), &contract::Error>) -> Finding {
    let cluster = &observed.group.spec.cluster_ref.name;
    if let Err(error) = contract {
        return Finding::no("Invalid", error.to_string());
    }
    match (observed.cluster, &observed.credential) {
        (ClusterState::Missing, _) => Finding::no(
            "ClusterNotFound",
            format!("there is no CacheCluster {cluster} in this namespace; create it"),
        ),
        (ClusterState::Unusable, _) => Finding::no(
            "ClusterNotUsable",
            format!("the CacheCluster {cluster} is being deleted or cannot be read"),
        ),
        (ClusterState::Exists, Credential::NoSecret { name }) => Finding::no(
            "SecretNotFound",
            format!("there is no Secret {name} in this namespace; create it with the origin's URL"),
        ),
        (ClusterState::Exists, Credential::Forbidden { name }) => Finding::no(
            "SecretForbidden",
            format!(
                "the operator is not allowed to read the Secret {name}; create a RoleBinding in \
                 this namespace, for which the chart's notes show the command"
            ),
        ),
        (ClusterState::Exists, Credential::NotAllowed { name }) => Finding::no(
            "SecretNotAllowed",
            format!(
                "the Secret {name} is not meant for origins; if CacheGroups may use it, run kubectl \
                 label secret {name} {USE_AS_ORIGIN}=true, or name it in the CacheCluster's \
                 spec.origins.secrets"
            ),
        ),
        (ClusterState::Exists, Credential::NoKey { name, key }) => {
            Finding::no("SecretKeyNotFound", format!("the Secret {name} has no key {key}; add it"))
        }
        (ClusterState::Exists, Credential::NotNeeded | Credential::Found { .. }) => {
            Finding::yes("Accepted", "the cluster exists and the origin has what it needs")
        }
    }
}

/// The status of the group.
#[must_use]
pub fn status(
    observed: &Observed,
    accepted: &Finding,
    written: &ContractWrite,
) -> CacheGroupStatus {
    let cluster = &observed.group.spec.cluster_ref.name;
    let stored = match written {
        ContractWrite::WrittenAt(_) => Finding::yes("Written", "the contract is in the registry"),
        ContractWrite::NotTried => Finding::no(accepted.reason, accepted.message.clone()),
        ContractWrite::WaitsForCredential => Finding::no(
            "WaitsForCredential",
            format!("the origin's URL is not in the members' Secret of {cluster} yet"),
        ),
        ContractWrite::Failed(error) => Finding::no(
            "RegistryUnavailable",
            format!(
                "{}; members keep the last contract. See the condition EtcdReady of the \
                 CacheCluster {cluster}",
                chain(error)
            ),
        ),
    };
    let generation = observed.group.metadata.generation;
    let previous = observed.group.status.as_ref().map_or(&[][..], |status| &status.conditions);
    let all_hold = Finding::yes("Ready", "members serve the group");
    let ready = Finding::first_failure(&[accepted, &stored], all_hold);
    let findings = [(READY, &ready), (ACCEPTED, accepted), (WRITTEN, &stored)];
    let conditions = findings
        .map(|(type_, finding)| finding.condition(type_, previous, generation, &observed.now));
    CacheGroupStatus {
        observed_generation: generation,
        conditions: conditions.into(),
        registry_revision: match written {
            ContractWrite::WrittenAt(revision) => Some(*revision),
            _ => None,
        },
    }
}

/// Writes `status` unless the object has it already; true when it was written.
///
/// # Errors
/// When the write fails.
pub async fn write(
    client: &Client,
    group: &CacheGroup,
    status: &CacheGroupStatus,
) -> Result<bool, kube::Error> {
    if group.status.as_ref() == Some(status) {
        return Ok(false);
    }
    let api: Api<CacheGroup> =
        Api::namespaced(client.clone(), &group.namespace().unwrap_or_default());
    let patch = json!({
        "apiVersion": "larder.dev/v1alpha1",
        "kind": "CacheGroup",
        "metadata": {"name": group.name_any(), "uid": group.uid()},
        "status": status,
    });
    let params = PatchParams::apply(MANAGER).force();
    api.patch_status(&group.name_any(), &params, &Patch::Apply(&patch)).await?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use k8s_openapi::jiff::Timestamp;

    use super::*;
    use crate::etcd::{self, Access};

    fn observed(cluster: ClusterState, credential: Credential) -> Observed {
        let text = "apiVersion: larder.dev/v1alpha1\nkind: CacheGroup\n\
             metadata: {name: students, namespace: prod, generation: 7}\n\
             spec: {clusterRef: {name: shop}, origin: {http: {urlTemplate: 'http://a/{key}'}}}\n";
        Observed {
            group: serde_saphyr::from_str(text).expect("valid YAML"),
            now: Time(Timestamp::UNIX_EPOCH),
            cluster,
            credential,
            entry: Ok(None),
            key: String::new(),
            access: Access { endpoints: Vec::new(), tls: None },
        }
    }

    #[test]
    fn each_missing_object_has_its_own_reason() {
        let name = || "db".to_owned();
        let cases = [
            (ClusterState::Missing, Credential::NotNeeded, Some("ClusterNotFound")),
            (ClusterState::Unusable, Credential::NotNeeded, Some("ClusterNotUsable")),
            (ClusterState::Exists, Credential::NoSecret { name: name() }, Some("SecretNotFound")),
            (ClusterState::Exists, Credential::Forbidden { name: name() }, Some("SecretForbidden")),
            (
                ClusterState::Exists,
                Credential::NotAllowed { name: name() },
                Some("SecretNotAllowed"),
            ),
            (
                ClusterState::Exists,
                Credential::NoKey { name: name(), key: "url".into() },
                Some("SecretKeyNotFound"),
            ),
            (ClusterState::Exists, Credential::Found { delivered: false }, None),
        ];
        for (cluster, credential, reason) in cases {
            let found = accepted(&observed(cluster, credential), Ok(()));
            assert_eq!((!found.holds).then_some(found.reason), reason);
        }
        let broken = accepted(
            &observed(ClusterState::Exists, Credential::NotNeeded),
            Err(&contract::Error::Origin),
        );
        assert_eq!(broken.reason, "Invalid");
    }

    #[test]
    fn a_group_is_ready_when_its_contract_is_in_the_registry() {
        let observed = observed(ClusterState::Exists, Credential::Found { delivered: true });
        let accepted = accepted(&observed, Ok(()));
        let ready = |written: &ContractWrite| {
            let status = status(&observed, &accepted, written);
            let top = status.conditions[0].clone();
            assert_eq!(top.observed_generation, Some(7));
            (top.status, top.reason, status.registry_revision)
        };
        assert_eq!(ready(&ContractWrite::WrittenAt(9)), ("True".into(), "Ready".into(), Some(9)));
        assert_eq!(
            ready(&ContractWrite::WaitsForCredential),
            ("False".into(), "WaitsForCredential".into(), None)
        );
        assert_eq!(ready(&ContractWrite::Failed(etcd::Error::NoEndpoint)).1, "RegistryUnavailable");
    }
}
