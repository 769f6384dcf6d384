//! How a MariaDB server for the tests is made: it speaks MySQL's protocol, and Debian has it.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result};
use rustix::process::Signal;

use super::database::{Database, Site};
use crate::command;
use crate::packages::{self, Needed};

const PACKAGE: &str = "mariadb-server";

/// Installs MariaDB when it is missing, makes an empty server with a user `larder` and a database
/// of that name, starts it and waits until it answers.
///
/// # Errors
/// The command to type when it cannot be installed from here; otherwise the server's own words.
pub(super) fn start() -> Result<Database> {
    packages::ensure(&[
        Needed { file: "mariadbd", package: PACKAGE },
        Needed { file: "mariadb-install-db", package: PACKAGE },
        Needed { file: "mariadb-admin", package: PACKAGE },
    ])?;
    let site = Site::new("mysql", Signal::TERM)?;
    let data = format!("--datadir={}", site.path("data").display());
    let mut install = site.command(&program("mariadb-install-db")?);
    install.args(["--no-defaults", &data, "--skip-test-db"]);
    command::output(install.arg("--auth-root-authentication-method=socket"))?;
    let setup = format!(
        "CREATE DATABASE larder;\n\
         CREATE USER larder@'127.0.0.1' IDENTIFIED BY '{}';\n\
         GRANT ALL ON *.* TO larder@'127.0.0.1' WITH GRANT OPTION;\n",
        site.password
    );
    let setup = site.secret("setup.sql", &setup)?;

    let mut server = site.command(&program("mariadbd")?);
    server.args(["--no-defaults", &data, "--bind-address=127.0.0.1", "--skip-name-resolve"]);
    server.arg(format!("--port={}", site.port));
    server.arg(format!("--socket={}", site.path("socket").display()));
    server.arg(format!("--pid-file={}", site.path("pid").display()));
    server.arg(format!("--init-file={}", setup.display()));
    server.arg("--innodb-flush-log-at-trx-commit=0");
    let mut probe = Command::new(program("mariadb-admin")?);
    probe.args(["--no-defaults", "--host=127.0.0.1", "--user=larder"]);
    probe.arg(format!("--port={}", site.port)).arg("status").env("MYSQL_PWD", &site.password);
    let url = format!("mysql://larder:{}@127.0.0.1:{}/larder", site.password, site.port);
    site.start(server, probe, url).context("MariaDB")
}

fn program(name: &str) -> Result<PathBuf> {
    command::find(name).with_context(|| format!("{name} was not found"))
}
