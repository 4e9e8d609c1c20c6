//! Finding a route among many. The bar: a microsecond among 10,000.

use criterion::{BenchmarkId, Criterion};
use http::{HeaderMap, Method};
use meridian_dataplane::route::{RequestFacts, Router};
use meridian_model::route::{PathMatch, Precedence, VirtualHost};
use meridian_model::{Route, RouteAction, RouteMatch, RouteTable};
use std::hint::black_box;
use std::sync::Arc;

pub(crate) fn find(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("route match");
    for count in [10, 1_000, 10_000] {
        let router = Router::compile(&table(count), |name, _| name.clone());
        let path = format!("/service-{}/v1/orders/17", count / 2);
        let headers = HeaderMap::new();
        let request = RequestFacts {
            host: "shop.test",
            path: &path,
            query: None,
            method: &Method::GET,
            headers: &headers,
        };
        assert!(router.find(&request).is_some());
        group.bench_function(BenchmarkId::from_parameter(count), |bencher| {
            bencher.iter(|| router.find(black_box(&request)).is_some());
        });
    }
}

/// A prefix each, and one route for what is left.
pub(crate) fn table(count: usize) -> RouteTable {
    let prefix = |number| PathMatch::ElementPrefix(format!("/service-{number}/v1"));
    let mut routes: Vec<_> = (0..count)
        .map(|number| route(number, prefix(number)))
        .collect();
    routes.push(route(count, PathMatch::Any));
    RouteTable {
        precedence: Precedence::MostSpecific,
        hosts: vec![VirtualHost {
            hosts: vec!["*".to_owned()],
            routes,
        }],
        ..RouteTable::default()
    }
}

fn route(number: usize, path: PathMatch) -> Route {
    Route {
        name: format!("route-{number}").as_str().into(),
        matches: RouteMatch {
            path,
            ..RouteMatch::default()
        },
        action: Arc::new(RouteAction::forward("origin".into())),
    }
}
