//! Tables of requests against compiled routers.

use super::*;
use http::{HeaderMap, HeaderName, HeaderValue};
use meridian_model::route::{HeaderMatch, PathMatch, QueryMatch, ValueMatch, VirtualHost};
use meridian_model::{ClusterName, Pattern};

fn route(name: &str, path: PathMatch) -> Route {
    Route {
        name: name.into(),
        matches: Arc::new(RouteMatch {
            path,
            ..RouteMatch::default()
        }),
        action: Arc::new(RouteAction::forward(ClusterName::from(name))),
    }
}

fn prefix(text: &str) -> PathMatch {
    PathMatch::Prefix(text.into())
}

fn elements(text: &str) -> PathMatch {
    PathMatch::ElementPrefix(text.into())
}

fn exact(text: &str) -> PathMatch {
    PathMatch::Exact(text.into())
}

fn regex(text: &str) -> PathMatch {
    PathMatch::Regex(Pattern::new(text).unwrap())
}

fn with_method(mut route: Route, method: Method) -> Route {
    Arc::make_mut(&mut route.matches).methods.push(method);
    route
}

fn with_header(mut route: Route, name: &'static str) -> Route {
    Arc::make_mut(&mut route.matches).headers.push(HeaderMatch {
        name: HeaderName::from_static(name),
        value: ValueMatch::Present,
        invert: false,
    });
    route
}

fn with_query(mut route: Route, name: &str) -> Route {
    Arc::make_mut(&mut route.matches).query.push(QueryMatch {
        name: name.into(),
        value: ValueMatch::Present,
    });
    route
}

fn host(names: &[&str], routes: Vec<Route>) -> VirtualHost {
    VirtualHost {
        hosts: names.iter().map(|name| (*name).to_owned()).collect(),
        routes,
    }
}

fn compile(precedence: Precedence, hosts: Vec<VirtualHost>) -> Router<()> {
    Router::compile(
        &RouteTable {
            precedence,
            hosts,
            ..RouteTable::default()
        },
        |_, _| (),
    )
}

fn any_host(precedence: Precedence, routes: Vec<Route>) -> Router<()> {
    compile(precedence, vec![host(&["*"], routes)])
}

fn find_at<A>(router: &Router<A>, host: &str, path: &str, headers: &HeaderMap) -> Option<String> {
    let (path, query) = path
        .split_once('?')
        .map_or((path, None), |(path, query)| (path, Some(query)));
    let facts = RequestFacts {
        host,
        path,
        query,
        method: &Method::GET,
        headers,
    };
    router.find(&facts).map(|found| found.route.to_string())
}

fn find<A>(router: &Router<A>, path: &str) -> Option<String> {
    find_at(router, "example.com", path, &HeaderMap::new())
}

#[test]
fn the_first_of_the_list_wins_where_order_counts() {
    let router = any_host(
        Precedence::FirstMatch,
        vec![
            route("regex", regex("/a/[0-9]+")),
            route("short", prefix("/a")),
            route("long", prefix("/a/b")),
            route("exact", exact("/b")),
            route("rest", PathMatch::Any),
        ],
    );
    for (path, expected) in [
        ("/a/7", "regex"),
        ("/a/b", "short"),
        ("/b", "exact"),
        ("/c", "rest"),
    ] {
        assert_eq!(find(&router, path).as_deref(), Some(expected), "{path}");
    }
}

#[test]
fn the_most_specific_wins_where_gateway_api_orders() {
    let router = any_host(
        Precedence::MostSpecific,
        vec![
            route("rest", elements("/")),
            route("regex", regex("/a/.*|/r.*")),
            route("short", elements("/a")),
            route("long", elements("/a/b")),
            with_query(route("query", elements("/m")), "q"),
            with_header(route("header", elements("/m")), "x-a"),
            with_header(with_header(route("headers", elements("/m")), "x-a"), "x-b"),
            with_method(route("method", elements("/m")), Method::GET),
            route("tie-1", elements("/t")),
            route("tie-2", elements("/t")),
            with_query(route("n-query", elements("/n")), "q"),
            with_header(route("n-header", elements("/n")), "x-a"),
            with_header(
                with_header(route("n-headers", elements("/n")), "x-a"),
                "x-b",
            ),
            route("n", elements("/n")),
            route("exact", exact("/a/b")),
        ],
    );
    let mut headers = HeaderMap::new();
    headers.insert("x-a", HeaderValue::from_static("1"));
    let mut both = headers.clone();
    both.insert("x-b", HeaderValue::from_static("1"));
    let none = HeaderMap::new();
    let cases = [
        ("/a/b", &none, "exact"),
        ("/a/b/c", &none, "long"),
        ("/a/c", &none, "short"),
        ("/r/x", &none, "regex"),
        ("/zzz", &none, "rest"),
        ("/m?q", &both, "method"),
        ("/n?q", &both, "n-headers"),
        ("/n?q", &headers, "n-header"),
        ("/n?q", &none, "n-query"),
        ("/n", &none, "n"),
        ("/t", &none, "tie-1"),
    ];
    for (path, headers, expected) in cases {
        let found = find_at(&router, "h", path, headers);
        assert_eq!(found.as_deref(), Some(expected), "{path} {headers:?}");
    }
}

