//! The databases of the groups: those given by `--secret`, and the demo in place of the others.
//! Each is asked once before the members start, so that what cannot work is told in one line.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::Context;
use larder_node::origin::{self, Credentials};
use larder_proto::contract::{Origin, OriginLimits};
use larder_proto::names;
use tempfile::TempDir;

use super::demo;
use super::plan::{Group, Plan, SecretKey};
use crate::exit::{BadConfiguration, told};

/// Limit of the first question to a database.
const ASK_LIMIT_MS: u64 = 5_000;

/// `NAME/KEY=VALUE` of the command line. Never printed.
#[derive(Clone)]
pub(super) struct GivenSecret {
    secret: SecretKey,
    value: String,
}

/// The databases, and the folder with their URLs that members read.
pub(super) struct Databases {
    credentials: TempDir,
    /// Groups that read the demo.
    demo: Vec<String>,
    lines: Vec<String>,
}

impl FromStr for GivenSecret {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let form = "must be NAME/KEY=VALUE";
        let (secret, value) = text.split_once('=').ok_or(form)?;
        let (name, key) = secret.split_once('/').ok_or(form)?;
        if name.is_empty() || key.is_empty() || value.is_empty() {
            return Err(form);
        }
        let secret = SecretKey { name: name.into(), key: key.into() };
        Ok(Self { secret, value: value.into() })
    }
}

impl std::fmt::Debug for GivenSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "GivenSecret({})", self.secret)
    }
}

impl Databases {
    /// Makes the demo if a group needs it, writes the URLs, asks each origin once.
    ///
    /// # Errors
    /// A Secret that no group refers to, a database that does not answer its group's query.
    pub(super) async fn prepare(
        plan: &Plan,
        given: &[GivenSecret],
        data: &Path,
    ) -> anyhow::Result<Self> {
        for secret in given {
            let used = plan.groups.iter().any(|g| g.secret.as_ref() == Some(&secret.secret));
            if !used {
                let text = format!("--secret {}: no group refers to it", secret.secret);
                return Err(BadConfiguration(text).into());
            }
        }
        let credentials = tempfile::tempdir().context("no temporary folder")?;
        let mut databases = Self { credentials, demo: Vec::new(), lines: Vec::new() };
        for group in &plan.groups {
            let Some(secret) = &group.secret else { continue };
            match given.iter().find(|g| g.secret == *secret) {
                Some(given) => databases.write(group, &given.value)?,
                None => databases.use_demo(group, secret, data).await?,
            }
            databases.ask(group, secret).await?;
        }
        Ok(databases)
    }

    pub(super) fn directory(&self) -> &Path {
        self.credentials.path()
    }

    /// What the user should know about where values come from.
    pub(super) fn lines(&self) -> &[String] {
        &self.lines
    }

    /// A group and a key to try.
    pub(super) fn example<'p>(&self, plan: &'p Plan) -> Option<(&'p str, &'static str)> {
        let demo = plan.groups.iter().find(|g| self.demo.contains(&g.name));
        demo.map(|g| (g.name.as_str(), "Tom"))
            .or_else(|| plan.groups.first().map(|g| (g.name.as_str(), "KEY")))
    }

    async fn use_demo(
        &mut self,
        group: &Group,
        secret: &SecretKey,
        data: &Path,
    ) -> anyhow::Result<()> {
        let path: PathBuf = demo::make(data).await.map_err(|e| BadConfiguration(told(&e)))?;
        let path = path.canonicalize().unwrap_or(path);
        self.write(group, &demo::url(&path))?;
        self.demo.push(group.name.clone());
        self.lines.push(format!(
            "group {}: the Secret {} cannot be seen from here, so it reads the SQLite demo table\n\
             students(name, score) in {}.\n--secret {secret}=URL gives it another database.",
            group.name,
            secret.name,
            path.display(),
        ));
        Ok(())
    }

    /// Loads a key that nobody has, as a member would: the URL, the database and the query must
    /// work, whatever the answer.
    async fn ask(&self, group: &Group, secret: &SecretKey) -> anyhow::Result<()> {
        let credentials = Credentials::new(self.directory());
        // Not the group's own limit: the first connection takes longer than a load.
        let limits = OriginLimits { concurrency: 1, timeout_ms: ASK_LIMIT_MS };
        let loader =
            origin::build(&group.contract.origin, &limits, &credentials, names::MAX_VALUE_BYTES);
        let problem = match async { loader?.load(b"larder-up").await }.await {
            Ok(_) => return Ok(()),
            Err(error) => told(&error.into()),
        };
        let text = if self.demo.contains(&group.name) {
            format!(
                "group {}: its query does not fit the demo table students(name, score): {problem}; \
                 give its own database with --secret {secret}=URL",
                group.name
            )
        } else {
            format!("group {}: the database of {secret} cannot be read: {problem}", group.name)
        };
        Err(BadConfiguration(text).into())
    }

    /// Writes the file that the group's contract names.
    fn write(&self, group: &Group, url: &str) -> anyhow::Result<()> {
        let Origin::Sql(sql) = &group.contract.origin else { return Ok(()) };
        let path = self.directory().join(&sql.url_file);
        std::fs::write(&path, url).context("the temporary folder cannot be written")?;
        std::fs::set_permissions(&path, Permissions::from_mode(0o600)).context("no permissions")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_given_by_name_key_and_value_and_never_shown() {
        let given: GivenSecret = "db/url=postgres://u:p@h/d?a=b".parse().expect("valid");
        assert_eq!(given.secret.to_string(), "db/url");
        assert_eq!(given.value, "postgres://u:p@h/d?a=b");
        assert_eq!(format!("{given:?}"), "GivenSecret(db/url)");
        for wrong in ["db", "db=x", "/url=x", "db/=x", "db/url="] {
            assert!(wrong.parse::<GivenSecret>().is_err(), "{wrong}");
        }
    }
}
