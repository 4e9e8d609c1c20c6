//! Properties over arbitrary input: the compiled router against one that just
//! walks its list, balancers against their promise, and the decoders' promises of
//! [`crate::fuzzing`] over text that is nearly right.

use crate::balance::{BalanceOptions, Balancer, PickContext};
use crate::fuzzing;
use crate::route::{RequestFacts, Router};
use fastrand::Rng;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use meridian_model::policy::LoadBalancing;
use meridian_model::route::{HeaderMatch, PathMatch, Precedence, ValueMatch, VirtualHost};
use meridian_model::{
    Endpoint, EndpointAddress, Health, Pattern, Route, RouteAction, RouteMatch, RouteTable,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

const NAME: HeaderName = HeaderName::from_static("x-test");

fn path() -> impl Strategy<Value = String> {
    vec(select(vec!["a", "b", "ab", "A", "", "a%20b", "."]), 0..4)
        .prop_map(|elements| format!("/{}", elements.join("/")))
}

fn path_match() -> impl Strategy<Value = PathMatch> {
    prop_oneof![
        Just(PathMatch::Any),
        path().prop_map(PathMatch::Exact),
        path().prop_map(PathMatch::ExactIgnoringCase),
        path().prop_map(PathMatch::Prefix),
        path().prop_map(PathMatch::PrefixIgnoringCase),
        path().prop_map(PathMatch::ElementPrefix),
        select(vec!["/a.*", "/[^/]*", "/", "(?i)/A/b", ".*b"]).prop_map(|text| {
            PathMatch::Regex(Pattern::new(text).expect("an expression of ours"))
        }),
    ]
}

fn header_match() -> impl Strategy<Value = HeaderMatch> {
    let value = select(vec![
        ValueMatch::Present,
        ValueMatch::Exact("1".to_owned()),
        ValueMatch::Prefix("1".to_owned()),
    ]);
    (value, any::<bool>()).prop_map(|(value, invert)| HeaderMatch {
        name: NAME,
        value,
        invert,
    })
}

fn route_match() -> impl Strategy<Value = RouteMatch> {
    let methods = vec(select(vec![Method::GET, Method::POST]), 0..2);
    let headers = prop_oneof![3 => Just(Vec::new()), 1 => vec(header_match(), 1..2)];
    (path_match(), methods, headers).prop_map(|(path, methods, headers)| RouteMatch {
        path,
        methods,
        headers,
        query: Vec::new(),
    })
}

/// What [`PathMatch`] promises, in the fewest words.
fn path_fits(condition: &PathMatch, path: &str) -> bool {
    let lower = str::to_ascii_lowercase;
    match condition {
        PathMatch::Any => true,
        PathMatch::Exact(wanted) => wanted == path,
        PathMatch::ExactIgnoringCase(wanted) => lower(wanted) == lower(path),
        PathMatch::Prefix(wanted) => path.starts_with(wanted),
        PathMatch::PrefixIgnoringCase(wanted) => lower(path).starts_with(&lower(wanted)),
        PathMatch::ElementPrefix(wanted) => {
            let wanted = wanted.strip_suffix('/').unwrap_or(wanted);
            path == wanted || path.starts_with(&format!("{wanted}/"))
        }
        PathMatch::Regex(pattern) => pattern.matches(path),
    }
}

fn header_fits(condition: &HeaderMatch, lines: &[String]) -> bool {
    let any = lines.iter().any(|line| condition.value.accepts(line));
    match (&condition.value, lines.is_empty()) {
        (ValueMatch::Present, _) | (_, false) => any != condition.invert,
        (_, true) => false,
    }
}

fn fits(conditions: &RouteMatch, path: &str, method: &Method, lines: &[String]) -> bool {
    path_fits(&conditions.path, path)
        && (conditions.methods.is_empty() || conditions.methods.contains(method))
        && conditions.headers.iter().all(|one| header_fits(one, lines))
}

fn endpoint() -> impl Strategy<Value = Endpoint> {
    (0..12_u8, 1..=128_u32, any::<bool>()).prop_map(|(host, weight, healthy)| Endpoint {
        address: EndpointAddress::Tcp(SocketAddr::from(([10, 0, 0, host], 80))),
        weight,
        health: if healthy {
            Health::Healthy
        } else {
            Health::Unhealthy
        },
        instance: format!("i-{host}").into(),
    })
}

/// Each address once.
fn endpoints() -> impl Strategy<Value = Vec<Endpoint>> {
    vec(endpoint(), 0..10).prop_map(|mut endpoints| {
        endpoints.sort_by(|one, other| one.address.cmp(&other.address));
        endpoints.dedup_by(|one, other| one.address == other.address);
        endpoints
    })
}

fn policy() -> impl Strategy<Value = LoadBalancing> {
    let hash = Vec::new;
    select(vec![
        LoadBalancing::RoundRobin,
        LoadBalancing::Random,
        LoadBalancing::LeastRequest { choices: 2 },
        LoadBalancing::LeastRequest { choices: 7 },
        LoadBalancing::RingHash {
            min_size: 64,
            max_size: 1024,
            hash: hash(),
        },
        LoadBalancing::Maglev { hash: hash() },
        LoadBalancing::PeakEwma,
    ])
}

/// Picks for every endpoint once excluded: somebody healthy wherever there is one,
/// and not the excluded one wherever there is another.
fn keeps_its_promise(balancer: &Balancer, endpoints: &[Endpoint], seed: u64) {
    let now = Instant::now();
    let mut rng = Rng::with_seed(seed);
    let healthy = endpoints.iter().filter(|one| one.health == Health::Healthy);
    let healthy: Vec<_> = healthy.map(|one| &one.address).collect();
    let mut exclude = Vec::new();
    for round in 0..6_u64 {
        let picked = balancer.pick(PickContext {
            hash: (round % 2 == 0).then(|| rng.u64(..)),
            rng: &mut rng,
            now,
            exclude: &exclude,
        });
        let Some(member) = picked else {
            assert!(healthy.is_empty(), "nobody was picked of {healthy:?}");
            continue;
        };
        assert!(healthy.contains(&&member.endpoint().address));
        let again = exclude.contains(&member.id());
        assert!(!again || exclude.len() == healthy.len(), "one tried before");
        if !again {
            exclude.push(member.id());
        }
    }
}

proptest! {
    #[test]
    fn the_compiled_router_finds_what_a_walk_finds(
        conditions in vec(route_match(), 0..12),
        path in path(),
        method in select(vec![Method::GET, Method::POST, Method::PUT]),
        lines in vec(select(vec!["1", "2", "12"]).prop_map(str::to_owned), 0..3),
    ) {
        let wanted = conditions.iter().position(|one| fits(one, &path, &method, &lines));
        let action = Arc::new(RouteAction::forward("cluster".into()));
        let routes = conditions.into_iter().enumerate().map(|(number, matches)| Route {
            name: number.to_string().as_str().into(),
            matches: Arc::new(matches),
            action: Arc::clone(&action),
        });
        let table = RouteTable {
            precedence: Precedence::FirstMatch,
            hosts: vec![VirtualHost { hosts: vec!["*".to_owned()], routes: routes.collect() }],
            ..RouteTable::default()
        };
        let router = Router::compile(&table, |_, _| ());
        let mut headers = HeaderMap::new();
        for line in &lines {
            headers.append(NAME, HeaderValue::from_str(line).expect("a plain value"));
        }
        let facts = RequestFacts {
            host: "a",
            path: &path,
            query: None,
            method: &method,
            headers: &headers,
        };
        let found = router.find(&facts).map(|found| found.route.as_str().to_owned());
        prop_assert_eq!(found, wanted.map(|number| number.to_string()));
    }

    #[test]
    fn a_balancer_picks_the_healthy_and_the_untried(
        policy in policy(),
        before in endpoints(),
        after in endpoints(),
        seed in any::<u64>(),
    ) {
        let now = Instant::now();
        let balancer = Balancer::new(policy, BalanceOptions::default(), &before, now);
        keeps_its_promise(&balancer, &before, seed);
        balancer.update(&after, now);
        keeps_its_promise(&balancer, &after, seed);
    }

    #[test]
    fn paths_that_are_nearly_right_keep_their_promises(
        choice in any::<u8>(),
        target in "(/|//|\\.|\\.\\.|a|%2[eEfF]|%5c|%61|%|\\\\|;|\\?|#|%00|%c0%ae){0,12}",
    ) {
        let mut bytes = vec![choice, b'/'];
        bytes.extend_from_slice(target.as_bytes());
        fuzzing::path_normalization(&bytes);
    }

    #[test]
    fn identities_that_are_nearly_right_keep_their_promises(
        text in "(spiffe|SPIFFE)://(td|T\\.d|)(/(ap|ns|dc|svc|default|a%2Fb|a b|%41|,|;|\\.\\.|)){0,8}",
    ) {
        fuzzing::spiffe_id(text.as_bytes());
    }

    #[test]
    fn certificate_headers_stay_before_ours(
        lines in vec("(By=|;|,|\"|URI=spiffe://x|\\\\|=){0,6}", 0..4),
    ) {
        fuzzing::forwarded_certificate(lines.join("\n").as_bytes());
    }
}
