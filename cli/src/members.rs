//! What all members answered to one question.

use anyhow::{Context, bail};
use larder_client::MemberAnswer;

use crate::exit;
use crate::text::plural;

/// The answers that arrived.
#[derive(Debug)]
pub(crate) struct Answers<T> {
    pub(crate) answers: Vec<T>,
    /// Members asked.
    pub(crate) members: usize,
}

impl<T> Answers<T> {
    /// Keeps the answers of `all`.
    ///
    /// # Errors
    /// The first error when no member answered, or when one says that the request is wrong.
    pub(crate) fn of(all: Vec<MemberAnswer<T>>) -> anyhow::Result<Self> {
        let members = all.len();
        let mut answers = Vec::new();
        let mut error = None;
        for member in all {
            match member.answer {
                Ok(answer) => answers.push(answer),
                Err(error) if error.code() == tonic::Code::Unimplemented => {
                    bail!("{} runs a version of larder that lacks this call", member.address)
                }
                Err(unknown @ larder_client::Error::UnknownGroup(_)) => return Err(unknown.into()),
                Err(other) => error = error.or(Some(other)),
            }
        }
        if answers.is_empty() {
            return Err(error.context("no member is known")?.into());
        }
        Ok(Self { answers, members })
    }

    /// [`exit::FAILURE`] when a member did not answer.
    pub(crate) fn code(&self) -> u8 {
        if self.answers.len() == self.members { exit::OK } else { exit::FAILURE }
    }

    /// A line about members that did not answer.
    pub(crate) fn note(&self) -> Option<String> {
        let answered = self.answers.len();
        (answered < self.members)
            .then(|| format!("{answered} of {} answered", plural(self.members, "member")))
    }
}
