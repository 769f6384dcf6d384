//! Starts a MariaDB server for the tests. It uses MySQL's protocol, and Debian packages it.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result};
use rustix::process::Signal;

use super::database::{Database, Setup};
use crate::command;
use crate::packages::{self, Needed};

const PACKAGE: &str = "mariadb-server";

/// Installs MariaDB when it is missing, creates a server with a user `larder` and an empty database
/// of that name, starts it and waits until it is ready.
///
/// # Errors
/// When the server is not installed and this process cannot install it; the error holds the command
/// to run. When the server does not start; the error holds the last lines of its log.
pub(super) fn start() -> Result<Database> {
    packages::ensure(&[
        Needed { file: "mariadbd", package: PACKAGE },
        Needed { file: "mariadb-install-db", package: PACKAGE },
        Needed { file: "mariadb-admin", package: PACKAGE },
    ])?;
    let setup = Setup::new("mysql", Signal::TERM)?;
    let data = format!("--datadir={}", setup.path("data").display());
    let mut install = setup.command(&program("mariadb-install-db")?);
    install.args(["--no-defaults", &data, "--skip-test-db"]);
    command::output(install.arg("--auth-root-authentication-method=socket"))?;
    let statements = format!(
        "CREATE DATABASE larder;\n\
         CREATE USER larder@'127.0.0.1' IDENTIFIED BY '{}';\n\
         GRANT ALL ON *.* TO larder@'127.0.0.1' WITH GRANT OPTION;\n",
        setup.password
    );
    let init_file = setup.write_secret("init.sql", &statements)?;

    let mut server = setup.command(&program("mariadbd")?);
    server.args(["--no-defaults", &data, "--bind-address=127.0.0.1", "--skip-name-resolve"]);
    server.arg(format!("--port={}", setup.port));
    server.arg(format!("--socket={}", setup.path("socket").display()));
    server.arg(format!("--pid-file={}", setup.path("pid").display()));
    server.arg(format!("--init-file={}", init_file.display()));
    server.arg("--innodb-flush-log-at-trx-commit=0");
    let mut probe = Command::new(program("mariadb-admin")?);
    probe.args(["--no-defaults", "--host=127.0.0.1", "--user=larder"]);
    probe.arg(format!("--port={}", setup.port)).arg("status").env("MYSQL_PWD", &setup.password);
    let url = format!("mysql://larder:{}@127.0.0.1:{}/larder", setup.password, setup.port);
    setup.start(server, probe, url).context("MariaDB")
}

fn program(name: &str) -> Result<PathBuf> {
    command::find(name).with_context(|| format!("{name} was not found"))
}
