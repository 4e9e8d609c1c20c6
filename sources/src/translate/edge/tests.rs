//! What gateways for strangers have in common.

use super::with_port;

#[test]
fn hosts_go_with_the_listeners_port_unless_they_are_written_with_one() {
    let cases: [(&str, &[&str]); 7] = [
        ("a.test", &["a.test:9", "a.test"]),
        ("*.a.test", &["*.a.test:9", "*.a.test"]),
        ("a.test:9", &["a.test:9"]),
        ("a.test:80", &["a.test:80"]),
        ("web.ingress.*", &["web.ingress.*"]),
        ("*", &["*"]),
        ("[::1]", &["[::1]:9", "[::1]"]),
    ];
    for (written, expected) in cases {
        assert_eq!(with_port([written.to_owned()], 9), expected, "{written}");
    }
}
