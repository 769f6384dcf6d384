//! Owns what the status of a pod says: whether it is ready, and why it does not run. Pure.

use k8s_openapi::api::core::v1::{ContainerStatus, Pod};

/// True when the condition `Ready` holds and the pod is not being deleted.
#[must_use]
pub fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    let mut conditions = conditions.into_iter().flatten();
    pod.metadata.deletion_timestamp.is_none()
        && conditions.any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// Why the pod does not run, in Kubernetes' words.
#[must_use]
pub fn trouble(pod: &Pod) -> Option<String> {
    let status = pod.status.as_ref()?;
    let waiting = container(pod).and_then(|container| container.state.as_ref()?.waiting.as_ref());
    if let Some(waiting) = waiting {
        let reason = waiting.reason.clone()?;
        return Some(match &waiting.message {
            Some(message) => format!("{reason}: {message}"),
            None => reason,
        });
    }
    let conditions = status.conditions.as_ref()?;
    let unscheduled = conditions.iter().find(|c| c.type_ == "PodScheduled" && c.status == "False");
    unscheduled?.message.clone()
}

/// The status of the pod's only container.
#[must_use]
pub fn container(pod: &Pod) -> Option<&ContainerStatus> {
    pod.status.as_ref()?.container_statuses.as_ref()?.first()
}
