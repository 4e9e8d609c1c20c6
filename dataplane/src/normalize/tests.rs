//! Vectors of recorded bypasses, and properties over random paths.

use super::*;
use meridian_model::listener::HeaderUnderscores;

fn changed(text: &str) -> Normalized {
    Normalized::Changed(text.to_owned())
}

fn reject(reason: Reason) -> Normalized {
    Normalized::Reject(reason)
}

#[test]
fn known_bypasses_of_a_path_rule_are_closed_at_the_edge() {
    let cases = [
        ("/admin", Normalized::Unchanged),
        ("/pub/../admin", changed("/admin")),
        ("/pub/..%2fadmin", reject(Reason::EscapedSlash)),
        ("/pub/%2e%2e/admin", changed("/admin")),
        ("/pub/%2E%2e/admin", changed("/admin")),
        ("/pub/%252e%252e/admin", Normalized::Unchanged),
        ("//admin", changed("/admin")),
        ("/./admin", changed("/admin")),
        ("/admin/.", changed("/admin/")),
        ("/admin%20", Normalized::Unchanged),
        ("/ADMIN", Normalized::Unchanged),
        ("/%61dmin", changed("/admin")),
        ("/admin;x=1", Normalized::Unchanged),
        ("/pub;/..;/admin", reject(Reason::DotSegmentWithParameter)),
        ("/pub/..%3b/admin", reject(Reason::DotSegmentWithParameter)),
        (
            "/pub/%2e%2e;x/admin",
            reject(Reason::DotSegmentWithParameter),
        ),
        ("/pub/.;/admin", reject(Reason::DotSegmentWithParameter)),
        ("/pub\\..\\admin", changed("/admin")),
        ("\\admin", changed("/admin")),
        ("/pub/%5c..%5cadmin", reject(Reason::EscapedSlash)),
        ("/admin%00.png", reject(Reason::Nul)),
        ("/admin#x", reject(Reason::Fragment)),
        ("/admin?", Normalized::Unchanged),
        ("/admin/", Normalized::Unchanged),
        ("/pub/..", changed("/")),
        ("/..", changed("/")),
        ("/%2e", changed("/")),
        ("/../../../etc/passwd", changed("/etc/passwd")),
        ("/%c0%ae%c0%ae/admin", reject(Reason::Overlong)),
        ("/%e0%80%ae/admin", reject(Reason::Overlong)),
        ("/%f0%80%80%ae/admin", reject(Reason::Overlong)),
        ("/caf%c3%a9", Normalized::Unchanged),
        ("/%u002e%u002e/admin", reject(Reason::MalformedEscape)),
        ("/%", reject(Reason::MalformedEscape)),
        ("/%2", reject(Reason::MalformedEscape)),
        ("/%%32e%%32e/admin", reject(Reason::MalformedEscape)),
        ("/caf\u{e9}", reject(Reason::IllegalByte)),
        ("/a b", reject(Reason::IllegalByte)),
        ("/a\tb", reject(Reason::IllegalByte)),
        ("/a?b#c", reject(Reason::Fragment)),
        ("/pub?/../admin", Normalized::Unchanged),
        ("/a/../b?x=/../%2e%00", changed("/b?x=/../%2e%00")),
        ("", changed("/")),
        ("?a", changed("/?a")),
        ("*", Normalized::Unchanged),
        ("admin", reject(Reason::NotAPath)),
        ("http://h/admin", reject(Reason::NotAPath)),
        ("/a//../b", changed("/a/b")),
        ("/...", Normalized::Unchanged),
        ("/.hidden", Normalized::Unchanged),
        ("/a..b/", Normalized::Unchanged),
    ];
    for (target, expected) in cases {
        let actual = normalize(target.as_bytes(), &PathNormalization::EDGE);
        assert_eq!(actual, expected, "{target}");
    }
}

