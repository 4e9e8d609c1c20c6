//! What is wrong with a file is reported at once: where, what is expected, and
//! what was probably meant.

use meridian_config::{GatewayFile, Report, Severity};
use std::fs;

const SOUND: &str = "\
version: edge/v1
listeners:
- {name: http, port: 8080, protocol: HTTP}
backends:
- {name: web, discovery: {dns: {name: web.internal, port: 80}}}
routes:
- name: site
  parentRefs: [{name: http}]
  rules:
  - matches: [{path: {type: PathPrefix, value: /a}}]
    backendRefs: [{name: web}]
";

fn report(text: &str) -> Report {
    GatewayFile::parse(text, "gateway.yaml").expect_err("the file is wrong")
}

/// The report on the sound file with one text in place of another.
fn changed(from: &str, to: &str) -> String {
    assert_eq!(SOUND.matches(from).count(), 1, "{from}");
    report(&SOUND.replace(from, to)).to_string()
}

#[test]
fn the_sound_file_is_sound() {
    let loaded = GatewayFile::parse(SOUND, "gateway.yaml").unwrap();
    assert!(loaded.warnings.is_empty(), "{}", loaded.warnings);
}

#[test]
fn everything_is_reported_at_once_in_the_order_of_lines() {
    let text = "\
version: edge/v2
listener:
- {name: http, port: 99999, protocol: HTTP}
listeners:
- {name: http, port: 99999, protocol: HTTP}
- {name: http, port: 81, protocol: HTTP}
backends:
- name: web
  discovery: {dns: {name: web.internal, port: 80, refresh: 10 s}}
- name: unfound
  discovery: {}
routes:
- name: site
  parentRefs: [{name: https}]
  rules:
  - matches: [{path: {type: Prefix, value: /a}}]
    backendRefs: [{name: wbe, weight: 0}]
  - matches: [{path: {type: RegularExpression, value: '/(a'}}]
    backendRefs: []
    timeouts: {request: 1s, backendRequest: 2s}
";
    let report = report(text);
    let lines: Vec<String> = report
        .to_string()
        .lines()
        .map(|line| line.replace("gateway.yaml:", ""))
        .collect();
    let expected = [
        "1: version: unknown value \"edge/v2\", expected edge/v1; did you mean \"edge/v1\"?",
        "2: listener: unknown key, expected one of ",
        "5: listeners[0].port: expected an integer from 1 to 65535, found \"99999\"",
        "6: listeners[1].name: listener \"http\" stands already in line 5",
        "9: backends[0].discovery.dns.refresh: expected a duration such as 10s, 1m30s or 250ms, found \"10 s\"",
        "11: backends[1].discovery: expected exactly one of consul, static, dns",
        "14: routes[0].parentRefs[0].name: there is no listener \"https\"; did you mean \"http\"?",
        "16: routes[0].rules[0].matches[0].path.type: unknown value \"Prefix\", expected one of Exact, PathPrefix, RegularExpression; did you mean \"PathPrefix\"?",
        "17: routes[0].rules[0].backendRefs[0].name: there is no backend \"wbe\"; did you mean \"web\"?",
        "17: routes[0].rules[0].backendRefs: the weights add up to 0; expected one above 0",
        "18: routes[0].rules[1].matches[0].path.value: expected a regular expression: unclosed group",
        "19: routes[0].rules[1].backendRefs: expected at least one backend, or a filter RequestRedirect",
        "20: routes[0].rules[1].timeouts.backendRequest: expected at most 1s, the timeout of the whole request",
    ];
    for wanted in expected {
        let found = lines.iter().any(|line| line.starts_with(wanted));
        assert!(found, "missing {wanted}\nin\n{}", lines.join("\n"));
    }
    assert_eq!(lines.len(), expected.len(), "{}", lines.join("\n"));
    let sorted = report.problems.is_sorted_by_key(|problem| problem.line);
    assert!(sorted, "{report}");
}

#[test]
fn wrong_types_name_both_types() {
    let cases = [
        (
            "port: 8080",
            "port: '8080'",
            "expected an integer from 1 to 65535, found \"8080\"",
        ),
        (
            "[{name: http}]",
            "{name: http}",
            "expected a list, found a mapping",
        ),
        (
            "[{name: http}]",
            "[http]",
            "expected a mapping with the keys name, found \"http\"",
        ),
        (
            "name: site",
            "name:",
            "expected a name of letters, digits and . _ -, found nothing",
        ),
        ("value: /a", "value: [a]", "expected text, found a list"),
    ];
    for (from, to, expected) in cases {
        let report = changed(from, to);
        assert!(report.contains(expected), "{to}: {report}");
    }
}

#[test]
fn a_missing_key_and_a_key_twice_are_named() {
    let report = changed("  parentRefs: [{name: http}]\n", "");
    assert_eq!(
        report,
        "gateway.yaml:7: routes[0].parentRefs: required key is missing"
    );
    let report = changed("- name: site\n", "- name: site\n  name: other\n");
    assert_eq!(report, "gateway.yaml:8: routes[0].name: key stands twice");
}

