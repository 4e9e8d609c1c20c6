//! A sidecar from its registration to its contents, on hand-written answers.
