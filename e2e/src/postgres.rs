//! A real PostgreSQL with the sample's rows, on an address that every pod reaches.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use crate::poll;
use crate::process::{self, Running};

/// The user that Debian's package creates; the server refuses to run as root.
const USER: &str = "postgres";
const AS_USER: [&str; 5] = ["--reuid", USER, "--regid", USER, "--init-groups"];
/// Password of the read-only role `larder`.
const PASSWORD: &str = "read-only";

/// A server with the table `students`. It ends when dropped or when the tests end.
#[derive(Debug)]
pub struct Postgres {
    _server: Running,
    host: String,
    port: u16,
    binaries: PathBuf,
}

impl Postgres {
    /// Starts a server on a free port of `host` and fills the table.
    ///
    /// # Panics
    /// When PostgreSQL is missing or does not start.
    #[must_use]
    pub fn start(host: &str) -> Self {
        let port = process::free_port(host);
        let initdb = process::find("initdb", &debian_folders(), "postgresql");
        let binaries = initdb.parent().expect("a file is in a folder").to_owned();
        let folder = process::folder("larder-pg");
        let shown = folder.display().to_string();
        process::output(Command::new("chown").args([USER, &shown])).expect("run as root");
        let data = folder.join("data");
        let prepare = ["--auth-host=scram-sha-256", "--auth-local=trust", "-D"];
        process::output(
            Command::new("setpriv").args(AS_USER).arg(&initdb).args(prepare).arg(&data),
        )
        .unwrap_or_else(|e| panic!("initdb: {e}"));
        std::fs::write(data.join("pg_hba.conf"), HBA).expect("the folder is new");
        let settings = [
            format!("-clisten_addresses={host}"),
            format!("-cport={port}"),
            format!("-cunix_socket_directories={shown}"),
            "-cfsync=off".into(),
            // Each member of each CacheCluster keeps as many connections as its group allows.
            "-cmax_connections=2000".into(),
        ];
        let program = binaries.join("postgres");
        let mut command: Vec<&OsStr> = vec!["setpriv".as_ref()];
        command.extend(AS_USER.iter().map(OsStr::new));
        command.extend([program.as_os_str(), "-D".as_ref(), data.as_os_str()]);
        command.extend(settings.iter().map(OsStr::new));
        let server = Running::start(&command, &folder);
        let postgres = Self { _server: server, host: host.into(), port, binaries };
        let socket = shown.as_str();
        poll::until("PostgreSQL", Duration::from_secs(30), || postgres.psql(socket, "SELECT 1"));
        postgres.psql(socket, SCHEMA).expect("the table can be created");
        postgres
    }

    /// The URL for a Secret.
    #[must_use]
    pub fn url(&self) -> String {
        format!("postgres://larder:{PASSWORD}@{}:{}/postgres", self.host, self.port)
    }

    fn psql(&self, socket: &str, sql: &str) -> Result<String, String> {
        process::output(
            Command::new(self.binaries.join("psql"))
                .args(["--host", socket, "--port", &self.port.to_string()])
                .args(["--username", USER, "--dbname", "postgres", "-v", "ON_ERROR_STOP=1"])
                .args(["--tuples-only", "--no-align", "--command", sql]),
        )
    }
}

/// Local connections need no password; from the network only `larder` with its password.
const HBA: &str = "local all all trust\nhost all larder 0.0.0.0/0 scram-sha-256\n";

const SCHEMA: &str = "
CREATE TABLE students (name text PRIMARY KEY, score integer NOT NULL);
INSERT INTO students VALUES ('Tom', 630), ('Jack', 589), ('Sam', 567);
INSERT INTO students SELECT 'student' || n, n % 1000 FROM generate_series(1, 5000) AS n;
CREATE ROLE larder LOGIN PASSWORD 'read-only';
GRANT SELECT ON students TO larder;
";

/// Debian's folders of the server's programs, newest version first; they are not on the PATH.
fn debian_folders() -> Vec<PathBuf> {
    let Ok(versions) = std::fs::read_dir("/usr/lib/postgresql") else { return Vec::new() };
    let mut folders: Vec<PathBuf> = versions.flatten().map(|v| v.path().join("bin")).collect();
    folders.sort();
    folders.reverse();
    folders
}
