//! Owns how a condition is written: with its generation, and with the time of its last transition
//! kept while its status stays. Pure; which conditions exist is [`crate::api::status`]'s.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// What is found of one condition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// It holds.
    pub holds: bool,
    /// One word in CamelCase.
    pub reason: &'static str,
    /// For people: what is, and what to do.
    pub message: String,
}

impl Finding {
    /// It holds.
    #[must_use]
    pub fn yes(reason: &'static str, message: impl Into<String>) -> Self {
        Self { holds: true, reason, message: message.into() }
    }

    /// It does not.
    #[must_use]
    pub fn no(reason: &'static str, message: impl Into<String>) -> Self {
        Self { holds: false, reason, message: message.into() }
    }

    /// The condition of type `type_`, given those that stand.
    #[must_use]
    pub fn condition(
        &self,
        type_: &str,
        standing: &[Condition],
        generation: Option<i64>,
        now: &Time,
    ) -> Condition {
        let status = if self.holds { "True" } else { "False" };
        let since = standing
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

    /// The top of several: the first that does not hold, or `ready` when all do.
    #[must_use]
    pub fn all(findings: &[&Self], ready: Self) -> Self {
        findings.iter().find(|finding| !finding.holds).map_or(ready, |finding| (*finding).clone())
    }
}

/// An error with everything below it, in one line. What the API server or etcd answered speaks for
/// itself: of it only the message is told, not the whole object that brings it.
#[must_use]
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut told = Vec::new();
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(message) = answered(error) {
            told.push(message.to_owned());
            break;
        }
        told.push(error.to_string());
        next = error.source();
    }
    told.join(": ")
}

fn answered<'e>(error: &'e (dyn std::error::Error + 'static)) -> Option<&'e str> {
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
    fn transition_time_moves_only_with_the_status() {
        let first = Finding::no("Starting", "").condition("Ready", &[], Some(1), &at(10));
        let standing = [first];
        let later = Finding::no("Other", "").condition("Ready", &standing, Some(2), &at(20));
        assert_eq!(later.last_transition_time, at(10));
        assert_eq!((later.reason.as_str(), later.observed_generation), ("Other", Some(2)));
        let flipped = Finding::yes("Ready", "").condition("Ready", &standing, Some(2), &at(20));
        assert_eq!(flipped.last_transition_time, at(20));
    }

    #[test]
    fn the_first_that_fails_speaks_for_the_whole() {
        let (good, bad) = (Finding::yes("A", "a"), Finding::no("B", "b"));
        let ready = Finding::yes("Ready", "all");
        assert_eq!(Finding::all(&[&good, &bad], ready.clone()), bad);
        assert_eq!(Finding::all(&[&good, &good], ready.clone()), ready);
    }

    #[test]
    fn answers_are_told_by_their_message_alone() {
        let status = kube::core::Status::failure("pods is forbidden", "Forbidden").with_code(403);
        let refused = kube::Error::Api(Box::new(status));
        assert_eq!(chain(&refused), "pods is forbidden");
        let unknown = tonic::Status::unavailable("invalid peer certificate: UnknownIssuer");
        let error = crate::etcd::Error::Call {
            what: "list keys",
            endpoint: "https://a:2379".into(),
            source: Box::new(etcd_client::Error::GRpcStatus(unknown)),
        };
        let said =
            "etcd did not list keys at https://a:2379: invalid peer certificate: UnknownIssuer";
        assert_eq!(chain(&error), said);
    }
}
