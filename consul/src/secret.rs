//! Values that must not reach a log, and where the token of a request comes from.

use std::{
    fmt,
    path::PathBuf,
    sync::{Mutex, PoisonError},
};

use serde::{Deserialize, Serialize};

use crate::error::ConfigError;

/// Text that prints as `(secret)`: ACL tokens and private keys.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Wraps `text`.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself. Whoever calls this keeps it out of logs.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

/// Where the ACL token comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Token {
    /// Requests carry none; the agent uses its own default token.
    #[default]
    Anonymous,
    /// One token for the life of the client.
    Fixed(Secret),
    /// A file, read again for every request, so that a rotated token counts at once.
    ///
    /// Reading it is cheap beside the request, and comparing modification times would miss a
    /// rotation within one clock tick: tokens all have the same length.
    File {
        /// The file's path.
        path: PathBuf,
        /// Used when the file is empty, as the CLI does with `CONSUL_HTTP_TOKEN`.
        otherwise: Option<Secret>,
    },
}

/// Hands out the token of each request.
#[derive(Debug)]
pub(crate) struct TokenSource {
    token: Token,
    /// The last token read from the file; serves while the file is being replaced.
    last: Mutex<Option<Secret>>,
}

impl TokenSource {
    /// Fails when a token file cannot be read at start: better said then than at the first 403.
    pub(crate) fn new(token: Token) -> Result<Self, ConfigError> {
        let last = match &token {
            Token::File { path, otherwise } => std::fs::read_to_string(path)
                .map(|text| trimmed(&text).or_else(|| otherwise.clone()))
                .map_err(|source| ConfigError::File {
                    path: path.clone(),
                    source,
                })?,
            Token::Anonymous | Token::Fixed(_) => None,
        };
        Ok(Self {
            token,
            last: Mutex::new(last),
        })
    }

    pub(crate) async fn current(&self) -> Option<Secret> {
        match &self.token {
            Token::Anonymous => None,
            Token::Fixed(token) => Some(token.clone()),
            Token::File { path, .. } => {
                // Missing or empty means: just being replaced. The last token may still be good,
                // and the agent's answer says so when it isn't.
                let read = tokio::fs::read_to_string(path)
                    .await
                    .ok()
                    .and_then(|t| trimmed(&t));
                let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
                if read.is_some() {
                    last.clone_from(&read);
                }
                last.clone()
            }
        }
    }
}

fn trimmed(text: &str) -> Option<Secret> {
    let text = text.trim();
    (!text.is_empty()).then(|| Secret::new(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_hides_the_text() {
        let token = Token::Fixed(Secret::new("b1gs33cr3t"));
        assert_eq!(format!("{token:?}"), "Fixed((secret))");
    }

    #[tokio::test]
    async fn file_is_read_again_and_survives_replacement() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        std::fs::write(&path, "one\n").unwrap();
        let source = TokenSource::new(Token::File {
            path: path.clone(),
            otherwise: None,
        })
        .unwrap();
        assert_eq!(source.current().await, Some(Secret::new("one")));
        std::fs::write(&path, "two\n").unwrap();
        assert_eq!(source.current().await, Some(Secret::new("two")));
        std::fs::write(&path, "").unwrap();
        assert_eq!(source.current().await, Some(Secret::new("two")));
        std::fs::remove_file(&path).unwrap();
        assert_eq!(source.current().await, Some(Secret::new("two")));
    }

    #[tokio::test]
    async fn empty_file_leaves_the_other_token() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        std::fs::write(&path, "\n").unwrap();
        let otherwise = Some(Secret::new("env"));
        let source = TokenSource::new(Token::File {
            path,
            otherwise: otherwise.clone(),
        })
        .unwrap();
        assert_eq!(source.current().await, otherwise);
    }

    #[test]
    fn missing_file_is_an_error_at_start() {
        let token = Token::File {
            path: "/nonexistent/token".into(),
            otherwise: None,
        };
        TokenSource::new(token).unwrap_err();
    }
}
