//! The databases of the groups: those given by `--secret`, and the demo in place of the others.
//! Each is asked once before the members use it, so that what cannot work is one line.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context;
use larder_node::origin::{self, Credentials, LoaderDeps, Targets};
use larder_proto::contract::{Origin, OriginLimits};
use larder_proto::names;
use tempfile::TempDir;

use super::demo;
use super::plan::{Group, Plan};
use super::secrets::{GivenSecret, SecretKey};
use crate::exit::{BadConfiguration, one_line};

/// Limit of the first question to a database.
const ASK_TIMEOUT_MS: u64 = 5_000;

/// The databases, and the folder with their URLs that members read.
pub(super) struct Databases {
    credentials: TempDir,
    /// Groups that read the demo.
    demo: Vec<String>,
    lines: Vec<String>,
}

/// Where URLs come from.
pub(super) struct Urls {
    pub(super) given: Vec<GivenSecret>,
    /// Folder of the demo database.
    pub(super) data: PathBuf,
}

impl Urls {
    /// # Errors
    /// A Secret that no group of `plan` refers to.
    pub(super) fn check(&self, plan: &Plan) -> Result<(), BadConfiguration> {
        for GivenSecret { secret, .. } in &self.given {
            if !plan.groups.iter().any(|g| g.secret.as_ref() == Some(secret)) {
                let text = format!("--secret {secret}: no group refers to it");
                return Err(BadConfiguration(text));
            }
        }
        Ok(())
    }

    /// Lines about values that others can read.
    pub(super) fn warnings(&self) -> impl Iterator<Item = String> {
        self.given.iter().filter(|given| given.exposed).map(|given| {
            format!(
                "the value of --secret {0} is in the list of processes; pass it as {0}=@FILE or \
                 {0}=env:VARIABLE",
                given.secret
            )
        })
    }
}

impl Databases {
    /// Makes the demo if a group needs it, writes the URLs, asks each origin once, except those
    /// of groups that are the same in `known`.
    ///
    /// # Errors
    /// A database that does not answer its group's query.
    pub(super) async fn prepare(plan: &Plan, urls: &Urls, known: &[Group]) -> anyhow::Result<Self> {
        let credentials = tempfile::tempdir().context("no temporary folder")?;
        let mut databases = Self { credentials, demo: Vec::new(), lines: Vec::new() };
        for group in &plan.groups {
            let Some(secret) = &group.secret else { continue };
            match urls.given.iter().find(|given| given.secret == *secret) {
                Some(given) => databases.write(group, &given.value)?,
                None => databases.use_demo(group, secret, &urls.data).await?,
            }
            if !known.contains(group) {
                databases.ask(group, secret).await?;
            }
        }
        Ok(databases)
    }

    pub(super) fn directory(&self) -> &Path {
        self.credentials.path()
    }

    /// Takes over the URLs of `next`. URLs of groups that are gone stay until the end.
    pub(super) fn replace(&mut self, next: Self) -> anyhow::Result<()> {
        for file in std::fs::read_dir(next.directory())? {
            let file = file?;
            std::fs::rename(file.path(), self.directory().join(file.file_name()))
                .context("the temporary folder cannot be written")?;
        }
        (self.demo, self.lines) = (next.demo, next.lines);
        Ok(())
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
        let path: PathBuf = demo::make(data).await.map_err(|e| BadConfiguration(one_line(&e)))?;
        let path = path.canonicalize().unwrap_or(path);
        self.write(group, &demo::url(&path))?;
        self.demo.push(group.name.clone());
        self.lines.push(format!(
            "group {}: no --secret {secret} is given, so it reads the demo table\n\
             students(name, score) of the SQLite database {}.\n\
             --secret {secret}=@FILE gives it the database whose URL is in FILE.",
            group.name,
            path.display(),
        ));
        Ok(())
    }

    /// Loads a key that probably does not exist, as a member would: the URL, the database and the
    /// query must work, whatever the answer.
    async fn ask(&self, group: &Group, secret: &SecretKey) -> anyhow::Result<()> {
        let deps = LoaderDeps {
            credentials: Credentials::new(self.directory()),
            targets: Targets::default(),
            max_value_bytes: names::MAX_VALUE_BYTES,
        };
        // Not the group's own limit: the first connection takes longer than a load.
        let limits = OriginLimits::new(1, ASK_TIMEOUT_MS);
        let loader = origin::build(&group.contract.origin, &limits, &deps);
        let problem = match async { loader?.load(b"larder-up").await }.await {
            Ok(_) => return Ok(()),
            Err(error) => one_line(&error.into()),
        };
        let text = if self.demo.contains(&group.name) {
            format!(
                "group {}: its query does not fit the demo table students(name, score): {problem}; \
                 give its own database with --secret {secret}=@FILE",
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
