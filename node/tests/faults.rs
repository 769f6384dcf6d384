//! Faults of real processes: whole members (the built program) on loopback, a real etcd of three
//! members, an origin that counts its loads, and a constant rate of reads during each fault.
//!
//! Each test asserts a promise of `docs/reference/promises.md` and prints its figures. The probes
//! of every member are polled all the time, so each test also shows that no fault reaches them.
//! `cargo xtask test` sets `LARDER_ETCD` and runs the short forms; `cargo xtask soak faults` sets
//! `LARDER_FAULTS_MINUTES` and runs the same tests with outages of ten minutes.

mod faults {
    mod etcd;
    mod figures;
    mod leases;
    mod load;
    mod member;
    mod origin;
    mod overload;
    mod peers;
    mod probes;
    mod process;
    #[path = "../services/proxy.rs"]
    mod proxy;
    mod registry;
    mod rig;
    #[path = "../services/service.rs"]
    mod service;
    mod shared;
    mod watch;
}
