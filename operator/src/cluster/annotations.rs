//! Owns the annotations of child objects, and the hash that most of them hold.

use serde::Serialize;
use sha2::{Digest, Sha256};

/// On a pod template: [`hash`] of the configuration that restarts the pod when it changes. For a
/// member that is its configuration file, for an etcd member everything but how it starts.
pub const CONFIG_HASH: &str = "larder.dev/config-hash";
/// On an etcd member's StatefulSet and its pod template: how the member starts, as JSON.
pub const ETCD_STATE: &str = "larder.dev/etcd-state";
/// On every child: [`hash`] of the object as it was last applied. It changes when the operator no
/// longer sets a field that it once set, which a comparison of fields alone would miss.
pub const APPLIED: &str = "larder.dev/applied";
/// On a member's pod: [`hash`] of the credentials that its kubelet was last made to fetch.
pub const CREDENTIALS: &str = "larder.dev/credentials";

/// The first 16 hexadecimal digits of the SHA-256 of a value's JSON.
#[must_use]
pub fn hash(value: &impl Serialize) -> String {
    let text = serde_json::to_vec(value).expect("Kubernetes objects are always JSON");
    Sha256::digest(text).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn hash_is_short_and_changes_with_the_value() {
        let hash_of = |value: &str| hash(&json!({"a": value}));
        assert_eq!(hash_of("1").len(), 16);
        assert_eq!(hash_of("1"), hash_of("1"));
        assert_ne!(hash_of("1"), hash_of("2"));
    }
}