#[test]
fn unreachable_rules_name_the_one_before() {
    let again = "    backendRefs: [{name: web}]\n  - matches: [{path: {value: /a/}}]\n    backendRefs: [{name: web}]\n";
    let report = changed("    backendRefs: [{name: web}]\n", again);
    assert_eq!(
        report,
        "gateway.yaml:12: routes[0].rules[1].matches[0]: unreachable: \
         routes[0].rules[0].matches[0] in line 10 matches the same"
    );
}

#[test]
fn backends_that_nothing_names_are_refused() {
    let report = changed(
        "routes:",
        "- {name: idle, discovery: {dns: {name: x, port: 1}}}\nroutes:",
    );
    assert_eq!(
        report,
        "gateway.yaml:6: backends[1]: no route names this backend"
    );
}

#[test]
fn the_mesh_needs_the_gateways_own_service() {
    let report = changed(
        "{dns: {name: web.internal, port: 80}}",
        "{consul: {service: web}}",
    );
    assert!(
        report
            .contains("backends[0].discovery.consul: the way through the mesh needs service.name"),
        "{report}"
    );
}

#[test]
fn unreadable_certificates_and_foreign_keys_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let pair = || rcgen::generate_simple_self_signed(["a.test".to_owned()]).unwrap();
    fs::write(dir.path().join("a.crt"), pair().cert.pem()).unwrap();
    fs::write(dir.path().join("b.key"), pair().signing_key.serialize_pem()).unwrap();
    fs::write(dir.path().join("empty"), "").unwrap();
    let tls = "protocol: HTTPS, tls: {certificateRefs: [
  {certificate: absent.crt, key: empty},
  {certificate: empty, key: b.key},
  {certificate: a.crt, key: b.key}]}";
    let file = dir.path().join("gateway.yaml");
    fs::write(&file, SOUND.replace("protocol: HTTP", tls)).unwrap();
    let report = GatewayFile::load(&file).unwrap_err().to_string();
    let base = "listeners[0].tls.certificateRefs";
    for wanted in [
        format!(":4: {base}[0].certificate: cannot read "),
        format!(":4: {base}[0].key: expected a PEM file with a private key"),
        format!(":5: {base}[1].certificate: expected a PEM file with a certificate"),
        format!(":6: {base}[2].key: this is not the key of the certificate"),
    ] {
        assert!(report.contains(&wanted), "{wanted}\n{report}");
    }
    assert_eq!(report.lines().count(), 4, "{report}");
}

#[test]
fn keys_that_nothing_would_honour_are_refused() {
    let tcp = "\
version: edge/v1
listeners:
- {name: db, port: 1, protocol: TCP, hostname: a.b, limits: {head: 2Ki}, deadlines: {handshake: 1s}}
backends:
- {name: web, discovery: {dns: {name: web.internal, port: 80}}}
routes:
- name: db
  parentRefs: [{name: db}]
  hostnames: [a.b]
  rules:
  - retry: {attempts: 1}
    backendRefs: [{name: web}]
";
    let report = report(tcp).to_string();
    for wanted in [
        "listeners[0].hostname: has no meaning",
        "listeners[0].limits.head: has no meaning",
        "listeners[0].deadlines.handshake: has a meaning only on an HTTPS listener",
        "routes[0].hostnames: a TCP listener sees no host",
        "routes[0].rules[0].retry: has no meaning",
        "backendRefs[0].name: expected a backend with the protocol tcp",
    ] {
        assert!(report.contains(wanted), "{wanted}\n{report}");
    }
}

#[test]
fn a_file_that_is_no_yaml_or_not_there_is_one_error() {
    let broken = report("version: edge/v1\nlisteners: [\n");
    assert_eq!(broken.problems.len(), 1);
    let (_, reason) = broken.problems[0]
        .message
        .split_once("not YAML: ")
        .expect("its reason");
    assert!(reason.contains(' '), "a sentence says why: {reason:?}");
    let absent = GatewayFile::load("/nonexistent/gateway.yaml".as_ref()).unwrap_err();
    assert!(
        absent
            .to_string()
            .starts_with("/nonexistent/gateway.yaml: cannot read: ")
    );
}

#[test]
fn warnings_do_not_refuse_the_file() {
    let text = format!("{SOUND}admin: {{bind: 0.0.0.0:19000}}\n");
    let loaded = GatewayFile::parse(&text, "gateway.yaml").unwrap();
    let [only] = loaded.warnings.problems.as_slice() else {
        panic!("{}", loaded.warnings);
    };
    assert_eq!(only.severity, Severity::Warning);
    assert_eq!((only.line, only.path.as_str()), (Some(12), "admin.bind"));
}

#[test]
fn the_report_is_data_too() {
    let report = report(&SOUND.replace("type: PathPrefix", "type: Prefix"));
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["file"], "gateway.yaml");
    let problem = &json["problems"][0];
    assert_eq!(problem["severity"], "error");
    assert_eq!(problem["line"], 10);
    assert_eq!(problem["path"], "routes[0].rules[0].matches[0].path.type");
    assert_eq!(problem["suggestion"], "PathPrefix");
}