#[test]
fn escaped_slashes_are_treated_as_told() {
    let with = |escaped_slashes| PathNormalization {
        enabled: true,
        merge_slashes: false,
        escaped_slashes,
        underscores: HeaderUnderscores::Allow,
    };
    let redirect = |text: &str| Normalized::Redirect(text.to_owned());
    let cases = [
        (EscapedSlashes::Keep, "/a%2fb%5Cc", Normalized::Unchanged),
        (
            EscapedSlashes::Reject,
            "/a%2Fb",
            reject(Reason::EscapedSlash),
        ),
        (
            EscapedSlashes::UnescapeAndForward,
            "/a%2f..%5cb?%2f",
            changed("/b?%2f"),
        ),
        (
            EscapedSlashes::UnescapeAndRedirect,
            "/a%2f..%5cb?q",
            redirect("/b?q"),
        ),
        (
            EscapedSlashes::UnescapeAndRedirect,
            "/%2fevil.example",
            redirect("/evil.example"),
        ),
        (
            EscapedSlashes::UnescapeAndRedirect,
            "/a/../b",
            changed("/b"),
        ),
        (
            EscapedSlashes::UnescapeAndForward,
            "/%252f",
            Normalized::Unchanged,
        ),
    ];
    for (action, target, expected) in cases {
        let actual = normalize(target.as_bytes(), &with(action));
        assert_eq!(actual, expected, "{target} {action:?}");
    }
}

#[test]
fn the_mesh_keeps_double_slashes() {
    let actual = normalize(b"//a//%2e%2e/b", &PathNormalization::MESH_INBOUND);
    assert_eq!(actual, changed("//a/b"));
}

#[test]
fn what_is_switched_off_is_not_done() {
    for target in ["/a/../b", "//a", "/%2e%00", "/caf\u{e9}", "/a%2fb"] {
        let actual = normalize(target.as_bytes(), &PathNormalization::NONE);
        assert_eq!(actual, Normalized::Unchanged, "{target}");
    }
    let merge_only = PathNormalization {
        merge_slashes: true,
        ..PathNormalization::NONE
    };
    assert_eq!(normalize(b"//a/../b", &merge_only), changed("/a/../b"));
}

fn random_target(rng: &mut fastrand::Rng) -> String {
    const PIECES: [&str; 18] = [
        "/", "//", ".", "..", "a", "b;x", ";", "%2e", "%2E", "%2f", "%5c", "%25", "%41", "\\",
        "%c3%a9", "%3b", "2e", "%",
    ];
    let body: String = (0..rng.usize(0..12))
        .map(|_| PIECES[rng.usize(0..PIECES.len())])
        .collect();
    format!("/{body}")
}

fn all_rules() -> impl Iterator<Item = PathNormalization> {
    let actions = [
        EscapedSlashes::Keep,
        EscapedSlashes::Reject,
        EscapedSlashes::UnescapeAndForward,
        EscapedSlashes::UnescapeAndRedirect,
    ];
    actions.into_iter().flat_map(|escaped_slashes| {
        [false, true].map(|merge_slashes| PathNormalization {
            enabled: true,
            merge_slashes,
            escaped_slashes,
            underscores: HeaderUnderscores::Allow,
        })
    })
}

#[test]
fn a_normal_form_is_its_own_normal_form() {
    let mut rng = fastrand::Rng::with_seed(1);
    for _ in 0..20_000 {
        let target = random_target(&mut rng);
        for rules in all_rules() {
            let (Normalized::Changed(once) | Normalized::Redirect(once)) =
                normalize(target.as_bytes(), &rules)
            else {
                continue;
            };
            let twice = normalize(once.as_bytes(), &rules);
            assert_eq!(
                twice,
                Normalized::Unchanged,
                "{target} -> {once} by {rules:?}"
            );
        }
    }
}

#[test]
fn no_path_leaves_the_root() {
    let mut rng = fastrand::Rng::with_seed(2);
    for _ in 0..20_000 {
        let target = random_target(&mut rng);
        for rules in all_rules() {
            let normal = match normalize(target.as_bytes(), &rules) {
                Normalized::Unchanged => target.clone(),
                Normalized::Changed(text) | Normalized::Redirect(text) => text,
                Normalized::Reject(_) => continue,
            };
            assert!(normal.starts_with('/'), "{target} -> {normal}");
            let dots = normal.split('/').any(|part| matches!(part, "." | ".."));
            assert!(!dots, "{target} -> {normal}");
        }
    }
}

/// Whatever the bytes are, the answer is a verdict, and a normal form is text
/// that a URI may hold.
#[test]
fn arbitrary_bytes_are_answered() {
    let mut rng = fastrand::Rng::with_seed(3);
    for _ in 0..20_000 {
        let mut target: Vec<u8> = (0..rng.usize(0..10)).map(|_| rng.u8(..)).collect();
        target.insert(0, b'/');
        for rules in all_rules() {
            if let Normalized::Changed(text) = normalize(&target, &rules) {
                assert!(text.bytes().all(|byte| byte.is_ascii_graphic()), "{text}");
            }
        }
    }
}
