//! Owns one fault of a file and the line that reports it.

use std::fmt;

/// One fault of a file, reported in one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Line of the file, from 1, when known.
    pub line: Option<u64>,
    /// The object, such as `CacheCluster "shop"`; empty when the file is not YAML.
    pub object: String,
    /// Path of the field, such as `spec.memory`; empty for the whole object.
    pub field: String,
    /// What is wrong, in lower case and without a full stop.
    pub message: String,
}

impl Problem {
    /// The line to print, with the file's name in front.
    #[must_use]
    pub fn in_file(&self, file: &str) -> String {
        match self.line {
            Some(line) => format!("{file}:{line}: {self}"),
            None => format!("{file}: {self}"),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for part in [&self.object, &self.field] {
            if !part.is_empty() {
                write!(f, "{part}: ")?;
            }
        }
        f.write_str(&self.message)
    }
}
