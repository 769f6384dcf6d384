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
    mod sql;
    #[path = "../../../registry/tests/transcript/steps.rs"]
    mod steps;

    use std::io::Write;
    use std::time::Duration;

    use self::registry::Etcd;

    /// Longest wait for any condition.
    const PATIENCE: Duration = Duration::from_secs(30);

    /// The value of `variable`. If it is not set, prints that the test does not run.
    fn service(variable: &str) -> Option<String> {
        let value = std::env::var(variable).ok().filter(|value| !value.is_empty());
        if value.is_none() {
            let test = std::thread::current().name().unwrap_or("a test").to_owned();
            assert!(
                std::env::var_os("CI").is_none(),
                "{variable} is not set, and CI runs every test"
            );
            // Not `eprintln!`, whose output the test harness hides if the test passes.
            let line =
                format!("NOT RUN: {test}: {variable} is not set (cargo xtask test sets it)\n");
            std::io::stderr().write_all(line.as_bytes()).expect("standard error");
        }
        value
    }

    #[tokio::test]
    async fn etcd_produces_the_same_transcript_as_the_embedded_registry() {
        let Some(etcd) = Etcd::start().await else { return };
        steps::check(&steps::run(&etcd.endpoint()).await);
    }
}
