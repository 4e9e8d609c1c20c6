//! Finding a route among many. The bar: a microsecond among 10,000.

use criterion::{BenchmarkId, Criterion};
use http::{HeaderMap, Method};
use meridian_dataplane::route::{RequestFacts, Router};
use meridian_model::route::{PathMatch, Precedence, VirtualHost};
use meridian_model::{Pattern, Route, RouteAction, RouteMatch, RouteTable};
use std::hint::black_box;
use std::iter;
use std::sync::Arc;

/// Requests that are looked for in turn, each for a route of its own choice: the way to one
/// route would stay in the processor's nearest cache.
const REQUESTS: usize = 4096;

/// Few routes, and as many as the bar is about.
const COUNTS: [usize; 3] = [10, 1_000, 10_000];

/// Patterns are tried one after the other, as in every proxy: nobody has as many.
const PATTERNS: [usize; 2] = [10, 100];

pub(crate) fn find(criterion: &mut Criterion) {
    let by_path = |number| ["shop.test".to_owned(), path(number)];
    among(criterion, "prefix", &COUNTS, table, by_path);
    among(criterion, "exact", &COUNTS, exact, by_path);
    among(criterion, "host", &COUNTS, hosts, |number| {
        [format!("service-{number}.test"), "/orders/17".to_owned()]
    });
    among(criterion, "pattern", &PATTERNS, patterns, by_path);
}

/// Random requests to so many routes, each of which finds its own.
fn among(
    criterion: &mut Criterion,
    kind: &str,
    counts: &[usize],
    table: fn(usize) -> RouteTable,
    request: impl Fn(usize) -> [String; 2],
) {
    let headers = HeaderMap::new();
    let mut group = criterion.benchmark_group(format!("route match, {kind}"));
    for &count in counts {
        let router = Router::compile(&table(count), |name, _| name.clone());
        let mut random = fastrand::Rng::with_seed(7);
        let numbers: Vec<_> = iter::repeat_with(|| random.usize(..count))
            .take(REQUESTS)
            .collect();
        let written: Vec<_> = numbers.iter().copied().map(&request).collect();
        let requests = written.iter().map(|[host, path]| RequestFacts {
            host,
            path,
            query: None,
            method: &Method::GET,
            headers: &headers,
        });
        for (request, number) in requests.clone().zip(numbers) {
            let found = router.find(&request).unwrap();
            assert_eq!(found.route.as_str(), format!("route-{number}"));
        }
        let mut requests = requests.cycle();
        group.bench_function(BenchmarkId::from_parameter(count), |bencher| {
            bencher.iter(|| router.find(black_box(&requests.next().unwrap())).is_some());
        });
    }
}

fn path(number: usize) -> String {
    format!("/service-{number}/v1/orders/17")
}

/// A prefix each, and one route for what is left.
pub(crate) fn table(count: usize) -> RouteTable {
    one_host(count, |number| {
        PathMatch::ElementPrefix(format!("/service-{number}/v1"))
    })
}

/// A whole path each.
fn exact(count: usize) -> RouteTable {
    one_host(count, |number| PathMatch::Exact(path(number)))
}

/// A pattern each.
fn patterns(count: usize) -> RouteTable {
    one_host(count, |number| {
        let text = format!("/service-{number}/v[0-9]+/.*");
        PathMatch::Regex(Pattern::new(&text).unwrap())
    })
}

fn one_host(count: usize, path: impl Fn(usize) -> PathMatch) -> RouteTable {
    let mut routes: Vec<_> = (0..count)
        .map(|number| route(number, path(number)))
        .collect();
    routes.push(route(count, PathMatch::Any));
    of_hosts(vec![VirtualHost {
        hosts: vec!["*".to_owned()],
        routes,
    }])
}

/// A host each, with one route.
fn hosts(count: usize) -> RouteTable {
    let host = |number| VirtualHost {
        hosts: vec![format!("service-{number}.test")],
        routes: vec![route(number, PathMatch::Any)],
    };
    of_hosts((0..count).map(host).collect())
}

fn of_hosts(hosts: Vec<VirtualHost>) -> RouteTable {
    RouteTable {
        precedence: Precedence::MostSpecific,
        hosts,
        ..RouteTable::default()
    }
}

fn route(number: usize, path: PathMatch) -> Route {
    Route {
        name: format!("route-{number}").as_str().into(),
        matches: Arc::new(RouteMatch {
            path,
            ..RouteMatch::default()
        }),
        action: Arc::new(RouteAction::forward("origin".into())),
    }
}
