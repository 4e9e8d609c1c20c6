//! Jobs: from the text of a job file to an evaluation.

use crate::{Client, Error};
use serde::Deserialize;
use serde_json::{Value, json};

/// A job as Nomad understood it. Durations in it are nanoseconds.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(transparent)]
pub struct Job(Value);

impl Job {
    /// The job's ID.
    pub fn id(&self) -> Option<&str> {
        self.0.get("ID")?.as_str()
    }

    /// Everything else.
    pub fn as_json(&self) -> &Value {
        &self.0
    }
}

/// What came of a registration.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Registered {
    /// The evaluation that places the job; empty for periodic and parameterized ones.
    #[serde(rename = "EvalID")]
    pub evaluation: String,
    /// The job's new index, for check-and-set.
    pub job_modify_index: u64,
    /// What Nomad would have us look at; empty for nothing.
    #[serde(default)]
    pub warnings: String,
}

impl Client {
    /// Reads a job file, HCL version 2 (`PUT /v1/jobs/parse`).
    ///
    /// # Errors
    /// Status 400 names line and column of what is wrong. See [`Error`].
    pub async fn parse_job(&self, source: &str) -> Result<Job, Error> {
        let body = json!({ "JobHCL": source, "Canonicalize": true });
        self.put("parse job", &["jobs", "parse"], &body).await
    }

    /// Runs a job, or replaces the one of its ID (`PUT /v1/jobs`). `source` is
    /// kept for people to read; counts that somebody scaled by hand stay.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn register_job(&self, job: &Job, source: &str) -> Result<Registered, Error> {
        let body = json!({
            "Job": job.0,
            "PreserveCounts": true,
            "Submission": { "Source": source, "Format": "hcl2" },
        });
        self.put("register job", &["jobs"], &body).await
    }
}

#[cfg(test)]
mod tests {
    use crate::client::scripted::Scripted;
    use serde_json::{Value, json};

    fn body(asked: &str) -> Value {
        let (_, body) = asked.split_once("\r\n\r\n").unwrap();
        serde_json::from_str(body).unwrap()
    }

    #[tokio::test]
    async fn parses_a_job_file() {
        let server = Scripted::answering("200 OK", r#"{"ID":"hello","Type":"service"}"#).await;
        let job = server.client().parse_job("job \"hello\" {}").await.unwrap();
        assert_eq!(job.id(), Some("hello"));
        assert_eq!(job.as_json()["Type"], "service");
        let asked = server.asked().await;
        assert!(asked.starts_with("PUT /v1/jobs/parse "), "{asked}");
        let expected = json!({ "JobHCL": "job \"hello\" {}", "Canonicalize": true });
        assert_eq!(body(&asked), expected);
    }

    #[tokio::test]
    async fn a_bad_job_file_is_told_with_its_line() {
        let text = "Failed to parse job: input.hcl:1,11-16: Unsupported block type";
        let server = Scripted::answering("400 Bad Request", text).await;
        let error = server
            .client()
            .parse_job("job \"x\" { wrong {} }")
            .await
            .unwrap_err();
        assert!(error.to_string().contains("input.hcl:1,11-16"), "{error}");
        assert!(!error.is_retryable());
    }

    #[tokio::test]
    async fn registers_with_its_source() {
        let parsed = serde_json::from_value(json!({ "ID": "hello" })).unwrap();
        let reply = r#"{"EvalID":"e1","JobModifyIndex":12,"Warnings":""}"#;
        let server = Scripted::answering("200 OK", reply).await;
        let registered = server.client().register_job(&parsed, "job").await.unwrap();
        assert_eq!(registered.evaluation, "e1");
        assert_eq!(registered.job_modify_index, 12);
        let body = body(&server.asked().await);
        assert_eq!(body["Job"]["ID"], "hello");
        assert_eq!(body["Submission"]["Format"], "hcl2");
    }
}
