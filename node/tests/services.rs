//! What needs a real service: membership and the registry's transcript against etcd, the SQL
//! origin against PostgreSQL and MariaDB. `cargo xtask test` starts them and names them in
//! `LARDER_ETCD` (a binary), `LARDER_POSTGRES` and `LARDER_MYSQL` (URLs). Membership's scenarios run against the embedded
//! registry too.
//!
//! Without a service its tests say so on standard error, and fail where `CI` is set.

mod services {
    mod membership;
    mod mysql;
    mod postgres;
    mod proxy;
    mod registry;
    mod sql;
    #[path = "../../../registry/tests/transcript/steps.rs"]
    mod steps;

    use std::io::Write;
    use std::time::Duration;

    use self::registry::Etcd;

    /// Longest wait for anything.
    const PATIENCE: Duration = Duration::from_secs(30);

    /// The service that `variable` names; nothing, said loudly, when it is not set.
    fn service(variable: &str) -> Option<String> {
        let named = std::env::var(variable).ok().filter(|value| !value.is_empty());
        if named.is_none() {
            let test = std::thread::current().name().unwrap_or("a test").to_owned();
            assert!(std::env::var_os("CI").is_none(), "{variable} is not set, and CI runs all");
            // Not `eprintln!`, which the test harness keeps to itself when a test passes.
            let line =
                format!("NOT RUN: {test}: {variable} is not set (cargo xtask test sets it)\n");
            std::io::stderr().write_all(line.as_bytes()).expect("standard error");
        }
        named
    }

    #[tokio::test]
    async fn etcd_gives_the_transcript_that_the_embedded_registry_gives() {
        let Some(etcd) = Etcd::start().await else { return };
        steps::check(&steps::run(&etcd.endpoint()).await);
    }
}
