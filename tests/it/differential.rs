//! Envoy and meshd, side by side under the same Consul, are asked the same.
//!
//! Rules and requests are generated from a seed (`DIFFERENTIAL_SEED` for another
//! than the usual one). Whatever differs must be in the list of [`known`]
//! differences, which docs/consul.md gives the reasons for.

mod behaviours;
mod draw;
mod formats;
mod guards;
mod known;
mod matrix;
mod native;
mod normalization;
mod observe;
mod permissions;
mod routes;
mod splits;
mod stage;

use meridian_tests::consul::Consul;
use meridian_tests::world::isolated;
use serde_json::json;

use guards::Guards;
use stage::{Callers, Destination};

#[test]
fn routers_choose_and_change_alike() {
    isolated("differential routers", async |world| {
        let seed = draw::seed();
        let mut routed = routes::generate(seed, 16, 10, 24);
        routed.push(matrix::routed());
        let consul = Consul::start(world).await;
        let destinations = routed.iter().map(|one| one.destination.clone()).collect();
        let entries: Vec<_> = routed.iter().map(|one| one.entry.clone()).collect();
        let callers = Callers::start(world, &consul, destinations, &[], &entries).await;
        let mut verdict = known::Verdict::new(seed);
        for (at, service) in routed.iter().enumerate() {
            for (number, ask) in service.asks.iter().enumerate() {
                let case = format!("{at}.{number}");
                let outcomes = callers.ask(at, ask, &case).await;
                verdict.judge(&service.taken(&outcomes), ask, &outcomes);
            }
        }
        verdict.pronounce(300);
    });
}

#[test]
fn retries_and_timeouts_are_alike() {
    isolated("differential behaviours", async |world| {
        let seed = draw::seed();
        let behaviours = behaviours::generate(seed, 16, 5);
        let consul = Consul::start(world).await;
        let destinations = vec![Destination::http(behaviours::SERVICE)];
        let entries = [behaviours::entry(&behaviours)];
        let callers = Callers::start(world, &consul, destinations, &[], &entries).await;
        let mut verdict = known::Verdict::new(seed);
        for (at, behaviour) in behaviours.iter().enumerate() {
            for (number, ask) in behaviour.asks.iter().enumerate() {
                let outcomes = callers.ask(0, ask, &format!("{at}.{number}")).await;
                verdict.judge(&behaviour.route, ask, &outcomes);
            }
        }
        verdict.pronounce(80);
    });
}

#[test]
fn percent_signs_mean_the_same() {
    isolated("differential formats", async |world| {
        let values: Vec<_> = formats::VALUES
            .iter()
            .chain(&formats::REFUSED)
            .copied()
            .collect();
        let consul = Consul::start(world).await;
        let destinations = (0..values.len()).map(formats::service).collect();
        let entries: Vec<_> = values
            .iter()
            .enumerate()
            .map(|(number, value)| formats::entry(number, value))
            .collect();
        let callers = Callers::start(world, &consul, destinations, &[], &entries).await;
        let mut verdict = known::Verdict::new(0);
        for (at, value) in values.iter().enumerate() {
            let ask = formats::ask();
            let outcomes = callers.ask(at, &ask, value).await;
            if formats::REFUSED.contains(value) {
                let [envoy, meshd] = outcomes;
                assert_eq!((envoy.status, meshd.status), (200, 500), "{value}");
                let command = value.trim_matches('%');
                assert!(meshd.words.contains(command), "{}", meshd.words);
            } else {
                verdict.judge(&(*value).into(), &ask, &outcomes);
            }
        }
        verdict.pronounce(formats::VALUES.len());
    });
}

#[test]
fn splits_and_subsets_go_alike() {
    isolated("differential splits", async |world| {
        let consul = Consul::start(world).await;
        let destinations = vec![Destination::http(splits::SERVICE)];
        let entries = splits::entries();
        let instances = splits::instances();
        let callers = Callers::start(world, &consul, destinations, &instances, &entries).await;
        let mut verdict = known::Verdict::new(0);
        for ask in splits::asks() {
            let outcomes = callers.ask(0, &ask, &ask.target).await;
            verdict.judge(&entries[0], &ask, &outcomes);
        }
        verdict.pronounce(splits::asks().len());
        for proxy in 0..stage::KINDS.len() {
            let mut counts = splits::Counts::default();
            for number in 0..splits::DRAWS {
                let ask = splits::draw();
                let outcome = callers.ask_one(proxy, 0, &ask, &number.to_string()).await;
                counts.add(&outcome);
            }
            counts.check(stage::KINDS[proxy]);
        }
    });
}

#[test]
fn normalization_is_alike_under_every_setting() {
    isolated("differential normalization", async |world| {
        let callers = [normalization::caller()];
        let settings = json!({"default_intention_policy": "allow"});
        let consul = Consul::start_with(world, settings).await;
        consul.protocol(permissions::DESTINATION, "http").await;
        consul.config_entry(permissions::entry(&callers)).await;
        let name = callers[0].name.as_str();
        let guards = Guards::start(world, &consul, &normalization::proxy(), [name]).await;
        let mut verdict = known::Verdict::new(0);
        for setting in normalization::settings() {
            consul.config_entry(setting.entry.clone()).await;
            guards.agree_on(name, &setting.probes).await;
            for ask in normalization::asks() {
                let outcomes = guards.ask(name, &ask, &ask.target).await;
                verdict.judge(&setting.entry, &ask, &outcomes);
            }
        }
        verdict.pronounce(150);
    });
}

#[test]
fn permissions_decide_alike_where_the_default_allows() {
    decide_alike("allow");
}

#[test]
fn permissions_decide_alike_where_the_default_denies() {
    decide_alike("deny");
}

fn decide_alike(default: &'static str) {
    isolated(&format!("differential {default}"), async move |world| {
        let seed = draw::seed();
        let mut callers = permissions::generate(seed, 14, 6, 16);
        // The other verdict than the default's, so that a match is seen.
        let action = if default == "allow" { "deny" } else { "allow" };
        callers.push(matrix::caller(action));
        let settings = json!({"default_intention_policy": default});
        let consul = Consul::start_with(world, settings).await;
        consul.protocol(permissions::DESTINATION, "http").await;
        consul.config_entry(permissions::entry(&callers)).await;
        let names = callers.iter().map(|caller| caller.name.as_str());
        let guards = Guards::start(world, &consul, &json!({}), names).await;
        let mut verdict = known::Verdict::new(seed);
        for caller in &callers {
            for (number, ask) in caller.asks.iter().enumerate() {
                let case = format!("{} {number}", caller.name);
                let outcomes = guards.ask(&caller.name, ask, &case).await;
                verdict.judge(&caller.source, ask, &outcomes);
            }
        }
        verdict.pronounce(200);
    });
}
