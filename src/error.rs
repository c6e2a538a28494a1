//! The one error type: a sentence for a person, and an exit status.

use std::fmt;

/// What went wrong, where, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    kind: ErrorKind,
    message: String,
}

/// Whose turn it is: the user's (bad input, exit status 2) or the machine's (failure, exit status 1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// Bad usage or bad input; exit status 2.
    Input,
    /// The work itself failed; exit status 1.
    Failure,
}

/// A result whose error is a sentence.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// Bad usage or input: the sentence says what, where (file, key, shape) and what to do.
    pub fn input(message: impl Into<String>) -> Self {
        Self { kind: ErrorKind::Input, message: message.into() }
    }

    /// The work failed: the sentence says what, where and what to do.
    pub fn failure(message: impl Into<String>) -> Self {
        Self { kind: ErrorKind::Failure, message: message.into() }
    }

    /// The same error with "`where_`: " in front, for callers that know the file or the field.
    #[must_use]
    pub fn at(mut self, where_: impl fmt::Display) -> Self {
        self.message = format!("{where_}: {}", self.message);
        self
    }

    /// Whether input or work is at fault.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The exit status of a program that stops with this error.
    pub fn exit_code(&self) -> u8 {
        match self.kind {
            ErrorKind::Input => 2,
            ErrorKind::Failure => 1,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}
