//! Owns the form of a condition: its generation, and the time of its last transition, which changes
//! only with its status. Pure. [`crate::api::status`] names the conditions.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// Whether one condition holds, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// It holds.
    pub holds: bool,
    /// The reason, in CamelCase.
    pub reason: &'static str,
    /// What is the case and what to do, for people.
    pub message: String,
}

impl Finding {
    /// A condition that holds.
    #[must_use]
    pub fn yes(reason: &'static str, message: impl Into<String>) -> Self {
        Self { holds: true, reason, message: message.into() }
    }

    /// A condition that does not hold.
    #[must_use]
    pub fn no(reason: &'static str, message: impl Into<String>) -> Self {
        Self { holds: false, reason, message: message.into() }
    }

    /// The condition `type_`. `previous` are the conditions that the object has now.
    #[must_use]
    pub fn condition(
        &self,
        type_: &str,
        previous: &[Condition],
        generation: Option<i64>,
        now: &Time,
    ) -> Condition {
        let status = if self.holds { "True" } else { "False" };
        let since = previous
            .iter()
            .find(|condition| condition.type_ == type_ && condition.status == status)
            .map_or(now, |condition| &condition.last_transition_time);
        Condition {
            type_: type_.into(),
            status: status.into(),
            reason: self.reason.into(),
            message: self.message.clone(),
            observed_generation: generation,
            last_transition_time: since.clone(),
        }
    }

    /// The first finding that does not hold, or `all_hold`.
    #[must_use]
    pub fn first_failure(findings: &[&Self], all_hold: Self) -> Self {
        let failure = findings.iter().find(|finding| !finding.holds);
        failure.map_or(all_hold, |finding| (*finding).clone())
    }
}

/// An error and its sources, in one line. An answer of the API server or etcd is reduced to its
/// message.
#[must_use]
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut messages = Vec::new();
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(message) = answer(error) {
            messages.push(message.to_owned());
            break;
        }
        messages.push(error.to_string());
        next = error.source();
    }
    messages.join(": ")
}

/// The message of a server's answer; `None` for any other error.
fn answer<'e>(error: &'e (dyn std::error::Error + 'static)) -> Option<&'e str> {
    if let Some(kube::Error::Api(status)) = error.downcast_ref() {
        return Some(&status.message);
    }
    match error.downcast_ref::<Box<etcd_client::Error>>()?.as_ref() {
        etcd_client::Error::GRpcStatus(status) => Some(status.message()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::jiff::Timestamp;

    use super::*;

    fn at(second: i64) -> Time {
        Time(Timestamp::from_second(second).expect("in range"))
    }

    #[test]
    fn the_transition_time_changes_only_with_the_status() {
        let first = Finding::no("Starting", "").condition("Ready", &[], Some(1), &at(10));
        let previous = [first];
        let later = Finding::no("Other", "").condition("Ready", &previous, Some(2), &at(20));
        assert_eq!(later.last_transition_time, at(10));
        assert_eq!((later.reason.as_str(), later.observed_generation), ("Other", Some(2)));
        let flipped = Finding::yes("Ready", "").condition("Ready", &previous, Some(2), &at(20));
        assert_eq!(flipped.last_transition_time, at(20));
    }

    #[test]
    fn the_first_finding_that_does_not_hold_decides() {
        let (good, bad) = (Finding::yes("A", "a"), Finding::no("B", "b"));
        let all_hold = Finding::yes("Ready", "all");
        assert_eq!(Finding::first_failure(&[&good, &bad], all_hold.clone()), bad);
        assert_eq!(Finding::first_failure(&[&good, &good], all_hold.clone()), all_hold);
    }

    #[test]
    fn an_answer_is_reduced_to_its_message() {
        let status = kube::core::Status::failure("pods is forbidden", "Forbidden").with_code(403);
        let refused = kube::Error::Api(Box::new(status));
        assert_eq!(chain(&refused), "pods is forbidden");
        let unknown = tonic::Status::unavailable("invalid peer certificate: UnknownIssuer");
        let error = crate::etcd::Error::Call {
            what: "list keys",
            endpoint: "https://a:2379".into(),
            source: Box::new(etcd_client::Error::GRpcStatus(unknown)),
        };
        assert_eq!(
            chain(&error),
            "could not list keys at etcd https://a:2379: invalid peer certificate: UnknownIssuer"
        );
    }
}
