//! The gateway's configuration in `dev` and `demo`: one file, as people write it.

/// A gateway on loopback, in the mesh as `gateway`, with two routes: everything
/// to `web`, and `/api` past it.
pub(crate) fn text(port: u16, gateway: &str, web: &str, api: &str) -> String {
    format!(
        "version: edge/v1
service: {{name: {gateway}}}
listeners:
- {{name: http, address: 127.0.0.1, port: {port}, protocol: HTTP}}
backends:
- {{name: web, discovery: {{consul: {{service: {web}}}}}}}
- {{name: api, discovery: {{consul: {{service: {api}}}}}}}
routes:
- name: demo
  parentRefs: [{{name: http}}]
  rules:
  - name: web
    backendRefs: [{{name: web}}]
  - name: api
    matches: [{{path: {{type: PathPrefix, value: /api}}}}]
    backendRefs: [{{name: api}}]
"
    )
}

#[cfg(test)]
mod tests {
    use super::text;
    use meridian_config::GatewayFile;

    #[test]
    fn is_good() {
        let text = text(8080, "gateway", "web", "api");
        let loaded = GatewayFile::parse(&text, "demo").unwrap_or_else(|report| panic!("{report}"));
        assert_eq!(loaded.value.service.as_deref(), Some("gateway"));
        assert!(loaded.warnings.problems.is_empty(), "{}", loaded.warnings);
    }
}