#[test]
fn a_more_specific_host_hides_the_rest() {
    let router = compile(
        Precedence::MostSpecific,
        vec![
            host(&["*"], vec![route("any", PathMatch::Any)]),
            host(
                &["*.example.com", "example.com"],
                vec![route("wildcard", elements("/w"))],
            ),
            host(&["a.example.com"], vec![route("exact", elements("/x"))]),
        ],
    );
    let none = HeaderMap::new();
    let cases = [
        ("other.org", "/w", Some("any")),
        ("B.example.com", "/w", Some("wildcard")),
        ("example.com", "/w", Some("wildcard")),
        ("a.example.com", "/x", Some("exact")),
        ("a.example.com", "/w", None),
        ("b.example.com", "/x", None),
    ];
    for (host, path, expected) in cases {
        let found = find_at(&router, host, path, &none);
        assert_eq!(found.as_deref(), expected, "{host}{path}");
    }
}

#[test]
fn routes_of_one_host_written_twice_are_joined() {
    let router = compile(
        Precedence::MostSpecific,
        vec![
            host(&["a", "b"], vec![route("1", elements("/1"))]),
            host(&["a"], vec![route("2", elements("/2"))]),
        ],
    );
    let none = HeaderMap::new();
    for (host, path, expected) in [
        ("a", "/1", Some("1")),
        ("a", "/2", Some("2")),
        ("b", "/2", None),
    ] {
        assert_eq!(find_at(&router, host, path, &none).as_deref(), expected);
    }
}

#[test]
fn a_method_alone_that_misses_is_told_apart() {
    let router = any_host(
        Precedence::MostSpecific,
        vec![
            with_method(route("put", elements("/a")), Method::PUT),
            with_method(route("post", elements("/a")), Method::POST),
            with_method(route("other", elements("/b")), Method::DELETE),
        ],
    );
    let headers = HeaderMap::new();
    let facts = |path| RequestFacts {
        host: "h",
        path,
        query: None,
        method: &Method::GET,
        headers: &headers,
    };
    assert!(router.find(&facts("/a")).is_none());
    let allowed = router.allowed_methods(&facts("/a"));
    assert_eq!(allowed, [Method::POST, Method::PUT]);
    assert!(router.allowed_methods(&facts("/c")).is_empty());
}

#[test]
fn a_shared_action_is_prepared_once() {
    let first = route("first", prefix("/1"));
    let second = Route {
        matches: Arc::new(RouteMatch {
            path: prefix("/2"),
            ..RouteMatch::default()
        }),
        ..first.clone()
    };
    let table = RouteTable {
        ports: HostPorts::Any,
        precedence: Precedence::FirstMatch,
        hosts: vec![
            host(&["a"], vec![first.clone()]),
            host(&["b"], vec![second, first]),
        ],
    };
    let mut prepared = 0;
    Router::compile(&table, |_, _| prepared += 1);
    assert_eq!(prepared, 1);
}

/// The index must agree with the definition: try every route in order.
#[test]
fn the_index_agrees_with_trying_every_route() {
    let mut rng = fastrand::Rng::with_seed(7);
    let paths = |rng: &mut fastrand::Rng| {
        let depth = rng.usize(0..4);
        let text: String = (0..depth)
            .flat_map(|_| ['/', rng.choice(['a', 'b', 'c']).unwrap_or('a')])
            .collect();
        if text.is_empty() {
            "/".to_owned()
        } else {
            text
        }
    };
    for _ in 0..200 {
        let routes: Vec<_> = (0..rng.usize(1..30))
            .map(|n| {
                let text = paths(&mut rng);
                let path = match rng.u8(0..5) {
                    0 => exact(&text),
                    1 => prefix(&text),
                    2 => elements(&text),
                    3 => PathMatch::PrefixIgnoringCase(text.to_uppercase()),
                    _ => regex(&format!("{text}.*")),
                };
                route(&n.to_string(), path)
            })
            .collect();
        let router = any_host(Precedence::FirstMatch, routes.clone());
        for _ in 0..20 {
            let path = paths(&mut rng);
            let headers = HeaderMap::new();
            let facts = RequestFacts {
                host: "h",
                path: &path,
                query: None,
                method: &Method::GET,
                headers: &headers,
            };
            let slow = routes
                .iter()
                .find(|route| conditions_hold(&route.matches, &facts))
                .map(|route| route.name.to_string());
            assert_eq!(find(&router, &path), slow, "{path} in {routes:?}");
        }
    }
}
