//! Values of Secrets from the command line: `NAME/KEY=@FILE`, `NAME/KEY=env:VARIABLE`, or the value
//! itself, which every user of the machine can then read in the list of processes.

use std::fmt;
use std::str::FromStr;

/// One key of a Secret: `NAME/KEY`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SecretKey {
    pub(super) name: String,
    pub(super) key: String,
}

/// A value for one key of a Secret. Never printed.
#[derive(Clone)]
pub(super) struct GivenSecret {
    pub(super) secret: SecretKey,
    pub(super) value: String,
    /// The value itself was an argument.
    pub(super) exposed: bool,
}

impl fmt::Display for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.name, self.key)
    }
}

impl fmt::Debug for GivenSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GivenSecret({})", self.secret)
    }
}

impl FromStr for GivenSecret {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let form = || "must be NAME/KEY=@FILE, NAME/KEY=env:VARIABLE or NAME/KEY=VALUE".to_owned();
        let (secret, given) = text.split_once('=').ok_or_else(form)?;
        let (name, key) = secret.split_once('/').ok_or_else(form)?;
        let secret = SecretKey { name: name.into(), key: key.into() };
        let (value, exposed) = if let Some(file) = given.strip_prefix('@') {
            let text = std::fs::read_to_string(file);
            (text.map_err(|error| format!("{file} cannot be read: {error}"))?, false)
        } else if let Some(variable) = given.strip_prefix("env:") {
            let text = std::env::var(variable);
            (text.map_err(|error| format!("variable {variable}: {error}"))?, false)
        } else {
            (given.to_owned(), true)
        };
        let value = value.trim_end_matches(['\r', '\n']).to_owned();
        if name.is_empty() || key.is_empty() || given.is_empty() {
            return Err(form());
        }
        if value.is_empty() {
            return Err(format!("the value of {secret} is empty"));
        }
        Ok(Self { secret, value, exposed })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(text: &str) -> Result<(String, bool), String> {
        let given: GivenSecret = text.parse()?;
        assert_eq!(format!("{given:?}"), "GivenSecret(db/url)", "the value is not shown");
        Ok((given.value, given.exposed))
    }

    #[test]
    fn a_value_comes_from_a_file_a_variable_or_the_argument_itself() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("url");
        std::fs::write(&file, "postgres://u:p@h/d\n").expect("written");
        let from_file = given(&format!("db/url=@{}", file.display()));
        assert_eq!(from_file, Ok(("postgres://u:p@h/d".into(), false)));
        let path = std::env::var("PATH").expect("set");
        assert_eq!(given("db/url=env:PATH"), Ok((path, false)));
        assert_eq!(
            given("db/url=postgres://u:p@h/d?a=b"),
            Ok(("postgres://u:p@h/d?a=b".into(), true))
        );
    }

    #[test]
    fn what_is_not_a_secret_is_refused() {
        for wrong in ["db", "db=x", "/url=x", "db/=x", "db/url=", "db/url=@/none", "db/url=env:NO_"]
        {
            assert!(wrong.parse::<GivenSecret>().is_err(), "{wrong}");
        }
        let error = "db/url=env:NO_SUCH_".parse::<GivenSecret>().expect_err("not set");
        assert_eq!(error, "variable NO_SUCH_: environment variable not found");
    }
}
