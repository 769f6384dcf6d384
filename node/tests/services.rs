//! Tests against real services: membership and the registry's transcript against etcd, the SQL
//! origin against PostgreSQL and MariaDB. `cargo xtask test` starts them and sets `LARDER_ETCD` (a
//! binary), `LARDER_POSTGRES` and `LARDER_MYSQL` (URLs). The membership scenarios also run against
//! the embedded registry.
//!
//! A test without its service says so on standard error, and fails if `CI` is set.

mod services {
    mod membership;
    mod mysql;
    mod postgres;
    mod proxy;
    mod registry;
    mod service;
    mod sql;
    #[path = "../../../registry/tests/transcript/steps.rs"]
    mod steps;

    use std::time::Duration;

    use self::registry::Etcd;
    use self::service::service;

    /// Longest wait for any condition.
    const PATIENCE: Duration = Duration::from_secs(30);

    #[tokio::test]
    async fn etcd_produces_the_same_transcript_as_the_embedded_registry() {
        let Some(etcd) = Etcd::start().await else { return };
        steps::check(&steps::run(&etcd.endpoint()).await);
    }
}
